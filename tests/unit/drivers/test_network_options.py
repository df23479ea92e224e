from __future__ import annotations

from ipaddress import ip_address, ip_network

import msgspec
import pytest

from dovetail.drivers.network_options import ADDRESSED, is_sticky, settle, without_gateway
from dovetail.drivers.options import Given
from dovetail.errors import InvalidArgument
from dovetail.kernel.recording import RecordingKernel
from dovetail.kernel.uplink import uplink_mtu
from dovetail.model.attachment import Route
from dovetail.model.network import Network, Subnet
from dovetail.model.routes import parse_routes

NETWORK = Network(
    id="a" * 64,
    name="web",
    driver="bridge",
    subnets=(
        Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1")),
        Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
    ),
)


def settled(network: Network = NETWORK, **options: str) -> Network:
    return settle(network, Given("bridge", options, ADDRESSED))


def test_nothing_said_gives_eth_and_no_routes() -> None:
    assert settled() == NETWORK


def test_routes_are_kept_behind_those_of_the_request_and_once() -> None:
    network = msgspec.structs.replace(NETWORK, routes=parse_routes("10.9.0.0/16"))

    assert settled(network, route="10.0.0.0/8 via 10.88.0.9, 10.9.0.0/16").routes == parse_routes(
        "10.9.0.0/16, 10.0.0.0/8 via 10.88.0.9"
    )


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("10.0.0.0/8 via 10.99.0.1", "in no subnet"),
        ("10.88.0.0/24", "needs no route"),
        ("10.0.0.0/8, 10.0.0.0/8 via 10.88.0.9", "two routes"),
        ("default via 10.88.0.7, default via 10.88.0.8", "two routes"),
        ("10.0.0.0/8 dev eth0", "dev"),
    ],
)
def test_a_route_that_no_endpoint_could_have_is_refused(route: str, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words) as caught:
        settled(route=route)

    assert caught.value.where == "$.options.route"


def test_a_route_of_a_family_without_subnet_is_refused() -> None:
    network = msgspec.structs.replace(NETWORK, subnets=NETWORK.subnets[:1])

    with pytest.raises(InvalidArgument, match="family"):
        settled(network, route="fd99::/64 via fd88::9")


def test_a_gateway_outside_is_fine_with_a_route_on_the_link() -> None:
    assert settled(route="169.254.1.1, default via 169.254.1.1").routes[1].gateway == ip_address(
        "169.254.1.1"
    )


def test_an_internal_network_has_routes_but_none_out() -> None:
    network = msgspec.structs.replace(NETWORK, internal=True)

    assert settled(network, route="10.9.0.0/16 via 10.88.0.9").routes
    with pytest.raises(InvalidArgument, match="internal"):
        settled(network, route="default via 10.88.0.9")
    with pytest.raises(InvalidArgument, match="internal"):
        settled(network, gwbridge="true")


@pytest.mark.parametrize("key", ["ifname_prefix", "com.docker.network.container_iface_prefix"])
def test_the_prefix_is_given_by_either_name(key: str) -> None:
    assert settled(**{key: "lan"}).ifname_prefix == "lan"


@pytest.mark.parametrize("prefix", ["a/b", "lan0", "thirteenchars", "..", "a b", "\N{SNOWMAN}" * 5])
def test_a_prefix_that_gives_no_name_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidArgument):
        settled(ifname_prefix=prefix)


def test_gateway_none_is_for_both_families() -> None:
    assert without_gateway({"gateway": "none"}, ADDRESSED) == {4, 6}
    assert without_gateway({"gateway": "auto", "mtu": "x"}, ADDRESSED) == frozenset()
    assert without_gateway({"gateway": "none"}, {}) == frozenset()
    with pytest.raises(InvalidArgument):
        without_gateway({"gateway": "10.0.0.1"}, ADDRESSED)


def test_addresses_are_kept_where_it_is_said() -> None:
    assert is_sticky({"sticky": "true"}, ADDRESSED)
    assert not is_sticky({}, ADDRESSED)


def uplink(mtu: int) -> RecordingKernel:
    kernel = RecordingKernel()
    kernel.add_bridge("wan", mtu=mtu)
    kernel.add_route("wan", Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("192.0.2.1")))
    return kernel


def test_the_uplinks_mtu_is_that_of_the_default_routes_link() -> None:
    assert uplink_mtu(uplink(1450), ipv6=False) == 1450
    assert uplink_mtu(uplink(1000), ipv6=True) == 1280
    assert uplink_mtu(RecordingKernel(), ipv6=False) == 0
