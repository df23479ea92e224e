"""The address driver of one host: pools and addresses with its books in a ledger.

Addresses go round robin through the dynamic range (the sub-range, or the whole subnet), so that one
just released is the last to be given again. The next free one is found in O(log n) by the ledger; no
pool, whatever its size, is ever enumerated.
"""

from __future__ import annotations

import hashlib
import ipaddress
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from dovetail.errors import AddressInUse, InvalidArgument, NotFound, PoolExhausted, PoolOverlap
from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork, interface_in, parse_subnet
from dovetail.model.ledger import Ledger
from dovetail.model.names import short
from dovetail.model.pool import Address, AddressRequest, Pool, PoolRequest

__all__ = ["DEFAULT_RANGES", "LocalIpam", "Range"]


class Range(NamedTuple):
    """A block from which pools of `prefix_length` are cut when none is asked for."""

    base: IPNetwork
    prefix_length: int


DEFAULT_RANGES: tuple[Range, ...] = (
    *(Range(parse_subnet(f"172.{second}.0.0/16"), 16) for second in range(17, 32)),
    Range(parse_subnet("192.168.0.0/16"), 20),
)
"""Docker's own default pools (cnm.md §2.4), so that a choice looks familiar."""

_POINT_TO_POINT = {4: 31, 6: 127}  # RFC 3021, RFC 6164: both addresses are usable
_CHOICES_AT_MOST = 4096


