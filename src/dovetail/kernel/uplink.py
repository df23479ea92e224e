"""A namespace's uplink: the link that its default route leads out of, and what it can carry."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail.kernel.protocol import Kernel

__all__ = ["uplink", "uplink_mtu"]

_MTU_MIN_V6 = 1280  # IPV6_MIN_MTU, RFC 8200 §5


def uplink(kernel: Kernel) -> str:
    """Name the link of the default route, IPv4's before IPv6's; empty where there is none."""
    return next(_default_links(kernel), "")


def uplink_mtu(kernel: Kernel, *, ipv6: bool) -> int:
    """Give the MTU of the link that the default route leads out of; 0 where there is none.

    A network with IPv6 has 1280 at least (RFC 8200 §5), whatever the uplink can do.
    """
    name = uplink(kernel)
    link = kernel.link(name) if name else None
    if link is None or not link.mtu:
        return 0
    return max(link.mtu, _MTU_MIN_V6) if ipv6 else link.mtu


def _default_links(kernel: Kernel) -> Iterator[str]:
    routes = kernel.routes()  # of one destination the kernel lists the least metric first
    for version in (4, 6):
        for route in routes:
            if route.destination.version == version and not route.destination.prefixlen:
                yield route.link
