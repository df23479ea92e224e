"""Every option of a network and an endpoint, with a real Docker Engine as the judge: what its containers have then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")


class Scene:
    """dockerd, the daemon, and what a container has according to ``ip``."""

    def __init__(self, docker: Any, daemon: Any) -> None:
        self.docker, self.daemon, self.host = docker, daemon, docker.host

    def network(self, name: str, *options: str) -> None:
        self.docker("network", "create", *OURS, *options, name)

    def run(self, name: str, network: str, *options: str, command: tuple[str, ...] = SLEEP) -> None:
        self.docker(
            "run", "-d", "--name", name, "--stop-timeout", "0", "--network", network, *options, *command
        )

    def routes(self, container: str) -> set[tuple[str, str, str]]:
        netns = self.docker.netns(container)
        found = self.host.ip("route", "show", netns=netns) + self.host.ip("-6", "route", "show", netns=netns)
        return {
            (route["dst"], route.get("gateway", ""), route["dev"])
            for route in found
            if route.get("protocol") != "kernel" and route.get("type") != "multicast"
        }

    def interfaces(self, container: str) -> dict[str, Any]:
        found = self.host.ip("addr", "show", netns=self.docker.netns(container))
        return {link["ifname"]: link for link in found if link["ifname"] != "lo"}

    def inet(self, container: str, ifname: str = "eth0") -> list[str]:
        addresses = self.interfaces(container)[ifname]["addr_info"]
        return sorted(a["local"] for a in addresses if a["scope"] == "global")

    def ports(self, container: str) -> dict[str, list[str]]:
        """What dovetail shows of an endpoint's published ports, in both places."""
        lines = self.daemon.cli("endpoint", "ls").splitlines()
        (row,) = (
            endpoint for endpoint in self.daemon.json("endpoint", "ls") if self.is_of(endpoint, container)
        )
        (line,) = (line for line in lines if line.startswith(row["id"][:12]))
        texts = [
            f"{port['host_ip'] + ':' if port['host_ip'] else ''}{port['host_port']}"
            f"->{port['container_port']}/{port['protocol']}"
            for port in row["ports"]
        ]
        shown = self.daemon.cli("network", "inspect", row["network"])
        assert all(text in line and text in shown for text in texts)
        return {"ports": sorted(texts)}

    def is_of(self, endpoint: Any, container: str) -> bool:
        return set(self.docker.addresses(container).values()) >= {
            address.partition("/")[0] for address in endpoint["addresses"] if ":" not in address
        }

    def clear(self) -> None:
        for noun, shown in (("container", "{{.Names}}"), ("network", "{{.Name}}")):
            words = ("ps", "-a") if noun == "container" else ("network", "ls", "-f", "type=custom")
            names = self.docker(*words, "--format", shown).split()
            if names:
                self.docker(noun, "rm", *(("-f",) if noun == "container" else ()), *names)


@pytest.fixture(scope="module")
def stage(module_docker: Any) -> Iterator[Scene]:
    made = Scene(*module_docker)
    yield made
    assert made.daemon.left() == []


@pytest.fixture
def scene(stage: Scene) -> Iterator[Scene]:
    yield stage
    stage.clear()
    assert not {name for name in stage.host.links() if name.startswith(("dv", "veth"))}


# -- routes and gateways ------------------------------------------------------------------------------------


@pytest.mark.cnm(21)
def test_docker_installs_the_networks_routes_of_both_types(scene: Scene) -> None:
    scene.network("lan", "--subnet", "10.77.0.0/24", "-o", "route=10.0.0.0/8 via 10.77.0.9, 10.99.0.0/16")
    scene.run("router", "lan", "--ip", "10.77.0.9", "--cap-add", "NET_ADMIN")
    scene.docker("exec", "router", "ip", "addr", "add", "10.5.5.5/32", "dev", "lo")
    scene.run("c1", "lan")

    assert scene.routes("c1") == {
        ("default", "10.77.0.1", "eth0"),
        ("10.0.0.0/8", "10.77.0.9", "eth0"),
        ("10.99.0.0/16", "", "eth0"),
    }
    assert scene.routes("router") == {("default", "10.77.0.1", "eth0"), ("10.99.0.0/16", "", "eth0")}
    assert scene.docker.pings("c1", "10.5.5.5")


