"""A real Docker Engine on ptp networks: dockerd addresses the interface itself, with the prefix of the pool."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
PTP = ("-d", "dovetail", "-o", "dovetail.driver=ptp")
OUR_IPAM = ("--ipam-driver", "dovetail")
DUAL = ("--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64")


def run(docker: Any, name: str, network: str, *words: str, does: tuple[str, ...] = SLEEP) -> None:
    docker("run", "-d", "--stop-timeout", "0", "--name", name, "--network", network, *words, *does)


@pytest.mark.parametrize("ipam", [OUR_IPAM, ()], ids=["our IPAM", "Docker's IPAM"])
def test_containers_reach_each_other_and_the_outside_by_way_of_the_host(
    docker: Any, dovetail_daemon: Any, ipam: tuple[str, ...]
) -> None:
    host = docker.host
    outside = host.outside()
    docker("network", "create", *PTP, *ipam, *DUAL, "one")
    run(docker, "c1", "one", "-p", "8080:80", does=HTTPD)
    run(docker, "c2", "one")

    inside = docker.netns("c2")
    c1 = host.ip("addr", "show", "eth0", netns=docker.netns("c1"))[0]["addr_info"]
    for address in (a["local"] for a in c1 if a["scope"] == "global"):
        assert host.pings(address, netns=inside), "a neighbour"
        assert host.pings(address), "the host"
    assert host.pings("192.0.2.2", netns=inside), "masqueraded: nobody out there knows the network"
    seen = {row["dst"] for row in host.ip("neigh", "show", "dev", "eth0", netns=inside)}
    assert {"10.77.0.1", "fd77::1"} <= seen
    assert not [
        dst for dst in seen if dst.startswith(("10.77.0.", "fd77::")) and not dst.endswith((".1", ":1"))
    ]
    for netns, address in (
        (outside, "192.0.2.1"),
        ("", "127.0.0.1"),
        (inside, "192.0.2.1"),
        (inside, "10.77.0.1"),
        (inside, "[fd77::1]"),
        (docker.netns("c1"), "192.0.2.1"),
    ):
        assert host.get(f"http://{address}:8080/", netns=netns) == "hello", (netns, address)
    assert not host.get(f"http://{docker.addresses('c1')['one']}/", netns=outside, wait_s=1)

    docker("network", "create", "-d", "dovetail", *OUR_IPAM, "--subnet", "10.78.0.0/24", "two")
    docker("network", "connect", "two", "c2")
    docker("network", "disconnect", "one", "c2")
    assert host.pings("192.0.2.2", netns=inside), "by the bridge network"
    docker("network", "connect", "one", "c2")
    docker("network", "disconnect", "two", "c2")
    docker("restart", "c1")
    assert docker.pings("c2", docker.addresses("c1")["one"])
    assert host.get("http://192.0.2.1:8080/", netns=outside) == "hello"

    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "one", "two")
    assert dovetail_daemon.left() == []
    assert [row for row in host.ip("route") if row.get("protocol") == "208"] == []


def test_an_internal_network_stays_in_and_one_without_icc_apart(docker: Any, dovetail_daemon: Any) -> None:
    host = docker.host
    host.outside()
    docker("network", "create", *PTP, *OUR_IPAM, "--internal", "--subnet", "10.77.0.0/24", "shut")
    docker("network", "create", *PTP, *OUR_IPAM, "-o", "icc=false", "--subnet", "10.78.0.0/24", "apart")
    for network, names in (("shut", ("s1", "s2")), ("apart", ("a1", "a2"))):
        for name in names:
            run(docker, name, network)

    assert docker.pings("s2", docker.addresses("s1")["shut"])
    inside = docker.netns("s1")
    assert not [row for row in host.ip("route", netns=inside) if row["dst"] == "default"]
    assert "docker_gwbridge" not in host.links()
    host.run("nsenter", f"--net={inside}", "ip", "route", "add", "default", "via", "10.77.0.1")
    assert not host.pings("192.0.2.2", netns=inside), "even if it finds a way"
    assert not host.pings(docker.addresses("a1")["apart"], netns=inside)
    assert host.pings("192.0.2.2", netns=docker.netns("a1"))
    assert not docker.pings("a2", docker.addresses("a1")["apart"])

    docker("rm", "-f", "s1", "s2", "a1", "a2")
    docker("network", "rm", "shut", "apart")
    assert dovetail_daemon.left() == []


def test_without_an_ipam_that_gives_a_pool_ours_does(docker: Any, dovetail_daemon: Any) -> None:
    docker("network", "create", *PTP, "--ipam-driver", "null", "one")
    run(docker, "c1", "one")
    run(docker, "c2", "one")

    assert docker.pings("c2", docker.addresses("c1")["one"])

    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []
