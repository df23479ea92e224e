"""One network for a Docker container, a podman container and a plain namespace."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")
WEB = (*OURS, "-o", "dovetail.network=web", "--ipam-opt", "dovetail.network=web")
CAPABILITIES = {"portMappings": True, "ips": True, "mac": True, "aliases": True, "dns": True}
PORTS = {"one": 8080, "two": 8081, "three": 8082}
FACES = {"one": "docker", "two": "cni", "three": "cli"}
HOSTS = ("192.0.2.1", "10.88.0.1")  # the host's addresses, outside and on the network


class Web:
    """Network ``web`` with three members, each of which serves its own name on port 80 and publishes it."""

    def __init__(self, driver: str, docker: Any, podman: Any, dovetail: Any) -> None:
        self.docker, self.podman, self.dovetail, self.host = docker, podman, dovetail, docker.host
        self.driver = driver

    def build(self) -> None:
        """Make the network and its members, as the README does."""
        dovetail, sandbox = self.dovetail, self.host.dir / "three"
        subnets = ("--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
        dovetail.cli("network", "create", "web", "-d", self.driver, *subnets)
        self.docker("network", "create", *WEB, "web")
        self.docker("run", "-d", *self._serving("one"))
        self.podman.configure("web", {"type": "dovetail", "network": "web", "capabilities": CAPABILITIES})
        self.podman.run(*self._serving("two"))
        sandbox.mkdir()
        (sandbox / "index.html").write_text("three\n", encoding="ascii")
        dovetail.cli("sandbox", "create", "three")
        dovetail.cli("network", "connect", "web", "three", "-p", "8082:80")
        command = ("/bin/busybox", "httpd", "-f", "-h", str(sandbox))
        self.host.spawn("three.log", "nsenter", f"--net={self.netns('three')}", *command)

    def _serving(self, name: str) -> tuple[str, ...]:
        script = f"echo {name} >/www/index.html; exec httpd -f -h /www"
        place = ("--stop-timeout", "0", "--name", name, "--network", "web", "-p", f"{PORTS[name]}:80")
        return (*place, "bb", "sh", "-c", script)

    def netns(self, name: str) -> str:
        """Give the path of a member's namespace."""
        runtime = {"one": self.docker, "two": self.podman}.get(name)
        return str(
            runtime.netns(name) if runtime else self.dovetail.json("sandbox", "inspect", name)[0]["netns"]
        )

    def remove(self) -> None:
        """Take the members off, then the network."""
        self.podman("rm", "-f", "two")
        self.docker("rm", "-f", "one")
        self.docker("network", "rm", "web")
        self.dovetail.cli("network", "disconnect", "web", "three")
        self.dovetail.cli("sandbox", "rm", "three")
        self.dovetail.cli("network", "rm", "web")


@pytest.fixture
def web(request: Any, docker: Any, podman: Any, dovetail_daemon: Any) -> Web:
    """The network, built; with a bridge, or with the driver that a test says."""
    web = Web(getattr(request, "param", "bridge"), docker, podman, dovetail_daemon)
    web.build()
    return web


def check_reach(web: Web, *members: str) -> None:
    """Ping and fetch between each two of `members`, and see that no address is given twice."""
    host = web.host
    netns = {name: web.netns(name) for name in members}
    found = {name: host.inet(path) for name, path in netns.items()}
    assert all(len(addresses) == 1 for addresses in found.values()), found
    address = {name: addresses.pop() for name, addresses in found.items()}
    assert len({*address.values(), "10.88.0.1"}) == len(members) + 1, f"given twice: {address}"
    for one, other in permutations(members, 2):
        url = f"http://{address[other]}/"
        host.wait_for(lambda: host.get(url, netns=netns[one]) == other, what=f"{one} fetches from {other}")  # noqa: B023
        assert host.pings(address[other], netns=netns[one]), f"{one} reaches {other}"


