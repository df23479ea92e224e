"""Values of options: what they say, and what is not believed."""

from __future__ import annotations

import pytest

from dovetail.ipam.dhcp.values import (
    MalformedError,
    addresses4,
    classless_routes,
    domain,
    domain_list,
    netmask,
    static_routes,
)


def shown(routes) -> list[tuple[str, str, int]]:
    return [(str(one.destination), str(one.gateway), one.priority) for one in routes]


def test_classless_routes_are_as_the_rfc_writes_them() -> None:
    data = bytes.fromhex("000a000001080a0a000001180a00000a000002100a110a00000119c0a80180c0a80101")

    assert shown(classless_routes(data, 5)) == [
        ("0.0.0.0/0", "10.0.0.1", 5),
        ("10.0.0.0/8", "10.0.0.1", 5),
        ("10.0.0.0/24", "10.0.0.2", 5),
        ("10.17.0.0/16", "10.0.0.1", 5),
        ("192.168.1.128/25", "192.168.1.1", 5),
    ]


def test_a_classless_route_by_router_zero_is_on_the_link() -> None:
    assert shown(classless_routes(bytes.fromhex("18c0a80700000000"), 0)) == [("192.168.7.0/24", "None", 0)]


def test_bits_beyond_the_prefix_of_a_classless_route_count_for_nothing() -> None:
    assert shown(classless_routes(bytes.fromhex("19c0a801ff0a000001"), 0)) == [
        ("192.168.1.128/25", "10.0.0.1", 0)
    ]


@pytest.mark.parametrize("data", ["21c0a8010100000000", "18c0a801", "00", "180a00000a0000", "00e0000001"])
def test_a_classless_route_that_cannot_be_read_is_refused(data) -> None:
    with pytest.raises(MalformedError):
        classless_routes(bytes.fromhex(data), 0)


def test_static_routes_have_the_prefix_of_their_class_and_hosts_all_bits() -> None:
    data = bytes.fromhex("0a0000000a000001ac1000000a000001c0a807000a000002c0a807050a000002")

    assert shown(static_routes(data, 7)) == [
        ("10.0.0.0/8", "10.0.0.1", 7),
        ("172.16.0.0/16", "10.0.0.1", 7),
        ("192.168.7.0/24", "10.0.0.2", 7),
        ("192.168.7.5/32", "10.0.0.2", 7),
    ]


def test_a_static_default_route_and_one_to_a_multicast_group_are_left_out() -> None:
    assert static_routes(bytes.fromhex("000000000a000001e00000010a0000010a00000000000000"), 0) == ()


@pytest.mark.parametrize(("mask", "length"), [("ffffff00", 24), ("ffffffff", 32), ("80000000", 1)])
def test_a_netmask_is_a_prefix_length(mask, length) -> None:
    assert netmask(bytes.fromhex(mask)) == length


@pytest.mark.parametrize("mask", ["00000000", "ff00ff00", "00ffffff", "7fffffff", "ffffff", ""])
def test_what_is_no_netmask_is_refused(mask) -> None:
    with pytest.raises(MalformedError):
        netmask(bytes.fromhex(mask))


def test_addresses_that_no_host_has_are_left_out() -> None:
    data = bytes((10, 0, 0, 1, 0, 0, 0, 0, 127, 0, 0, 53, 224, 0, 0, 1, 255, 255, 255, 255, 9, 9, 9, 9))

    assert [str(one) for one in addresses4(data, "it")] == ["10.0.0.1", "9.9.9.9"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"example.test", "example.test"),
        (b"example.test.\0", "example.test"),
        (b"a.test b.test", "a.test"),
        (b"", ""),
        (b"\0", ""),
        (b"x\nnameserver 6.6.6.6", "x"),
        (b"a..b", ""),
        (b"-a.test", ""),
        (b"a;b", ""),
        (b"\xff\xfe", ""),
        (b"a" * 64, ""),
    ],
)
def test_a_domain_is_a_host_name_or_nothing(data, name) -> None:
    assert domain(data) == name


def test_a_search_list_may_be_compressed() -> None:
    data = b"\3eng\5apple\3com\0" + b"\tmarketing\xc0\x04"  # the example of RFC 3397 §2

    assert domain_list(data, compressed=True) == ("eng.apple.com", "marketing.apple.com")


@pytest.mark.parametrize(
    "data", [b"\xc0\x00", b"\1a\xc0\x02", b"\1a\xc0", b"\5ab", b"\1a", b"\x40" + b"a" * 64 + b"\0"]
)
def test_a_search_list_that_does_not_end_is_refused(data) -> None:
    with pytest.raises(MalformedError):
        domain_list(data, compressed=True)


def test_pointers_are_no_names_in_dhcpv6() -> None:
    with pytest.raises(MalformedError):
        domain_list(b"\1a\0\xc0\x00", compressed=False)


def test_names_that_are_none_are_left_out_of_a_search_list() -> None:
    assert domain_list(b"\3a\nb\0\2ok\0\0\2ok\0", compressed=True) == ("ok",)
