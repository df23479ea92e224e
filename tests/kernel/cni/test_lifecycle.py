"""ADD, DEL and CHECK as runtimes have them: twice, without this or that, after Go's plugins, beside each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.root

either_way = pytest.mark.parametrize("site", ["daemon", "alone"], indirect=True)
MAPPINGS = [
    {"hostPort": 8080, "containerPort": 80},
    {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
]
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
BANDWIDTH = {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000}
BANDWIDTH = {**BANDWIDTH, "egressRate": 80_000_000, "egressBurst": 8_000_000}


def whole(node: Any, *, name: str = "pods", version: str = "1.1.0", **keys: Any) -> dict[str, Any]:
    """Give a chain of everything."""
    plugins = [node.bridge(ipMasq=True, hairpinMode=True, **keys), PORTMAP, {"type": "firewall"}, BANDWIDTH]
    return dict(node.chain(*plugins, name=name, version=version))


@either_way
def test_a_second_add_is_refused_and_takes_nothing_from_the_first(node: Any) -> None:
    chain = whole(node)
    node.add(chain, portMappings=MAPPINGS)
    before = node.state("c1")

    error = node.refused(lambda: node.add(chain, portMappings=MAPPINGS))

    assert (error.plugin, error.code) == ("bridge", 104)
    assert node.state("c1") == before
    node.check(chain)
    assert node.pings(node.inside("c1"), "10.50.0.1")


@pytest.mark.parametrize("kind", ["veth", "bridge"])
@pytest.mark.cni(17)
def test_an_interface_that_somebody_else_put_there_stays_as_it_is(node: Any, kind: str) -> None:
    netns = node.inside("c1")
    node.host.run("ip", "-n", "c1", "link", "add", "eth0", "type", kind)
    before = node.state("c1")

    error = node.refused(lambda: node.add(whole(node)))

    assert (error.code, "eth0" in error.message) == (104, True)
    assert node.state("c1") == before
    node.host.run("nsenter", f"--net={netns}", "ip", "link", "del", "eth0")


@either_way
def test_an_interface_of_go_s_plugin_is_there_as_well(node: Any) -> None:
    chain = whole(node)
    node.add(node.chain(chain["plugins"][0]), runtime=node.go)
    before = node.state("c1")

    assert node.refused(lambda: node.add(chain)).code == 104
    assert node.state("c1") == before


@pytest.mark.parametrize("which", [0, 1, 2, 3])
@pytest.mark.cni(19, 20)
def test_del_can_come_twice_and_before_an_add_and_without_a_result(node: Any, which: int) -> None:
    chain = whole(node)
    plugin, attachment = chain["plugins"][which], node.attachment(portMappings=MAPPINGS)
    node.runtime.execute("DEL", chain, plugin, attachment)
    node.add(chain, portMappings=MAPPINGS)

    for _ in range(2):
        node.runtime.execute("DEL", chain, plugin, attachment)

    node.delete(chain, without_result=True)
    node.delete(chain)


LOSSES: dict[str, Callable[[Any], None]] = {
    "nothing": lambda node: None,
    "its interface": lambda node: node.host.run("ip", "-n", "c1", "link", "del", "eth0"),
    "the bridge": lambda node: node.host.run("ip", "link", "del", "br0"),
    "its namespace": lambda node: node.host.run("ip", "netns", "del", "c1"),
    "the firewall's table": lambda node: node.host.run("nft", "delete", "table", "inet", "dovetail"),
    "its qdiscs": lambda node: node.host.run("tc", "qdisc", "del", "dev", "br0", "root", check=False),
}


@either_way
@pytest.mark.parametrize("netns", ["as it was", "", "/run/netns/gone", "/etc/passwd", "another's"])
@pytest.mark.cni(21)
def test_del_needs_no_namespace(node: Any, netns: str) -> None:
    chain = whole(node)
    other = node.inside("c2")
    node.add(chain, portMappings=MAPPINGS)
    path = {"as it was": None, "another's": other}.get(netns, netns)

    node.delete(chain, netns=path)

    assert "eth0" not in node.host.links(node.inside("c1"))
    assert node.left() == []


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("result", ["with", "without"])
@pytest.mark.cni(22)
def test_del_takes_away_the_rest_whatever_is_gone(node: Any, loss: str, result: str) -> None:
    chain = whole(node)
    node.add(chain, portMappings=MAPPINGS)
    LOSSES[loss](node)

    node.delete(chain, without_result=result == "without", netns="" if loss == "its namespace" else None)

    assert node.left() == []


def test_del_goes_by_what_was_made_not_by_what_the_configuration_says_now(node: Any) -> None:
    node.add(whole(node), portMappings=MAPPINGS)
    elsewhere = {**node.ipam("10.99.0.0/24"), "dataDir": f"{node.data_dir}-other"}
    changed = node.chain({**PORTMAP, "backend": "x"}, {**BANDWIDTH, "ingressRate": -1}, version="1.1.0")
    plugins = [
        {**node.bridge(), "bridge": "br9", "ipam": elsewhere},
        {"type": "firewall", "ingressPolicy": "x"},
    ]

    node.delete({**changed, "plugins": [*plugins, *changed["plugins"]]}, without_result=True)

    assert node.left() == []
    assert "eth0" not in node.host.links(node.inside("c1"))


BROKEN: dict[str, Any] = {
    "is gone": None,
    "is a text": "x",
    "is a list": [],
    "is a list of something": [1],
    "is empty": {},
    "names no type": {"subnet": "10.50.0.0/24"},
    "names what is not there": {"type": "no-such-plugin"},
    "names no plugin": {"type": "../../bin/sh"},
    "names the plugin itself": {"type": "bridge"},
    "has a type that is none": {"type": 5},
}


@pytest.mark.parametrize("ipam", BROKEN)
def test_del_removes_interface_and_addresses_whatever_ipam_has_become(node: Any, ipam: str) -> None:
    chain = whole(node)
    node.add(chain, portMappings=MAPPINGS)
    broken = {**chain, "plugins": [{**chain["plugins"][0], "ipam": BROKEN[ipam]}, *chain["plugins"][1:]]}

    try:
        node.delete(broken)
    except Exception as exc:
        assert getattr(exc, "code", None) == 7, exc

    assert node.left() == []
    assert "eth0" not in node.host.links(node.inside("c1"))


@pytest.mark.parametrize(
    "previous", [None, "x", [], {}, {"cniVersion": "9.0.0"}, {"ips": 5}, {"interfaces": [{"name": 5}]}]
)
def test_del_takes_a_result_that_is_none(node: Any, previous: Any) -> None:
    chain = whole(node)
    attachment = node.attachment(portMappings=MAPPINGS)
    node.add(chain, portMappings=MAPPINGS)

    for plugin in reversed(chain["plugins"]):
        node.runtime.execute("DEL", chain, {**plugin, "prevResult": previous}, attachment)

    assert node.left() == []


@pytest.mark.cni(23)
def test_two_interfaces_of_a_container_on_one_network_come_and_go_apart(node: Any) -> None:
    chain = whole(node)
    more = [{"hostPort": 8081, "containerPort": 80}]
    node.add(chain, "c1", "eth0", portMappings=MAPPINGS)
    node.add(chain, "c1", "eth1", portMappings=more)
    first, second = node.addresses("c1", "eth0"), node.addresses("c1", "eth1")
    assert len({*first, *second}) == 4

    node.check(chain, "c1", "eth0")
    node.check(chain, "c1", "eth1")
    node.delete(chain, "c1", "eth0")

    node.check(chain, "c1", "eth1")
    assert node.addresses("c1") == second
    assert sorted(node.files()) == sorted(a.partition("/")[0] for a in second)
    with node.serving(node.inside("c1"), 80, name="c1"):
        assert node.ask("127.0.0.1", 8081).startswith("c1 ")
        assert node.ask("127.0.0.1", 8080, patience_s=1) == ""


@pytest.mark.cni(24)
def test_a_container_on_two_networks(node: Any) -> None:
    one = whole(node, name="one")
    two = whole(node, name="two")
    bridge = {**two["plugins"][0], "bridge": "br1", "ipam": node.ipam("10.51.0.0/24")}
    two["plugins"] = [{**bridge, "isDefaultGateway": False, "isGateway": True}, *two["plugins"][1:]]
    node.add(one, "c1", "eth0", portMappings=MAPPINGS)
    node.add(two, "c1", "eth1", portMappings=[{"hostPort": 9090, "containerPort": 80}])

    assert node.pings(node.inside("c1"), "10.50.0.1")
    assert node.pings(node.inside("c1"), "10.51.0.1")
    node.check(one, "c1", "eth0")
    node.check(two, "c1", "eth1")
    node.delete(one, "c1", "eth0")
    node.check(two, "c1", "eth1")
    assert node.pings(node.inside("c1"), "10.51.0.1")
    assert node.files("one") == {}


@either_way
def test_a_second_add_of_what_comes_after_replaces_the_first(node: Any) -> None:
    chain = whole(node)
    result = node.add(chain, portMappings=MAPPINGS)
    attachment = node.attachment(portMappings=MAPPINGS)
    before = node.state("c1")

    for plugin in chain["plugins"][1:]:
        node.runtime.execute("ADD", chain, plugin, attachment, result)

    after = node.state("c1")
    assert {k: v for k, v in after.items() if k != "rows"} == {k: v for k, v in before.items() if k != "rows"}
    node.check(chain)


def test_a_second_add_of_ports_publishes_those_and_no_others(node: Any) -> None:
    chain = whole(node)
    result = node.add(chain, portMappings=MAPPINGS)
    others = node.attachment(portMappings=[{"hostPort": 8081, "containerPort": 80}])

    node.runtime.execute("ADD", chain, PORTMAP, others, result)

    with node.serving(node.inside("c1"), 80, name="c1"):
        assert node.ask("127.0.0.1", 8081).startswith("c1 ")
        assert node.ask("127.0.0.1", 8080, patience_s=1) == ""
    node.runtime.execute("ADD", chain, PORTMAP, node.attachment(), result)
    assert not [one for one in node.elements() if one.startswith("publish")]


@either_way
def test_a_port_that_is_taken_is_refused_before_anything_changes(node: Any) -> None:
    chain = whole(node)
    node.add(chain, "c1", portMappings=MAPPINGS)
    node.add(chain, "c2", portMappings=[{"hostPort": 9090, "containerPort": 80}])
    result = node.runtime.result_of(chain, node.attachment("c2"))
    before = node.state("c1", "c2")
    taken = node.attachment("c2", portMappings=[{"hostPort": 9091, "containerPort": 80}, MAPPINGS[0]])

    error = node.refused(lambda: node.runtime.execute("ADD", chain, PORTMAP, taken, result))

    assert error.code == 103
    assert "8080/tcp" in error.message
    assert node.state("c1", "c2") == before
    node.check(chain, "c2")


LIES: dict[str, tuple[str, Callable[[Any], None]]] = {
    "an address": (
        "10.50.0.",
        lambda node: node.host.run("ip", "-n", "c1", "-4", "addr", "flush", "dev", "eth0"),
    ),
    "an IPv6 address": (
        "fd50::",
        lambda node: node.host.run("ip", "-n", "c1", "-6", "addr", "flush", "dev", "eth0"),
    ),
    "the default route": (
        "default route",
        lambda node: node.host.run("ip", "-n", "c1", "route", "del", "default"),
    ),
    "the interface": ("eth0", lambda node: node.host.run("ip", "-n", "c1", "link", "del", "eth0")),
    "that it is up": ("down", lambda node: node.host.run("ip", "-n", "c1", "link", "set", "eth0", "down")),
    "its MTU": ("MTU", lambda node: node.host.run("ip", "-n", "c1", "link", "set", "eth0", "mtu", "1300")),
    "its MAC": (
        "MAC",
        lambda node: node.host.run("ip", "-n", "c1", "link", "set", "eth0", "address", "02:00:00:00:00:09"),
    ),
    "the bridge": ("br0", lambda node: node.host.run("ip", "link", "del", "br0")),
    "the gateway's address": (
        "10.50.0.1",
        lambda node: node.host.run("ip", "addr", "del", "10.50.0.1/24", "dev", "br0"),
    ),
    "the port": ("no port", lambda node: node.host.run("ip", "link", "set", port(node), "nomaster")),
    "that the port is up": ("down", lambda node: node.host.run("ip", "link", "set", port(node), "down")),
    "its hairpin mode": (
        "hairpin",
        lambda node: node.host.run("bridge", "link", "set", "dev", port(node), "hairpin", "off"),
    ),
    "a published port": ("publish4", lambda node: take_element(node, "publish4")),
    "a masquerade": ("leaving4", lambda node: take_element(node, "leaving4")),
    "the firewall's table": (
        "nftables",
        lambda node: node.host.run("nft", "delete", "table", "inet", "dovetail"),
    ),
    "that it is admitted": ("bridges", lambda node: take_element(node, "bridges")),
    "a file of an address": ("10.50.0.", lambda node: take_file(node, "10.50.0.")),
    "a token bucket": ("tbf", lambda node: node.host.run("tc", "qdisc", "del", "dev", port(node), "root")),
    "the ifb": ("", lambda node: node.host.run("ip", "link", "del", ifb(node))),
}


def port(node: Any) -> str:
    return next(name for name in node.host.links() if name.startswith("veth"))


def ifb(node: Any) -> str:
    return next(name for name in node.host.links() if name.startswith("bwp"))


def take_element(node: Any, name: str) -> None:
    node.host.run(
        "nft", "flush", "set" if name in {"leaving4", "bridges"} else "map", "inet", "dovetail", name
    )


def take_file(node: Any, start: str) -> None:
    for name in node.files():
        if name.startswith(start):
            node.host.run("rm", f"{node.data_dir}/pods/{name}")


@pytest.mark.parametrize("site", ["alone"], indirect=True)  # a daemon puts the firewall back at once
@pytest.mark.parametrize("what", LIES)
@pytest.mark.cni(26, 27)
def test_check_finds_what_is_taken_away_and_changes_nothing(node: Any, what: str) -> None:
    words, take = LIES[what]
    chain = whole(node)
    node.add(chain, portMappings=MAPPINGS)
    node.check(chain)
    take(node)
    before = node.state("c1")

    error = node.refused(lambda: node.check(chain))

    assert error.code == 105
    assert words in error.message
    assert node.state("c1") == before


@pytest.mark.parametrize(
    "what",
    [
        "an address",
        "the default route",
        "the interface",
        "that it is up",
        "its MAC",
        "the bridge",
        "the port",
        "its MTU",
    ],
)
def test_check_compares_what_go_s_bridge_made(node: Any, what: str) -> None:
    bridge = node.bridge(hairpinMode=True, mtu=1400)
    chain = node.chain(bridge)
    node.add(chain, runtime=node.go)
    node.runtime._results.update(node.go._results)
    node.check(chain)
    LIES[what][1](node)
    before = node.state("c1")

    error = node.refused(lambda: node.check(chain))

    assert error.code == 105
    assert node.state("c1") == before


@either_way
@pytest.mark.parametrize("result", ["with", "without"])
def test_del_of_what_go_s_plugins_made(node: Any, result: str) -> None:
    chain = node.chain(node.bridge(), {**BANDWIDTH})
    node.add(chain, runtime=node.go)
    node.runtime._results.update(node.go._results)
    node.check(chain)

    node.delete(chain, without_result=result == "without")

    assert node.left() == []
    assert node.host.links(node.inside("c1")).keys() == {"lo"}


def test_go_s_plugins_delete_what_ours_made(node: Any) -> None:
    chain = node.chain(node.bridge(), BANDWIDTH)
    node.add(chain)
    node.go._results.update(node.runtime._results)

    node.delete(chain, runtime=node.go)

    assert node.host.links(node.inside("c1")).keys() == {"lo"}
    assert node.files() == {}
    assert [name for name in node.host.links() if name.startswith(("veth", "bwp"))] == []
    node.installation.cli("gc", "--yes")
    assert node.left() == []


@pytest.mark.cni(55)
def test_our_plugins_after_go_s_and_go_s_after_ours(node: Any) -> None:
    chain = node.chain(
        node.bridge(), PORTMAP, {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_notify": "1"}}
    )
    result = node.add(chain, portMappings=MAPPINGS)  # tuning is Go's
    assert [i["name"] for i in result["interfaces"]][-1] == "eth0"
    node.check(chain)
    node.delete(chain)

    attachment = node.attachment("c2", portMappings=MAPPINGS)
    bridge = node.chain(node.bridge())
    node.add(bridge, "c2", runtime=node.go)
    result = node.go.result_of(bridge, node.attachment("c2"))
    node.runtime.execute("ADD", chain, PORTMAP, attachment, result)

    with node.serving(node.inside("c2"), 80, name="c2"):
        assert node.ask("127.0.0.1", 8080).startswith("c2 ")
    node.runtime.execute("CHECK", chain, PORTMAP, attachment, result)
    node.runtime.execute("DEL", chain, PORTMAP, attachment, result)
    assert not [one for one in node.elements() if one.startswith("publish")]


@either_way
def test_an_add_without_its_del_gives_way_to_the_next_once_its_namespace_is_gone(node: Any) -> None:
    chain = whole(node)
    node.add(chain, portMappings=MAPPINGS)
    node.host.run("ip", "netns", "del", "c1")
    node.host.run("ip", "netns", "add", "c1")

    node.add(chain, portMappings=MAPPINGS)

    node.check(chain)
    assert len(node.files()) == 2
    assert node.pings(node.inside("c1"), "10.50.0.1")
