"""What dockerd does to an endpoint in good and in bad times, at the daemon's socket and on the real kernel."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytestmark = pytest.mark.root

SERIAL = {"com.docker.network.ipam.serial": "true"}


@pytest.fixture
def engine(installation: Any, make_docker_engine: Callable[[], Any]) -> Any:
    """Plays dockerd, with a network 10.77.0.0/24 and fd77::/64."""
    installation.start()
    made = make_docker_engine()
    made.create_network("10.77.0.0/24", "fd77::/64")
    return made


def ours(installation: Any) -> set[str]:
    """Links of endpoints in the host's namespace."""
    return {name for name in installation.host.links() if name.startswith(("dvh", "dvc"))}


def made(engine: Any, number: int = 1) -> dict[str, str]:
    """CreateEndpoint with the address of that number; gives the ids."""
    ids = engine.ids | {"EndpointID": f"{number:012x}".ljust(64, "e")}
    address = engine.call(
        "IpamDriver.RequestAddress", {"PoolID": engine.pool_ids[0], "Address": f"10.77.0.{number + 100}"}
    )["Address"]
    engine.call("NetworkDriver.CreateEndpoint", {**ids, "Interface": {"Address": address}})
    return ids


@pytest.mark.cnm(11, 13)
@pytest.mark.parametrize("exists", [True, False])
def test_the_interface_is_handed_over_whether_the_sandbox_is_there_yet_or_not(
    installation: Any, engine: Any, *, exists: bool
) -> None:
    """Up to Docker 25 Join comes before the namespace, since 28 after it."""
    netns = installation.netns("c1")
    key = netns if exists else "/run/docker/netns/not-yet"
    ids = made(engine)

    name = engine.call("NetworkDriver.Join", {**ids, "SandboxKey": key})["InterfaceName"]

    assert len(name["SrcName"]) <= 15
    installation.host.run("ip", "link", "set", name["SrcName"], "netns", netns, "name", "eth0")
    assert "eth0" in installation.host.links(netns)
    engine.call("NetworkDriver.Leave", ids)
    engine.call("NetworkDriver.DeleteEndpoint", ids)
    assert "eth0" not in installation.host.links(netns)


@pytest.mark.cnm(11)
def test_a_join_that_fails_leaves_nothing_and_can_be_tried_again(
    installation: Any, engine: Any, refused: type[Exception]
) -> None:
    ids = made(engine)
    (bridge,) = (name for name in installation.host.links() if name.startswith("dv-"))
    installation.host.run("ip", "link", "set", bridge, "name", "elsewhere")

    with pytest.raises(refused, match=bridge):
        engine.call("NetworkDriver.Join", {**ids, "SandboxKey": "/run/docker/netns/c1"})
    assert ours(installation) == set()

    installation.host.run("ip", "link", "set", "elsewhere", "name", bridge)
    engine.call("NetworkDriver.Join", {**ids, "SandboxKey": "/run/docker/netns/c1"})
    assert len(ours(installation)) == 2


@pytest.mark.cnm(14, 15)
def test_an_endpoint_goes_whatever_has_become_of_its_container(installation: Any, engine: Any) -> None:
    for number, calls in enumerate(
        (
            ("Leave", "Leave", "DeleteEndpoint", "DeleteEndpoint"),
            ("DeleteEndpoint",),
            ("Leave", "DeleteEndpoint"),
        )
    ):
        netns = installation.netns(f"c{number}")
        ids = made(engine, number)
        name = engine.call("NetworkDriver.Join", {**ids, "SandboxKey": netns})["InterfaceName"]["SrcName"]
        installation.host.run("ip", "link", "set", name, "netns", netns)
        if number == 2:
            installation.host.run("ip", "netns", "del", f"c{number}")

        for call in calls:
            assert engine.call(f"NetworkDriver.{call}", ids) == {}
        assert ours(installation) == set()
    assert engine.call("NetworkDriver.DeleteNetwork", {"NetworkID": "never was"}) == {}


@pytest.mark.cnm(15)
def test_a_hundred_starts_and_stops_leave_no_interface(installation: Any, engine: Any) -> None:
    for number in range(100):
        ids = made(engine, number)
        engine.call("NetworkDriver.Join", {**ids, "SandboxKey": f"/run/docker/netns/{number}"})
        for call in ("Leave", "DeleteEndpoint"):
            engine.call(f"NetworkDriver.{call}", ids)

    assert ours(installation) == set()


