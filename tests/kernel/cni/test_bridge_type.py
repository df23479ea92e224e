"""Type ``bridge``: its keys as the kernel shows them."""

from __future__ import annotations

import time
from typing import Any

import pytest

pytestmark = pytest.mark.root

either_way = pytest.mark.parametrize("site", ["daemon", "alone"], indirect=True)
L2 = {"type": "bridge", "bridge": "br0"}


def port(node: Any) -> str:
    return next(name for name in node.host.links() if name.startswith("veth"))


def slave(node: Any) -> Any:
    return node.host.links()[port(node)]["linkinfo"]["info_slave_data"]


@either_way
@pytest.mark.cni(30, 33)
def test_the_result_names_bridge_port_and_interface_with_their_mtu(node: Any) -> None:
    result = node.add(node.chain(node.bridge(mtu=1400), version="1.1.0"))

    links, inner = node.host.links(), node.host.links(node.inside("c1"))["eth0"]
    assert [(i["name"], i["mac"], i["mtu"], i.get("sandbox", "")) for i in result["interfaces"]] == [
        ("br0", links["br0"]["address"], 1400, ""),
        (port(node), links[port(node)]["address"], 1400, ""),
        ("eth0", inner["address"], 1400, node.inside("c1")),
    ]
    assert [ip["interface"] for ip in result["ips"]] == [2, 2]
    assert [links["br0"]["mtu"], links[port(node)]["mtu"], inner["mtu"]] == [1400, 1400, 1400]
    assert links[port(node)]["master"] == "br0"
    assert (node.host.run("sysctl", "-n", "net.ipv6.conf.br0.accept_ra")).strip() == "0"


@pytest.mark.cni(31)
def test_the_default_routes_lead_to_the_bridge(node: Any) -> None:
    node.add(node.chain(node.bridge()))

    assert node.routes()["default"]["gateway"] == "10.50.0.1"
    assert node.routes(family="-6")["default"]["gateway"] == "fd50::1"
    assert {"10.50.0.1", "fd50::1"} <= {
        a["local"] for a in node.host.ip("addr", "show", "br0")[0]["addr_info"]
    }
    assert node.host.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").split() == [
        "1",
        "1",
    ]


def test_without_a_gateway_the_bridge_has_no_address(node: Any) -> None:
    node.add(node.chain(node.bridge(isDefaultGateway=False)))

    assert node.routes().keys() == {"10.50.0.0/24"}
    assert [a for a in node.host.ip("addr", "show", "br0")[0]["addr_info"] if a["scope"] == "global"] == []


def test_two_containers_reach_each_other(node: Any) -> None:
    chain = node.chain(node.bridge())
    node.add(chain, "c1")
    node.add(chain, "c2")

    assert all(node.pings(node.inside("c1"), address) for address in node.addresses("c2"))


@pytest.mark.parametrize("gateway", [False, True])
def test_the_result_has_the_mac_that_a_bridge_of_others_comes_to(node: Any, gateway: bool) -> None:
    node.host.run("ip", "link", "add", "br0", "type", "bridge")
    chain = node.chain(node.bridge(isGateway=gateway, isDefaultGateway=gateway))

    result = node.add(chain)

    assert result["interfaces"][0]["mac"] == node.host.links()["br0"]["address"]


def test_the_mac_of_a_bridge_of_others_with_the_gateway_s_address_stays(node: Any) -> None:
    node.host.run("ip", "link", "add", "br0", "type", "bridge")
    node.add(node.chain(node.bridge()))
    before = node.host.links()["br0"]["address"]

    node.host.run(
        "ip", "link", "add", "low", "address", "02:00:00:00:00:01", "type", "veth", "peer", "name", "peer"
    )
    node.host.run("ip", "link", "set", "low", "master", "br0", "up")

    after = node.host.links()["br0"]["address"]
    node.host.run("ip", "link", "del", "low")
    assert after == before


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.cni(32)
def test_another_address_of_the_bridge_is_kept_unless_force_address_says_otherwise(
    node: Any, force: bool
) -> None:
    node.host.run("ip", "link", "add", "br0", "type", "bridge")
    node.host.run("ip", "addr", "add", "10.9.0.1/24", "dev", "br0")
    node.host.run("ip", "link", "set", "br0", "up")
    chain = node.chain(node.bridge("10.50.0.0/24", forceAddress=force))
    before = node.state("c1")

    if not force:
        error = node.refused(lambda: node.add(chain))
        assert error.code == 7
        assert '"br0" already has an IP address different from 10.50.0.1/24' in error.message
        assert node.state("c1") == before
        return
    node.add(chain)
    addresses = [
        a["local"] for a in node.host.ip("addr", "show", "br0")[0]["addr_info"] if a["scope"] == "global"
    ]
    assert addresses == ["10.50.0.1"]


