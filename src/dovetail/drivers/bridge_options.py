"""The options of a bridge network."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dovetail.drivers.network_options import ADDRESSED
from dovetail.drivers.options import Given, Option
from dovetail.model.names import check_ifname

__all__ = ["KNOWN", "BridgeOptions", "read_options"]

KNOWN = {
    **ADDRESSED,
    "icc": Option("whether endpoints reach each other (true)", ("com.docker.network.bridge.enable_icc",)),
    "hairpin": Option(
        "whether an endpoint reaches itself by its published port, under br_netfilter too (true)"
    ),
    "masquerade": Option(
        "whether traffic that leaves the network takes the host's address (true)",
        ("com.docker.network.bridge.enable_ip_masquerade",),
    ),
    "bridge": Option(
        "name of the Linux bridge; one that exists is adopted and never deleted",
        ("com.docker.network.bridge.name",),
    ),
    "protected": Option("whether others reach only published ports (as masquerade)"),
}


class BridgeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options with their defaults filled in; mtu 0 and bridge empty leave the choice to the driver.

    mtu_is_auto: the MTU is that of the host's uplink. What every driver with addresses has is not among them,
    see `network_options.settle`.

    hairpin: with ``net.bridge.bridge-nf-call-iptables`` (the default where br_netfilter is there) a
    frame to a published port is translated inside the bridge, which must send it back out of the port
    it came in by where an endpoint asks itself (br_nf_pre_routing_finish, net/bridge/br_netfilter_hooks.c).
    icc false: the same translation then stays within isolated ports, so neighbours reach each other's
    published ports only where that sysctl is 0; nobody reaches more than was meant.
    """

    mtu: int = 0
    mtu_is_auto: bool = False
    icc: bool = True
    hairpin: bool = True
    masquerade: bool = True
    bridge: str = ""
    protected: bool = True


def read_options(options: Mapping[str, str], *, ipv6: bool = False) -> BridgeOptions:
    """Read `options`; raises InvalidArgument at ``$.options.KEY``, see `Given`."""
    given = Given("bridge", options, KNOWN)
    masquerade = given.boolean("masquerade", default=True)
    bridge = given.text("bridge")
    return BridgeOptions(
        mtu=given.mtu(ipv6=ipv6),
        mtu_is_auto=given.mtu_is_auto(),
        icc=given.boolean("icc", default=True),
        hairpin=given.boolean("hairpin", default=True),
        masquerade=masquerade,
        bridge=check_ifname(bridge, where=given.where("bridge")) if bridge else "",
        protected=given.boolean("protected", default=masquerade),
    )
