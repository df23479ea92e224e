"""Choosing a pool: the first block of the default ranges that is clear of everything else."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network, ip_network
from typing import TypeAlias

from dovetail.errors import PoolOverlap
from dovetail.model.addresses import IPNetwork

__all__ = [
    "DEFAULT_RANGES",
    "DEFAULT_ROUTE",
    "GLOBAL_RANGES",
    "Range",
    "first_clear",
    "overlap",
    "refuse_routed",
    "ula_range",
]

Range: TypeAlias = tuple[IPNetwork, int]
"""A base network and the prefix length it is cut in."""

DEFAULT_RANGES: Sequence[Range] = (
    *((ip_network(f"172.{n}.0.0/16"), 16) for n in range(17, 32)),
    (ip_network("192.168.0.0/16"), 20),
)
"""What Docker's own IPAM chooses from. IPv6 is not among them: its range is the host's own, see `ula_range`."""

GLOBAL_RANGES: Sequence[Range] = ((ip_network("10.128.0.0/9"), 24),)
"""For all hosts of a swarm. Each host's Docker chooses from `DEFAULT_RANGES` for itself, and would have taken the
pool that its manager gave; for overlay networks a swarm counts up from 10.0.0.0/24."""

DEFAULT_ROUTE = 1
"""Prefix length up to which a route is a default route: VPNs write it as 0.0.0.0/1 and 128.0.0.0/1,
to come before the real one without replacing it."""


def ula_range(seed: str) -> Range:
    """Give the unique local /48 (RFC 4193) that belongs to `seed`, cut in /64."""
    global_id = hashlib.sha256(f"dovetail ula {seed}".encode()).digest()[:5]
    base = (b"\xfd" + global_id).ljust(16, b"\0")  # fd00::/8 and 40 bits that are unlikely to meet another's
    return IPv6Network((base, 48)), 64


def first_clear(base: IPNetwork, prefix: int, busy: Iterable[IPNetwork]) -> IPNetwork | None:
    """Give the first network of length `prefix` in `base` that overlaps none of `busy`.

    Steps from clash to clash, so that 65,536 blocks cost no more than the number of `busy`.
    """
    size = 1 << (base.max_prefixlen - prefix)
    candidate = int(base.network_address)
    for first, last in sorted(_bounds(network) for network in busy if network.version == base.version):
        if first >= candidate + size:
            break
        if last >= candidate:
            candidate = (last // size + 1) * size
    if candidate + size - 1 > int(base.broadcast_address):
        return None
    return type(base)((candidate, prefix))


def overlap(one: IPNetwork, other: IPNetwork) -> bool:
    """Say whether two networks of any family have an address in common."""
    return one.version == other.version and one.overlaps(other)


def refuse_routed(subnet: IPNetwork, routes: Iterable[IPNetwork]) -> None:
    """Raise PoolOverlap where a route of the host, other than a default route, leads into `subnet`."""
    for route in routes:
        if route.prefixlen > DEFAULT_ROUTE and overlap(subnet, route):
            raise PoolOverlap(
                f"subnet {subnet} overlaps the route to {route} of the host", hint="choose another subnet"
            )


def _bounds(network: IPNetwork) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)