def test_what_is_no_bridge_is_refused(node: Any) -> None:
    node.host.run("ip", "link", "add", "br0", "type", "ifb")
    before = node.state("c1")

    error = node.refused(lambda: node.add(node.chain(node.bridge())))

    assert (error.code, "not a bridge" in error.message) == (7, True)
    assert node.state("c1") == before


def test_a_bridge_that_is_there_keeps_what_it_has(node: Any) -> None:
    node.host.run("ip", "link", "add", "br0", "address", "02:00:00:00:00:77", "mtu", "1300", "type", "bridge")

    result = node.add(node.chain(node.bridge()))

    assert node.host.links()["br0"]["address"] == "02:00:00:00:00:77"
    assert result["interfaces"][0]["mac"] == "02:00:00:00:00:77"
    assert node.host.links()["br0"]["flags"].count("UP") == 1


@either_way
@pytest.mark.cni(34)
def test_flags_of_the_port_and_the_bridge(node: Any) -> None:
    node.add(node.chain({**L2, "hairpinMode": True, "portIsolation": True}), "c1")
    assert (slave(node)["hairpin"], slave(node)["isolated"]) == (True, True)
    node.delete(node.chain(L2), "c1")

    node.add(node.chain({**L2, "promiscMode": True}), "c1")
    assert (slave(node)["hairpin"], slave(node)["isolated"]) == (False, False)
    assert node.host.links()["br0"]["promiscuity"] > 0
    assert "PROMISC" in node.host.links()["br0"]["flags"]
    node.check(node.chain({**L2, "promiscMode": True}), "c1")
    node.host.run("ip", "link", "set", "br0", "promisc", "off")
    error = node.refused(lambda: node.check(node.chain({**L2, "promiscMode": True}), "c1"))
    assert "not promiscuous" in error.message


def test_isolated_ports_do_not_reach_each_other(node: Any) -> None:
    chain = node.chain(node.bridge(portIsolation=True))
    node.add(chain, "c1")
    node.add(chain, "c2")

    assert not node.pings(node.inside("c1"), node.addresses("c2")[0])
    assert node.pings(node.inside("c1"), "10.50.0.1")


@pytest.mark.cni(35)
def test_the_mac_asked_for_by_capability_comes_before_arguments(node: Any) -> None:
    sources = {
        "capability": "02:00:00:00:00:01",
        "args": "02:00:00:00:00:02",
        "CNI_ARGS": "02:00:00:00:00:03",
    }
    for number in range(3):
        said = list(sources)[number:]
        plugin: dict[str, Any] = {**L2, "capabilities": {"mac": True}}
        if "args" in said:
            plugin["args"] = {"cni": {"mac": sources["args"]}}
        caps = {"mac": sources["capability"]} if "capability" in said else {}
        node.add(node.chain(plugin), f"c{number}", args=f"IgnoreUnknown=1;MAC={sources['CNI_ARGS']}", **caps)

        mac = node.host.links(node.inside(f"c{number}"))["eth0"]["address"]
        assert mac == sources[said[0]]


@pytest.mark.cni(42)
def test_without_ipam_there_is_only_a_wire(node: Any) -> None:
    result = node.add(node.chain(L2, version="1.1.0"))

    assert "ips" not in result
    assert node.addresses() == []
    assert "UP" in node.host.links(node.inside("c1"))["eth0"]["flags"]
    node.check(node.chain(L2, version="1.1.0"))


