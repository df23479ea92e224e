"""A real Docker Engine on networks of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")
WEB = (*OURS, "-o", "dovetail.network=web", "--ipam-opt", "dovetail.network=web")


def test_a_container_lives_on_a_network_of_its_own_and_leaves_nothing(
    docker: Any, dovetail_daemon: Any
) -> None:
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "-o", "mtu=1400", "one")
    docker("run", "-d", "--name", "c1", "--network", "one", "-p", "8080:80", *HTTPD)
    endpoint = {"IPAMConfig": {"IPv4Address": "10.77.0.9"}}
    body = {"Image": "bb", "Cmd": ["sleep", "1000"], "MacAddress": "02:11:22:33:44:55"}
    body |= {"HostConfig": {"NetworkMode": "one"}, "NetworkingConfig": {"EndpointsConfig": {"one": endpoint}}}
    docker.api("POST", "/containers/create?name=c2", body)
    docker("start", "c2")

    assert docker.addresses("c1") == {"one": "10.77.0.2"}
    assert docker.addresses("c2") == {"one": "10.77.0.9"}
    link = docker.host.ip("link", "show", "eth0", netns=docker.netns("c2"))[0]
    assert (link["address"], link["mtu"]) == ("02:11:22:33:44:55", 1400)
    assert docker.pings("c2", "10.77.0.2")
    assert docker.pings("c2", "c1"), "Docker's own names work unchanged"
    assert docker.host.get("http://127.0.0.1:8080/") == "hello"
    assert docker.host.get("http://10.77.0.1:8080/", netns=docker.netns("c2")) == "hello", "through hairpin"

    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []
    assert docker.host.elements() == -1


def test_a_network_without_a_subnet_gets_pools_of_both_families(docker: Any, dovetail_daemon: Any) -> None:
    docker("network", "create", *OURS, "--ipv6", "two")
    docker("run", "-d", "--name", "c1", "--network", "two", *SLEEP)

    subnets = json.loads(docker("network", "inspect", "--format", "{{json .IPAM.Config}}", "two"))
    versions = sorted(":" in entry["Subnet"] for entry in subnets)
    inet6 = docker.host.ip("-6", "addr", "show", "scope", "global", netns=docker.netns("c1"))

    assert versions == [False, True]
    assert inet6[0]["addr_info"][0]["local"].startswith("fd")
    docker("rm", "-f", "c1")
    docker("network", "rm", "two")
    assert dovetail_daemon.left() == []


def test_docker_shares_a_network_made_elsewhere(docker: Any, dovetail_daemon: Any) -> None:
    dovetail_daemon.cli("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    dovetail_daemon.cli("sandbox", "create", "s1")
    dovetail_daemon.cli("network", "connect", "web", "s1")
    before = dovetail_daemon.json("network", "inspect", "web")
    docker("network", "create", *WEB, "web")
    docker("run", "-d", "--name", "c1", "--network", "web", "-p", "8080:80", *HTTPD)
    address = docker.addresses("c1")["web"]

    assert (
        dovetail_daemon.try_cli("sandbox", "exec", "s1", "--", "ping", "-c1", "-W2", address).returncode == 0
    )
    sandbox = dovetail_daemon.json("sandbox", "inspect", "s1")
    assert docker.host.get(f"http://{address}/", netns=_netns(sandbox)) == "hello"
    assert docker.host.get("http://127.0.0.1:8080/") == "hello"
    topology = dovetail_daemon.cli("topology")
    assert "s1" in topology and "docker" in topology

    docker("rm", "-f", "c1")
    docker("network", "rm", "web")
    after = dovetail_daemon.json("network", "inspect", "web")
    assert after == before, "as it was before Docker came"
    dovetail_daemon.cli("network", "disconnect", "web", "s1")
    dovetail_daemon.cli("sandbox", "rm", "s1")
    dovetail_daemon.cli("network", "rm", "web")
    assert dovetail_daemon.left() == []


def test_a_shared_network_with_its_subnet_given_takes_static_addresses(
    docker: Any, dovetail_daemon: Any
) -> None:
    dovetail_daemon.cli("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    docker("network", "create", *WEB, "--ipv6", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64", "web")

    docker("run", "-d", "--name", "c1", "--network", "web", "--ip", "10.88.0.77", "--ip6", "fd88::77", *SLEEP)

    assert docker.addresses("c1") == {"web": "10.88.0.77"}
    assert docker.host.try_run("ping", "-6", "-c1", "-W2", "fd88::77").returncode == 0


@pytest.mark.cnm(23)
def test_connecting_disconnecting_and_restarting_a_running_container(
    docker: Any, dovetail_daemon: Any
) -> None:
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    docker("network", "create", *OURS, "--subnet", "10.78.0.0/24", "two")
    docker("run", "-d", "--name", "c1", "--network", "one", "-p", "8080:80", *HTTPD)
    docker("run", "-d", "--name", "c2", "--network", "two", *SLEEP)

    docker("network", "connect", "two", "c1")
    assert docker.pings("c2", docker.addresses("c1")["two"])
    docker("network", "disconnect", "one", "c1")
    assert docker.addresses("c1").keys() == {"two"}
    docker.host.wait_for(
        lambda: docker.host.get("http://127.0.0.1:8080/") == "hello", what="port by the other network"
    )
    docker("network", "connect", "one", "c1")
    docker("network", "disconnect", "two", "c1")
    docker("restart", "-t", "0", "c1")
    docker.host.wait_for(
        lambda: docker.host.get("http://127.0.0.1:8080/") == "hello", what="port after a restart"
    )
    docker("stop", "-t", "0", "c1")
    docker("start", "c1")
    assert docker.addresses("c1").keys() == {"one"}

    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "one", "two")
    assert dovetail_daemon.left() == []


@pytest.mark.cnm(5, 12)
def test_an_internal_network_has_no_way_out(docker: Any) -> None:
    docker("network", "create", *OURS, "--internal", "--subnet", "10.77.0.0/24", "shut")
    docker("run", "-d", "--name", "c1", "--network", "shut", *SLEEP)
    docker("run", "-d", "--name", "c2", "--network", "shut", *SLEEP)

    routes = docker.host.ip("route", "show", netns=docker.netns("c1"))

    assert [route["dst"] for route in routes] == ["10.77.0.0/24"]
    assert "docker_gwbridge" not in docker.host.links()
    assert docker.pings("c1", "10.77.0.3")


def test_with_dockers_own_ipam_the_networks_works_too(docker: Any, dovetail_daemon: Any) -> None:
    docker("network", "create", "-d", "dovetail", "--subnet", "10.77.0.0/24", "one")
    docker("run", "-d", "--name", "c1", "--network", "one", *SLEEP)

    assert docker.pings("c1", "10.77.0.1")
    docker("rm", "-f", "c1")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []


def test_with_the_null_ipam_our_addresses_are_shown_by_docker(docker: Any, dovetail_daemon: Any) -> None:
    docker("network", "create", "-d", "dovetail", "--ipam-driver", "null", "one")
    docker("run", "-d", "--name", "c1", "--network", "one", *SLEEP)

    address = docker.addresses("c1")["one"]
    assert docker.host.try_run("ping", "-c1", "-W2", address).returncode == 0
    docker("rm", "-f", "c1")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*OURS, "-o", "dovetail.nam=x", "bad"), ["dovetail.nam", "dovetail.name"]),
        ((*OURS, "-o", "speed=fast", "bad"), ["speed"]),
        ((*OURS, "-o", "dovetail.driver=ovs", "bad"), ["ovs", "bridge"]),
        ((*OURS, "--subnet", "10.88.0.0/25", "bad"), ["10.88.0.0/25", "10.88.0.0/24"]),
        ((*OURS, "--subnet", "10.88.0.0/24", "bad"), ["dovetail.network=web"]),
        ((*OURS, "-o", "dovetail.network=nope", "--ipam-opt", "dovetail.network=nope", "bad"), ["nope"]),
        ((*OURS, "--ipam-opt", "dovetail.network=web", "bad"), ["-o dovetail.network=web"]),
        (("-d", "dovetail", "-o", "dovetail.network=web", "bad"), ["--ipam-opt dovetail.network=web"]),
    ],
)
@pytest.mark.cnm(3, 5, 6)
def test_what_cannot_be_is_a_sentence_for_the_user_and_leaves_nothing(
    docker: Any, dovetail_daemon: Any, arguments: tuple[str, ...], words: list[str]
) -> None:
    dovetail_daemon.cli("network", "create", "web", "--subnet", "10.88.0.0/24")

    message = docker.refused("network", "create", *arguments)

    assert all(word in message for word in words), message
    dovetail_daemon.cli("network", "rm", "web")
    assert dovetail_daemon.left() == []


@pytest.mark.cnm(29)
def test_taken_addresses_and_ports_are_refused_by_name(docker: Any, dovetail_daemon: Any) -> None:
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    docker("run", "-d", "--name", "c1", "--network", "one", "--ip", "10.77.0.9", "-p", "8080:80", *SLEEP)

    assert "10.77.0.9" in docker.refused("run", "--rm", "--network", "one", "--ip", "10.77.0.9", *SLEEP)
    assert "8080" in docker.refused("run", "--rm", "--network", "one", "-p", "8080:80", *SLEEP)

    assert len(dovetail_daemon.json("endpoint", "ls")) == 1
    docker("rm", "-f", "c1")
    docker("network", "rm", "one")
    docker("container", "prune", "-f")
    assert dovetail_daemon.left() == []


def test_a_container_that_is_started_anew_with_its_address_is_reached_at_once(docker: Any) -> None:
    """By those who have its old MAC in their neighbour tables, too: Docker before 28 announces nothing."""
    docker("network", "create", *OURS, "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64", "one")
    fixed = ("--ip", "10.77.0.9", "--ip6", "fd77::9")
    docker("run", "-d", "--name", "c1", "--network", "one", *fixed, "-p", "8080:80", *HTTPD)
    docker("run", "-d", "--name", "c2", "--network", "one", *SLEEP)
    urls = ("http://127.0.0.1:8080/", "http://[fd77::9]/")
    docker.host.wait_for(lambda: docker.host.get(urls[0]) == "hello", what="c1 answers")
    assert [docker.host.get(url, netns=netns) for netns in ("", docker.netns("c2")) for url in urls[1:]] == [
        "hello"
    ] * 2

    docker("restart", "-t", "0", "c1")

    docker.host.wait_for(
        lambda: docker.host.get("http://10.77.0.9/", netns=docker.netns("c1")), what="c1 is up"
    )
    assert [docker.host.get(url) for url in urls] == ["hello"] * 2
    assert docker.host.get(urls[1], netns=docker.netns("c2")) == "hello"


def _netns(sandbox: Any) -> str:
    view = sandbox[0] if isinstance(sandbox, list) else sandbox
    return str(view["netns"])