@pytest.mark.cnm(21, 28)
def test_everybodys_gateway_may_be_in_no_subnet(scene: Scene) -> None:
    options = ("-o", "gateway=none", "-o", "route=169.254.1.1, default via 169.254.1.1")
    scene.network("flat", "--subnet", "10.77.0.0/24", *options)
    scene.run("router", "flat", "--cap-add", "NET_ADMIN")
    scene.docker("exec", "router", "ip", "addr", "add", "169.254.1.1/32", "dev", "eth0")
    scene.run("c1", "flat")

    assert scene.routes("c1") == {("default", "169.254.1.1", "eth0"), ("169.254.1.1", "", "eth0")}
    assert scene.docker.pings("c1", "169.254.1.1")


@pytest.mark.cnm(12, 22, 28)
@pytest.mark.parametrize("gwbridge", [False, True])
def test_without_a_gateway_there_is_no_way_out_unless_docker_is_to_make_one(
    scene: Scene, *, gwbridge: bool
) -> None:
    more = ("-o", "gwbridge=true") if gwbridge else ()
    scene.network("flat", "--subnet", "10.77.0.0/24", "-o", "gateway=none", *more)
    scene.run("c1", "flat")

    assert scene.interfaces("c1").keys() == ({"eth0", "eth1"} if gwbridge else {"eth0"})
    assert ("docker_gwbridge" in scene.host.links()) is gwbridge
    assert len(scene.routes("c1")) == int(gwbridge)
    assert scene.inet("c1") == ["10.77.0.2"], "Docker before 28 keeps an address aside"
    (network,) = scene.daemon.json("network", "ls")
    links = scene.host.ip("-4", "addr", "show", network["link"])
    assert [address for link in links for address in link["addr_info"]] == []
    if gwbridge:
        scene.docker("rm", "-f", "c1")
        scene.docker("network", "rm", "docker_gwbridge")


@pytest.mark.cnm(28)
def test_a_network_without_a_gateway_is_shared_as_it_is(scene: Scene) -> None:
    scene.daemon.cli("network", "create", "flat", "--subnet", "10.77.0.0/24", "-o", "gateway=none")
    options = ("-o", "dovetail.network=flat", "--ipam-opt", "dovetail.network=flat")
    scene.network("flat", "--subnet", "10.77.0.0/24", *options)
    scene.run("c1", "flat")

    assert scene.inet("c1") == ["10.77.0.1"], "no address was taken for one"
    assert scene.routes("c1") == set()
    scene.clear()
    scene.daemon.cli("network", "rm", "flat")


@pytest.mark.cnm(12, 27, 28)
def test_gateway_range_and_reserved_addresses_are_where_docker_puts_them(scene: Scene) -> None:
    scene.network(
        "lan",
        *("--subnet", "10.77.0.0/16", "--ip-range", "10.77.5.0/24", "--gateway", "10.77.0.254"),
        *("--aux-address", "nas=10.77.5.1", "--aux-address", "DefaultGatewayIPv4=10.77.9.9"),
    )
    scene.run("c1", "lan")
    scene.run("c2", "lan", "--ip", "10.77.200.7")

    assert (scene.inet("c1"), scene.inet("c2")) == (["10.77.5.0"], ["10.77.200.7"])
    assert scene.routes("c1") == {("default", "10.77.9.9", "eth0")}
    assert scene.host.pings("10.77.200.7")
    (network,) = scene.daemon.json("network", "inspect", scene.daemon.json("network", "ls")[0]["id"])
    assert network["subnets"][0]["gateway"] == "10.77.0.254"