class LocalIpam:
    """`ipam.protocol.IpamDriver` over a ledger."""

    name = "local"

    def __init__(
        self, ledger: Ledger, *, default_ranges: Iterable[Range] = DEFAULT_RANGES, boot_id: str = ""
    ) -> None:
        """Keep books in `ledger`. An IPv6 range, a ULA /48 of this ledger's own (RFC 4193), is added if none is given."""
        self._ledger = ledger
        self._ranges = tuple(default_ranges)
        self._boot_id = boot_id

    def request_pool(self, request: PoolRequest, *, routes: Sequence[IPNetwork] = ()) -> Pool:
        """Hold a pool, the one asked for or a chosen one that overlaps neither a route nor another pool."""
        if request.subnet is None and request.ip_range is not None:
            raise InvalidArgument("an IP range needs a subnet", where="$.ip_range", hint="give --subnet too")
        with self._ledger.transaction(durable=True):
            held = [pool.subnet for pool in self._ledger.pools()]
            subnet = request.subnet or self._choose(request.version, [*held, *routes])
            if request.subnet is not None:
                _refuse_overlap(subnet, held, "the pool")
                _refuse_overlap(subnet, [route for route in routes if route.prefixlen], "the host's route")
            if request.ip_range is not None and not _within(request.ip_range, subnet):
                raise InvalidArgument(f"IP range {request.ip_range} is not in {subnet}", where="$.ip_range")
            pool = Pool(
                id=f"local/{subnet}",
                subnet=subnet,
                ip_range=request.ip_range,
                owner=request.owner,
                created=time.time(),
            )
            self._ledger.put_pool(pool)
            return pool

    def release_pool(self, pool_id: str) -> None:
        """Give a pool and all of its addresses back; an unknown one is no error."""
        with self._ledger.transaction(durable=True):
            self._ledger.delete_pool(pool_id)

    def request_address(self, pool_id: str, request: AddressRequest) -> IPInterface:
        """Hold the address asked for, or the next free one after the last given."""
        with self._ledger.transaction():
            pool = self._ledger.pool(pool_id)
            if pool is None:
                raise NotFound("pool", pool_id)
            if request.address is not None:
                address = self._asked_for(pool, request, request.address)
            else:
                address = self._next(pool, request)
            self._ledger.put_address(
                Address(
                    pool_id=pool_id,
                    address=address,
                    kind=request.kind,
                    owner=request.owner,
                    boot_id=self._boot_id,
                    created=time.time(),
                )
            )
            return interface_in(address, pool.subnet)

    def release_address(self, pool_id: str, address: IPAddress, owner: str) -> None:
        """Give an address back; one that is free, or held by another owner, is left alone."""
        with self._ledger.transaction():
            held = self._ledger.address(pool_id, address)
            if held is not None and held.owner == owner:
                self._ledger.delete_address(pool_id, address)

    def _asked_for(self, pool: Pool, request: AddressRequest, address: IPAddress) -> IPAddress:
        if address.version != pool.subnet.version or address not in pool.subnet:
            raise InvalidArgument(f"{address} is not in {pool.subnet}", where="$.ip")
        first, last = _usable(pool.subnet)
        if not first <= int(address) <= last:
            raise InvalidArgument(
                f"{address} is the network or broadcast address of {pool.subnet}", where="$.ip"
            )
        held = self._ledger.address(pool.id, address)
        if held is not None and (held.owner, held.kind) != (request.owner, request.kind):
            raise AddressInUse(
                f"address {address} is in use by {_holder(held)}", hint="ask for another, or for none"
            )
        if held is not None and held.kind == "docker":
            raise AddressInUse(
                f"address {address} is in use by a Docker container", hint="ask for another, or for none"
            )
        return address

    def _next(self, pool: Pool, request: AddressRequest) -> IPAddress:
        gateway = request.kind == "gateway"
        first, last = _usable(pool.subnet)
        if pool.ip_range is not None and not gateway:
            first = max(first, int(pool.ip_range.network_address))
            last = min(last, int(pool.ip_range.broadcast_address))
        cursor = None if gateway else self._ledger.cursor(pool.id)
        start = cursor + 1 if cursor is not None and first <= cursor < last else first
        found = self._ledger.free_from(pool.id, start, last)
        if found is None and start > first:
            found = self._ledger.free_from(pool.id, first, start - 1)
        if found is None:
            raise PoolExhausted(
                f"no address is left in {pool.ip_range or pool.subnet}", hint="use a larger subnet"
            )
        if not gateway:
            self._ledger.set_cursor(pool.id, found)
        return ipaddress.ip_address(found) if pool.subnet.version == 4 else ipaddress.IPv6Address(found)

    def _choose(self, version: int, avoid: Sequence[IPNetwork]) -> IPNetwork:
        clash = [network for network in avoid if network.version == version and network.prefixlen]
        for number, candidate in enumerate(self._candidates(version)):
            if number >= _CHOICES_AT_MOST:
                break
            if not any(_overlap(candidate, network) for network in clash):
                return candidate
        raise PoolExhausted(
            f"every default IPv{version} pool overlaps a route of the host or another pool",
            hint="give --subnet",
        )

    def _candidates(self, version: int) -> Iterator[IPNetwork]:
        ranges = [each for each in self._ranges if each.base.version == version]
        if version == 6 and not ranges:
            ranges = [Range(self._unique_local(), 64)]
        for each in ranges:
            yield from each.base.subnets(new_prefix=each.prefix_length)

    def _unique_local(self) -> IPNetwork:
        """Give the ledger's ULA /48: fd and 40 bits that differ from host to host (RFC 4193 §3.2.2)."""
        seed = str(getattr(self._ledger, "id", "dovetail"))
        bits = hashlib.sha256(seed.encode()).digest()[:5]
        return ipaddress.IPv6Network((b"\xfd" + bits + bytes(10), 48))


def _usable(subnet: IPNetwork) -> tuple[int, int]:
    """Give the first and last address of `subnet` that an interface may have."""
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if subnet.prefixlen >= _POINT_TO_POINT[subnet.version]:
        return first, last
    if subnet.version == 4:
        return first + 1, last - 1
    return first + 1, last  # the subnet-router anycast address, RFC 4291 §2.6.1


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return (
        inner.version == outer.version
        and inner.network_address in outer
        and inner.prefixlen >= outer.prefixlen
    )


def _refuse_overlap(subnet: IPNetwork, others: Sequence[IPNetwork], what: str) -> None:
    for other in others:
        if _overlap(subnet, other):
            raise PoolOverlap(
                f"subnet {subnet} overlaps {what} {other}", where="$.subnet", hint="choose another subnet"
            )


def _holder(address: Address) -> str:
    words = {
        "gateway": "the network's gateway",
        "aux": "the network (reserved)",
        "docker": "a Docker container",
    }
    return words.get(address.kind, f"endpoint {short(address.owner)}")
