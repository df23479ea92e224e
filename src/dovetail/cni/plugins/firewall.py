"""Type ``firewall``: the host's firewall lets the container's traffic pass."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.admitted import Admitted, IngressPolicy

__all__ = ["FirewallPlugin"]


class FirewallConf(Conf, frozen=True, kw_only=True):
    """The keys of ``firewall``."""

    backend: Annotated[
        Literal["", "nftables", "firewalld", "iptables"],
        "how: what the host has is told to let the link pass, or rules for addresses as the reference plugin's",
    ] = ""
    ingress_policy: Annotated[IngressPolicy, "from where the container is reached"] = "open"
    iptables_admin_chain_name: Annotated[str, "with iptables: your chain, which comes first"] = "CNI-ADMIN"
    firewalld_zone: Annotated[Literal["trusted"], "the zone of firewalld that the link is put into"] = (
        "trusted"
    )


class FirewallPlugin(ChainedPlugin):
    """A thin parser over `features.admitted`."""

    kind = "firewall"
    conf = FirewallConf

    def read(self, call: Call) -> None:
        """Refuse a policy that there is not."""
        read_conf(call.config, FirewallConf)

    def detail(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say by which link of the host; None where the result names none (macvlan, host-device)."""
        conf = read_conf(call.config, FirewallConf)
        if not result.outer and conf.backend != "iptables":
            return None
        return Admitted(
            link=result.outer,
            policy=conf.ingress_policy,
            iptables=conf.backend == "iptables",
            addresses=result.addresses_of(call.environment.ifname),
            admin_chain=conf.iptables_admin_chain_name,
        )

    def remains(self, call: Call, result: Result | None, netns: Netns | None) -> Any | None:
        """Say what the reference plugin leaves: rules for the container's addresses."""
        if result is None:
            return None
        return Admitted(link="", iptables=True, addresses=result.addresses_of(call.environment.ifname))

    def expected(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say what the reference plugin is to have made: rules of iptables."""
        detail = self.detail(call, result, netns)
        return msgspec.structs.replace(detail, iptables=True) if detail is not None else None
