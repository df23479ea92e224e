"""Networks and endpoints in the order of a recorded dockerd session."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dovetail.model.addresses import parse_interface
from dovetail.model.endpoint import EndpointSpec, Owner

PORT_80 = {"HostIP": "", "HostPort": 8080, "HostPortEnd": 8080, "IP": "", "Port": 80, "Proto": 6}


def test_a_recorded_session_leaves_nothing_behind(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    reserved = {"Address": "10.77.0.9", "Options": None, "PoolID": pool["id"]}
    dockerd.call("IpamDriver.RequestAddress", reserved)
    pool["data"]["AuxAddresses"] = {"r": "10.77.0.9/24"}
    network = dockerd.create_network(pool)

    first = dockerd.run(network, pool, ports=[PORT_80])
    assert dockerd.held() == ["aux 10.77.0.9", "endpoint 10.77.0.2", "gateway 10.77.0.1"]
    dockerd.stop(first)
    second = dockerd.run(network, pool, ports=[PORT_80])
    dockerd.stop(second)
    dockerd.remove_network(network, pool)

    assert first["join"]["Gateway"] == "10.77.0.1"
    assert first["join"]["InterfaceName"] == {
        "SrcName": f"dvc{first['ids']['EndpointID'][:12]}",
        "DstPrefix": "eth",
    }
    assert dockerd.is_empty()


@pytest.mark.cnm(8)
def test_only_what_came_empty_is_filled_in(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)

    without = dockerd.run(network, pool)
    with_mac = dockerd.run(network, pool, mac="02:11:22:33:44:55")

    assert set(without["interface"]) == {"MacAddress"}
    assert with_mac["interface"] == {}
    endpoint = dockerd.store.endpoint(with_mac["ids"]["EndpointID"])
    assert endpoint.mac == "02:11:22:33:44:55"


@pytest.mark.cnm(6, 9)
def test_creating_a_network_or_an_endpoint_again_gives_the_same(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)
    container = dockerd.run(network, pool)

    dockerd.call("NetworkDriver.CreateNetwork", dockerd.network_body(network, pool))
    interface = {"Address": container["addresses"][0], "AddressIPv6": "", "MacAddress": ""}
    again = dockerd.call(
        "NetworkDriver.CreateEndpoint", {**container["ids"], "Interface": interface, "Options": {}}
    )

    assert again == {"Interface": container["interface"]}
    assert len(dockerd.store.networks()) == 1


def test_dual_stack_gives_both_gateways(dockerd: Any) -> None:
    four, six = dockerd.pool("10.77.0.0/24"), dockerd.pool("fd77::/64", v6=True)
    network = dockerd.create_network(four, six)

    container = dockerd.run(network, four, six)

    assert container["join"]["Gateway"] == "10.77.0.1"
    assert container["join"]["GatewayIPv6"] == "fd77::1"
    dockerd.stop(container)
    dockerd.remove_network(network, four, six)
    assert dockerd.is_empty()


@pytest.mark.cnm(12)
def test_an_internal_network_has_no_gateway_and_no_way_round_it(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, internal=True)

    join = dockerd.run(network, pool)["join"]

    assert "Gateway" not in join
    assert join["DisableGatewayService"] is True


@pytest.mark.cnm(12, 19)
def test_an_internal_network_publishes_nothing(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, internal=True)
    container = dockerd.run(network, pool)

    options = {"com.docker.network.portmap": [PORT_80]}
    message = dockerd.refused(
        "NetworkDriver.ProgramExternalConnectivity", {**container["ids"], "Options": options}
    )

    assert "internal" in message


@pytest.mark.cnm(14)
def test_deleting_calls_may_come_twice_in_any_order_and_for_what_never_was(dockerd: Any) -> None:
    ids = {"NetworkID": dockerd.new_id(), "EndpointID": dockerd.new_id()}

    for method in ("Leave", "Leave", "RevokeExternalConnectivity", "DeleteEndpoint", "DeleteEndpoint"):
        assert dockerd.call(f"NetworkDriver.{method}", ids) == {}
    assert dockerd.call("NetworkDriver.DeleteNetwork", {"NetworkID": ids["NetworkID"]}) == {}


@pytest.mark.cnm(10)
def test_an_endpoint_on_an_unknown_network_is_refused_by_name(dockerd: Any) -> None:
    network = dockerd.new_id()

    message = dockerd.refused(
        "NetworkDriver.CreateEndpoint", {"NetworkID": network, "EndpointID": dockerd.new_id()}
    )

    assert network[:12] in message


def test_ids_of_another_form_are_taken_too(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    dockerd.call("NetworkDriver.CreateNetwork", dockerd.network_body("dummy", pool))

    ids = {"NetworkID": "dummy", "EndpointID": "dummy-endpoint"}
    dockerd.call("NetworkDriver.CreateEndpoint", {**ids, "Interface": {"Address": "10.77.0.2/24"}})
    joined = dockerd.call("NetworkDriver.Join", {**ids, "SandboxKey": "/run/x"})

    assert len(joined["InterfaceName"]["SrcName"]) <= 15
    dockerd.call("NetworkDriver.DeleteEndpoint", ids)
    dockerd.remove_network("dummy", pool)
    assert dockerd.is_empty()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dovetail.nam": "x"}, ["dovetail.nam", "dovetail.name", "dovetail.driver", "dovetail.network"]),
        ({"dovetail.network": "nope"}, ["nope"]),
        ({"dovetail.network": ""}, ["dovetail.network"]),
        ({"dovetail.driver": "nope"}, ["nope", "bridge"]),
        ({"dovetail.name": "bad name"}, ["bad name"]),
        ({"speed": "fast"}, ["speed"]),
        ({"mtu": "many"}, ["many"]),
    ],
)
@pytest.mark.cnm(5)
def test_an_option_that_cannot_be_is_refused_and_leaves_nothing(
    dockerd: Any, options: dict[str, str], words: list[str]
) -> None:
    pool = dockerd.pool("10.77.0.0/24")

    message = dockerd.refused(
        "NetworkDriver.CreateNetwork", dockerd.network_body(dockerd.new_id(), pool, opts=options)
    )

    assert all(word in message for word in words)
    dockerd.call("IpamDriver.ReleaseAddress", {"Address": "10.77.0.1", "PoolID": pool["id"]})
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": pool["id"]})
    assert dockerd.is_empty()


@pytest.mark.cnm(5)
def test_options_of_dockers_own_are_ignored_and_name_and_driver_options_used(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")

    dockerd.create_network(
        pool,
        opts={
            "dovetail.name": "shop",
            "mtu": "1400",
            "com.docker.network.future": "x",
            "dovetail.driver": "bridge",
        },
    )

    network = dockerd.engine.networks.get("shop")
    assert (network.mtu, network.driver, network.face) == (1400, "bridge", "docker")


def test_a_network_without_a_name_is_called_after_dockers_id(dockerd: Any) -> None:
    network = dockerd.create_network(dockerd.pool("10.77.0.0/24"))

    assert dockerd.engine.networks.get(network).name == f"docker-{network[:12]}"


def test_the_null_ipam_leaves_addresses_to_ours_which_fills_them_in(dockerd: Any) -> None:
    null = {"id": "", "data": {"AddressSpace": "null", "Pool": "0.0.0.0/0"}}
    network = dockerd.new_id()
    dockerd.call("NetworkDriver.CreateNetwork", dockerd.network_body(network, null))

    container = dockerd.run(network)

    subnet = dockerd.engine.networks.get(network).subnets[0].subnet
    assert set(container["interface"]) == {"Address", "MacAddress"}
    assert dockerd.address(container["interface"]["Address"].partition("/")[0]) in subnet
    dockerd.stop(container)
    dockerd.call("NetworkDriver.DeleteNetwork", {"NetworkID": network})
    assert dockerd.is_empty()


def test_an_address_that_was_filled_in_is_given_back_with_the_endpoint(dockerd: Any) -> None:
    dockerd.web()
    null = {"id": "", "data": {"AddressSpace": "null", "Pool": "0.0.0.0/0"}}
    network = dockerd.create_network(null, opts={"dovetail.network": "web"})

    dockerd.stop(dockerd.run(network))

    assert dockerd.held() == ["gateway 10.88.0.1"]


def test_dockers_own_ipam_gives_the_addresses_itself(dockerd: Any) -> None:
    pool = {
        "id": "",
        "data": {"AddressSpace": "LocalDefault", "Gateway": "172.18.0.1/16", "Pool": "172.18.0.0/16"},
    }
    network = dockerd.create_network(pool)
    ids = {"NetworkID": network, "EndpointID": dockerd.new_id()}
    interface = {"Address": "172.18.0.2/16", "AddressIPv6": "", "MacAddress": ""}

    dockerd.call("NetworkDriver.CreateEndpoint", {**ids, "Interface": interface, "Options": {}})
    join = dockerd.call("NetworkDriver.Join", {**ids, "SandboxKey": "/run/docker/netns/a"})

    assert dockerd.engine.networks.get(network).ipam == "external"
    assert join["Gateway"] == "172.18.0.1"
    assert dockerd.store.addresses() == []


@pytest.mark.parametrize("skip", [("bridge", False), ("null", True)])
def test_only_a_driver_without_addresses_needs_no_gateway(dockerd: Any, skip: tuple[str, bool]) -> None:
    driver, skipped = skip

    reply = dockerd.call(
        "NetworkDriver.GwAllocCheck", {"Options": {"com.docker.network.generic": {"dovetail.driver": driver}}}
    )

    assert reply == {"SkipIPv4": skipped, "SkipIPv6": skipped}


def test_a_null_network_gives_docker_no_interface(dockerd: Any) -> None:
    null = {"id": "", "data": {"AddressSpace": "null", "Pool": "0.0.0.0/0"}}
    network = dockerd.create_network(null, opts={"dovetail.driver": "null"})

    assert dockerd.run(network)["join"] == {"DisableGatewayService": True}


# -- published ports ------------------------------------------------------------------------------------


def published(dockerd: Any) -> list[str]:
    return sorted(str(mapping) for _, mapping in dockerd.store.published_ports())


@pytest.mark.cnm(19)
def test_ports_are_published_by_program_and_withdrawn_by_revoke(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)
    udp = {"HostIP": "127.0.0.1", "HostPort": 5300, "HostPortEnd": 5300, "IP": "", "Port": 53, "Proto": 17}
    sctp = {"HostIP": "", "HostPort": 99, "HostPortEnd": 99, "IP": "", "Port": 9, "Proto": 132}

    container = dockerd.run(network, pool, ports=[PORT_80, udp, sctp])

    assert published(dockerd) == ["127.0.0.1:5300->53/udp", "8080->80/tcp", "99->9/sctp"]
    dockerd.call("NetworkDriver.RevokeExternalConnectivity", container["ids"])
    assert published(dockerd) == []
    dockerd.call("NetworkDriver.RevokeExternalConnectivity", container["ids"])


def test_a_port_without_number_is_chosen(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)

    dockerd.run(network, pool, ports=[{**PORT_80, "HostPort": 0, "HostPortEnd": 0}])

    assert dockerd.store.published_ports()[0][1].host_port > 1024


def test_a_range_gives_the_first_port_that_is_free(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)
    some = {**PORT_80, "HostPort": 8000, "HostPortEnd": 8002}

    for _ in range(3):
        dockerd.run(network, pool, ports=[some])

    assert published(dockerd) == ["8000->80/tcp", "8001->80/tcp", "8002->80/tcp"]
    container = dockerd.run(network, pool)
    message = dockerd.refused(
        "NetworkDriver.ProgramExternalConnectivity",
        {**container["ids"], "Options": {"com.docker.network.portmap": [some]}},
    )
    assert "8002" in message


@pytest.mark.parametrize(
    "binding",
    [
        {**PORT_80, "Proto": 1},
        {**PORT_80, "HostPort": 70000, "HostPortEnd": 70000},
        {**PORT_80, "HostPortEnd": 8000},
        {**PORT_80, "Port": 0},
        {**PORT_80, "HostIP": "nowhere"},
    ],
)
def test_a_port_that_cannot_be_is_refused(dockerd: Any, binding: dict[str, Any]) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    container = dockerd.run(dockerd.create_network(pool), pool)

    dockerd.refused(
        "NetworkDriver.ProgramExternalConnectivity",
        {**container["ids"], "Options": {"com.docker.network.portmap": [binding]}},
    )

    assert published(dockerd) == []


def test_a_port_in_use_is_refused_by_number(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)
    dockerd.run(network, pool, ports=[PORT_80])
    second = dockerd.run(network, pool)

    message = dockerd.refused(
        "NetworkDriver.ProgramExternalConnectivity",
        {**second["ids"], "Options": {"com.docker.network.portmap": [PORT_80]}},
    )

    assert "8080" in message


# -- a network that exists already ------------------------------------------------------------------------


def test_docker_joins_a_network_made_elsewhere_and_leaves_it_as_it_was(dockerd: Any) -> None:
    web = dockerd.web("10.88.0.0/24", "fd88::/64")
    before = (dockerd.held(), dockerd.kernel.nft_elements())
    opts = {"dovetail.network": "web"}
    pool = dockerd.pool("10.88.0.0/24", opts=opts)
    network = dockerd.create_network(pool, opts=opts)

    container = dockerd.run(network, pool)

    assert pool["data"]["Gateway"] == "10.88.0.1/24"
    assert dockerd.store.endpoint(container["ids"]["EndpointID"]).network_id == web.id
    dockerd.stop(container)
    dockerd.remove_network(network, pool)
    assert (dockerd.held(), dockerd.kernel.nft_elements()) == before
    assert dockerd.engine.networks.get("web") == web


@pytest.mark.parametrize(
    ("pool", "opts", "internal", "words"),
    [
        (
            {"AddressSpace": "dovetail-local", "Pool": "10.99.0.0/24"},
            {},
            False,
            ["10.99.0.0/24", "10.88.0.0/24"],
        ),
        (
            {"AddressSpace": "LocalDefault", "Pool": "172.18.0.0/16"},
            {},
            False,
            ["--ipam-opt dovetail.network=web"],
        ),
        (
            {"AddressSpace": "LocalDefault", "Pool": "10.88.0.0/24"},
            {},
            False,
            ["--ipam-opt dovetail.network=web"],
        ),
        ({"AddressSpace": "dovetail-local", "Pool": "10.88.0.0/24"}, {"mtu": "1400"}, False, ["mtu"]),
        (
            {"AddressSpace": "dovetail-local", "Pool": "10.88.0.0/24"},
            {"dovetail.name": "x"},
            False,
            ["dovetail.name"],
        ),
        ({"AddressSpace": "dovetail-local", "Pool": "10.88.0.0/24"}, {}, True, ["internal"]),
    ],
)
def test_a_description_that_contradicts_the_network_is_refused(
    dockerd: Any, pool: dict[str, str], opts: dict[str, str], words: list[str], *, internal: bool
) -> None:
    dockerd.web()
    body = dockerd.network_body(
        dockerd.new_id(), {"data": pool}, opts={"dovetail.network": "web", **opts}, internal=internal
    )

    message = dockerd.refused("NetworkDriver.CreateNetwork", body)

    assert all(word in message for word in words)
    assert dockerd.store.bindings() == []


def test_a_shared_pool_without_the_network_option_is_refused_with_the_option(dockerd: Any) -> None:
    dockerd.web()
    for subnet in ("10.88.0.0/24", ""):
        pool = dockerd.pool(subnet, opts={"dovetail.network": "web"})

        message = dockerd.refused("NetworkDriver.CreateNetwork", dockerd.network_body(dockerd.new_id(), pool))

        assert "-o dovetail.network=web" in message


def test_a_network_that_pods_are_on_stays_when_docker_forgets_it(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, opts={"dovetail.name": "shop"})
    dockerd.engine.sandboxes.create("s1", netns=f"/proc/{os.getpid()}/ns/net")

    dockerd.engine.endpoints.create(
        "shop", EndpointSpec(owner=Owner(face="cni", network="shop", container="pod", ifname="eth0"))
    )

    dockerd.remove_network(network, pool)

    assert dockerd.engine.networks.get("shop").status == "active"


@pytest.mark.cnm(9)
def test_fifty_endpoints_at_once_get_fifty_addresses(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)

    with ThreadPoolExecutor(10) as threads:
        containers = list(threads.map(lambda _: dockerd.run(network, pool), range(50)))

    assert len({c["addresses"][0] for c in containers}) == 50
    with ThreadPoolExecutor(10) as threads:
        list(threads.map(dockerd.stop, containers))
    dockerd.remove_network(network, pool)
    assert dockerd.is_empty()


@pytest.mark.cnm(6)
@pytest.mark.parametrize("pool", ["10.88.0.0/24", "10.88.0.128/25", "10.0.0.0/8", "fd88::/48"])
def test_dockers_own_ipam_cannot_give_a_subnet_that_a_network_has(dockerd: Any, pool: str) -> None:
    """The two would share what the firewall knows of the subnet, and the first to go would take it along."""
    dockerd.web("10.88.0.0/24", "fd88::/64")
    data = {"id": "", "data": {"AddressSpace": "LocalDefault", "Pool": pool}}

    message = dockerd.refused("NetworkDriver.CreateNetwork", dockerd.network_body(dockerd.new_id(), data))

    assert pool in message and "network web" in message


@pytest.mark.cnm(6)
def test_two_subnets_of_one_network_cannot_overlap(dockerd: Any) -> None:
    pools = [
        {"id": "", "data": {"AddressSpace": "LocalDefault", "Pool": pool}}
        for pool in ("172.20.0.0/16", "172.20.4.0/24")
    ]

    message = dockerd.refused("NetworkDriver.CreateNetwork", dockerd.network_body(dockerd.new_id(), *pools))

    assert "172.20.4.0/24 overlaps 172.20.0.0/16" in message


@pytest.mark.parametrize("key", ["bridge", "com.docker.network.bridge.name"])
def test_a_bridge_that_is_adopted_may_have_the_subnet_already(dockerd: Any, key: str) -> None:
    dockerd.kernel.add_bridge("br0")
    dockerd.kernel.add_address("br0", parse_interface("10.77.0.1/24"))
    dockerd.kernel.set_link("br0", up=True)
    pool = dockerd.pool("10.77.0.0/24", gateway="10.77.0.1")

    network = dockerd.create_network(pool, opts={key: "br0"})

    assert dockerd.engine.networks.get(network).adopted


def test_an_address_that_no_subnet_of_the_network_has_is_refused(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    ids = {"NetworkID": dockerd.create_network(pool), "EndpointID": dockerd.new_id()}

    message = dockerd.refused(
        "NetworkDriver.CreateEndpoint", {**ids, "Interface": {"Address": "10.99.0.2/24"}}
    )

    assert "10.99.0.2 is not in network" in message
    assert dockerd.store.endpoints() == []


def test_an_endpoint_that_joins_another_sandbox_leaves_the_first_forgotten(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    container = dockerd.run(dockerd.create_network(pool), pool)

    dockerd.call("NetworkDriver.Join", {**container["ids"], "SandboxKey": "/run/docker/netns/other"})

    assert [sandbox.name for sandbox in dockerd.store.sandboxes()] == ["other"]


def test_an_endpoint_is_never_found_by_a_name_that_looks_like_its_id(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network, identifier = dockerd.create_network(pool), dockerd.new_id()
    dockerd.engine.sandboxes.create(identifier, netns=f"/proc/{os.getpid()}/ns/net")
    dockerd.engine.endpoints.create(
        network,
        EndpointSpec(owner=Owner(face="cli", network=network, container=identifier), name=identifier),
    )

    ids = {"NetworkID": network, "EndpointID": identifier}
    options = {"com.docker.network.portmap": [PORT_80]}
    message = dockerd.refused("NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": options})
    dockerd.call("NetworkDriver.DeleteEndpoint", ids)

    assert "no such endpoint" in message
    assert len(dockerd.store.endpoints()) == 1
