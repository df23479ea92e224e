"""Addresses: which may be given, in which order, and to whom."""

from __future__ import annotations

import pytest

from dovetail.errors import AddressInUse, InvalidArgument, NotFound, PoolExhausted, Unsupported
from dovetail.ipam.null import NullIpam
from dovetail.ipam.protocol import IpamDriver
from dovetail.model.pool import AddressRequest, PoolRequest


def all_of(ipam, pool) -> list[str]:
    given = []
    while True:
        try:
            given.append(ipam.ask(pool, owner=f"e{len(given)}"))
        except PoolExhausted:
            return given


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("10.0.0.0/29", [f"10.0.0.{n}/29" for n in range(1, 7)]),
        ("10.0.0.0/30", ["10.0.0.1/30", "10.0.0.2/30"]),
        ("10.0.0.0/31", ["10.0.0.0/31", "10.0.0.1/31"]),
        ("10.0.0.7/32", ["10.0.0.7/32"]),
        ("fd00::/126", ["fd00::1/126", "fd00::2/126", "fd00::3/126"]),
        ("fd00::/127", ["fd00::/127", "fd00::1/127"]),
        ("fd00::7/128", ["fd00::7/128"]),
        ("255.255.255.248/29", [f"255.255.255.{n}/29" for n in range(249, 255)]),
    ],
)
@pytest.mark.cnm(29)
def test_every_usable_address_is_given_and_no_other(ipam, subnet: str, expected: list[str]) -> None:
    assert all_of(ipam, ipam.pool(subnet)) == expected


@pytest.mark.parametrize(
    ("ip_range", "expected"),
    [
        ("10.0.0.4/30", [f"10.0.0.{n}/24" for n in range(4, 8)]),
        ("10.0.0.0/30", [f"10.0.0.{n}/24" for n in range(1, 4)]),
        ("10.0.0.252/30", [f"10.0.0.{n}/24" for n in range(252, 255)]),
        ("10.0.0.9/32", ["10.0.0.9/24"]),
        ("10.0.0.0/32", []),
    ],
)
def test_dynamic_addresses_are_of_the_range(ipam, ip_range: str, expected: list[str]) -> None:
    assert all_of(ipam, ipam.pool("10.0.0.0/24", ip_range=ip_range)) == expected


