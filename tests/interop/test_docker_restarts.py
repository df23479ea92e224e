"""Restarts and crashes of dockerd, of the daemon, of both, and of the firewall under them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")
STATIC = "10.77.0.50"


@pytest.fixture
def dovetail(module_docker: Any) -> Any:
    return module_docker[1]


@pytest.fixture
def beside(module_docker: Any) -> Iterator[Any]:
    """Our network with c1 and c2 on it, beside one of Docker's own plain networks; c2 has an address of its choice."""
    docker, dovetail = module_docker
    docker("network", "create", "plain")
    run(docker, "p1", "--network", "plain", "-p", "9090:80", *HTTPD)
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    run(docker, "c1", "--network", "one", "-p", "8080:80", *HTTPD)
    run(docker, "c2", "--network", "one", "--ip", STATIC, *SLEEP)
    yield docker
    if not dovetail.running:
        dovetail.start()
    if docker.attempt("version").returncode:
        docker.start()
    docker("rm", "-f", *docker("ps", "-aq").split())
    docker("network", "rm", "plain")
    docker.attempt("network", "rm", "one")


def run(docker: Any, name: str, *words: str) -> None:
    docker("run", "-d", "--stop-timeout", "1", "--name", name, *words)


def start_all(docker: Any) -> None:
    for container in ("p1", "c1", "c2"):
        docker("start", container)


def check_all_reachable(docker: Any) -> None:
    host = docker.host
    outside = host.outside()
    assert host.run("iptables", "-S", "FORWARD").startswith("-P FORWARD DROP")
    assert docker.pings("c2", docker.addresses("c1")["one"]), "within our network"
    assert docker.pings("c2", "192.0.2.2"), "out of our network, through the host"
    host.wait_for(
        lambda: host.get("http://192.0.2.1:8080/", netns=outside) == "hello", what="our port from outside"
    )
    host.wait_for(lambda: host.get("http://192.0.2.1:9090/", netns=outside) == "hello", what="Docker's port")
    assert host.get("http://127.0.0.1:8080/") == "hello"


def check_nothing_is_left(docker: Any, dovetail: Any, nobodys: Any) -> None:
    """Remove what is ours: everything belonged to somebody, so nothing is there then."""
    assert nobodys(docker.host.run, str(docker.host.dir / "state"), docker=True) == []
    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "one")
    assert dovetail.left() == []


def test_dockers_policy_of_dropping_leaves_our_networks_alone_before_and_after_a_restart(
    beside: Any, dovetail: Any, nobodys: Any
) -> None:
    check_all_reachable(beside)

    beside.restart()
    start_all(beside)

    check_all_reachable(beside)
    check_nothing_is_left(beside, dovetail, nobodys)


def test_a_flushed_firewall_comes_back(beside: Any) -> None:
    before = beside.host.elements()

    beside.host.run("nft", "delete", "table", "inet", "dovetail")
    beside.host.wait_for(lambda: beside.host.elements() == before, what="the table is back")
    beside.host.run("iptables", "-F", "DOCKER-USER")
    beside.host.wait_for(
        lambda: "DOVETAIL" in beside.host.run("iptables", "-S", "DOCKER-USER"), what="the jump is back"
    )

    check_all_reachable(beside)


@pytest.mark.cnm(7, 16)
@pytest.mark.parametrize("killed", ["dockerd", "both"])
def test_after_kill_9_containers_are_taken_up_again_at_their_addresses(
    beside: Any, dovetail: Any, nobodys: Any, killed: str
) -> None:
    beside.stop(signal.SIGKILL)
    if killed == "both":
        dovetail.stop(signal.SIGKILL)
        dovetail.start()
    beside.start()
    start_all(beside)

    assert beside.addresses("c2")["one"] == STATIC
    assert beside.addresses("c1")["one"] not in {STATIC, "10.77.0.1"}
    check_all_reachable(beside)
    assert len(dovetail.json("endpoint", "ls")) == 2
    check_nothing_is_left(beside, dovetail, nobodys)


@pytest.mark.cnm(7)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_containers_talk_on_while_the_daemon_is_restarted_and_no_address_is_given_twice(
    beside: Any, dovetail: Any, nobodys: Any, number: int
) -> None:
    """dockerd neither activates a plugin again nor replays anything to it (cnm.md §2.3): what we wrote must do."""
    beside("network", "create", *OURS, "--subnet", "10.78.0.0/29", "small")
    run(beside, "s1", "--network", "small", *SLEEP)
    with beside.talking("c2", beside.addresses("c1")["one"], at_least=5):
        dovetail.stop(number)
        check_all_reachable(beside)
        dovetail.start()
        check_all_reachable(beside)
        for name in ("s2", "s3", "s4", "s5"):
            run(beside, name, "--network", "small", *SLEEP)

    given = [beside.addresses(name)["small"] for name in ("s1", "s2", "s3", "s4", "s5")]
    assert sorted(given) == [f"10.78.0.{number}" for number in range(2, 7)]
    words = ("run", "--rm", "--network", "small", "bb", "true")
    assert "no address of 10.78.0.0/29 is free" in beside.refused(*words)
    assert "Plugin.Activate" not in dovetail.cli("trace", "--last", "200")
    beside("rm", "-f", "s1", "s2", "s3", "s4", "s5")
    beside("network", "rm", "small")
    check_nothing_is_left(beside, dovetail, nobodys)


def test_a_daemon_that_comes_while_dockerd_waits_for_it_has_missed_nothing(
    beside: Any, dovetail: Any, nobodys: Any
) -> None:
    beside.stop(signal.SIGKILL)
    dovetail.stop()
    before = len(beside.host.log("dockerd.log"))
    beside.begin()
    beside.host.wait_for(
        lambda: "dovetail" in beside.host.log("dockerd.log")[before:], what="dockerd looks for its plugin"
    )

    dovetail.start()
    beside.wait_until_up()
    start_all(beside)

    assert beside.addresses("c2")["one"] == STATIC
    check_all_reachable(beside)
    check_nothing_is_left(beside, dovetail, nobodys)


def test_a_daemon_that_comes_when_dockerd_has_given_up_gives_no_address_twice(
    beside: Any, dovetail: Any, nobodys: Any
) -> None:
    """After 15 s dockerd goes on without; then nothing is replayed for the rest of its life (cnm.md §2.3)."""
    beside.stop()
    dovetail.stop()
    beside.start()

    dovetail.start()
    start_all(beside)

    addresses = [beside.addresses(name)["one"] for name in ("c1", "c2")]
    assert addresses[1] == STATIC
    assert len({*addresses, "10.77.0.1"}) == 3
    check_all_reachable(beside)
    check_nothing_is_left(beside, dovetail, nobodys)
