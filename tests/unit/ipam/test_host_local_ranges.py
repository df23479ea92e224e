"""The ranges of host-local: defaults, order, and every way to get them wrong."""

from __future__ import annotations

import itertools
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from dovetail.errors import InvalidArgument
from dovetail.ipam.host_local_ranges import (
    AddressRange,
    RangeSet,
    address_range,
    gateways,
    range_set,
    refuse_overlaps,
)


def make(subnet: str, first: str = "", last: str = "", gateway: str = "") -> AddressRange:
    def address(text: str) -> Any:
        return ip_address(text) if text else None

    return address_range(
        ip_network(subnet),
        first=address(first),
        last=address(last),
        gateway=address(gateway),
        where="$.ipam",
    )


def order(ranges: RangeSet, last: str = "", count: int = 100) -> list[str]:
    numbers = itertools.chain.from_iterable(
        span for _, span in ranges.spans(ip_address(last) if last else None)
    )
    kind = type(ranges.ranges[0].first)
    return [str(kind(number)) for number in itertools.islice(numbers, count)]


@pytest.mark.parametrize(
    ("subnet", "text", "gateway"),
    [
        ("10.0.0.0/24", "10.0.0.1-10.0.0.254", "10.0.0.1"),
        ("10.0.0.0/30", "10.0.0.1-10.0.0.2", "10.0.0.1"),
        ("fd00::/64", "fd00::1-fd00::ffff:ffff:ffff:ffff", "fd00::1"),
        ("fd00::/126", "fd00::1-fd00::3", "fd00::1"),
    ],
)
def test_a_range_is_the_whole_subnet_and_its_gateway_the_first_address(
    subnet: str, text: str, gateway: str
) -> None:
    found = make(subnet)

    assert str(found) == text
    assert str(found.gateway) == gateway


@pytest.mark.parametrize(
    ("arguments", "message", "where"),
    [
        (("10.0.0.0/31",), "Network 10.0.0.0/31 too small to allocate from", "$.ipam.subnet"),
        (("10.0.0.0/32",), "Network 10.0.0.0/32 too small to allocate from", "$.ipam.subnet"),
        (("fd00::/127",), "Network fd00::/127 too small to allocate from", "$.ipam.subnet"),
        (("fd00::/128",), "Network fd00::/128 too small to allocate from", "$.ipam.subnet"),
        (("fe80::%eth0/64",), "fe80::%eth0/64 has a zone, which is not allowed here", "$.ipam.subnet"),
        (("0.0.0.0/0",), "0.0.0.0/0 is every address", "$.ipam.subnet"),
        (("::/0",), "::/0 is every address", "$.ipam.subnet"),
        (
            ("::ffff:10.0.0.0/120",),
            "::ffff:a00:0/120 is an IPv4 subnet in IPv6's spelling",
            "$.ipam.subnet",
        ),
        (
            ("10.0.0.0/24", "10.0.1.5"),
            "RangeStart 10.0.1.5 not in network 10.0.0.0/24",
            "$.ipam.rangeStart",
        ),
        (
            ("10.0.0.0/24", "", "10.0.1.5"),
            "RangeEnd 10.0.1.5 not in network 10.0.0.0/24",
            "$.ipam.rangeEnd",
        ),
        (("10.0.0.0/24", "fd00::1"), "RangeStart fd00::1 not in network 10.0.0.0/24", "$.ipam.rangeStart"),
        (
            ("10.0.0.0/24", "10.0.0.9", "10.0.0.5"),
            "RangeStart 10.0.0.9 is after RangeEnd 10.0.0.5",
            "$.ipam.rangeStart",
        ),
        (
            ("10.0.0.0/24", "", "", "fd00::1"),
            "gateway fd00::1 is of another family than 10.0.0.0/24",
            "$.ipam.gateway",
        ),
    ],
)
def test_a_range_that_cannot_be_is_refused_with_its_place(
    arguments: tuple[str, ...], message: str, where: str
) -> None:
    with pytest.raises(InvalidArgument) as caught:
        make(*arguments)

    assert (caught.value.message, caught.value.where) == (message, where)


