"""A real Docker Engine on macvlan networks of ours: its containers are on the wire of the host's card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

SLEEP = ("bb", "sleep", "1000")
LAN = (
    *("-d", "dovetail", "--ipam-driver", "dovetail", "-o", "dovetail.driver=macvlan", "-o", "parent=up0"),
    *("--subnet", "10.5.0.0/24", "--gateway", "10.5.0.254"),
)


class Scene(NamedTuple):
    """dockerd and the daemon on a host whose card `up0` has 10.5.0.1; on its wire is a router, 10.5.0.254."""

    docker: Any
    daemon: Any

    @property
    def host(self) -> Any:
        return self.docker.host

    def run(self, name: str, *options: str, network: str = "lan") -> None:
        self.docker(
            "run", "-d", "--name", name, "--stop-timeout", "0", "--network", network, *options, *SLEEP
        )

    def inside(self, container: str, link: str = "eth0") -> Any:
        """Give the interface of a container as ``ip -d -j`` shows it from outside, None where there is none."""
        found = {
            one["ifname"]: one for one in self.host.ip("addr", "show", netns=self.docker.netns(container))
        }
        return found.get(link)

    def default(self, container: str) -> list[tuple[str, str]]:
        routes = self.host.ip("route", "show", "default", netns=self.docker.netns(container))
        return [(route.get("gateway", ""), route["dev"]) for route in routes]

    def reaches(self, address: str) -> bool:
        """Say whether the router on the wire reaches an address."""
        return bool(self.host.pings(address, netns="/run/netns/router"))

    def left(self) -> list[str]:
        """List what is left, on the host too."""
        links = self.host.links() - {"lo", "up0", "docker0"}
        return [*self.daemon.left(), *(f"link: {name}" for name in links)]


@pytest.fixture(scope="module")
def on_wire(module_docker: Any) -> Scene:
    """Give the host a card with a router on its wire."""
    docker, daemon = module_docker
    run = docker.host.run
    run("ip", "netns", "add", "router")
    run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", "router")
    for command in (
        "link set dev up0 up",
        "addr add 10.5.0.1/24 dev up0",
        "-n router link set dev eth0 up",
        "-n router addr add 10.5.0.254/24 dev eth0",
    ):
        run("ip", *command.split())
    return Scene(docker, daemon)


@pytest.fixture
def scene(on_wire: Scene) -> Iterator[Scene]:
    """Leave nothing to the next test, as a person would with docker alone; the router forgets who had an address."""
    on_wire.host.run("ip", "-n", "router", "neigh", "flush", "dev", "eth0")
    yield on_wire
    containers = on_wire.docker("ps", "-aq").split()
    if containers:
        on_wire.docker("rm", "-f", *containers)
    for network in on_wire.docker("network", "ls", "-q", "--filter", "type=custom").split():
        on_wire.docker("network", "rm", network)


def test_containers_are_on_the_wire_reach_each_other_and_leave_nothing(scene: Scene) -> None:
    docker = scene.docker
    docker("network", "create", *LAN, "lan")
    scene.run("c1")
    endpoint = {"IPAMConfig": {"IPv4Address": "10.5.0.77"}}
    body = {"Image": "bb", "Cmd": ["sleep", "1000"], "MacAddress": "02:00:00:00:00:77"}
    body |= {"HostConfig": {"NetworkMode": "lan"}, "NetworkingConfig": {"EndpointsConfig": {"lan": endpoint}}}
    docker.api("POST", "/containers/create?name=c2", body)
    docker("start", "c2")

    one, two = scene.inside("c1"), scene.inside("c2")
    assert (one["linkinfo"]["info_kind"], one["linkinfo"]["info_data"]["mode"]) == ("macvlan", "bridge")
    assert two["address"] == "02:00:00:00:00:77"
    assert one["ifalias"].startswith("dovetail:"), "the owner's mark comes along"
    addresses = {name: docker.addresses(name)["lan"] for name in ("c1", "c2")}
    assert addresses == {"c1": "10.5.0.2", "c2": "10.5.0.77"}, "the host has 10.5.0.1"
    assert scene.default("c1") == [("10.5.0.254", "eth0")]
    assert scene.inside("c1", "eth1") is None, "no docker_gwbridge"
    assert docker.pings("c1", "10.5.0.77")
    assert docker.pings("c2", "c1"), "by name"
    assert docker.pings("c1", "10.5.0.254")
    assert scene.reaches("10.5.0.77")
    assert not docker.pings("c1", "10.5.0.1"), "the kernel keeps parent and children apart"
    assert {name for name in scene.host.links() if name.startswith("dv")} == set()

    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "lan")
    assert scene.left() == []


def test_connect_disconnect_restart_and_kill(scene: Scene) -> None:
    docker = scene.docker
    docker("network", "create", *LAN, "lan")
    docker("network", "create", "-d", "dovetail", "--ipam-driver", "dovetail", "web")
    scene.run("c1", network="web")
    scene.run("c2")

    docker("network", "connect", "lan", "c1")
    assert scene.inside("c1", "eth1")["linkinfo"]["info_kind"] == "macvlan"
    assert docker.pings("c1", docker.addresses("c2")["lan"])
    docker("network", "disconnect", "lan", "c1")
    assert scene.inside("c1", "eth1") is None
    assert {name for name in scene.host.links() if name.startswith("dvc")} == set()

    for verb in (("restart", "-t", "0"), ("kill",), ("start",), ("stop", "-t", "0"), ("start",)):
        docker(*verb, "c2")
    assert scene.inside("c2")["linkinfo"]["info_kind"] == "macvlan"
    assert docker.pings("c2", "10.5.0.254")
    assert {name for name in scene.host.links() if name.startswith("dvc")} == set()

    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "lan", "web")
    assert scene.left() == []


def test_a_running_container_outlives_the_daemon_and_is_still_known(scene: Scene) -> None:
    docker, daemon = scene.docker, scene.daemon
    docker("network", "create", *LAN, "lan")
    scene.run("c1")
    before = [endpoint["id"] for endpoint in daemon.json("endpoint", "ls")]

    daemon.stop(9)
    assert docker.pings("c1", "10.5.0.254")
    daemon.start()

    assert [endpoint["id"] for endpoint in daemon.json("endpoint", "ls")] == before != []
    assert docker.pings("c1", "10.5.0.254")
    scene.run("c2")
    assert docker.addresses("c2")["lan"] != docker.addresses("c1")["lan"]
    docker("rm", "-f", "c1", "c2")
    docker("network", "rm", "lan")
    assert scene.left() == []


def test_what_a_killed_dockerd_left_is_released(scene: Scene) -> None:
    docker = scene.docker
    docker("network", "create", *LAN, "lan")
    scene.run("c1", "--ip", "10.5.0.77")

    docker.stop(9)
    docker.start()

    docker("rm", "-f", "c1")
    scene.run("c2", "--ip", "10.5.0.77")
    assert docker.pings("c2", "10.5.0.254")
    docker("rm", "-f", "c2")
    docker("network", "rm", "lan")
    assert scene.left() == []


def test_with_host_access_the_host_and_the_containers_reach_each_other(scene: Scene) -> None:
    docker = scene.docker
    options = ("--ip-range", "10.5.0.128/25", "--aux-address", "host=10.5.0.200", "-o", "host_access=true")
    docker("network", "create", *LAN, *options, "lan")
    scene.run("c1")
    address = docker.addresses("c1")["lan"]

    assert scene.host.pings(address)
    assert docker.pings("c1", "10.5.0.200")
    assert scene.host.pings("10.5.0.254"), "the rest of the wire is where it was"

    docker("rm", "-f", "c1")
    assert scene.host.inet() >= {"10.5.0.200"}
    docker("network", "rm", "lan")
    assert scene.left() == []
    assert "10.5.0.200" not in scene.host.inet()


def test_published_ports_are_left_out_as_dockers_own_macvlan_does(scene: Scene) -> None:
    docker = scene.docker
    docker("network", "create", *LAN, "lan")

    scene.run("c1", "-p", "8080:80")

    assert docker.pings("c1", "10.5.0.254")
    assert scene.daemon.json("endpoint", "ls")[0]["ports"] == []
    assert "a macvlan network publishes no ports: 8080->80/tcp" in scene.host.log("dovetail.log")


def test_docker_names_the_mode_and_the_driver(scene: Scene) -> None:
    docker = scene.docker
    docker(
        *("network", "create", "-d", "dovetail-macvlan", "--ipam-driver", "dovetail", "-o", "parent=up0"),
        *("-o", "macvlan_mode=private", "--subnet", "10.5.0.0/24", "--internal", "lan"),
    )
    scene.run("c1")

    assert scene.inside("c1")["linkinfo"]["info_data"]["mode"] == "private"
    assert scene.default("c1") == []
    assert scene.inside("c1", "eth1") is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("-o", "parent=nope"), "no such interface: 'nope'"),
        (("-o", "parent=up0", "-o", "mode=sideways"), "'sideways' is none of"),
        (("-o", "parent=up0", "-o", "mtu=9000"), "an MTU of 9000 is more than 'up0' has"),
        (("-o", "parent=up0", "-o", "parnet=up0"), "did you mean 'parent'"),
    ],
)
def test_what_cannot_be_is_said_to_the_docker_user(scene: Scene, options: tuple[str, ...], text: str) -> None:
    driver = ("-d", "dovetail", "--ipam-driver", "dovetail", "-o", "dovetail.driver=macvlan")

    message = scene.docker.refused("network", "create", *driver, *options, "--subnet", "10.6.0.0/24", "lan")

    assert text in message
    assert scene.left() == []
