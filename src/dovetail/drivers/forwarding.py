"""Forwarding: a host that is the gateway of its networks is a router."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from dovetail.drivers.protocol import Difference
from dovetail.kernel.protocol import Kernel
from dovetail.model.names import parse_alias
from dovetail.model.network import Network

__all__ = ["differences", "let_host_forward", "let_loopback_lead"]

_V4, _V6 = 4, 6
_KEYS = {_V4: "net/ipv4/ip_forward", _V6: "net/ipv6/conf/all/forwarding"}


def let_host_forward(kernel: Kernel, versions: Collection[int]) -> None:
    """Turn the host's forwarding on for the IP `versions`; it stays on, as others may need it by then."""
    if _V4 in versions:
        kernel.set_sysctl(_KEYS[_V4], "1")
    if _V6 in versions and kernel.sysctl(_KEYS[_V6]) != "1":
        # A host that forwards ignores router advertisements unless accept_ra is 2, and drops the default
        # routes it learnt (Documentation/networking/ip-sysctl.rst): without this the host loses its own IPv6.
        for link in kernel.links():
            ours = link.name == "lo" or parse_alias(link.alias) is not None
            if not ours and kernel.sysctl(f"net/ipv6/conf/{link.name}/accept_ra") == "1":
                kernel.set_sysctl(f"net/ipv6/conf/{link.name}/accept_ra", "2")
        kernel.set_sysctl(_KEYS[_V6], "1")


def let_loopback_lead(kernel: Kernel, network: Network, link: str) -> None:
    """Let 127.0.0.1 lead to ports of `network` that are published, by `link`, where addresses are translated.

    A connection to one leaves by that link, and answers come back for 127.0.0.1. The ruleset drops what else
    arrives from outside for 127.0.0.0/8.
    """
    if _V4 in network.versions and network.firewall is not None and network.firewall.ipv4.translates:
        kernel.set_sysctl(f"net/ipv4/conf/{link}/route_localnet", "1")


def differences(kernel: Kernel, versions: Collection[int]) -> Iterator[Difference]:
    """Say where somebody has turned it off."""
    for version in sorted(versions):
        if kernel.sysctl(_KEYS[version]) != "1":
            yield f"the host forwards no IPv{version}: sysctl {_KEYS[version].replace('/', '.')} is off"
