"""The two sides of a swarm, on one host: its manager, which keeps books for all hosts, and the node that runs tasks.

The requests are those of dockerd 20.10, recorded: the manager asks in the global address space and with
``com.docker.network.ipam.serial``; the node asks for the manager's subnet and addresses in the local one.
"""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest

from dovetail.cnm.server import PluginServer

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}
SERIAL = {"com.docker.network.ipam.serial": "true"}
NETWORK = "zp6w6y0nykfximcg6cptv9ms5"  # a swarm's ids are not 64 hexadecimal digits


def request_pool(space: str, pool: str = "") -> dict[str, Any]:
    return {"AddressSpace": f"dovetail-{space}", "Pool": pool, "SubPool": "", "Options": None, "V6": False}


def ask(dockerd: Any, pool: dict[str, Any], address: str = "", **options: str) -> str:
    body = {"PoolID": pool["PoolID"], "Address": address, "Options": options or None}
    return str(dockerd.call("IpamDriver.RequestAddress", body)["Address"])


class Manager:
    """What the allocator of a swarm's leader asks."""

    def __init__(self, dockerd: Any) -> None:
        self._dockerd = dockerd

    def begin(self) -> None:
        self._dockerd.call("NetworkDriver.GetCapabilities")
        self._dockerd.call("IpamDriver.GetCapabilities")
        self._dockerd.call("IpamDriver.GetDefaultAddressSpaces")

    def network(self, subnet: str = "", gateway: str = "") -> dict[str, Any]:
        pool: dict[str, Any] = self._dockerd.call("IpamDriver.RequestPool", request_pool("global", subnet))
        pool["Gateway"] = ask(self._dockerd, pool, gateway, **GATEWAY, **SERIAL)
        data = {"AddressSpace": "", "Gateway": pool["Gateway"], "Pool": pool["Pool"]}
        body = {"NetworkID": NETWORK, "Options": {"mtu": "1400"}, "IPv4Data": [data], "IPv6Data": None}
        pool["Options"] = self._dockerd.call("NetworkDriver.AllocateNetwork", body)["Options"]
        return pool

    def address(self, pool: dict[str, Any], address: str = "") -> str:
        return ask(self._dockerd, pool, address, **SERIAL)


def node_network(dockerd: Any, allocated: dict[str, Any]) -> dict[str, Any]:
    """What dockerd asks before the first task of the network starts on its host."""
    pool: dict[str, Any] = dockerd.call("IpamDriver.RequestPool", request_pool("local", allocated["Pool"]))
    gateway = ask(dockerd, pool, allocated["Gateway"].partition("/")[0], **GATEWAY)
    data = {"AddressSpace": "dovetail-local", "Gateway": gateway, "Pool": pool["Pool"]}
    options = {
        "com.docker.network.enable_ipv6": False,
        "com.docker.network.generic": allocated["Options"],
    }
    body = {"NetworkID": NETWORK, "Options": options, "IPv4Data": [data], "IPv6Data": []}
    dockerd.call("NetworkDriver.CreateNetwork", body)
    return {"id": pool["PoolID"], "data": data}


@pytest.fixture
def manager(dockerd: Any) -> Manager:
    made = Manager(dockerd)
    made.begin()
    return made


@pytest.mark.parametrize("scope", ["local", "global"])
@pytest.mark.cnm(4)
def test_docker_is_told_the_scope_that_was_chosen(dockerd: Any, scope: Any) -> None:
    status, reply = PluginServer(dockerd.engine, scope).handle("/NetworkDriver.GetCapabilities", b"")

    assert status == 200
    assert json.loads(reply) == {"Scope": scope, "ConnectivityScope": scope, "GwAllocChecker": True}


def test_a_node_gets_the_pool_and_the_addresses_that_its_manager_gave(dockerd: Any, manager: Manager) -> None:
    allocated = manager.network()
    first, second = manager.address(allocated), manager.address(allocated)

    pool = node_network(dockerd, allocated)
    interface = {"Address": ask(dockerd, {"PoolID": pool["id"]}, first.partition("/")[0])}
    ids = {"NetworkID": NETWORK, "EndpointID": dockerd.new_id()}
    dockerd.call("NetworkDriver.CreateEndpoint", {**ids, "Interface": interface, "Options": {}})

    assert first != second
    (network,) = dockerd.store.networks()
    assert (str(network.subnets[0].subnet), network.options["mtu"]) == (allocated["Pool"], "1400")
    assert [str(e.addresses[0]) for e in dockerd.store.endpoints()] == [first]


def test_a_manager_that_is_no_node_makes_nothing_in_the_kernel(dockerd: Any, manager: Manager) -> None:
    manager.address(manager.network())

    assert dockerd.store.networks() == []
    assert [link.name for link in dockerd.kernel.links() if link.name != "lo"] == []


