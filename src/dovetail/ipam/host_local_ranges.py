"""The ranges that CNI's host-local gives addresses from: pure values.

A range is a part of a subnet. A range set is one pool of ranges of one family; a container gets one address out
of each set. The defaults and what is refused are the reference plugin's, and so are the words that
runtimes look for (cni.md §2.6, §2.13).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from ipaddress import IPv6Network
from typing import TypeVar

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.ipam.usable import usable
from dovetail.model.addresses import IPAddress, IPNetwork

__all__ = ["AddressRange", "RangeSet", "address_range", "gateways", "range_set", "refuse_overlaps"]

_T = TypeVar("_T")


class AddressRange(msgspec.Struct, frozen=True):
    """`first` to `last` of `subnet`, both included; `gateway` is never given out. Made by `address_range`."""

    subnet: IPNetwork
    first: IPAddress
    last: IPAddress
    gateway: IPAddress

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    def __contains__(self, address: IPAddress) -> bool:
        return address.version == self.subnet.version and int(self.first) <= int(address) <= int(self.last)


class RangeSet(msgspec.Struct, frozen=True):
    """Ranges of one family, at least one, that are apart from each other. Made by `range_set`."""

    ranges: tuple[AddressRange, ...]

    def __str__(self) -> str:
        return ",".join(str(one) for one in self.ranges)

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.ranges[0].subnet.version

    def find(self, address: IPAddress) -> AddressRange | None:
        """Give the range that `address` is in."""
        return next((one for one in self.ranges if address in one), None)

    def spans(self, last: IPAddress | None = None) -> Iterator[tuple[AddressRange, range]]:
        """Give the numbers to try, in order: from the one after `last` once around, `last` itself at the end.

        Without the network and the broadcast address, which a range may name; gateways are among them.
        """
        where = next((n for n, one in enumerate(self.ranges) if last is not None and last in one), None)
        if last is None or where is None:
            for one in self.ranges:
                yield one, _numbers(one)
            return
        begun = self.ranges[where]
        numbers = _numbers(begun)
        yield begun, range(max(int(last) + 1, numbers.start), numbers.stop)
        for one in (*self.ranges[where + 1 :], *self.ranges[:where]):
            yield one, _numbers(one)
        yield begun, range(numbers.start, min(int(last) + 1, numbers.stop))

    def capacity(self, gateways: Collection[int]) -> int:
        """Count the addresses that can be given out."""
        return sum(
            max(0, numbers.stop - numbers.start) - sum(gateway in numbers for gateway in gateways)
            for _, numbers in self.spans()
        )


def gateways(sets: Iterable[RangeSet], version: int) -> set[int]:
    """Give the gateways of a family, as numbers: one may lie in the range of another, and is not given out there."""
    return {int(one.gateway) for found in sets if found.version == version for one in found.ranges}


def _numbers(one: AddressRange) -> range:
    first, last = usable(one.subnet)
    return range(max(int(one.first), first), min(int(one.last), last) + 1)


def address_range(
    subnet: IPNetwork,
    *,
    first: IPAddress | None = None,
    last: IPAddress | None = None,
    gateway: IPAddress | None = None,
    where: str = "$",
) -> AddressRange:
    """Complete a range: from the subnet's first address to its last (IPv4: before the broadcast address).

    The gateway is the subnet's first address where none is named; it may be elsewhere. Raises InvalidArgument.
    """
    if subnet.version == 6:
        _refuse_spelling(subnet, f"{where}.subnet")
    if subnet.prefixlen > subnet.max_prefixlen - 2:
        raise InvalidArgument(
            f"Network {subnet} too small to allocate from",
            where=f"{where}.subnet",
            hint=f"a /{subnet.max_prefixlen - 2} is the smallest",
        )
    if subnet.prefixlen == 0:
        raise InvalidArgument(
            f"{subnet} is every address", where=f"{where}.subnet", hint="write the network's own subnet"
        )
    lowest, highest = usable(subnet)
    kind = type(subnet.network_address)
    for name, bound in (("RangeStart", first), ("RangeEnd", last)):
        if bound is not None and (bound.version != subnet.version or bound not in subnet):
            key = f"{where}.{name[0].lower()}{name[1:]}"
            raise InvalidArgument(f"{name} {bound} not in network {subnet}", where=key)
    if gateway is not None and gateway.version != subnet.version:
        raise InvalidArgument(
            f"gateway {gateway} is of another family than {subnet}", where=f"{where}.gateway"
        )
    made = AddressRange(
        subnet,
        kind(lowest) if first is None else first,
        kind(highest) if last is None else last,
        kind(lowest) if gateway is None else gateway,
    )
    if int(made.first) > int(made.last):
        raise InvalidArgument(
            f"RangeStart {made.first} is after RangeEnd {made.last}", where=f"{where}.rangeStart"
        )
    return made


def _refuse_spelling(subnet: IPv6Network, where: str) -> None:
    if subnet.network_address.ipv4_mapped is not None:
        raise InvalidArgument(
            f"{subnet} is an IPv4 subnet in IPv6's spelling", where=where, hint="write it as 10.0.0.0/24"
        )
    if subnet.network_address.scope_id is not None:
        raise InvalidArgument(f"{subnet} has a zone, which is not allowed here", where=where)


def range_set(ranges: Sequence[AddressRange], *, where: str = "$") -> RangeSet:
    """Put ranges into one set. Raises InvalidArgument where there is none, families are mixed or two overlap."""
    if not ranges:
        raise InvalidArgument(
            "empty range set", where=where, hint='give it a range, as {"subnet": "10.0.0.0/24"}'
        )
    if len({one.subnet.version for one in ranges}) > 1:
        raise InvalidArgument(
            "mixed address families",
            where=where,
            hint="a set is one address; give IPv4 and IPv6 a set each",
        )
    clash = _first_clash((one, one) for one in ranges)
    if clash is not None:
        raise InvalidArgument(f"subnets {clash[0]} and {clash[1]} overlap", where=where)
    return RangeSet(tuple(ranges))


def refuse_overlaps(sets: Sequence[RangeSet], *, where: str = "$") -> None:
    """Raise InvalidArgument where two sets have an address in common."""
    clash = _first_clash((index, one) for index, found in enumerate(sets) for one in found.ranges)
    if clash is not None:
        one, other = sorted(clash)
        raise InvalidArgument(f"range set {one} overlaps with {other}", where=where)


def _first_clash(ranges: Iterable[tuple[_T, AddressRange]]) -> tuple[_T, _T] | None:
    """Give the labels of two ranges that overlap; sorted first, as a configuration may have thousands."""
    ordered = sorted(ranges, key=lambda pair: (pair[1].subnet.version, int(pair[1].first)))
    for (label, one), (following, other) in itertools.pairwise(ordered):
        if other.first in one:
            return label, following
    return None
