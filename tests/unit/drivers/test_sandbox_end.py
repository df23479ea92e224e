from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import msgspec
import pytest

from dovetail.drivers import sandbox_end
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.attachment import Attachment, Route
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet
from dovetail.model.routes import format_route, parse_routes

NETWORK = Network(
    id="a" * 64,
    name="web",
    driver="bridge",
    subnets=(
        Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1")),
        Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
    ),
)


def endpoint(*addresses: str, **more: object) -> Endpoint:
    return Endpoint(
        id="e" * 64,
        network_id=NETWORK.id,
        owner=Owner(face="cli"),
        addresses=tuple(ip_interface(text) for text in addresses),
        **more,
    )


def attachment(network: Network, *addresses: str, **more: object) -> Attachment:
    return sandbox_end.attachment(network, endpoint(*addresses, **more), ifname="eth0", sandbox=None)


def network(routes: str = "", **changes: object) -> Network:
    return msgspec.structs.replace(NETWORK, routes=parse_routes(routes) if routes else (), **changes)


def routes(one: Attachment) -> list[str]:
    return [format_route(route) for route in one.routes]


def test_gateways_are_those_of_the_families_it_has_addresses_of() -> None:
    assert attachment(network(), "10.88.0.2/24").gateways == (ip_address("10.88.0.1"),)
    assert attachment(network(), "10.88.0.2/24", "fd88::2/64").gateways == (
        ip_address("10.88.0.1"),
        ip_address("fd88::1"),
    )
    assert attachment(network(internal=True), "10.88.0.2/24").gateways == ()


def test_a_reserved_address_of_dockers_name_is_the_gateway() -> None:
    subnet = msgspec.structs.replace(
        NETWORK.subnets[0], aux={"DefaultGatewayIPv4": ip_address("10.88.0.254")}
    )

    assert attachment(network(subnets=(subnet,)), "10.88.0.2/24").gateways == (ip_address("10.88.0.254"),)
    assert attachment(network(subnets=(subnet,)), "10.88.0.254/24").gateways == ()


def test_a_default_route_with_a_gateway_is_the_gateway_and_one_on_the_link_leaves_none() -> None:
    by_way = attachment(network("169.254.1.1, default via 169.254.1.1"), "10.88.0.2/24", "fd88::2/64")
    assert by_way.gateways == (ip_address("169.254.1.1"), ip_address("fd88::1"))
    assert routes(by_way) == ["169.254.1.1/32"]

    on_link = attachment(network("0.0.0.0/0"), "10.88.0.2/24")
    assert on_link.gateways == ()
    assert routes(on_link) == ["0.0.0.0/0"]


def test_routes_on_the_link_come_first_and_only_those_that_it_can_have() -> None:
    text = "10.0.0.0/8 via 10.99.0.1, 10.99.0.0/16, 10.7.0.0/16 via 10.88.0.2, fd99::/64 via fd88::9"

    assert routes(attachment(network(text), "10.88.0.2/24")) == ["10.99.0.0/16", "10.0.0.0/8 via 10.99.0.1"]


def test_a_gateway_that_is_not_on_the_link_gets_a_route_there() -> None:
    first = Subnet(subnet=ip_network("10.88.0.0/24"))
    second = Subnet(subnet=ip_network("10.89.0.0/24"))
    wanted = network("10.0.0.0/8 via 10.89.0.9", subnets=(first, second))

    assert routes(attachment(wanted, "10.88.0.2/24")) == ["10.89.0.9/32", "10.0.0.0/8 via 10.89.0.9"]


def test_an_interface_is_addressed_set_and_routed_in_an_order_that_works() -> None:
    kernel = RecordingKernel()
    kernel.add_bridge("eth0")
    kernel.commands.clear()
    sysctls = {"net.ipv4.conf.IFNAME.forwarding": "1"}
    wanted = attachment(network("10.0.0.0/8 via 10.88.0.9"), "10.88.0.2/24", sysctls=sysctls)

    sandbox_end.configure(kernel, wanted)

    assert [command.split(" ", 1)[1] for command in kernel.commands] == [
        "-q -w net/ipv4/conf/eth0/forwarding=1",
        "link set dev lo up",
        "addr add 10.88.0.2/24 dev eth0",
        "link set dev eth0 up",
        "route add 10.0.0.0/8 via 10.88.0.9 dev eth0",
        "route add default via 10.88.0.1 dev eth0",
    ]
    assert list(sandbox_end.differences(kernel, msgspec.structs.replace(wanted, mtu=0))) == []


@pytest.mark.parametrize("routes", ["10.0.0.0/8 via 10.88.0.9"])
def test_a_second_network_with_the_same_routes_stands_behind(routes: str) -> None:
    kernel = RecordingKernel()
    for name, address in (("eth0", "10.88.0.2/24"), ("eth1", "10.88.0.3/24")):
        kernel.add_bridge(name)
        wanted = attachment(network(routes), address)
        sandbox_end.configure(kernel, msgspec.structs.replace(wanted, ifname=name))

    present = {(str(route.destination), route.link) for route in kernel.routes() if route.gateway}
    assert present == {
        ("10.0.0.0/8", "eth0"),
        ("0.0.0.0/0", "eth0"),
        ("10.0.0.0/8", "eth1"),
        ("0.0.0.0/0", "eth1"),
    }


def test_a_route_may_have_a_metric() -> None:
    assert attachment(network("10.0.0.0/8 via 10.88.0.9 metric 7"), "10.88.0.2/24").routes == (
        Route(destination=ip_network("10.0.0.0/8"), gateway=ip_address("10.88.0.9"), priority=7),
    )