def test_a_pool_for_all_hosts_is_none_that_a_host_chooses_for_itself(dockerd: Any, manager: Manager) -> None:
    """Docker's own IPAM would have given it to docker_gwbridge, on this host or another, before a task comes."""
    local = [ip_network(base) for base in ("172.16.0.0/12", "192.168.0.0/16")]

    pools = [
        ip_network(dockerd.call("IpamDriver.RequestPool", request_pool("global"))["Pool"]) for _ in range(3)
    ]

    assert not any(pool.overlaps(base) for pool in pools for base in local)
    assert len(set(pools)) == 3


def test_a_pool_is_chosen_clear_of_those_of_the_other_space(dockerd: Any, manager: Manager) -> None:
    networks = [dockerd.pool()["data"]["Pool"], manager.network()["Pool"], dockerd.pool()["data"]["Pool"]]

    assert len(set(networks)) == 3


def test_a_subnet_that_overlaps_one_of_the_swarm_is_refused(dockerd: Any, manager: Manager) -> None:
    manager.network("10.77.0.0/16")

    message = dockerd.refused("IpamDriver.RequestPool", request_pool("local", "10.77.3.0/24"))

    assert "10.77.0.0/16" in message
    assert "swarm" in message


def test_two_networks_of_a_swarm_are_not_on_one_subnet(dockerd: Any, manager: Manager) -> None:
    manager.network("10.77.0.0/16")

    assert "10.77.0.0/16" in dockerd.refused("IpamDriver.RequestPool", request_pool("global", "10.77.0.0/16"))


def test_a_manager_that_leads_anew_asks_once_more_for_what_it_holds(dockerd: Any, manager: Manager) -> None:
    allocated = manager.network()
    address = manager.address(allocated).partition("/")[0]
    node_network(dockerd, allocated)

    manager.begin()
    again = manager.network(allocated["Pool"], allocated["Gateway"].partition("/")[0])

    assert again["PoolID"] == f"again:{allocated['PoolID']}"
    assert again["Gateway"] == allocated["Gateway"]
    assert manager.address(again, address).startswith(address)
    body = {"PoolID": again["PoolID"], "Address": address, "Options": SERIAL}
    assert "in use" in dockerd.refused("IpamDriver.RequestAddress", body)


def test_another_manager_takes_over_while_the_network_is_on_its_host(dockerd: Any, manager: Manager) -> None:
    node_network(dockerd, {"Pool": "10.77.0.0/24", "Gateway": "10.77.0.1/24", "Options": {}})

    manager.begin()
    allocated = manager.network("10.77.0.0/24", "10.77.0.1")

    assert manager.address(allocated, "10.77.0.9") == "10.77.0.9/24"


def test_nothing_is_left_when_the_network_is_removed(dockerd: Any, manager: Manager) -> None:
    allocated = manager.network()
    address = manager.address(allocated).partition("/")[0]
    pool = node_network(dockerd, allocated)

    dockerd.remove_network(NETWORK, pool)  # the node's part
    for each in (address, allocated["Gateway"].partition("/")[0]):
        dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": allocated["PoolID"], "Address": each})
    dockerd.call("NetworkDriver.FreeNetwork", {"NetworkID": NETWORK})
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": allocated["PoolID"]})

    assert dockerd.is_empty()


def test_the_pool_of_the_manager_stays_when_the_node_gives_its_own_back(
    dockerd: Any, manager: Manager
) -> None:
    allocated = manager.network()
    first = manager.address(allocated)
    pool = node_network(dockerd, allocated)

    dockerd.remove_network(NETWORK, pool)

    assert manager.address(allocated) != first
    node_network(dockerd, allocated)


def test_a_network_of_this_host_is_none_of_a_swarm(dockerd: Any, manager: Manager) -> None:
    dockerd.web()

    message = dockerd.refused(
        "IpamDriver.RequestPool", {**request_pool("global"), "Options": {"dovetail.network": "web"}}
    )

    assert "'web'" in message
    assert "scope local" in message


def global_pool(dockerd: Any, subnet: str) -> dict[str, Any]:
    pool = dockerd.call("IpamDriver.RequestPool", request_pool("global", subnet))
    gateway = ask(dockerd, pool, **GATEWAY)
    return {
        "id": pool["PoolID"],
        "data": {"AddressSpace": "dovetail-global", "Gateway": gateway, "Pool": subnet},
    }


def test_outside_of_a_swarm_a_network_is_made_on_a_pool_of_the_global_space(dockerd: Any) -> None:
    pool = global_pool(dockerd, "10.77.0.0/24")

    network = dockerd.create_network(pool)
    container = dockerd.run(network, pool)

    assert container["addresses"] == ["10.77.0.2/24"]
    dockerd.stop(container)
    dockerd.remove_network(network, pool)
    assert dockerd.is_empty()


def test_a_network_is_not_made_on_a_global_pool_that_another_has_locally(dockerd: Any) -> None:
    dockerd.web("10.77.0.0/24")

    pool = global_pool(dockerd, "10.77.0.0/24")

    message = dockerd.refused("NetworkDriver.CreateNetwork", dockerd.network_body(dockerd.new_id(), pool))
    assert "belongs to network 'web'" in message
