"""A real podman 4 on a directory of plugins, with the chains that podman writes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from long_form import LONG

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
# the long form is of `make soak`
COUNT, AT_ONCE = (100, 16) if LONG else (10, 4)


def check_nothing_is_left(podman: Any, directory: Any) -> None:
    podman.host.wait_for(lambda: directory.left() == [], what="nothing is left")


def test_a_published_port_is_reached_from_everywhere(podman: Any, directory: Any) -> None:
    host = podman.host
    outside = host.outside()
    podman.run("--name", "one", "--network", "web", "-p", "8080:80", "-p", "192.0.2.1:8081:80", *HTTPD)
    podman.run("--name", "two", "--network", "web", *SLEEP)
    address = podman.addresses("one")["web"]

    host.wait_for(lambda: host.get("http://127.0.0.1:8080/") == "hello", what="the port")
    assert host.get(f"http://{address}/") == "hello"
    for netns in (outside, podman.netns("one"), podman.netns("two")):
        for port in (8080, 8081):
            assert host.get(f"http://192.0.2.1:{port}/", netns=netns) == "hello", netns
    podman("restart", "--time", "0", "one")
    host.wait_for(lambda: host.get("http://127.0.0.1:8080/") == "hello", what="the port after a restart")

    podman("rm", "-f", "--time", "0", "one", "two")
    assert host.get("http://127.0.0.1:8080/") == ""
    check_nothing_is_left(podman, directory)


def test_addresses_are_as_asked_for(podman: Any, directory: Any) -> None:
    wishes = ("--ip", "10.86.0.77", "--ip6", "fd86::77", "--mac-address", "02:11:22:33:44:55")
    podman.run("--name", "one", "--network", "web", *wishes, *SLEEP)

    link = podman.host.ip("address", "show", "eth0", netns=podman.netns("one"))[0]

    assert link["address"] == "02:11:22:33:44:55"
    assert {a["local"] for a in link["addr_info"] if a["scope"] == "global"} == {"10.86.0.77", "fd86::77"}
    assert "10.86.0.77" in podman.refused(
        *("run", "--rm", "--cgroup-parent", f"/{podman.host.cgroup}", "--network", "web"),
        *("--ip", "10.86.0.77", *SLEEP),
    )
    podman("rm", "-f", "--time", "0", "one")
    check_nothing_is_left(podman, directory)


def test_a_container_is_on_two_networks_and_changes_them(podman: Any, directory: Any) -> None:
    host = podman.host
    podman.run("--name", "one", "--network", "web", "--network", "back", *SLEEP)
    podman.run("--name", "two", "--network", "back", *SLEEP)
    podman.run("--name", "three", "--network", "web", *SLEEP)

    assert set(podman.addresses("one")) == {"web", "back"}
    assert host.inet(podman.netns("one")) == set(podman.addresses("one").values())
    assert podman.pings("one", podman.addresses("two")["back"])
    assert podman.pings("one", podman.addresses("three")["web"])
    podman("network", "disconnect", "web", "one")
    assert set(podman.addresses("one")) == {"back"}
    podman("network", "connect", "web", "two")
    assert podman.pings("two", podman.addresses("three")["web"])

    podman("rm", "-f", "--time", "0", "one", "two", "three")
    check_nothing_is_left(podman, directory)


def test_aliases_reach_a_plugin_that_wants_them(podman: Any, directory: Any) -> None:
    bridge = {"type": "bridge", "bridge": "named0", "isGateway": True, "capabilities": {"aliases": True}}
    podman.configure("named", {**bridge, "ipam": {"type": "host-local", "subnet": "10.87.0.0/24"}})
    podman.run("--name", "one", "--network", "named:alias=db", *SLEEP)

    networks = json.loads(podman("inspect", "--format", "{{json .NetworkSettings.Networks}}", "one"))

    assert "db" in networks["named"]["Aliases"]
    assert networks["named"]["IPAddress"] == "10.87.0.2"
    podman("rm", "-f", "--time", "0", "one")
    check_nothing_is_left(podman, directory)


def test_many_containers_come_and_go_at_once(podman: Any, directory: Any) -> None:
    names = [f"c{number}" for number in range(COUNT)]

    def start(name: str) -> str:
        if name == names[COUNT // 2]:
            directory.restart()
        port = f"{9000 + int(name[1:])}:80"
        podman.run("--name", name, "--network", "web", "-p", port, *SLEEP)
        return str(podman.addresses(name)["web"])

    with ThreadPoolExecutor(AT_ONCE) as pool:
        addresses = list(pool.map(start, names))
        assert len(set(addresses)) == COUNT
        assert len(directory.left()) >= COUNT, "what is looked for is there"
        list(pool.map(lambda name: podman("rm", "-f", "--time", "0", name), names))

    check_nothing_is_left(podman, directory)
