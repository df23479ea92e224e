"""Leases as values."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

from dovetail.ipam.dhcp.lease import Held, Lease
from dovetail.model.attachment import DNS, Route

TIMES = {"obtained_at": 1000.0, "lease_s": 120.0, "renew_s": 60.0, "rebind_s": 105.0}
V4 = Lease(
    address=ip_interface("10.0.0.5/24"),
    gateway=ip_address("10.0.0.1"),
    routes=(Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.0.0.7")),),
    dns=DNS(nameservers=("10.0.0.1",), domain="a.test", search=("a.test", "b.test")),
    mtu=1400,
    server="10.0.0.1",
    **TIMES,
)
V6 = Lease(
    address=ip_interface("fd00::5/128"),
    dns=DNS(nameservers=("fd00::1",), search=("b.test", "c.test")),
    server="0003",
    **TIMES,
)


def test_the_result_of_both_families_is_one(make_request) -> None:
    held = Held(request=make_request(ipv6=True), netns="/n", netns_inode=1, v4=V4, v6=V6)

    result = held.attachment

    assert result.ifname == ""
    assert [str(one) for one in result.addresses] == ["10.0.0.5/24", "fd00::5/128"]
    assert [str(one) for one in result.gateways] == ["10.0.0.1"]
    assert result.routes == V4.routes
    assert result.dns.nameservers == ("10.0.0.1", "fd00::1")
    assert (result.dns.domain, result.dns.search) == ("a.test", ("a.test", "b.test", "c.test"))
    assert result.mtu == 1400


def test_where_all_is_lost_there_is_nothing_in_the_result(make_request) -> None:
    result = Held(request=make_request(), netns="/n", netns_inode=1).attachment

    assert (result.addresses, result.gateways, result.routes, result.dns) == ((), (), (), DNS())


def test_the_default_gateway_is_that_of_the_default_route() -> None:
    assert str(V4.default_gateway) == "10.0.0.7"
    assert V6.default_gateway is None


def test_a_lease_ends_when_its_time_is_over() -> None:
    assert V4.expires_at == 1120.0
