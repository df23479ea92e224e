"""macvlan and ipvlan as dockerd 20.10 asks for them. The kernel here has no ipvlan: it is recorded."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.model.addresses import parse_interface

PORT_80 = {"HostIP": "", "HostPort": 8080, "HostPortEnd": 8080, "IP": "", "Port": 80, "Proto": 6}


@pytest.fixture
def dockerd(dockerd: Any) -> Any:
    """A dockerd on a host whose network card `up0` is on 10.77.0.0/24."""
    dockerd.kernel.add_link(LinkSpec("up0", up=True), Dummy())
    dockerd.kernel.add_address("up0", parse_interface("10.77.0.1/24"))
    dockerd.kernel.commands.clear()
    return dockerd


def on_wire(dockerd: Any, driver: str, *, internal: bool = False, **opts: str) -> tuple[str, Any]:
    pool = dockerd.pool("10.77.0.0/24", gateway="10.77.0.254")
    options = {"dovetail.driver": driver, "parent": "up0", **opts}
    return dockerd.create_network(pool, opts=options, internal=internal), pool


def is_as_before(dockerd: Any) -> bool:
    dockerd.kernel.delete_links(["up0"])
    return bool(dockerd.is_empty())


def test_containers_are_on_the_wire_that_the_host_is_on(dockerd: Any) -> None:
    network, pool = on_wire(dockerd, "macvlan")

    container = dockerd.run(network, pool)

    waiting = f"dvc{container['ids']['EndpointID'][:12]}"
    assert container["join"] == {
        "InterfaceName": {"SrcName": waiting, "DstPrefix": "eth"},
        "Gateway": "10.77.0.254",
    }
    assert container["interface"]["MacAddress"] == dockerd.kernel.link(waiting).mac
    dockerd.stop(container)
    dockerd.remove_network(network, pool)
    assert is_as_before(dockerd)


def test_without_a_gateway_docker_adds_no_way_round(dockerd: Any) -> None:
    network, pool = on_wire(dockerd, "macvlan", internal=True)

    assert dockerd.run(network, pool)["join"] == {
        "InterfaceName": {"SrcName": dockerd.kernel.links()[-1].name, "DstPrefix": "eth"},
        "DisableGatewayService": True,
    }


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_in_l3_the_default_route_is_on_the_link(dockerd: Any, mode: str) -> None:
    network, pool = on_wire(dockerd, "ipvlan", ipvlan_mode=mode)

    container = dockerd.run(network, pool)

    assert container["join"]["StaticRoutes"] == [{"Destination": "0.0.0.0/0", "RouteType": 1, "NextHop": ""}]
    assert container["join"]["DisableGatewayService"] is True
    assert "Gateway" not in container["join"]
    assert container["interface"] == {}, "its MAC is the parent's, which nobody is to set"


def test_a_mac_on_an_ipvlan_is_refused_and_nothing_is_left(dockerd: Any) -> None:
    network, pool = on_wire(dockerd, "ipvlan")
    body = {
        "NetworkID": network,
        "EndpointID": dockerd.new_id(),
        "Interface": {"Address": "10.77.0.9/24", "MacAddress": "02:00:00:00:00:09"},
    }

    assert "has the MAC address of up0" in dockerd.refused("NetworkDriver.CreateEndpoint", body)

    assert dockerd.store.endpoints() == []


def test_published_ports_are_left_out_and_it_is_said(dockerd: Any) -> None:
    network, pool = on_wire(dockerd, "macvlan")

    container = dockerd.run(network, pool, ports=[PORT_80])

    assert list(dockerd.store.published_ports()) == []
    program = next(
        s for s in dockerd.engine.tracer.recent() if s.name.endswith("ProgramExternalConnectivity")
    )
    assert program.detail["ignored"] == "a macvlan network publishes no ports: 8080->80/tcp"
    dockerd.stop(container)


def test_a_subnet_that_the_host_has_a_route_to_is_refused_for_a_bridge_when_it_is_made(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24", gateway="10.77.0.254")
    body = dockerd.network_body(dockerd.new_id(), pool)

    message = dockerd.refused("NetworkDriver.CreateNetwork", body)

    assert "subnet 10.77.0.0/24 overlaps the route to 10.77.0.0/24 of the host" in message
    dockerd.call("IpamDriver.ReleaseAddress", {"Address": "10.77.0.254", "PoolID": pool["id"]})
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": pool["id"]})
    assert is_as_before(dockerd)


def test_a_reserved_address_by_the_name_host_is_the_hosts_own(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/25", gateway="10.77.0.126")
    reserved = {"Address": "10.77.0.9", "Options": None, "PoolID": pool["id"]}
    dockerd.call("IpamDriver.RequestAddress", reserved)
    pool["data"]["AuxAddresses"] = {"host": "10.77.0.9/25"}
    options = {"dovetail.driver": "macvlan", "parent": "up0", "host_access": "true"}

    network = dockerd.create_network(pool, opts=options)

    link = f"dv-{network[:12]}"
    assert [str(address) for name, address in dockerd.kernel.addresses() if name == link] == ["10.77.0.9/32"]
    assert f"ip route add 10.77.0.0/25 dev {link}" in dockerd.kernel.commands
    dockerd.remove_network(network, pool)
    assert is_as_before(dockerd)


def test_without_one_our_ipam_takes_one_and_dockers_own_must_be_told(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/25", gateway="10.77.0.1")
    options = {"dovetail.driver": "macvlan", "parent": "up0", "host_access": "true"}
    network = dockerd.create_network(pool, opts=options)
    assert "aux 10.77.0.2" in dockerd.held()
    dockerd.remove_network(network, pool)
    pool["data"]["AddressSpace"] = "LocalDefault"

    for named in ("true", "10.77.0.9"):
        body = dockerd.network_body(dockerd.new_id(), pool, opts={**options, "host_access": named})
        assert "reserve one for it by the name host" in dockerd.refused("NetworkDriver.CreateNetwork", body)

    assert is_as_before(dockerd)


def test_a_container_without_a_parent_is_on_a_wire_of_its_networks_own(dockerd: Any) -> None:
    pool = dockerd.pool("10.78.0.0/24")
    network = dockerd.create_network(pool, opts={"dovetail.driver": "macvlan"})

    container = dockerd.run(network, pool)

    assert dockerd.kernel.link(f"dm-{network[:12]}") is not None
    assert container["join"]["DisableGatewayService"] is True
    dockerd.stop(container)
    dockerd.remove_network(network, pool)
    assert is_as_before(dockerd)