@pytest.mark.cnm(22, 23)
def test_two_networks_of_one_container_have_one_way_out_and_their_own_names(scene: Scene) -> None:
    scene.network("alpha", "--subnet", "10.77.0.0/24")
    scene.network("beta", "--subnet", "10.78.0.0/24", "-o", "ifname_prefix=lan")
    scene.run("c1", "alpha")
    scene.docker("network", "connect", "--alias", "db", "beta", "c1")
    scene.run("c2", "beta", "--network-alias", "web")

    assert scene.interfaces("c1").keys() == {"eth0", "lan0"}
    assert {route for route in scene.routes("c1") if route[0] == "default"} == {
        ("default", "10.77.0.1", "eth0")
    }
    assert scene.docker.pings("c2", "db"), "an alias on the network that both are on"
    assert scene.docker.pings("c1", "web")
    scene.docker("network", "disconnect", "alpha", "c1")
    assert {route for route in scene.routes("c1") if route[0] == "default"} == {
        ("default", "10.78.0.1", "lan0")
    }


# -- interfaces ---------------------------------------------------------------------------------------------


@pytest.mark.cnm(24, 25)
def test_mtu_and_mac_are_those_of_both_ends_and_differ_between_containers(scene: Scene) -> None:
    scene.network("lan", "--subnet", "10.77.0.0/24", "-o", "com.docker.network.driver.mtu=1400")
    for name in ("c1", "c2"):
        scene.run(name, "lan")

    links = {link["ifname"]: link for link in scene.host.ip("link", "show")}
    ends = [links[endpoint["link"]] for endpoint in scene.daemon.json("endpoint", "ls")]
    (network,) = scene.daemon.json("network", "ls")
    macs = {scene.interfaces(name)["eth0"]["address"] for name in ("c1", "c2")}
    assert {end["mtu"] for end in ends} == {1400} == {links[network["link"]]["mtu"]}
    assert {scene.interfaces(name)["eth0"]["mtu"] for name in ("c1", "c2")} == {1400}
    assert len(macs) == 2
    assert all(int(mac[:2], 16) & 3 == 2 for mac in macs), "unicast and locally administered"
    before = scene.interfaces("c1")["eth0"]["address"]
    scene.docker("network", "create", *OURS, "--subnet", "10.78.0.0/24", "other")
    scene.docker("network", "connect", "other", "c1")
    assert scene.interfaces("c1")["eth0"]["address"] == before


def test_an_mtu_that_is_auto_is_the_uplinks(scene: Scene) -> None:
    scene.host.outside()
    scene.host.run("ip", "link", "set", "wan", "mtu", "1450")
    scene.host.run("ip", "route", "add", "default", "via", "192.0.2.2")
    scene.network("lan", "--subnet", "10.77.0.0/24", "-o", "mtu=auto")
    scene.run("c1", "lan")

    assert scene.interfaces("c1")["eth0"]["mtu"] == 1450
    scene.host.run("ip", "route", "del", "default")


@pytest.mark.cnm(15)
def test_containers_that_come_and_go_leave_no_interface(scene: Scene) -> None:
    scene.network("lan", "--subnet", "10.77.0.0/24")
    scene.docker("create", "--name", "c1", "--stop-timeout", "0", "--network", "lan", *SLEEP)
    before = scene.host.links()

    for _ in range(3):
        scene.docker("start", "c1")
        scene.docker("stop", "c1")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: scene.docker("run", "--rm", "--network", "lan", "bb", "true"), range(8)))

    assert scene.host.links() == before


# -- published ports ----------------------------------------------------------------------------------------