@pytest.mark.cnm(19)
def test_what_an_endpoint_that_is_not_joined_publishes_is_refused(
    installation: Any, engine: Any, refused: type[Exception]
) -> None:
    ids = made(engine)
    binding = {"Proto": 6, "Port": 80, "HostPort": 8080, "HostPortEnd": 8080}

    with pytest.raises(refused, match="has not joined"):
        engine.call(
            "NetworkDriver.ProgramExternalConnectivity",
            {**ids, "Options": {"com.docker.network.portmap": [binding]}},
        )
    assert engine.call("NetworkDriver.RevokeExternalConnectivity", ids) == {}


@pytest.mark.cnm(19)
def test_flows_to_a_udp_port_end_when_it_is_withdrawn(installation: Any, engine: Any) -> None:
    """Else who talks on would talk to a container that is gone, for as long as it does."""
    ids = made(engine)
    engine.call("NetworkDriver.Join", {**ids, "SandboxKey": "/run/docker/netns/c1"})
    binding = {"Proto": 17, "Port": 53, "HostPort": 5353, "HostPortEnd": 5353}
    published = {**ids, "Options": {"com.docker.network.portmap": [binding]}}

    def flows() -> str:
        return str(
            installation.host.run("conntrack", "-L", "-p", "udp", "--orig-port-dst", "5353", check=False)
        )

    for withdraw in ("RevokeExternalConnectivity", "Leave"):
        engine.call("NetworkDriver.ProgramExternalConnectivity", published)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
            caller.sendto(b"x", ("127.0.0.1", 5353))
        assert "src=10.77.0.101" in flows(), "it was translated"
        engine.call(f"NetworkDriver.{withdraw}", ids)
        assert flows() == "", withdraw
    engine.call("NetworkDriver.DeleteEndpoint", ids)


# -- addresses ----------------------------------------------------------------------------------------------


@pytest.mark.cnm(30)
@pytest.mark.parametrize("options", [{}, SERIAL])
def test_an_address_that_was_released_is_given_again_but_not_at_once(
    engine: Any, options: dict[str, str]
) -> None:
    body = {"PoolID": engine.pool_ids[0], "Address": "", "Options": options}

    def take_and_release() -> str:
        address = str(engine.call("IpamDriver.RequestAddress", body)["Address"]).partition("/")[0]
        for _ in range(2):
            released = {"PoolID": engine.pool_ids[0], "Address": address}
            assert engine.call("IpamDriver.ReleaseAddress", released) == {}
        return address

    first = take_and_release()
    assert take_and_release() != first, "a neighbour may still know who had it"
    named = engine.call("IpamDriver.RequestAddress", {**body, "Address": first})
    assert named["Address"] == f"{first}/24"


@pytest.mark.cnm(35)
def test_a_thousand_requests_at_once_get_a_thousand_addresses_and_none_is_lost_in_a_crash(
    installation: Any, engine: Any, nobodys: Any
) -> None:
    """The daemon is killed in the middle: what it had answered stays given, what it had not may be given anew."""
    pool = engine.call(
        "IpamDriver.RequestPool", {"AddressSpace": "dovetail-local", "Pool": "10.78.0.0/16", "Options": {}}
    )["PoolID"]
    body = {"PoolID": pool, "Address": "", "Options": {}}

    def ask(number: int) -> str:
        if number == 400:
            installation.stop(9)
        try:
            return str(engine.call("IpamDriver.RequestAddress", body)["Address"])
        except (OSError, http.client.HTTPException):
            return ""

    with ThreadPoolExecutor(16) as threads:
        before = [address for address in threads.map(ask, range(800)) if address]
    installation.start()
    with ThreadPoolExecutor(16) as threads:
        after = list(
            threads.map(lambda _: str(engine.call("IpamDriver.RequestAddress", body)["Address"]), range(1000))
        )

    given = [*before, *after]
    assert len(before) >= 300
    assert len(set(given)) == len(given) >= 1300
    assert nobodys(installation.host.run, installation.state_dir, docker=True) == []