def test_a_gateway_may_be_outside_of_the_subnet() -> None:
    assert str(make("10.0.0.0/24", gateway="10.9.9.9").gateway) == "10.9.9.9"


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ([], "empty range set"),
        ([("10.0.0.0/24",), ("fd00::/64",)], "mixed address families"),
        (
            [("10.0.0.0/24",), ("10.0.0.0/25",)],
            "subnets 10.0.0.1-10.0.0.254 and 10.0.0.1-10.0.0.126 overlap",
        ),
        (
            [("10.0.0.0/24", "10.0.0.5", "10.0.0.9"), ("10.0.0.0/24", "10.0.0.9")],
            "subnets 10.0.0.5-10.0.0.9 and 10.0.0.9-10.0.0.254 overlap",
        ),
    ],
)
def test_a_set_that_cannot_be_is_refused(ranges: list[tuple[str, ...]], message: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        range_set([make(*one) for one in ranges], where="$.ipam.ranges[0]")

    assert (caught.value.message, caught.value.where) == (message, "$.ipam.ranges[0]")


def test_sets_that_overlap_are_named_by_their_places() -> None:
    sets = [range_set([make(subnet)]) for subnet in ("10.1.0.0/24", "fd00::/64", "10.0.0.0/15")]

    with pytest.raises(InvalidArgument, match="range set 0 overlaps with 2"):
        refuse_overlaps(sets)
    refuse_overlaps(sets[:2])


def test_parts_of_one_subnet_are_a_set() -> None:
    found = range_set(
        [make("10.0.0.0/24", "10.0.0.5", "10.0.0.6"), make("10.0.0.0/24", "10.0.0.9", "10.0.0.10")]
    )

    assert str(found) == "10.0.0.5-10.0.0.6,10.0.0.9-10.0.0.10"
    assert order(found) == ["10.0.0.5", "10.0.0.6", "10.0.0.9", "10.0.0.10"]
    assert order(found, "10.0.0.5") == ["10.0.0.6", "10.0.0.9", "10.0.0.10", "10.0.0.5"]
    assert order(found, "10.0.0.6") == ["10.0.0.9", "10.0.0.10", "10.0.0.5", "10.0.0.6"]
    assert order(found, "10.0.0.10") == ["10.0.0.5", "10.0.0.6", "10.0.0.9", "10.0.0.10"]
    assert order(found, "10.0.0.7") == order(found)
    assert order(found, "fd00::1") == order(found)


def test_network_and_broadcast_addresses_in_a_range_are_not_given_out() -> None:
    whole = range_set([make("10.0.0.0/30", "10.0.0.0", "10.0.0.3")])
    only = range_set([make("10.0.0.0/30", "10.0.0.3", "10.0.0.3")])

    assert order(whole) == ["10.0.0.1", "10.0.0.2"]
    assert order(whole, "10.0.0.3") == ["10.0.0.1", "10.0.0.2"]
    assert order(whole, "10.0.0.0") == ["10.0.0.1", "10.0.0.2"]
    assert order(only) == []
    assert only.capacity(set()) == 0


def test_the_end_of_the_address_space_is_an_end_too() -> None:
    found = range_set([make("255.255.255.252/30")])

    assert order(found, "255.255.255.254") == ["255.255.255.253", "255.255.255.254"]


def test_a_range_of_a_whole_64_is_counted_and_walked_without_its_size_mattering() -> None:
    found = range_set([make("fd00::/64")])

    assert order(found, "fd00::ffff:ffff:ffff:ffff", 2) == ["fd00::1", "fd00::2"]
    assert found.capacity(gateways([found], 6)) == 2**64 - 2


def test_gateways_are_those_of_all_sets_of_a_family() -> None:
    sets = [range_set([make("10.0.0.0/24")]), range_set([make("fd00::/64")])]

    assert gateways(sets, 4) == {int(ip_address("10.0.0.1"))}
    assert gateways(sets, 6) == {int(ip_address("fd00::1"))}