@pytest.mark.cnm(27)
def test_gateway_reserved_and_static_addresses_may_be_outside_of_the_range(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24", ip_range="10.0.0.128/25")

    assert ipam.ask(pool, kind="gateway", owner="n1") == "10.0.0.1/24"
    assert ipam.ask(pool, "10.0.0.2", kind="aux", owner="n1") == "10.0.0.2/24"
    assert ipam.ask(pool, "10.0.0.3") == "10.0.0.3/24"
    assert ipam.ask(pool, owner="e2") == "10.0.0.128/24"


@pytest.mark.parametrize("subnet", ["10.0.0.0/24", "10.0.0.0/31", "10.0.0.0/32", "fd00::/64", "fd00::/127"])
@pytest.mark.cnm(28)
def test_a_gateway_is_the_first_usable_address_and_the_same_when_asked_again(ipam, subnet: str) -> None:
    pool = ipam.pool(subnet)

    gateway = ipam.ask(pool, kind="gateway", owner="n1")

    first = pool.subnet.network_address + (0 if pool.subnet.num_addresses <= 2 else 1)
    assert gateway == f"{first}/{pool.subnet.prefixlen}"
    assert ipam.ask(pool, kind="gateway", owner="n1") == gateway
    assert ipam.store.count_addresses(pool.id) == 1


def test_a_gateway_may_be_chosen_by_the_user(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24")

    assert ipam.ask(pool, "10.0.0.254", kind="gateway", owner="n1") == "10.0.0.254/24"
    assert ipam.ask(pool) == "10.0.0.1/24"


@pytest.mark.parametrize(
    ("subnet", "address", "what"),
    [
        ("10.0.0.0/24", "10.0.0.0", "the network address of 10.0.0.0/24"),
        ("10.0.0.0/24", "10.0.0.255", "the broadcast address of 10.0.0.0/24"),
        ("fd00::/64", "fd00::", "the subnet-router anycast address of fd00::/64"),
        ("10.0.0.0/24", "10.0.1.1", "not in 10.0.0.0/24"),
        ("10.0.0.0/24", "fd00::1", "not in 10.0.0.0/24"),
        ("fd00::/64", "10.0.0.1", "not in fd00::/64"),
    ],
)
@pytest.mark.parametrize("kind", ["gateway", "aux", "endpoint", "docker"])
@pytest.mark.cnm(29)
def test_what_no_interface_may_have_is_refused(ipam, subnet: str, address: str, what: str, kind: str) -> None:
    pool = ipam.pool(subnet)

    with pytest.raises(InvalidArgument, match=f"{address} is {what}"):
        ipam.ask(pool, address, kind=kind)

    assert ipam.store.addresses() == []


@pytest.mark.cnm(30)
def test_addresses_go_round(ipam) -> None:
    pool = ipam.pool("10.0.0.0/29")
    assert [ipam.ask(pool, owner=f"e{n}") for n in range(4)] == [f"10.0.0.{n}/29" for n in range(1, 5)]

    ipam.release(pool, "10.0.0.2", owner="e1")
    ipam.release(pool, "10.0.0.4", owner="e3")

    assert [ipam.ask(pool, owner=f"f{n}") for n in range(4)] == [f"10.0.0.{n}/29" for n in (5, 6, 2, 4)]


def test_a_static_address_does_not_move_the_round(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24")
    ipam.ask(pool)

    ipam.ask(pool, "10.0.0.200")
    ipam.ask(pool, "10.0.0.2")

    assert ipam.ask(pool) == "10.0.0.3/24"


@pytest.mark.parametrize(
    ("held", "owner", "sentence"),
    [
        ("gateway", "0123456789abcdef", "it is the gateway of network 0123456789ab"),
        ("aux", "0123456789abcdef", "network 0123456789ab reserves it"),
        ("endpoint", "fedcba9876543210", "endpoint fedcba987654 holds it"),
        ("docker", "docker", "Docker holds it"),
    ],
)
def test_a_taken_address_is_refused_naming_its_holder(ipam, held: str, owner: str, sentence: str) -> None:
    pool = ipam.pool("10.0.0.0/24")
    ipam.ask(pool, "10.0.0.9", kind=held, owner=owner)

    with pytest.raises(AddressInUse, match=f"address 10.0.0.9 of 10.0.0.0/24 is in use: {sentence}"):
        ipam.ask(pool, "10.0.0.9", owner="e9")

    assert ipam.store.addresses()[0].owner == owner


@pytest.mark.parametrize("kind", ["gateway", "aux", "endpoint", "docker"])
def test_the_holder_asking_again_gets_its_address_again(ipam, kind: str) -> None:
    pool = ipam.pool("10.0.0.0/24")
    ipam.ask(pool, "10.0.0.9", kind=kind, owner="docker")

    assert ipam.ask(pool, "10.0.0.9", kind=kind, owner="docker") == "10.0.0.9/24"
    assert ipam.store.count_addresses(pool.id) == 1


def test_the_gateway_is_not_given_to_its_own_network_for_another_use(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24")
    ipam.ask(pool, kind="gateway", owner="n1")

    with pytest.raises(AddressInUse):
        ipam.ask(pool, "10.0.0.1", kind="aux", owner="n1")


def test_only_the_owner_releases(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24")
    ipam.ask(pool, "10.0.0.9", owner="e1")

    ipam.release(pool, "10.0.0.9", owner="e2")
    assert ipam.store.count_addresses(pool.id) == 1

    ipam.release(pool, "10.0.0.9", owner="e1")
    ipam.release(pool, "10.0.0.9", owner="e1")
    ipam.release(pool, "fd00::1", owner="e1")
    assert ipam.store.count_addresses(pool.id) == 0


def test_an_unknown_pool_is_named(ipam) -> None:
    with pytest.raises(NotFound, match="no such pool: 'dovetail/10.9.0.0/24'"):
        ipam.request_address("dovetail/10.9.0.0/24", AddressRequest(kind="endpoint", owner="e1"))


def test_an_exhausted_pool_says_how_full_it_is(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24", ip_range="10.0.0.8/31")
    ipam.ask(pool, kind="gateway", owner="n1")
    all_of(ipam, pool)

    with pytest.raises(
        PoolExhausted, match=r"no address of 10.0.0.8/31 is free: 3 of 10.0.0.0/24 are in use"
    ):
        ipam.ask(pool)


def test_a_request_that_fails_leaves_the_callers_transaction_going(ipam) -> None:
    full, spare = ipam.pool("10.0.0.0/32"), ipam.pool("10.1.0.0/24")
    ipam.ask(full)

    with ipam.store.transaction():
        with pytest.raises(PoolExhausted):
            ipam.ask(full, owner="e2")
        assert ipam.ask(spare, owner="e2") == "10.1.0.1/24"

    assert ipam.store.count_addresses(spare.id) == 1


def test_an_address_says_when_and_in_which_boot_it_was_given(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24")
    ipam.ask(pool)

    (row,) = ipam.store.addresses(pool.id)

    assert row.boot_id == "boot"
    assert row.created > 1_600_000_000


@pytest.mark.cnm(33)
def test_a_64_is_never_enumerated(ipam) -> None:
    pool = ipam.pool("fd00::/64")
    ipam.ask(pool, "fd00::ffff:ffff:ffff:fffe", kind="docker", owner="docker")

    assert ipam.ask(pool, owner="a") == "fd00::1/64"
    ipam.store.set_cursor(pool.id, int(pool.subnet.broadcast_address) - 2)
    assert ipam.ask(pool, owner="b") == "fd00::ffff:ffff:ffff:ffff/64"
    assert ipam.ask(pool, owner="c") == "fd00::2/64"


def test_the_null_driver_gives_the_whole_space_and_no_address() -> None:
    ipam: IpamDriver = NullIpam()

    assert str(ipam.request_pool(PoolRequest()).subnet) == "0.0.0.0/0"
    assert str(ipam.request_pool(PoolRequest(version=6)).subnet) == "::/0"
    with pytest.raises(Unsupported, match="the null IPAM gives no address"):
        ipam.request_address("null/0.0.0.0/0", AddressRequest(kind="endpoint", owner="e"))
    ipam.release_pool("null/0.0.0.0/0")
