"""Restarts and crashes of dockerd, of the daemon, and of the firewall under both."""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")


@pytest.fixture
def beside(docker: Any) -> Any:
    """Our network with c1 and c2 on it, beside one of Docker's own plain networks."""
    docker("network", "create", "plain")
    docker("run", "-d", "--stop-timeout", "1", "--name", "p1", "--network", "plain", "-p", "9090:80", *HTTPD)
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    docker("run", "-d", "--stop-timeout", "1", "--name", "c1", "--network", "one", "-p", "8080:80", *HTTPD)
    docker("run", "-d", "--stop-timeout", "1", "--name", "c2", "--network", "one", *SLEEP)
    return docker


def _check_all_reachable(docker: Any) -> None:
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


def test_dockers_policy_of_dropping_leaves_our_networks_alone_before_and_after_a_restart(
    beside: Any, dovetail_daemon: Any
) -> None:
    _check_all_reachable(beside)

    beside.restart()
    for container in ("p1", "c1", "c2"):
        beside("start", container)

    _check_all_reachable(beside)
    beside("rm", "-f", "c1", "c2")
    beside("network", "rm", "one")
    assert dovetail_daemon.left() == []


def test_a_flushed_firewall_comes_back(beside: Any) -> None:
    before = beside.host.elements()

    beside.host.run("nft", "delete", "table", "inet", "dovetail")
    beside.host.wait_for(lambda: beside.host.elements() == before, what="the table is back")
    beside.host.run("iptables", "-F", "DOCKER-USER")
    beside.host.wait_for(
        lambda: "DOVETAIL" in beside.host.run("iptables", "-S", "DOCKER-USER"), what="the jump is back"
    )

    _check_all_reachable(beside)


def test_a_killed_dockerd_takes_its_containers_up_again(beside: Any, dovetail_daemon: Any) -> None:
    beside.stop(signal.SIGKILL)
    beside.start()
    for container in ("p1", "c1", "c2"):
        beside("start", container)

    _check_all_reachable(beside)
    assert len(dovetail_daemon.json("endpoint", "ls")) == 2
    beside("rm", "-f", "c1", "c2")
    beside("network", "rm", "one")
    assert dovetail_daemon.left() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_containers_talk_on_while_the_daemon_is_restarted(
    beside: Any, dovetail_daemon: Any, number: int
) -> None:
    dovetail_daemon.stop(number)
    _check_all_reachable(beside)
    dovetail_daemon.start()
    _check_all_reachable(beside)

    beside("run", "-d", "--name", "c3", "--network", "one", *SLEEP)
    assert len(set(beside.addresses("c3").values()) | set(beside.addresses("c1").values())) == 2
    beside("rm", "-f", "c1", "c2", "c3")
    beside("network", "rm", "one")
    assert dovetail_daemon.left() == []
