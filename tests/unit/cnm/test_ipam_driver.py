"""Pools and addresses as dockerd asks for them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dovetail.cnm.server import PluginServer
from dovetail.model.addresses import parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec

GATEWAY = {"RequestAddressType": "com.docker.network.gateway"}


def request_pool(pool: str = "", **more: Any) -> dict[str, Any]:
    return {"AddressSpace": "dovetail-local", "Options": {}, "Pool": pool, "SubPool": "", "V6": False, **more}


@pytest.mark.cnm(26)
def test_a_pool_is_chosen_and_never_twice(dockerd: Any) -> None:
    pools = [dockerd.call("IpamDriver.RequestPool", request_pool())["Pool"] for _ in range(5)]

    assert len(set(pools)) == 5


def test_an_ipv6_pool_is_chosen(dockerd: Any) -> None:
    pool = dockerd.call("IpamDriver.RequestPool", request_pool(V6=True))["Pool"]

    assert pool.startswith("fd")


@pytest.mark.cnm(27, 28)
def test_dynamic_addresses_come_from_the_sub_pool_and_static_ones_from_anywhere(dockerd: Any) -> None:
    pool = dockerd.call("IpamDriver.RequestPool", request_pool("10.77.0.0/16", SubPool="10.77.5.0/24"))

    def ask(address: str, options: Any = None) -> str:
        body = {"PoolID": pool["PoolID"], "Address": address, "Options": options}
        return str(dockerd.call("IpamDriver.RequestAddress", body)["Address"])

    assert ask("", GATEWAY) == "10.77.0.1/16"
    assert ask("").startswith("10.77.5.")
    assert ask("10.77.200.9") == "10.77.200.9/16"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (request_pool("10.77.0.1/24"), ["10.77.0.1/24", "host bits"]),
        (request_pool("nonsense"), ["nonsense"]),
        (request_pool("fd00::/64"), ["fd00::/64", "IPv4"]),
        (request_pool("10.0.0.0/24", V6=True), ["10.0.0.0/24", "IPv6"]),
        (request_pool("10.77.0.0/24", SubPool="10.78.0.0/25"), ["10.78.0.0/25"]),
        (request_pool(Options={"dovetail.netwrok": "web"}), ["dovetail.netwrok", "dovetail.network"]),
        (request_pool(Options={"colour": "blue"}), ["colour"]),
        (request_pool(Options={"dovetail.network": "nope"}), ["nope"]),
    ],
)
def test_a_pool_that_cannot_be_is_refused(dockerd: Any, body: dict[str, Any], words: list[str]) -> None:
    message = dockerd.refused("IpamDriver.RequestPool", body)

    assert all(word in message for word in words)
    assert dockerd.store.pools() == []


@pytest.mark.cnm(29)
def test_a_taken_address_is_refused_and_no_substitute_given(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    body = {"PoolID": pool["id"], "Address": "10.77.0.9", "Options": None}
    dockerd.call("IpamDriver.RequestAddress", body)

    assert "10.77.0.9" in dockerd.refused("IpamDriver.RequestAddress", body)


@pytest.mark.parametrize("address", ["10.77.0.0", "10.77.0.255", "10.78.0.1", "fd00::1", "x"])
@pytest.mark.cnm(29)
def test_an_address_that_cannot_be_is_refused(dockerd: Any, address: str) -> None:
    pool = dockerd.pool("10.77.0.0/24")

    message = dockerd.refused("IpamDriver.RequestAddress", {"PoolID": pool["id"], "Address": address})

    assert address in message


@pytest.mark.cnm(26)
def test_an_exhausted_pool_says_so(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/30")
    body = {"PoolID": pool["id"], "Address": "", "Options": None}
    dockerd.call("IpamDriver.RequestAddress", body)

    assert "10.77.0.0/30" in dockerd.refused("IpamDriver.RequestAddress", body)


@pytest.mark.cnm(30)
def test_releases_may_come_twice_and_after_the_pool(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    address = {"PoolID": pool["id"], "Address": "10.77.0.1"}

    for _ in range(2):
        assert dockerd.call("IpamDriver.ReleaseAddress", address) == {}
        assert dockerd.call("IpamDriver.ReleasePool", {"PoolID": pool["id"]}) == {}
    assert dockerd.is_empty()


@pytest.mark.cnm(32)
def test_the_same_pool_for_two_networks_is_refused(dockerd: Any) -> None:
    dockerd.create_network(dockerd.pool("10.77.0.0/24"))

    message = dockerd.refused("IpamDriver.RequestPool", request_pool("10.77.0.0/24"))

    assert "10.77.0.0/24" in message


@pytest.mark.cnm(32)
def test_the_pool_of_a_network_is_refused_with_the_way_to_use_it(dockerd: Any) -> None:
    dockerd.web()

    message = dockerd.refused("IpamDriver.RequestPool", request_pool("10.88.0.0/24"))

    assert "dovetail.network=web" in message


# -- a dockerd that starts anew ---------------------------------------------------------------------------


@pytest.mark.cnm(31)
def test_a_new_session_may_ask_once_more_for_what_it_holds(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)
    container = dockerd.run(network, pool)
    address = container["addresses"][0].partition("/")[0]

    dockerd.activate()
    replayed = dockerd.call("IpamDriver.RequestPool", request_pool("10.77.0.0/24"))
    body = {"PoolID": replayed["PoolID"], "Address": "10.77.0.1", "Options": GATEWAY}
    assert dockerd.call("IpamDriver.RequestAddress", body)["Address"] == "10.77.0.1/24"
    body = {"PoolID": replayed["PoolID"], "Address": address, "Options": None}
    assert dockerd.call("IpamDriver.RequestAddress", body)["Address"] == f"{address}/24"

    assert dockerd.held() == [f"endpoint {address}", "gateway 10.77.0.1"]
    assert address in dockerd.refused("IpamDriver.RequestAddress", body)
    dockerd.stop(container)
    dockerd.remove_network(network, pool)
    assert dockerd.is_empty()


@pytest.mark.cnm(31)
def test_without_a_new_session_a_duplicate_is_refused(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)
    dockerd.run(network, pool)

    dockerd.refused(
        "IpamDriver.RequestAddress", {"PoolID": pool["id"], "Address": "10.77.0.2", "Options": None}
    )
    dockerd.refused("IpamDriver.RequestPool", request_pool("10.77.0.0/24"))


@pytest.mark.cnm(31)
def test_an_address_is_asked_for_again_only_after_its_pool(dockerd: Any) -> None:
    """A plugin may be loaded late: what is asked then is no replay, though Activate came before it."""
    pool = dockerd.pool("10.77.0.0/24")
    dockerd.run(dockerd.create_network(pool), pool)

    dockerd.activate()

    body = {"PoolID": pool["id"], "Address": "10.77.0.2", "Options": None}
    assert "10.77.0.2" in dockerd.refused("IpamDriver.RequestAddress", body)


@pytest.mark.cnm(31)
def test_a_replay_that_docker_breaks_off_takes_nothing_from_the_network(dockerd: Any) -> None:
    """Where one address is refused, dockerd gives the pool back and goes on using it."""
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool)

    dockerd.activate()
    again = dockerd.call("IpamDriver.RequestPool", request_pool("10.77.0.0/24"))
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": again["PoolID"]})

    for pool_id in (pool["id"], again["PoolID"]):
        assert dockerd.run(network, {"id": pool_id})["join"]["Gateway"] == "10.77.0.1"


@pytest.mark.cnm(32)
def test_a_second_network_that_takes_a_replays_place_leaves_the_first_alone(dockerd: Any) -> None:
    first = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(first)
    dockerd.activate()  # late, and without a replay

    second = dockerd.pool("10.77.0.0/24")
    body = dockerd.network_body(dockerd.new_id(), second)
    dockerd.refused("NetworkDriver.CreateNetwork", body)
    gateway = second["data"]["Gateway"].partition("/")[0]
    dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": second["id"], "Address": gateway})
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": second["id"]})

    assert dockerd.run(network, first)["join"]["Gateway"] == "10.77.0.1"
    assert dockerd.held() == ["endpoint 10.77.0.2", "gateway 10.77.0.1"]


@pytest.mark.cnm(32)
def test_two_networks_that_are_made_at_once_do_not_get_the_same_pool(dockerd: Any) -> None:
    dockerd.call("IpamDriver.RequestPool", request_pool("10.77.0.0/24"))

    assert "which Docker holds" in dockerd.refused("IpamDriver.RequestPool", request_pool("10.77.0.0/24"))


@pytest.mark.cnm(32)
def test_docker_networks_that_share_one_of_ours_are_counted_and_the_last_takes_it_along(dockerd: Any) -> None:
    own = dockerd.pool("10.77.0.0/24")
    first = dockerd.create_network(own, opts={"dovetail.name": "shop"})
    opts = {"dovetail.network": "shop"}
    shared = dockerd.pool("10.77.0.0/24", opts=opts)
    second = dockerd.create_network(shared, opts=opts)
    container = dockerd.run(second, shared)

    dockerd.remove_network(first, own)
    assert dockerd.run(second, shared)["addresses"] == ["10.77.0.3/24"]
    assert dockerd.engine.networks.get("shop").status == "active"

    dockerd.stop(container)
    dockerd.remove_network(second, shared)
    assert dockerd.is_empty()


@pytest.mark.cnm(28)
def test_a_network_without_gateway_can_be_shared_and_none_is_asked_for(dockerd: Any) -> None:
    dockerd.engine.networks.create(
        NetworkSpec(
            name="flat",
            subnets=(SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),),
            options={"gateway": "none"},
        )
    )
    opts = {"dovetail.network": "flat"}
    pool = dockerd.pool("10.88.0.0/24", opts=opts)

    join = dockerd.run(dockerd.create_network(pool, opts=opts), pool)["join"]

    assert pool["data"]["Gateway"] == "0.0.0.0/0", "so that dockerd asks for no address"
    assert "Gateway" not in join


@pytest.mark.cnm(29)
def test_who_has_a_taken_address_is_told_by_name(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    network = dockerd.create_network(pool, opts={"dovetail.name": "shop"})
    body = {"PoolID": pool["id"], "Address": "", "Options": {"com.docker.network.endpoint.name": "c1"}}
    address = dockerd.call("IpamDriver.RequestAddress", body)["Address"]
    ids = {"NetworkID": network, "EndpointID": dockerd.new_id()}
    dockerd.call("NetworkDriver.CreateEndpoint", {**ids, "Interface": {"Address": address}})

    def refusal(wanted: str) -> str:
        return str(dockerd.refused("IpamDriver.RequestAddress", {"PoolID": pool["id"], "Address": wanted}))

    assert "endpoint c1" in refusal("10.77.0.2")
    assert "the gateway of network shop" in refusal("10.77.0.1")
    assert dockerd.store.endpoint(ids["EndpointID"]).name == "c1"


# -- the pool of a network that exists --------------------------------------------------------------------


def test_without_a_subnet_docker_is_answered_what_it_does_not_compare_with_routes(dockerd: Any) -> None:
    dockerd.web()

    pool = dockerd.pool(opts={"dovetail.network": "web"})

    assert pool["data"]["Pool"] == "0.0.0.0/0"
    assert pool["data"]["Gateway"] == "10.88.0.1/24"
    container = dockerd.run(dockerd.create_network(pool, opts={"dovetail.network": "web"}), pool)
    assert container["addresses"] == ["10.88.0.2/24"]


def test_the_answer_is_replayed_by_a_dockerd_that_starts_anew(dockerd: Any) -> None:
    dockerd.web("10.88.0.0/24", "fd88::/64")
    opts = {"dovetail.network": "web"}
    pool = dockerd.pool(opts=opts)
    container = dockerd.run(dockerd.create_network(pool, opts=opts), pool)

    dockerd.activate()
    again = dockerd.pool("0.0.0.0/0", gateway="10.88.0.1", opts=opts)
    address = container["addresses"][0].partition("/")[0]
    dockerd.call("IpamDriver.RequestAddress", {"PoolID": again["id"], "Address": address, "Options": None})

    assert again == pool


def test_both_families_of_a_network_are_shared(dockerd: Any) -> None:
    dockerd.web("10.88.0.0/24", "fd88::/64")
    opts = {"dovetail.network": "web"}

    four, six = dockerd.pool("10.88.0.0/24", opts=opts), dockerd.pool(v6=True, opts=opts)
    container = dockerd.run(dockerd.create_network(four, six, opts=opts), four, six)

    assert container["addresses"] == ["10.88.0.2/24", "fd88::2/64"]
    assert container["join"]["GatewayIPv6"] == "fd88::1"


@pytest.mark.cnm(26)
def test_an_engine_that_goes_on_asking_for_an_ipv6_pool_is_stopped(dockerd: Any) -> None:
    dockerd.web("10.88.0.0/24", "fd88::/64")
    body = request_pool(V6=True, Options={"dovetail.network": "web"})

    for _ in range(8):
        dockerd.call("IpamDriver.RequestPool", body)

    assert "--subnet fd88::/64" in dockerd.refused("IpamDriver.RequestPool", body)


@pytest.mark.cnm(32)
def test_giving_a_shared_pool_back_takes_nothing_from_the_network(dockerd: Any) -> None:
    dockerd.web()
    pool = dockerd.pool(opts={"dovetail.network": "web"})

    dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": pool["id"], "Address": "10.88.0.1"})
    dockerd.call("IpamDriver.ReleasePool", {"PoolID": pool["id"]})

    assert dockerd.held() == ["gateway 10.88.0.1"]
    assert len(dockerd.store.pools()) == 1


def test_the_gateway_of_a_shared_pool_is_the_networks_and_no_other(dockerd: Any) -> None:
    dockerd.web()
    opts = {"dovetail.network": "web"}

    assert dockerd.pool("10.88.0.0/24", gateway="10.88.0.1", opts=opts)["data"]["Gateway"] == "10.88.0.1/24"

    pool = dockerd.call("IpamDriver.RequestPool", request_pool("10.88.0.0/24", Options=opts))
    body = {"PoolID": pool["PoolID"], "Address": "10.88.0.254", "Options": GATEWAY}
    assert "10.88.0.1" in dockerd.refused("IpamDriver.RequestAddress", body)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"Pool": "10.99.0.0/24"}, ["10.88.0.0/24", "10.99.0.0/24"]),
        ({"V6": True}, ["IPv6", "web"]),
        ({"Pool": "10.88.0.0/24", "SubPool": "10.88.0.128/25"}, ["ip-range"]),
    ],
)
def test_what_the_network_has_not_is_refused(dockerd: Any, more: dict[str, Any], words: list[str]) -> None:
    dockerd.web()

    message = dockerd.refused(
        "IpamDriver.RequestPool", request_pool(**{"Options": {"dovetail.network": "web"}, **more})
    )

    assert all(word in message for word in words)


@pytest.mark.cnm(26)
def test_a_pool_of_a_size_is_chosen_for_docker(dockerd: Any) -> None:
    pools = [dockerd.call("IpamDriver.RequestPool", request_pool("0.0.0.0/24"))["Pool"] for _ in range(3)]

    assert pools == ["172.17.0.0/24", "172.17.1.0/24", "172.17.2.0/24"]


# -- containers that come back ----------------------------------------------------------------------------

NAME, MAC = "com.docker.network.endpoint.name", "com.docker.network.endpoint.macaddress"


def take_and_give_back(dockerd: Any, pool_id: str, options: dict[str, str]) -> str:
    body = {"PoolID": pool_id, "Address": "", "Options": options}
    address = str(dockerd.call("IpamDriver.RequestAddress", body)["Address"]).partition("/")[0]
    dockerd.call("IpamDriver.ReleaseAddress", {"PoolID": pool_id, "Address": address})
    return address


@pytest.mark.cnm(34)
@pytest.mark.parametrize(
    "options", [{NAME: "c1"}, {MAC: "02:42:0A:00:00:07"}, {NAME: "c1", MAC: "02:42:0a:00:00:07"}]
)
def test_a_container_that_comes_back_gets_its_address_by_name_or_mac(
    dockerd: Any, options: dict[str, str]
) -> None:
    sticky = {"dovetail.sticky": "true"}
    for pool in (
        dockerd.call("IpamDriver.RequestPool", request_pool("10.77.0.0/24", Options=sticky))["PoolID"],
        _pool_of_sticky_network(dockerd),
    ):
        first = take_and_give_back(dockerd, pool, options)
        others = {take_and_give_back(dockerd, pool, {NAME: f"other{n}"}) for n in range(5)}

        assert first not in others
        assert take_and_give_back(dockerd, pool, {k: v.lower() for k, v in options.items()}) == first


def _pool_of_sticky_network(dockerd: Any) -> str:
    pool = dockerd.pool("10.78.0.0/24")
    dockerd.create_network(pool, opts={"sticky": "true"})
    return str(pool["id"])


@pytest.mark.cnm(34)
def test_docker_is_asked_for_macs_where_the_daemon_is_told_so(dockerd: Any) -> None:
    status, payload = PluginServer(dockerd.engine, by_mac=True).handle("/IpamDriver.GetCapabilities", b"")

    assert (status, json.loads(payload)) == (200, {"RequiresMACAddress": True, "RequiresRequestReplay": True})


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"dovetail.sticky": "perhaps"}, "perhaps"),
        ({"dovetail.sticky": "1", "dovetail.network": "web"}, "web"),
    ],
)
def test_what_is_no_choice_is_refused(dockerd: Any, options: dict[str, str], word: str) -> None:
    dockerd.web()

    assert word in dockerd.refused("IpamDriver.RequestPool", request_pool(Options=options))


def test_a_mac_that_is_none_is_refused(dockerd: Any) -> None:
    pool = dockerd.pool("10.77.0.0/24")
    body = {"PoolID": pool["id"], "Address": "", "Options": {MAC: "02:42"}}

    assert "02:42" in dockerd.refused("IpamDriver.RequestAddress", body)
    assert dockerd.held() == ["gateway 10.77.0.1"]
