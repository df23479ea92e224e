"""Pools that keep an address for the container that had it."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from dovetail.errors import PoolExhausted
from dovetail.ipam import local
from dovetail.model.pool import AddressRequest, Pool, PoolRequest


def sticky(ipam: Any, subnet: str, **more: Any) -> Pool:
    return ipam.request_pool(PoolRequest(subnet=ip_network(subnet), owner="n1", sticky=True, **more))


def ask(ipam: Any, pool: Pool, key: str, address: str = "") -> str:
    request = AddressRequest(
        kind="docker", owner="docker", address=ip_address(address) if address else None, key=key
    )
    return str(ipam.request_address(pool.id, request).ip)


def release(ipam: Any, pool: Pool, address: str) -> None:
    ipam.release_address(pool.id, ip_address(address), "docker")


@pytest.mark.cnm(34)
def test_who_comes_back_gets_the_address_it_had(ipam: Any) -> None:
    pool = sticky(ipam, "10.0.0.0/24")
    one, two = ask(ipam, pool, "name:one"), ask(ipam, pool, "name:two")
    for address in (one, two):
        release(ipam, pool, address)

    assert [ask(ipam, pool, key) for key in ("name:three", "name:two", "name:one")] == ["10.0.0.3", two, one]


def test_a_pool_that_is_not_sticky_keeps_nothing(ipam: Any) -> None:
    pool = ipam.pool("10.0.0.0/24")
    release(ipam, pool, ask(ipam, pool, "name:one"))

    assert ask(ipam, pool, "name:one") == "10.0.0.2"
    assert ipam.store.leases(pool.id) == []


def test_nobody_else_gets_it_but_when_no_other_is_left_and_then_the_longest_unused(ipam: Any) -> None:
    pool = sticky(ipam, "10.0.0.0/29")
    for number in range(6):
        release(ipam, pool, ask(ipam, pool, f"name:{number}"))

    assert ask(ipam, pool, "name:new") == "10.0.0.1", "that of 0, who came first"
    assert ask(ipam, pool, "") == "10.0.0.2", "somebody without a name"
    assert ask(ipam, pool, "name:0") == "10.0.0.3"
    assert ask(ipam, pool, "name:5") == "10.0.0.6"


def test_an_exhausted_pool_is_exhausted(ipam: Any) -> None:
    pool = sticky(ipam, "10.0.0.0/30")
    ask(ipam, pool, "name:1"), ask(ipam, pool, "name:2")

    with pytest.raises(PoolExhausted):
        ask(ipam, pool, "name:3")
    assert [key for key, _ in ipam.store.leases(pool.id)] == ["name:1", "name:2"]


def test_a_static_address_is_kept_while_its_container_is_away(ipam: Any) -> None:
    pool = sticky(ipam, "10.0.0.0/29")
    release(ipam, pool, ask(ipam, pool, "name:db", "10.0.0.1"))

    assert ask(ipam, pool, "name:other") == "10.0.0.2"
    assert ask(ipam, pool, "name:db", "10.0.0.1") == "10.0.0.1"


def test_an_address_that_somebody_asked_for_by_number_is_replaced_and_the_new_one_kept(ipam: Any) -> None:
    pool = sticky(ipam, "10.0.0.0/24")
    release(ipam, pool, ask(ipam, pool, "name:one"))
    ask(ipam, pool, "", "10.0.0.1")

    second = ask(ipam, pool, "name:one")
    release(ipam, pool, second)

    assert second == "10.0.0.2"
    assert ask(ipam, pool, "name:one") == second


def test_only_the_range_is_chosen_from(ipam: Any) -> None:
    pool = sticky(ipam, "10.0.0.0/24", ip_range=ip_network("10.0.0.8/30"))
    release(ipam, pool, ask(ipam, pool, "name:far", "10.0.0.200"))
    for number in range(4):
        release(ipam, pool, ask(ipam, pool, f"name:{number}"))

    assert ask(ipam, pool, "name:new") == "10.0.0.8"
    assert ask(ipam, pool, "name:far") == "10.0.0.200", "what it had, wherever that is"


def test_a_pool_keeps_so_many_and_the_oldest_end(ipam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_LEASES", 3)
    pool = sticky(ipam, "fd00::/64")
    for number in range(10):
        release(ipam, pool, ask(ipam, pool, f"mac:{number}"))

    assert [key for key, _ in ipam.store.leases(pool.id)] == ["mac:6", "mac:7", "mac:8", "mac:9"]


def test_leases_go_with_their_pool(ipam: Any) -> None:
    pool = sticky(ipam, "10.0.0.0/24")
    release(ipam, pool, ask(ipam, pool, "name:one"))

    ipam.release_pool(pool.id)

    assert ipam.store.leases(pool.id) == []
