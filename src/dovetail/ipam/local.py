"""The address driver of one host: pools and addresses in the host's own ledger."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import cached_property

from dovetail.errors import AddressInUse, InvalidArgument, NotFound, PoolExhausted, PoolOverlap
from dovetail.ipam.ranges import (
    DEFAULT_RANGES,
    DEFAULT_ROUTE,
    GLOBAL_RANGES,
    Range,
    first_clear,
    overlap,
    refuse_routed,
    ula_range,
)
from dovetail.ipam.usable import check_usable, usable
from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork, interface_in, is_any
from dovetail.model.ledger import Ledger
from dovetail.model.names import short
from dovetail.model.pool import Address, AddressRequest, Pool, PoolRequest, Space

__all__ = ["DEFAULT_RANGES", "LocalIpam"]

_LEASES = 4096  # kept in one pool


class LocalIpam:
    """Gives out pools and addresses; every request is one ledger transaction (or part of the caller's).

    A pool's id is its subnet, and its range where it has one: ``dovetail/10.88.0.0/24/10.88.0.128/25``, or
    ``dovetail-global/…`` in the global space. Pools of one space never overlap, so it is unique, and it tells an
    operator what was lost if the ledger is. A subnet may be in both spaces, see `model.pool.Space`.
    """

    name = "local"

    def __init__(
        self, ledger: Ledger, *, default_ranges: Sequence[Range] = DEFAULT_RANGES, boot_id: str = ""
    ) -> None:
        """Keep books in `ledger`.

        default_ranges: (base, prefix length) to choose pools from, in order. Without an IPv6 one among
        them the ledger's own unique local /48 is added, cut in /64.
        """
        self._ledger = ledger
        self._given_ranges = tuple(default_ranges)
        self._boot_id = boot_id

    @cached_property
    def _ranges(self) -> tuple[Range, ...]:
        if any(base.version == 6 for base, _ in self._given_ranges):
            return self._given_ranges
        return (*self._given_ranges, ula_range(self._ledger.id))

    def request_pool(self, request: PoolRequest, *, routes: Sequence[IPNetwork] = ()) -> Pool:
        """Hold a pool; see `ipam.protocol.IpamDriver`."""
        _check_pool(request)
        routes = [route for route in routes if route.prefixlen > DEFAULT_ROUTE]
        with self._ledger.transaction(durable=True):
            if request.subnet is None or is_any(request.subnet):
                subnet = self._choose(request, routes)
            else:
                subnet = request.subnet
                self._refuse_clash(subnet, request.space, routes)
            pool = Pool(
                id=_pool_id(subnet, request),
                subnet=subnet,
                ip_range=request.ip_range,
                owner=request.owner,
                space=request.space,
                sticky=request.sticky,
                created=time.time(),
            )
            self._ledger.put_pool(pool)
        return pool

    def _choose(self, request: PoolRequest, routes: Sequence[IPNetwork]) -> IPNetwork:
        """Give the first block that is clear, of the size that the request names or that the range is cut in."""
        version = request.version if request.subnet is None else request.subnet.version
        busy = [*routes, *(pool.subnet for pool in self._ledger.pools())]
        usual = self._ranges if request.space == "local" or version == 6 else GLOBAL_RANGES
        ranges = [(base, prefix) for base, prefix in usual if base.version == version]
        for base, cut in ranges:
            prefix = cut if request.subnet is None else request.subnet.prefixlen
            subnet = first_clear(base, prefix, busy) if prefix >= base.prefixlen else None
            if subnet is not None:
                return subnet
        size = "" if request.subnet is None else f" of size /{request.subnet.prefixlen}"
        raise PoolExhausted(
            f"no IPv{version} pool{size} is free: every block of the {len(ranges)} default ranges overlaps a network"
            " or a route of the host, or is smaller",
            hint="give the subnet, or remove networks that are not used",
        )

    def _refuse_clash(self, subnet: IPNetwork, space: Space, routes: Sequence[IPNetwork]) -> None:
        for pool in self._ledger.pools():
            same = pool.space != space and pool.subnet == subnet  # a swarm's, and the same of this host
            if overlap(subnet, pool.subnet) and not same:
                raise PoolOverlap(
                    f"subnet {subnet} overlaps {pool.subnet}, which {_pool_holder(pool)} holds",
                    hint="choose another subnet, or join that network",
                )
        refuse_routed(subnet, routes)

    def release_pool(self, pool_id: str) -> None:
        """Give a pool and all of its addresses back; an unknown one is no error."""
        with self._ledger.transaction(durable=True):
            self._ledger.delete_pool(pool_id)

    def request_address(self, pool_id: str, request: AddressRequest) -> IPInterface:
        """Hold an address; see `ipam.protocol.IpamDriver`.

        A gateway that is not named is the first address of the whole subnet, even below the ip_range. Of a
        sticky pool, a container gets the address that it had, as long as no other needed it.
        Nothing is written before all is found free, so there is nothing to undo by itself.
        """
        with self._ledger.joined():
            pool = self._ledger.pool(pool_id)
            if pool is None:
                raise NotFound("pool", pool_id)
            if request.address is not None:
                address, held = self._named(pool, request, request.address)
            elif request.kind == "gateway":
                address, held = self._gateway(pool, request)
            elif pool.sticky and request.key:
                address, held = self._kept(pool, request.key), False
            else:
                address, held = self._next(pool), False
            if pool.sticky and request.key and request.kind != "gateway":
                self._ledger.put_lease(pool_id, request.key, address)
            if not held:
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

    def _named(self, pool: Pool, request: AddressRequest, address: IPAddress) -> tuple[IPAddress, bool]:
        """Check an address that was asked for; gives whether this owner holds it already."""
        check_usable(address, pool.subnet)
        row = self._ledger.address(pool.id, address)
        if row is None:
            return address, False
        if (row.owner, row.kind) == (request.owner, request.kind):
            return address, True
        raise AddressInUse(
            f"address {address} of {pool.subnet} is in use: {_address_holder(row)}",
            hint="choose another address, or let one be chosen",
        )

    def _gateway(self, pool: Pool, request: AddressRequest) -> tuple[IPAddress, bool]:
        for row in self._ledger.addresses(pool.id, owner=request.owner):
            if row.kind == "gateway":
                return row.address, True
        first, last = usable(pool.subnet)
        free = self._ledger.free_from(pool.id, first, last)
        if free is None:
            raise self._exhausted(pool, pool.subnet)
        return _at(pool.subnet, free), False

    def _kept(self, pool: Pool, key: str) -> IPAddress:
        """Give the address that `key` had if it is free, else the next one."""
        address = self._ledger.lease(pool.id, key)
        if address is not None and self._ledger.address(pool.id, address) is None:
            return address
        return self._next(pool)

    def _next(self, pool: Pool) -> IPAddress:
        """Give the next free address after the last one given, wrapping at the end of the range.

        Of a sticky pool, one that is kept for nobody; or else the one that was longest not asked for.
        """
        leases = self._leases(pool) if pool.sticky else []
        kept = {int(address) for _, address in leases}
        within = pool.ip_range or pool.subnet
        first, last = usable(pool.subnet)
        first = max(first, int(within.network_address))
        last = min(last, int(within.broadcast_address))
        cursor = self._ledger.cursor(pool.id)
        start = cursor + 1 if cursor is not None and first <= cursor < last else first
        free = self._free(pool, start, last, kept)
        if free is None and start > first:
            free = self._free(pool, first, start - 1, kept)
        if free is None:
            for key, address in leases:
                if first <= int(address) <= last and self._ledger.address(pool.id, address) is None:
                    self._ledger.delete_lease(pool.id, key)
                    return address
            raise self._exhausted(pool, within)
        self._ledger.set_cursor(pool.id, free)
        return _at(pool.subnet, free)

    def _free(self, pool: Pool, start: int, last: int, kept: Collection[int]) -> int | None:
        """Give the lowest free address in ``start..last`` that is not among `kept`."""
        free = self._ledger.free_from(pool.id, start, last)
        while free is not None and free in kept:
            free = self._ledger.free_from(pool.id, free + 1, last)
        return free

    def _leases(self, pool: Pool) -> list[tuple[str, IPAddress]]:
        """Give the leases, and end the oldest where there are more than a host can have use for."""
        leases = self._ledger.leases(pool.id)
        for key, _ in leases[:-_LEASES]:
            self._ledger.delete_lease(pool.id, key)
        return leases[-_LEASES:]

    def _exhausted(self, pool: Pool, within: IPNetwork) -> PoolExhausted:
        count = self._ledger.count_addresses(pool.id)
        return PoolExhausted(
            f"no address of {within} is free: {count} of {pool.subnet} are in use",
            hint="remove endpoints that are not used, or make the network with a larger subnet",
        )

    def release_address(self, pool_id: str, address: IPAddress, owner: str) -> None:
        """Give an address back. One that is free, or held by another owner, is left alone without error."""
        with self._ledger.joined():
            row = self._ledger.address(pool_id, address)
            if row is not None and row.owner == owner:
                self._ledger.delete_address(pool_id, address)


def _check_pool(request: PoolRequest) -> None:
    subnet, ip_range = request.subnet, request.ip_range
    if subnet is None or is_any(subnet):
        if ip_range is not None:
            raise InvalidArgument(f"the IP range {ip_range} needs a subnet", hint="give --subnet")
        return
    if subnet.prefixlen == 0 or subnet.is_multicast or subnet.is_loopback:
        raise InvalidArgument(f"{subnet} cannot be the subnet of a network", hint="choose a private subnet")
    if ip_range is None:
        return
    inside = ip_range.version == subnet.version and ip_range.subnet_of(subnet)  # type: ignore[arg-type]
    if not inside:
        raise InvalidArgument(f"the IP range {ip_range} is not in {subnet}", hint="give a part of the subnet")


def _pool_id(subnet: IPNetwork, request: PoolRequest) -> str:
    identifier = f"{'dovetail-global' if request.space == 'global' else 'dovetail'}/{subnet}"
    return identifier if request.ip_range is None else f"{identifier}/{request.ip_range}"


def _pool_holder(pool: Pool) -> str:
    if pool.space == "global":
        return "Docker's swarm"
    return "Docker" if pool.owner == "docker" else f"network {short(pool.owner)}"


def _address_holder(row: Address) -> str:
    if row.owner == "docker":
        return "Docker holds it"
    return {
        "gateway": f"it is the gateway of network {short(row.owner)}",
        "aux": f"network {short(row.owner)} reserves it",
    }.get(row.kind, f"endpoint {short(row.owner)} holds it")


def _at(subnet: IPNetwork, value: int) -> IPAddress:
    return type(subnet.network_address)(value)
