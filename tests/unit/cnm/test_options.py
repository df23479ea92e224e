"""What Docker's users say of a network and an endpoint, and what comes back of it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

ROUTES = "10.0.0.0/8 via 10.77.0.254, 10.99.0.0/16"
GENERIC = "com.docker.network.generic"
IFNAME = "com.docker.network.endpoint.ifname"


def skipped(dockerd: Any, generic: dict[str, str]) -> list[str]:
    reply = dockerd.call("NetworkDriver.GwAllocCheck", {"Options": {GENERIC: generic}})
    assert set(reply) == {"SkipIPv4", "SkipIPv6"}
    return [family for family, skip in reply.items() if skip]


@pytest.mark.cnm(28)
def test_docker_is_told_to_take_no_gateway_where_there_is_to_be_none(dockerd: Any) -> None:
    dockerd.web("10.88.0.0/24")

    assert skipped(dockerd, {}) == []
    assert skipped(dockerd, {"gateway": "none"}) == ["SkipIPv4", "SkipIPv6"]
    assert skipped(dockerd, {"dovetail.driver": "null"}) == ["SkipIPv4", "SkipIPv6"]
    assert skipped(dockerd, {"dovetail.driver": "macvlan"}) == ["SkipIPv4", "SkipIPv6"]
    assert skipped(dockerd, {"dovetail.network": "web"}) == ["SkipIPv6"]
    isolated = {"com.docker.network.bridge.gateway_mode_ipv6": "isolated"}
    assert skipped(dockerd, isolated) == ["SkipIPv6"]


@pytest.mark.parametrize(
    ("generic", "word"),
    [
        ({"gateway": "maybe"}, "maybe"),
        ({"dovetail.network": "nope"}, "nope"),
        ({"dovetail.driver": "x"}, "x"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked_of_ipam(
    dockerd: Any, generic: dict[str, str], word: str
) -> None:
    assert word in dockerd.refused("NetworkDriver.GwAllocCheck", {"Options": {GENERIC: generic}})


@pytest.mark.cnm(28)
def test_a_skipped_gateway_is_nobodys_and_join_names_none(dockerd: Any) -> None:
    pool = dockerd.call("IpamDriver.RequestPool", {"AddressSpace": "dovetail-local", "Pool": "10.77.0.0/24"})
    data = {"AddressSpace": "dovetail-local", "Pool": "10.77.0.0/24"}
    network = dockerd.new_id()
    body = dockerd.network_body(network, {"data": data}, opts={"gateway": "none"})
    dockerd.call("NetworkDriver.CreateNetwork", body)

    container = dockerd.run(network, {"id": pool["PoolID"], "data": data})

    assert container["addresses"] == ["10.77.0.1/24"]
    assert container["join"].keys() == {"InterfaceName", "DisableGatewayService"}
    assert dockerd.held() == ["endpoint 10.77.0.1"]


def test_an_engine_that_takes_a_gateway_all_the_same_keeps_it_aside(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, opts={"gateway": "none"})

    container = dockerd.run(network, pool)

    assert container["addresses"] == ["10.77.0.2/24"]
    assert "Gateway" not in container["join"]
    subnet = dockerd.engine.networks.get(network).subnets[0]
    assert (subnet.gateway, subnet.aux) == (None, {"gateway": dockerd.address("10.77.0.1")})
    dockerd.stop(container)
    dockerd.remove_network(network, pool)
    assert dockerd.is_empty()


@pytest.mark.cnm(21)
def test_routes_of_both_types_are_docker_s_to_install(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, opts={"route": ROUTES})

    join = dockerd.run(network, pool)["join"]

    assert join["StaticRoutes"] == [
        {"Destination": "10.99.0.0/16", "RouteType": 1, "NextHop": ""},
        {"Destination": "10.0.0.0/8", "RouteType": 0, "NextHop": "10.77.0.254"},
    ]
    assert join["Gateway"] == "10.77.0.1"


@pytest.mark.cnm(21)
def test_a_gateway_outside_of_the_subnet_is_reached_by_a_connected_route(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    opts = {"route": "169.254.1.1, default via 169.254.1.1", "gateway": "none"}
    network = dockerd.create_network(pool, opts=opts)

    join = dockerd.run(network, pool)["join"]

    assert join["Gateway"] == "169.254.1.1"
    assert join["StaticRoutes"] == [{"Destination": "169.254.1.1/32", "RouteType": 1, "NextHop": ""}]
    assert "DisableGatewayService" not in join


def test_a_default_route_on_the_link_is_no_gateway(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, opts={"route": "0.0.0.0/0"})

    join = dockerd.run(network, pool)["join"]

    assert "Gateway" not in join
    assert join["StaticRoutes"] == [{"Destination": "0.0.0.0/0", "RouteType": 1, "NextHop": ""}]
    assert join["DisableGatewayService"] is True


@pytest.mark.cnm(12)
def test_a_reserved_address_of_that_name_is_the_gateway_of_containers(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    pool["data"]["AuxAddresses"] = {"DefaultGatewayIPv4": "10.77.0.254/24"}
    body = {"PoolID": pool["id"], "Address": "10.77.0.254", "Options": None}
    dockerd.call("IpamDriver.RequestAddress", body)
    network = dockerd.create_network(pool)

    assert dockerd.run(network, pool)["join"]["Gateway"] == "10.77.0.254"


@pytest.mark.cnm(22)
@pytest.mark.parametrize(("opts", "disabled"), [({}, True), ({"gwbridge": "true"}, False)])
def test_docker_gwbridge_is_only_added_where_it_is_said(
    dockerd: Any, opts: dict[str, str], *, disabled: bool
) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, opts={"gateway": "none", **opts})

    assert dockerd.run(network, pool)["join"].get("DisableGatewayService", False) is disabled


def test_an_ipv6_gateway_alone_does_not_bring_docker_gwbridge(dockerd: Any) -> None:
    pool = dockerd.pool("fd77::/64", v6=True)
    network = dockerd.create_network(pool)

    join = dockerd.run(network, pool)["join"]

    assert (join["GatewayIPv6"], join["DisableGatewayService"]) == ("fd77::1", True)


@pytest.mark.parametrize("key", ["ifname_prefix", "com.docker.network.container_iface_prefix"])
def test_the_interface_begins_with_the_networks_prefix(dockerd: Any, key: str) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, opts={key: "lan"})

    assert dockerd.run(network, pool)["join"]["InterfaceName"]["DstPrefix"] == "lan"


@pytest.mark.parametrize(("ifname", "prefix"), [("wan0", "wan"), ("wan", "wan"), ("", "eth"), ("7", "eth")])
def test_an_endpoints_own_name_gives_its_beginning(dockerd: Any, ifname: str, prefix: str) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    ids = {"NetworkID": dockerd.create_network(pool), "EndpointID": dockerd.new_id()}
    body = {**ids, "Interface": {"Address": "10.77.0.9/24"}, "Options": {IFNAME: ifname, "dk": "dv"}}
    dockerd.call("NetworkDriver.CreateEndpoint", body)

    join = dockerd.call("NetworkDriver.Join", {**ids, "SandboxKey": "/run/docker/netns/a"})

    assert join["InterfaceName"]["DstPrefix"] == prefix
    endpoint = dockerd.store.endpoint(ids["EndpointID"])
    assert endpoint.options == {IFNAME: ifname, "dk": "dv"}, "kept, as Join does not bring them again"


def test_a_name_that_no_interface_can_have_is_refused(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    ids = {"NetworkID": dockerd.create_network(pool), "EndpointID": dockerd.new_id()}
    body = {**ids, "Interface": {"Address": "10.77.0.9/24"}, "Options": {IFNAME: "../../x0"}}

    assert "../../x" in dockerd.refused("NetworkDriver.CreateEndpoint", body)
    assert dockerd.store.endpoints() == []


@pytest.mark.cnm(8)
def test_a_users_mac_comes_as_text_and_in_base64_and_is_not_given_back(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    ids = {"NetworkID": dockerd.create_network(pool), "EndpointID": dockerd.new_id()}
    interface = {"Address": "10.77.0.9/24", "AddressIPv6": "", "MacAddress": "02:11:22:33:44:55"}
    text = base64.b64encode(bytes.fromhex("021122334455")).decode()
    options = {"com.docker.network.endpoint.macaddress": text}

    made = dockerd.call("NetworkDriver.CreateEndpoint", {**ids, "Interface": interface, "Options": options})

    assert made == {"Interface": {}}
    assert str(dockerd.store.endpoint(ids["EndpointID"]).mac) == interface["MacAddress"]
    assert dockerd.store.endpoint(ids["EndpointID"]).options == {}


@pytest.mark.cnm(5)
def test_a_network_of_ipv6_alone(dockerd: Any) -> None:
    pool = dockerd.pool("fd77::/64", v6=True)
    network = dockerd.new_id()
    body = dockerd.network_body(network, pool)
    body["Options"] |= {"com.docker.network.enable_ipv4": False, "com.docker.network.enable_ipv6": True}
    dockerd.call("NetworkDriver.CreateNetwork", body)

    container = dockerd.run(network, pool)

    assert [str(s.subnet) for s in dockerd.engine.networks.get(network).subnets] == ["fd77::/64"]
    assert container["addresses"] == ["fd77::2/64"]
    dockerd.stop(container)
    dockerd.remove_network(network, pool)
    assert dockerd.is_empty()


@pytest.mark.cnm(5)
def test_the_null_ipam_leaves_the_families_that_docker_names_to_us(dockerd: Any) -> None:
    null = [{"id": "", "data": {"AddressSpace": "null", "Pool": pool}} for pool in ("0.0.0.0/0", "::/0")]
    network, six = dockerd.new_id(), dockerd.new_id()
    dockerd.call("NetworkDriver.CreateNetwork", dockerd.network_body(network, *null))
    dockerd.call("NetworkDriver.CreateNetwork", dockerd.network_body(six, null[1]))

    both, one = dockerd.run(network)["interface"], dockerd.run(six)["interface"]

    assert set(both) == {"Address", "AddressIPv6", "MacAddress"}
    assert set(one) == {"AddressIPv6", "MacAddress"}


@pytest.mark.cnm(5)
def test_several_subnets_of_a_family_are_one_network(dockerd: Any) -> None:
    pools = [dockerd.pool(subnet) for subnet in ("10.77.0.0/30", "10.78.0.0/24")]
    network = dockerd.create_network(*pools)

    first, second = (dockerd.run(network, pool) for pool in pools)

    assert (first["addresses"], first["join"]["Gateway"]) == (["10.77.0.2/30"], "10.77.0.1")
    assert (second["addresses"], second["join"]["Gateway"]) == (["10.78.0.2/24"], "10.78.0.1")


@pytest.mark.parametrize(
    ("opts", "word"),
    [
        ({"route": "10.0.0.0/8 via 10.99.0.1"}, "10.99.0.1"),
        ({"route": "10.0.0.0/8 dev eth0"}, "dev"),
        ({"ifname_prefix": "a/b"}, "a/b"),
        ({"mtu": "autoo"}, "autoo"),
        ({"gateway": "10.77.0.9"}, "10.77.0.9"),
        ({"gwbridge": "perhaps"}, "perhaps"),
        ({"sticky": "perhaps"}, "perhaps"),
    ],
)
def test_an_option_that_cannot_be_is_refused_and_leaves_no_network(
    dockerd: Any, opts: dict[str, str], word: str
) -> None:
    pool = dockerd.pool("10.77.0.0/24")

    message = dockerd.refused(
        "NetworkDriver.CreateNetwork", dockerd.network_body(dockerd.new_id(), pool, opts=opts)
    )

    assert word in message
    assert dockerd.store.networks() == []
    assert dockerd.held() == ["gateway 10.77.0.1"], "Docker's own to give back"


@pytest.mark.parametrize(
    "key", ["", "x", "netns/a", "/run/../etc/passwd", "/run/docker/netns/", "/run/\n", "/" + "x" * 5000]
)
def test_a_sandbox_key_that_is_no_path_is_refused(dockerd: Any, key: str) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    container = dockerd.run(dockerd.create_network(pool), pool)

    dockerd.refused("NetworkDriver.Join", {**container["ids"], "SandboxKey": key})


@pytest.mark.cnm(10)
def test_an_endpoint_is_found_on_its_own_network_only(dockerd: Any) -> None:
    one, two = dockerd.pool("10.77.0.0/24"), dockerd.pool("10.78.0.0/24")
    container = dockerd.run(dockerd.create_network(one), one)
    ids = {**container["ids"], "NetworkID": dockerd.create_network(two)}

    message = dockerd.refused("NetworkDriver.Join", {**ids, "SandboxKey": "/run/docker/netns/a"})

    assert container["ids"]["EndpointID"][:12] in message
