"""Type ``portmap``: ports of the host that lead to the container."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.port_mappings import read_port_mappings
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.addresses import IPInterface
from dovetail.model.published import PublishedPorts

__all__ = ["PortmapPlugin"]


class PortmapConf(Conf, frozen=True, kw_only=True):
    """The keys of ``portmap``."""

    snat: Annotated[
        bool, "the container and its neighbours reach it by the host's port too, and 127.0.0.1 does"
    ] = True
    backend: Annotated[
        Literal["", "nftables", "iptables"], "how: elements of our table, or chains as the reference plugin's"
    ] = ""
    mark_masq_bit: Annotated[int, "with iptables: the bit of the mark of what is to be masqueraded"] = 13
    external_set_mark_chain: Annotated[str, "with iptables: a chain of yours that sets a mark instead"] = ""
    conditions_v4: Annotated[
        tuple[str, ...], "matches of iptables that a packet must meet besides; they make it the backend"
    ] = ()
    conditions_v6: Annotated[tuple[str, ...], "the same for IPv6"] = ()
    masq_all: Annotated[bool, "all who ask by the host's port are seen with the host's address"] = False


class PortmapPlugin(ChainedPlugin):
    """A thin parser over `features.published`."""

    kind = "portmap"
    conf = PortmapConf
    capabilities: ClassVar = {"portMappings": "the ports: hostPort, containerPort, protocol, hostIP"}

    def detail(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say which ports lead to the first address of each family; None where nothing is to be published."""
        ports = read_port_mappings(call.runtime)
        if not ports:
            return None
        conf = read_conf(call.config, PortmapConf)
        if conf.external_set_mark_chain and "markMasqBit" in call.config:
            text = "$.externalSetMarkChain: it sets the mark, so $.markMasqBit says nothing"
            raise CniError(INVALID_CONFIG, text, "leave one of them out")
        return PublishedPorts(
            ports=ports,
            addresses=_first_of_each_family(result.addresses_of(call.environment.ifname)),
            link=result.outer,
            source_nat=conf.snat,
            masquerade_all=conf.masq_all,
            iptables=_is_iptables(conf),
            mark_bit=conf.mark_masq_bit,
            set_mark_chain=conf.external_set_mark_chain,
            conditions4=conf.conditions_v4,
            conditions6=conf.conditions_v6,
        )

    def remains(self, call: Call, result: Result | None, netns: Netns | None) -> Any | None:
        """Say what the reference plugin leaves: rules for the container's addresses, or for all that it had."""
        addresses = result.addresses_of(call.environment.ifname) if result is not None else ()
        return PublishedPorts(ports=(), addresses=addresses, iptables=True)

    def expected(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say what the reference plugin is to have made: chains of iptables."""
        detail = self.detail(call, result, netns)
        return msgspec.structs.replace(detail, iptables=True) if detail is not None else None


def _is_iptables(conf: PortmapConf) -> bool:
    if conf.backend == "nftables" and (conf.conditions_v4 or conf.conditions_v6):
        raise CniError(
            UNSUPPORTED_FIELD,
            "$.conditionsV4: conditions are matches of iptables",
            "leave $.backend out, or say iptables",
        )
    return conf.backend == "iptables" or bool(
        conf.conditions_v4 or conf.conditions_v6 or conf.external_set_mark_chain
    )


def _first_of_each_family(addresses: tuple[IPInterface, ...]) -> tuple[IPInterface, ...]:
    found: dict[int, IPInterface] = {}
    for address in addresses:
        found.setdefault(address.version, address)
    return tuple(found.values())
