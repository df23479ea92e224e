"""Type ``portmap``: ports of the host that lead to the container."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from dovetail.cni.conf import Conf, read_conf
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
        return PublishedPorts(
            ports=ports,
            addresses=_first_of_each_family(result.addresses_of(call.environment.ifname)),
            link=result.outer,
            source_nat=conf.snat,
            masquerade_all=conf.masq_all,
        )


def _first_of_each_family(addresses: tuple[IPInterface, ...]) -> tuple[IPInterface, ...]:
    found: dict[int, IPInterface] = {}
    for address in addresses:
        found.setdefault(address.version, address)
    return tuple(found.values())