def check_published_ports(web: Web) -> None:
    """Fetch each port from a machine outside, from the host, and from each member by the host's addresses."""
    host, outside = web.host, web.host.outside()
    for name, port in PORTS.items():
        assert host.get(f"http://192.0.2.1:{port}/", netns=outside) == name, "from outside"
        for address in ("127.0.0.1", *HOSTS):
            assert host.get(f"http://{address}:{port}/") == name, f"from the host at {address}"
    for member in PORTS:
        netns = web.netns(member)
        for address, (name, port) in ((a, p) for a in HOSTS for p in PORTS.items()):
            assert host.get(f"http://{address}:{port}/", netns=netns) == name, f"{member} at {address}"


with_either_driver = pytest.mark.parametrize("web", ["bridge", "ptp"], indirect=True)


@with_either_driver
def test_a_docker_container_a_podman_container_and_a_namespace_are_on_one_network(web: Web) -> None:
    check_reach(web, *PORTS)
    check_published_ports(web)
    inet6 = web.host.ip("-6", "addr", "show", "scope", "global", netns=web.netns("two"))
    assert web.host.pings(inet6[0]["addr_info"][0]["local"], netns=web.netns("three")), "by IPv6 too"

    drawn = [line.split() for line in web.dovetail.cli("topology").splitlines() if "ports" in line]
    inet = {name: web.host.inet(web.netns(name)).pop() for name in PORTS}

    lines = {name: next(line for line in drawn if f"{PORTS[name]}->80/tcp" in line) for name in PORTS}
    assert len(drawn) == 3
    assert {name: line[2] for name, line in lines.items()} == FACES
    assert all(f"{inet[name]}/24" in line for name, line in lines.items())


def test_containers_of_both_kinds_come_and_go_and_leave_nothing(web: Web) -> None:
    docker, podman, host = web.docker, web.podman, web.host
    docker("run", "-d", "--stop-timeout", "0", "--name", "late", "bb", "sleep", "1000")

    docker("network", "connect", "web", "late")
    address = docker.addresses("late")["web"]
    assert podman.pings("two", address)
    assert docker.pings("late", podman.addresses("two")["web"])
    docker("network", "disconnect", "web", "late")
    assert docker.addresses("late").keys() == {"bridge"}
    assert len(web.dovetail.json("endpoint", "ls")) == 3
    docker("rm", "-f", "late")

    docker("restart", "one")
    check_reach(web, *PORTS)
    podman("restart", "two")
    check_reach(web, *PORTS)
    check_published_ports(web)

    web.remove()
    assert web.dovetail.left() == []
    assert host.elements() == -1
    assert not [link for link in host.links() if link.startswith(("veth", "dv"))]
    assert "dovetail" not in host.run("iptables-save").lower()


@with_either_driver
def test_dockers_own_networks_and_its_policy_of_dropping_are_no_trouble_before_and_after_a_restart(
    web: Web,
) -> None:
    docker, host = web.docker, web.host
    docker("network", "create", "plain")
    for name, network, port in (("p0", "bridge", 9090), ("p1", "plain", 9091)):
        place = ("--stop-timeout", "0", "--name", name, "--network", network, "-p", f"{port}:80")
        docker("run", "-d", *place, "bb", "httpd", "-f", "-h", "/www")
    check_all_beside_docker(web)

    docker.stop()
    check_reach(web, "two", "three")
    docker.start()
    docker("start", "one", "p0", "p1")
    check_all_beside_docker(web)

    docker("rm", "-f", "p0", "p1")
    docker("network", "rm", "plain")
    web.remove()
    assert web.dovetail.left() == []
    assert "dovetail" not in host.run("iptables-save").lower()


def check_all_beside_docker(web: Web) -> None:
    host = web.host
    assert host.run("iptables", "-S", "FORWARD").startswith("-P FORWARD DROP")
    check_reach(web, *PORTS)
    check_published_ports(web)
    for port in (9090, 9091):
        assert host.get(f"http://192.0.2.1:{port}/", netns=host.outside()) == "hello", "Docker's own port"
    assert host.pings("192.0.2.2", netns=web.netns("two")), "out of our network, through the host"