@pytest.mark.cni(40)
def test_the_container_s_interface_may_stay_down(node: Any) -> None:
    chain = node.chain({**L2, "disableContainerInterface": True}, version="1.1.0")
    node.add(chain)

    assert "UP" not in node.host.links(node.inside("c1"))["eth0"]["flags"]
    node.check(chain)
    error = node.refused(lambda: node.add(node.chain(node.bridge(disableContainerInterface=True)), "c2"))
    assert error.code == 7


@pytest.mark.cni(37)
def test_what_leaves_is_masqueraded_and_what_stays_is_not(node: Any) -> None:
    outside = node.outside()
    chain = node.chain(node.bridge(ipMasq=True))
    node.add(chain, "c1")
    node.add(chain, "c2")

    with node.serving(outside, 7777, name="out"):
        assert node.ask("192.0.2.2", 7777, where=node.inside("c1")) == "out 192.0.2.1"
        assert node.ask("2001:db8::2", 7777, where=node.inside("c1")) == "out 2001:db8::1"
    with node.serving(node.inside("c2"), 7777, name="c2"):
        for own, address in zip(node.addresses("c1"), node.addresses("c2"), strict=True):
            said = node.ask(address.partition("/")[0], 7777, where=node.inside("c1"))
            assert said == f"c2 {own.partition('/')[0]}"
    node.delete(chain, "c1")
    with node.serving(outside, 7777, name="out"):
        assert node.ask("192.0.2.2", 7777, where=node.inside("c2")) == "out 192.0.2.1"


def test_without_masquerade_the_answer_finds_no_way_back(node: Any) -> None:
    outside = node.outside()
    node.add(node.chain(node.bridge()))

    with node.serving(outside, 7777, name="out"):
        assert node.ask("192.0.2.2", 7777, where=node.inside("c1"), patience_s=1) == ""


@pytest.mark.cni(38)
def test_addresses_are_no_duplicates_to_look_for(node: Any) -> None:
    node.add(node.chain(node.bridge()))

    links = node.host.ip("addr", "show", "eth0", netns=node.inside("c1"))
    assert not [a for a in links[0]["addr_info"] if a["scope"] == "global" and a.get("tentative")]
    assert node.pings(node.inside("c1"), "fd50::1")


@either_way
@pytest.mark.parametrize("uplink", [1380, 9000, None])
def test_mtu_auto_is_that_of_the_default_route(node: Any, uplink: int | None) -> None:
    node.outside()
    if uplink:
        node.host.run("ip", "link", "set", "wan", "mtu", str(uplink))
        node.host.run("ip", "route", "add", "default", "via", "192.0.2.2")

    chain = node.chain(node.bridge(mtu="auto"), version="1.1.0")
    result = node.add(chain)

    wanted = uplink or 1500
    assert node.host.links(node.inside("c1"))["eth0"]["mtu"] == wanted
    assert [i["mtu"] for i in result["interfaces"]] == [wanted] * 3
    node.check(chain)


@either_way
def test_a_bridge_goes_with_its_last_container_where_that_is_asked_for(node: Any) -> None:
    chain = node.chain(node.bridge(removeBridge=True))
    node.add(chain, "c1")
    node.add(chain, "c2")

    node.delete(chain, "c1")
    assert "br0" in node.host.links()
    node.check(chain, "c2")
    node.delete(chain, "c2")

    assert "br0" not in node.host.links()
    node.add(chain, "c1")
    node.check(chain, "c1")


def test_a_bridge_stays_that_others_use_or_made(node: Any) -> None:
    chain = node.chain(node.bridge(removeBridge=True))
    node.add(chain, "c1")
    node.host.run("ip", "link", "add", "other", "type", "ifb")
    node.host.run("ip", "link", "set", "other", "master", "br0")
    node.delete(chain, "c1")
    assert "br0" in node.host.links()
    node.host.run("ip", "link", "del", "br0")

    node.host.run("ip", "link", "add", "br0", "type", "bridge")
    node.add(chain, "c1")
    node.delete(chain, "c1")
    assert "br0" in node.host.links()


