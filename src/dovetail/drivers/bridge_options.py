"""The options of a bridge network."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dovetail.drivers.firewall_options import FIREWALL, read_firewall
from dovetail.drivers.network_options import ADDRESSED
from dovetail.drivers.options import Given, Option
from dovetail.model.firewall import FirewallIntent
from dovetail.model.names import check_ifname
from dovetail.model.network import Network

__all__ = ["KNOWN", "BridgeOptions", "read_intent", "read_options"]

KNOWN = {
    **ADDRESSED,
    **FIREWALL,
    "hairpin": Option(
        "whether an endpoint reaches itself by its published port, under br_netfilter too (true)"
    ),
    "bridge": Option(
        "name of the Linux bridge; one that exists is adopted and never deleted",
        ("com.docker.network.bridge.name",),
    ),
    "inhibit_ipv4": Option(
        "whether the bridge does without the IPv4 gateway address, which another machine has (false)",
        ("com.docker.network.bridge.inhibit_ipv4",),
    ),
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
    bridge: str = ""
    inhibit_ipv4: bool = False


def read_options(options: Mapping[str, str], *, ipv6: bool = False) -> BridgeOptions:
    """Read `options`; raises InvalidArgument at ``$.options.KEY``, see `Given`."""
    given = Given("bridge", options, KNOWN)
    bridge = given.text("bridge")
    return BridgeOptions(
        mtu=given.mtu(ipv6=ipv6),
        mtu_is_auto=given.mtu_is_auto(),
        icc=given.boolean("icc", default=True),
        hairpin=given.boolean("hairpin", default=True),
        bridge=check_ifname(bridge, where=given.where("bridge")) if bridge else "",
        inhibit_ipv4=given.boolean("inhibit_ipv4", default=False),
    )


def read_intent(network: Network, link: str) -> FirewallIntent:
    """Read what `network`, whose subnets are known, wants of the firewall; raises as `read_firewall`."""
    given = Given("bridge", network.options, KNOWN)
    firewall = read_firewall(given, network, link)
    if not given.boolean("inhibit_ipv4", default=False):
        return firewall
    # another machine is the gateway, so nothing leaves by the host
    ipv4 = msgspec.structs.replace(firewall.ipv4, masquerade=False)
    return msgspec.structs.replace(firewall, ipv4=ipv4)
