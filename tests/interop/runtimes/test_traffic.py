"""What passes and what does not, with Go's plugins and with ours: behaviours that no list of rules proves."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from long_form import LONG, ways
from node import Node

pytestmark = [pytest.mark.root, pytest.mark.interop]

RANGES = [[{"subnet": "10.86.0.0/24"}], [{"subnet": "fd86::/64"}]]
IPAM = {"type": "host-local", "ranges": RANGES, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
BRIDGE = {"type": "bridge", "bridge": "br0", "isGateway": True, "hairpinMode": True, "ipam": IPAM}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
FIREWALL = {"type": "firewall", "ingressPolicy": "same-bridge"}
TUNING = {"type": "tuning", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}}
BANDWIDTH = {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000}
WHOLE = [{**BRIDGE, "ipMasq": True}, PORTMAP, BANDWIDTH, FIREWALL, TUNING]


@pytest.fixture(params=ways(["ours"], only_long=["go", "ours with a daemon"]))
def make_node(request: Any, private_host: Any, make_directory: Callable[..., Any]) -> Callable[..., Node]:
    """Give what makes a node with a chain; IPv6 reaches the world outside too."""

    def make(*chain: dict[str, Any]) -> Node:
        types = {plugin["type"] for plugin in chain} | {"host-local"}
        node = Node(private_host, list(chain), str(make_directory(request.param, types).path))
        private_host.run("ip", "addr", "add", "2001:db8::1/64", "dev", "wan", "nodad")
        private_host.run("ip", "-n", "outside", "addr", "add", "2001:db8::2/64", "dev", "eth0", "nodad")
        return node

    return make


def second(node: Node, name: str, bridge: str, *plugins: dict[str, Any]) -> dict[str, Any]:
    """Give another network, on a bridge of its own."""
    ipam = {"type": "host-local", "subnet": "10.85.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
    main = {**BRIDGE, "bridge": bridge, "ipam": ipam}
    return {**node.conflist, "name": name, "plugins": [main, *plugins]}


@pytest.mark.cni(23, 24)
def test_a_container_has_two_interfaces_on_a_network_and_one_on_another(make_node: Any) -> None:
    node = make_node(BRIDGE)
    back = second(node, "back", "br1")
    node.attach("c1")
    node.attach("c1", "eth1")
    node.attach("c1", "eth2", network=back)
    netns = "/run/netns/c1"
    assert len(node.host.inet(netns)) == 3

    node.detach("c1", "eth1")

    links = {link["ifname"] for link in node.host.ip("link", "show", netns=netns)}
    assert links == {"lo", "eth0", "eth2"}
    assert node.host.pings("10.86.0.1", netns=netns) and node.host.pings("10.85.0.1", netns=netns)
    node.detach("c1", "eth2", network=back)
    assert node.host.inet(netns) == {node.addresses["c1"]}
    node.detach("c1")


@pytest.mark.cni(37)
def test_what_goes_out_has_the_hosts_address_and_what_stays_has_its_own(make_node: Any) -> None:
    node = make_node({**BRIDGE, "ipMasq": True})
    node.attach("c1")
    node.attach("c2")
    six = {name: result["ips"][1]["address"].partition("/")[0] for name, result in node.results.items()}

    with node.echoing(node.outside):
        assert node.seen("192.0.2.2", netns="/run/netns/c1") == "192.0.2.1"
        node.reaches("2001:db8::2", netns="/run/netns/c1")
        assert node.seen("2001:db8::2", netns="/run/netns/c1") == "2001:db8::1"
    with node.echoing("/run/netns/c2"):
        assert node.seen(node.addresses["c2"], netns="/run/netns/c1") == node.addresses["c1"]
        assert node.seen(six["c2"], netns="/run/netns/c1") == six["c1"]

    node.detach("c1")
    with node.echoing(node.outside):
        assert node.seen("192.0.2.2", netns="/run/netns/c2") == "192.0.2.1"
    node.detach("c2")


@pytest.mark.cni(51)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_is_reached_from_everywhere(make_node: Any, protocol: str) -> None:
    node, udp = make_node({**BRIDGE, "ipMasq": True}, PORTMAP), protocol == "udp"
    ports = [
        {"hostPort": 8080, "containerPort": 80, "protocol": protocol},
        {"hostPort": 8081, "containerPort": 80, "protocol": protocol, "hostIP": "192.0.2.1"},
        *({"hostPort": 9000 + n, "containerPort": 80, "protocol": protocol} for n in range(20)),
    ]
    node.attach("c1", ports=ports)
    node.attach("c2", ports=[])

    with node.echoing("/run/netns/c1", udp=udp):
        assert node.seen("192.0.2.1", 8080, netns=node.outside, udp=udp) == "192.0.2.2"
        node.reaches("2001:db8::1", 8080, netns=node.outside, udp=udp)
        assert node.seen("2001:db8::1", 8080, netns=node.outside, udp=udp) == "2001:db8::2"
        assert node.seen("192.0.2.1", 8081, netns=node.outside, udp=udp) == "192.0.2.2"
        assert node.seen("192.0.2.1", 9019, netns=node.outside, udp=udp) == "192.0.2.2"
        assert node.seen("127.0.0.1", 8080, udp=udp), "from localhost"
        assert not node.seen("127.0.0.1", 8081, udp=udp), "it is of one address"
        for netns in ("/run/netns/c1", "/run/netns/c2"):
            assert node.seen("192.0.2.1", 8080, netns=netns, udp=udp), f"from {netns}"

    node.detach("c1", ports=ports)
    with node.echoing("/run/netns/c1", udp=udp):
        assert not node.seen("192.0.2.1", 8080, netns=node.outside, udp=udp)
    assert node.traces("c1") == []
    node.detach("c2", ports=[])


@pytest.mark.cni(53)
def test_a_policy_of_drop_lets_pass_what_containers_begin_and_other_bridges_are_kept_out(
    make_node: Any,
) -> None:
    node = make_node({**BRIDGE, "ipMasq": True}, PORTMAP, FIREWALL)
    for program in ("iptables", "ip6tables"):
        node.host.run(program, "-P", "FORWARD", "DROP")
    back = second(node, "back", "br1", FIREWALL)
    node.attach("c1")
    node.attach("c2")
    node.attach("c3", network=back)

    with node.echoing(node.outside):
        assert node.seen("192.0.2.2", netns="/run/netns/c1") == "192.0.2.1"
    with node.echoing("/run/netns/c1"):
        assert node.seen(node.addresses["c1"], netns="/run/netns/c2"), "of the same bridge"
        assert not node.seen(node.addresses["c1"], netns="/run/netns/c3"), "of another one"

    for name in ("c1", "c2"):
        node.detach(name)
        assert node.traces(name) == []
    node.detach("c3", network=back)


@pytest.mark.cni(39)
def test_a_frame_with_another_source_is_dropped(make_node: Any) -> None:
    node = make_node({**BRIDGE, "macspoofchk": True})
    node.attach("c1")
    netns = "/run/netns/c1"
    own = node.host.ip("link", "show", "eth0", netns=netns)[0]["address"]
    assert node.host.pings("10.86.0.1", netns=netns)

    node.host.run("ip", "-n", "c1", "link", "set", "eth0", "address", "02:00:00:00:00:99")
    assert not node.host.pings("10.86.0.1", netns=netns)

    node.host.run("ip", "-n", "c1", "link", "set", "eth0", "address", own)
    assert node.host.pings("10.86.0.1", netns=netns)
    node.detach("c1")
    assert "macspoofchk" not in node.host.run("nft", "list", "ruleset")


@pytest.mark.cni(25)
@pytest.mark.parametrize("way", ways(["ours with a daemon"], only_long=["ours"]))
def test_many_come_and_go_at_once_on_a_fresh_host(
    private_host: Any, make_directory: Callable[..., Any], way: str
) -> None:
    directory = make_directory(way)
    node = Node(private_host, WHOLE, str(directory.path))
    names = [f"c{number}" for number in range(32)]

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(node.attach, names))
        assert len(set(node.addresses.values())) == 32
        assert [link["ifname"] for link in private_host.ip("link", "show", "type", "bridge")] == ["br0"]
        assert private_host.pings(node.addresses["c31"], netns="/run/netns/c0")
        list(pool.map(node.detach, names))

    assert [trace for name in names for trace in node.traces(name)] == []
    assert directory.left() == []


PARTS = {"the main plugin": {"bridge", "host-local"}, "the address manager": {"host-local"}}
PARTS |= {f"{plugin['type']}": {plugin["type"]} for plugin in WHOLE[1:]}
PARTS |= {"all but the main plugin": {plugin["type"] for plugin in WHOLE[1:]}}


@pytest.mark.cni(55)
@pytest.mark.parametrize("ours", PARTS if LONG else ["the main plugin", "the address manager", "portmap"])
@pytest.mark.parametrize("way", ways(["ours with a daemon"], only_long=["go", "ours"]))
def test_a_chain_is_of_both(
    private_host: Any, make_directory: Callable[..., Any], way: str, ours: str
) -> None:
    if way == "go" and ours != "the main plugin":
        pytest.skip("once proves the test itself")
    mixed = private_host.dir / "mixed"
    mixed.mkdir()
    go, other = make_directory("go"), make_directory(way, PARTS[ours])
    for directory, types in ((go, set(os.listdir(go.path)) - PARTS[ours]), (other, PARTS[ours])):
        for name in types:
            shutil.copy(directory.path / name, mixed)
    settings = other.path / ".dovetail"  # what the executable reads beside itself
    if settings.exists():
        shutil.copy(settings, mixed)
    node = Node(private_host, WHOLE, str(mixed))

    node.attach("c1")
    node.attach("c2")

    with node.echoing("/run/netns/c1"):
        assert node.seen("192.0.2.1", 8001, netns=node.outside)
        assert node.seen(node.addresses["c1"], netns="/run/netns/c2")
    with node.echoing(node.outside):
        assert node.seen("192.0.2.2", netns="/run/netns/c1") == "192.0.2.1"
    for name in ("c1", "c2"):
        node.detach(name)
        assert node.traces(name) == []
    assert other.left() == []