def test_a_bridge_goes_when_its_last_container_s_namespace_has(node: Any) -> None:
    chain = node.chain(node.bridge(removeBridge=True))
    node.add(chain, "c1")
    node.host.run("ip", "netns", "del", "c1")

    node.installation.cli("gc", "--yes")

    assert node.left() == []
    assert "br0" not in node.host.links()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"vlan": 4095}, "4095"),
        ({"vlan": -1}, "-1"),
        ({"vlan": "x"}, "$.vlan"),
        ({"vlanTrunk": [{"id": 0}]}, "$.vlanTrunk[0]"),
        ({"vlanTrunk": [{}]}, "$.vlanTrunk[0]"),
        ({"vlanTrunk": [{"minID": 9, "maxID": 4}]}, "greater"),
        ({"vlanTrunk": [{"id": 5}, {"minID": 9}]}, "$.vlanTrunk[1].maxID"),
        ({"vlanTrunk": {"id": 5}}, "$.vlanTrunk"),
        ({"mtu": 70000}, "$.mtu"),
        ({"mtu": -1}, "$.mtu"),
        ({"mtu": "big"}, "$.mtu"),
        ({"bridge": "a/b"}, "$.bridge"),
        ({"bridge": 5}, "$.bridge"),
        ({"isGateway": "yes"}, "$.isGateway"),
        ({"hairpinMode": True, "promiscMode": True}, "promiscuous"),
        ({"args": {"cni": {"mac": "zz"}}}, "zz"),
        ({"args": {"cni": {"mac": "01:00:5e:00:00:01"}}}, "01:00:5e"),
        ({"ipam": "x"}, "$.ipam"),
        ({"ipam": {"type": "bridge"}}, "gives no addresses"),
        ({"ipam": {"type": "portmap"}}, "gives no addresses"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(node: Any, keys: dict[str, Any], words: str) -> None:
    before = node.state("c1")

    error = node.refused(lambda: node.add(node.chain({**L2, **keys})))

    assert error.code == 7
    assert words in f"{error.message} {error.details}"
    assert node.state("c1") == before


@pytest.mark.parametrize("keys", [{"vlan": 100}, {"vlanTrunk": [{"minID": 5, "maxID": 9}]}])
@pytest.mark.cni(36)
def test_vlans_are_kept_apart_where_the_kernel_can(node: Any, keys: dict[str, Any]) -> None:
    before = node.state("c1")
    try:
        node.add(node.chain({**node.bridge("10.50.0.0/24"), **keys}))
    except Exception as exc:
        assert getattr(exc, "code", None) == 2, exc
        assert node.state("c1") == before
        pytest.skip("the kernel has no bridge VLAN filtering")
    assert node.pings(node.inside("c1"), "10.50.0.1")


def test_an_add_without_ipv6_is_quick_and_one_with_it_as_quick(node: Any) -> None:
    """The reference plugins wait for the end of duplicate address detection, about 2 s."""
    took = {}
    for number, subnets in enumerate((("10.50.0.0/24",), ("10.50.0.0/24", "fd50::/64"))):
        begun = time.monotonic()
        node.add(node.chain(node.bridge(*subnets)), f"c{number}")
        took[len(subnets)] = time.monotonic() - begun
    addresses = node.host.ip("addr", "show", "eth0", netns=node.inside("c1"))[0]["addr_info"]
    assert all("tentative" not in a for a in addresses if a["scope"] == "global"), took


@pytest.mark.parametrize("taken", [False, True])
def test_enabledad_looks_for_another_owner_of_the_address(node: Any, taken: bool) -> None:
    ipam = {"type": "static", "addresses": [{"address": "fd50::7/64"}]}
    chain = node.chain({**L2, "ipam": ipam, "enabledad": True})
    if taken:
        node.add(node.chain({**L2, "ipam": ipam}, name="first"), "c1")
    before = node.state("c2")

    if taken:
        assert node.refused(lambda: node.add(chain, "c2")).code == 101
        assert node.state("c2") == before
        return
    node.add(chain, "c2")

    address = next(
        a
        for a in node.host.ip("addr", "show", "eth0", netns=node.inside("c2"))[0]["addr_info"]
        if a["scope"] == "global"
    )
    assert "nodad" not in address
    assert "tentative" not in address
    node.check(chain, "c2")