@pytest.mark.cnm(19)
def test_ports_are_published_as_docker_was_told_and_shown_here(scene: Scene) -> None:
    scene.network("lan", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/64")
    scene.run(
        "c1",
        "lan",
        *(
            "-p",
            "8080:80",
            "-p",
            "127.0.0.1:8081:80",
            "-p",
            "5353:53/udp",
            "-p",
            "9000-9002:9000-9002",
            "-p",
            "80",
        ),
        command=HTTPD,
    )

    ports = scene.ports("c1")["ports"]
    assert {"8080->80/tcp", "127.0.0.1:8081->80/tcp", "5353->53/udp", "9001->9001/tcp"} <= set(ports)
    (chosen,) = (port for port in ports if port.endswith("->80/tcp") and not port.startswith(("8080", "127")))
    for url in ("http://127.0.0.1:8080/", "http://[fd77::1]:8080/", "http://127.0.0.1:8081/"):
        assert scene.host.get(url) == "hello", url
    assert scene.host.get(f"http://10.77.0.1:{chosen.partition('->')[0]}/") == "hello"
    assert scene.host.get("http://10.77.0.1:8081/", wait_s=1) == ""
    scene.docker("stop", "c1")
    assert scene.host.get("http://127.0.0.1:8080/", wait_s=1) == ""


@pytest.mark.cnm(19)
def test_ports_move_with_the_gateway_and_come_back(scene: Scene) -> None:
    scene.network("alpha", "--subnet", "10.77.0.0/24")
    scene.network("beta", "--subnet", "10.78.0.0/24")
    scene.run("c1", "alpha", "-p", "8080:80", command=HTTPD)
    scene.docker("network", "connect", "beta", "c1")

    for network in ("alpha", "beta"):
        scene.docker("network", "disconnect", network, "c1")
        scene.host.wait_for(
            lambda: scene.host.get("http://127.0.0.1:8080/") == "hello", what=f"without {network}"
        )
        assert scene.ports("c1")["ports"] == ["8080->80/tcp"]
        scene.docker("network", "connect", network, "c1")


# -- addresses ----------------------------------------------------------------------------------------------


@pytest.mark.cnm(26)
def test_pools_that_are_chosen_are_clear_of_the_host_and_of_each_other(scene: Scene) -> None:
    """dockerd compares an answer with the host's routes, and asks on where it clashes: that has to end."""
    scene.host.run("ip", "link", "add", "busy", "type", "veth", "peer", "name", "free")
    for number in (18, 19, 21):
        scene.host.run("ip", "addr", "add", f"172.{number}.0.1/16", "dev", "busy")
    scene.host.run("ip", "link", "set", "busy", "up")
    for name in ("one", "two", "three"):
        scene.network(name)
    scene.network("small", "--subnet", "0.0.0.0/28")

    subnets = [
        json.loads(scene.docker("network", "inspect", "--format", "{{json .IPAM.Config}}", name))[0]["Subnet"]
        for name in ("one", "two", "three")
    ]
    assert len(set(subnets)) == 3
    assert not set(subnets) & {f"172.{number}.0.0/16" for number in (17, 18, 19, 21)}
    (small,) = (row for row in scene.daemon.json("network", "ls") if row["subnets"][0].endswith("/28"))
    scene.run("c1", "small")
    assert scene.host.pings(scene.inet("c1")[0])
    assert small["endpoints"] == 0
    scene.host.run("ip", "link", "del", "busy")


@pytest.mark.cnm(3, 29)
def test_a_taken_or_impossible_address_is_refused_in_words(scene: Scene) -> None:
    scene.network("lan", "--subnet", "10.77.0.0/24")
    scene.run("c1", "lan", "--ip", "10.77.0.9")

    for address, words in (
        ("10.77.0.9", "in use"),
        ("10.77.0.1", "gateway of network"),
        ("10.77.0.255", "broadcast"),
    ):
        message = scene.docker.refused("run", "--rm", "--network", "lan", "--ip", address, *SLEEP)
        assert address in message and words in message
    scene.docker("container", "prune", "-f")
    assert len(scene.daemon.json("endpoint", "ls")) == 1
    scene.docker("rm", "-f", "c1")
    scene.run("c2", "lan", "--ip", "10.77.0.9")
    assert scene.inet("c2") == ["10.77.0.9"]


@pytest.mark.cnm(28, 29)
def test_the_smallest_subnets_have_no_network_or_broadcast_address(scene: Scene) -> None:
    scene.network("pair", "--subnet", "10.77.0.0/31")
    scene.run("c1", "pair")

    assert scene.inet("c1") == ["10.77.0.1"]
    assert scene.host.pings("10.77.0.1")
    assert "no address of 10.77.0.0/31 is free" in scene.docker.refused(
        "run", "--rm", "--network", "pair", *SLEEP
    )
    scene.docker("container", "prune", "-f")


@pytest.mark.cnm(32)
def test_one_subnet_for_two_networks_is_refused_and_sharing_is_said(scene: Scene) -> None:
    scene.network("lan", "--subnet", "10.77.0.0/24", "-o", "dovetail.name=lan")

    message = scene.docker.refused("network", "create", *OURS, "--subnet", "10.77.0.0/24", "again")
    assert "dovetail.network=lan" in message
    options = ("-o", "dovetail.network=lan", "--ipam-opt", "dovetail.network=lan")
    scene.network("shared", "--subnet", "10.77.0.0/24", *options)
    scene.run("c1", "lan")
    scene.run("c2", "shared")
    assert scene.docker.pings("c1", scene.inet("c2")[0])
    scene.docker("rm", "-f", "c1")
    scene.docker("network", "rm", "lan")
    assert scene.host.pings(scene.inet("c2")[0]), "the network goes with the last of Docker's"


@pytest.mark.cnm(33)
def test_a_large_ipv6_subnet_is_used_from_its_beginning(scene: Scene) -> None:
    scene.network("lan", "--ipv6", "--subnet", "10.77.0.0/24", "--subnet", "fd77::/48")
    scene.run("c1", "lan")
    scene.run("c2", "lan", "--ip6", "fd77::ffff:1")

    assert [scene.inet(name)[1] for name in ("c1", "c2")] == ["fd77::2", "fd77::ffff:1"]
    assert scene.routes("c1") >= {("default", "fd77::1", "eth0")}


def test_dockers_own_bridge_driver_takes_our_addresses(scene: Scene) -> None:
    scene.docker(
        "network", "create", "--ipam-driver", "dovetail", "--ipam-opt", "dovetail.sticky=true", "plain"
    )
    scene.run("c1", "plain")
    scene.run("c2", "plain")

    assert scene.docker.pings("c1", scene.inet("c2")[0])
    pool = scene.daemon.json("pool", "ls")[0]
    assert (pool["owner"], pool["used"]) == ("docker", 3)
    scene.docker("rm", "-f", "c1", "c2")
    scene.docker("network", "rm", "plain")
    scene.host.wait_for(
        lambda: not {n for n in scene.host.links() if n.startswith("br-")}, what="Docker's bridge is gone"
    )


# -- the last, as both are started anew -------------------------------------------------------------------------


@pytest.mark.cnm(34)
def test_a_container_that_comes_back_has_its_address_by_its_mac(scene: Scene) -> None:
    scene.docker.stop()
    scene.daemon.stop()
    scene.daemon.env["DOVETAIL_DOCKER_MAC_FIRST"] = "1"
    scene.daemon.start()
    scene.docker.start()
    scene.network("kept", "--subnet", "10.77.0.0/24", "-o", "sticky=true")

    def address(mac: str) -> str:
        body = {"Image": "bb", "Cmd": ["sleep", "1000"], "HostConfig": {"NetworkMode": "kept"}}
        scene.docker.api("POST", "/containers/create?name=c1", body | ({"MacAddress": mac} if mac else {}))
        scene.docker("start", "c1")
        found = scene.docker.addresses("c1")["kept"]
        scene.docker("rm", "-f", "c1")
        return str(found)

    first = address("02:00:00:00:00:01")
    others = {address("02:00:00:00:00:02"), address(""), address("")}
    assert len({first, *others}) == 4
    assert address("02:00:00:00:00:01") == first
    assert address("02:00:00:00:00:02") in others
