"""Pools: given or chosen, never two that overlap, never over a route of the host."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from dovetail.errors import InvalidArgument, PoolExhausted, PoolOverlap
from dovetail.ipam.protocol import IpamDriver
from dovetail.ipam.ranges import first_clear, ula_range


def test_the_driver_fulfils_its_protocol(ipam) -> None:
    as_protocol: IpamDriver = ipam

    assert as_protocol.name == "local"


def test_pools_are_chosen_in_dockers_order(ipam) -> None:
    chosen = [str(ipam.pool().subnet) for _ in range(31)]

    assert chosen[:2] == ["172.17.0.0/16", "172.18.0.0/16"]
    assert chosen[14:17] == ["172.31.0.0/16", "192.168.0.0/20", "192.168.16.0/20"]
    assert chosen[-1] == "192.168.240.0/20"
    with pytest.raises(PoolExhausted, match="no IPv4 pool is free: every block of the 16 default ranges"):
        ipam.pool()


def test_a_choice_avoids_routes_and_pools_of_any_size(ipam) -> None:
    ipam.pool("172.19.5.0/24")

    chosen = ipam.pool(routes=["172.17.0.0/16", "172.18.255.255/32", "172.20.0.0/14", "10.0.0.0/8"])

    assert str(chosen.subnet) == "172.24.0.0/16"


def test_default_routes_are_no_clash(ipam) -> None:
    routes = ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0"]

    assert str(ipam.pool(routes=routes).subnet) == "172.17.0.0/16"
    assert str(ipam.pool("10.0.0.0/24", routes=routes).subnet) == "10.0.0.0/24"
    assert ipam.pool("fd88::/64", routes=routes).subnet.version == 6


def test_a_chosen_ipv6_pool_is_from_the_stores_own_unique_local_range(ipam, make_ipam) -> None:
    first, second = ipam.pool(version=6), ipam.pool(version=6)
    elsewhere = make_ipam().pool(version=6)

    base, _ = ula_range(ipam.store.id)
    assert base.subnet_of(ip_network("fd00::/8"))
    assert base.prefixlen == 48
    assert first.subnet == ip_network(f"{base.network_address}/64")
    assert second.subnet.subnet_of(base)
    assert second.subnet != first.subnet
    assert not elsewhere.subnet.subnet_of(base)


def test_default_ranges_can_be_others(make_ipam) -> None:
    ipam = make_ipam(default_ranges=[(ip_network("10.4.0.0/22"), 24), (ip_network("fd04::/16"), 64)])

    assert [str(ipam.pool().subnet) for _ in range(4)] == [f"10.4.{n}.0/24" for n in range(4)]
    assert str(ipam.pool(version=6).subnet) == "fd04::/64"
    with pytest.raises(PoolExhausted):
        ipam.pool()


def test_a_released_pool_is_free_again_with_all_its_addresses(ipam) -> None:
    pool = ipam.pool("10.0.0.0/24")
    ipam.ask(pool, "10.0.0.5")

    ipam.release_pool(pool.id)
    ipam.release_pool(pool.id)

    assert ipam.store.addresses() == []
    again = ipam.pool("10.0.0.0/24")
    assert ipam.ask(again, "10.0.0.5", owner="other") == "10.0.0.5/24"


@pytest.mark.parametrize("clash", ["10.0.0.0/24", "10.0.0.0/25", "10.0.0.0/8", "10.0.0.7/32"])
def test_a_pool_over_another_is_refused_naming_it(ipam, clash: str) -> None:
    ipam.pool("10.0.0.0/24", owner="0123456789abcdef")

    with pytest.raises(
        PoolOverlap, match=f"subnet {clash} overlaps 10.0.0.0/24, which network 0123456789ab holds"
    ):
        ipam.pool(clash)

    assert len(ipam.store.pools()) == 1


def test_a_pool_that_docker_holds_is_named_so(ipam) -> None:
    ipam.pool("10.0.0.0/24", owner="docker")

    with pytest.raises(PoolOverlap, match="which Docker holds"):
        ipam.pool("10.0.0.0/24")


def test_disjoint_ranges_of_one_subnet_are_refused_too(ipam) -> None:
    ipam.pool("10.0.0.0/24", ip_range="10.0.0.0/25")

    with pytest.raises(PoolOverlap):
        ipam.pool("10.0.0.0/24", ip_range="10.0.0.128/25")


def test_a_pool_over_a_route_is_refused_naming_it(ipam) -> None:
    with pytest.raises(
        PoolOverlap, match=r"subnet 10.0.0.0/24 overlaps the route to 10.0.0.0/16 of the host"
    ):
        ipam.pool("10.0.0.0/24", routes=["0.0.0.0/0", "192.0.2.0/24", "10.0.0.0/16"])

    assert ipam.store.pools() == []


def test_families_never_clash(ipam) -> None:
    ipam.pool("10.0.0.0/24", routes=["fd00::/8"])

    assert ipam.pool("fd88::/64").subnet.version == 6


@pytest.mark.parametrize("subnet", ["0.0.0.0/0", "::/0", "224.1.0.0/16", "ff02::/64", "127.9.0.0/16"])
def test_what_cannot_be_a_networks_subnet_is_refused(ipam, subnet: str) -> None:
    with pytest.raises(InvalidArgument, match=f"{subnet} cannot be the subnet of a network"):
        ipam.pool(subnet)


@pytest.mark.parametrize("ip_range", ["10.0.1.0/25", "10.0.0.0/16", "fd00::/80"])
def test_a_range_outside_of_the_subnet_is_refused(ipam, ip_range: str) -> None:
    with pytest.raises(InvalidArgument, match=f"the IP range {ip_range} is not in 10.0.0.0/24"):
        ipam.pool("10.0.0.0/24", ip_range=ip_range)


def test_a_range_without_a_subnet_is_refused(ipam) -> None:
    with pytest.raises(InvalidArgument, match="needs a subnet"):
        ipam.pool(ip_range="172.17.0.0/24")


def test_a_pools_id_tells_what_it_is(ipam) -> None:
    assert ipam.pool("10.0.0.0/24").id == "dovetail/10.0.0.0/24"
    assert ipam.pool("10.1.0.0/24", ip_range="10.1.0.128/25").id == "dovetail/10.1.0.0/24/10.1.0.128/25"
    assert ipam.pool("fd88::/64").id == "dovetail/fd88::/64"


@pytest.mark.parametrize(
    ("busy", "expected"),
    [
        ([], "10.0.0.0/24"),
        (["10.0.0.0/25"], "10.0.1.0/24"),
        (["10.0.0.0/23", "10.0.1.128/25"], "10.0.2.0/24"),
        (["10.0.1.0/24"], "10.0.0.0/24"),
        (["9.0.0.0/8", "10.0.4.0/24"], "10.0.0.0/24"),
        (["10.0.0.0/24", "10.0.2.0/24"], "10.0.1.0/24"),
        (["10.0.0.0/22"], None),
        (["0.0.0.0/2"], None),
        (["10.0.0.0/24", "10.0.1.7/32", "10.0.2.0/23"], None),
        (["fd00::/8"], "10.0.0.0/24"),
    ],
)
def test_the_first_clear_block_is_found(busy: list[str], expected: str | None) -> None:
    found = first_clear(ip_network("10.0.0.0/22"), 24, [ip_network(text) for text in busy])

    assert found == (ip_network(expected) if expected else None)


def test_the_last_block_of_all_can_be_chosen() -> None:
    top = ip_network("255.255.255.0/24")

    assert first_clear(top, 25, [ip_network("255.255.255.0/25")]) == ip_network("255.255.255.128/25")
    assert first_clear(top, 25, [top]) is None


@pytest.mark.parametrize(
    ("size", "chosen"),
    [("0.0.0.0/24", "172.17.0.0/24"), ("0.0.0.0/30", "172.17.0.0/30"), ("0.0.0.0/16", "172.17.0.0/16")],
)
def test_a_pool_of_a_size_is_chosen(ipam, size: str, chosen: str) -> None:
    assert str(ipam.pool(size).subnet) == chosen
    assert str(ipam.pool(size).subnet) != chosen, "another one each time"


def test_an_ipv6_pool_of_a_size_is_of_the_stores_own_range(ipam) -> None:
    base, _ = ula_range(ipam.store.id)

    subnet = ipam.pool("::/80", version=6).subnet

    assert subnet.prefixlen == 80
    assert subnet.subnet_of(base)


def test_a_size_that_no_range_has_is_no_pool(ipam) -> None:
    with pytest.raises(PoolExhausted, match="of size /8"):
        ipam.pool("0.0.0.0/8")
    with pytest.raises(InvalidArgument):
        ipam.pool("0.0.0.0/0")
    with pytest.raises(InvalidArgument, match="needs a subnet"):
        ipam.pool("0.0.0.0/24", ip_range="0.0.0.0/25")
