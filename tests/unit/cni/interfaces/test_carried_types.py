"""What the types ``macvlan``, ``ipvlan`` and ``vlan`` read of a configuration, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.kernel.protocol import Dummy, Ipvlan, LinkSpec, Macvlan, Vlan
from dovetail.model.addresses import parse_subnet
from dovetail.model.attachment import Route

KINDS: dict[str, dict[str, Any]] = {
    "macvlan": {},
    "ipvlan": {},
    "vlan": {"vlanId": 7, "master": "up0"},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize(
    ("kind", "keys", "code", "said"),
    [
        ("macvlan", {"mode": "tunnel"}, 7, "$.mode: unknown mode 'tunnel'"),
        ("macvlan", {"mode": "passthru", "mac": "02:00:00:00:00:01"}, 2, "the MAC address of its master"),
        ("macvlan", {"mac": "nonsense"}, 7, "$.mac: 'nonsense' is not a MAC address"),
        ("macvlan", {"bcqueuelen": -1}, 7, "$.bcqueuelen: -1 is not between 0 and 4294967295"),
        ("macvlan", {"master": "a/b"}, 7, "$.master: 'a/b' is not a valid interface name"),
        ("macvlan", {"mtu": 1500}, 7, "$.mtu: invalid MTU 1500, must be [0, master MTU(1450)]"),
        ("macvlan", {"mtu": -4}, 7, "invalid MTU -4"),
        ("macvlan", {"linkInContainer": True}, 7, "$.master: missing, and there is no default route"),
        ("macvlan", {"master": "nowhere"}, 7, "$.master: no such interface: 'nowhere' (there is none on the"),
        ("macvlan", {"master": "up0", "linkInContainer": True}, 7, "there is none in /run/netns/c1"),
        ("ipvlan", {"mode": "l4"}, 7, "$.mode: unknown mode 'l4' (there are l2, l3, l3s)"),
        ("ipvlan", {"ipam": {}}, 7, "$.ipam.type: missing"),
        ("vlan", {"ipam": {}}, 7, "$.ipam.type: missing (vlan needs an IPAM plugin)"),
        ("vlan", {"vlanId": 4095}, 7, "invalid VLAN ID 4095 (must be between 0 and 4094 inclusive)"),
        ("vlan", {"master": ""}, 7, '"master" field is required. It specifies the host interface name'),
        ("vlan", {"mtu": 1500}, 7, "$.mtu: invalid MTU 1500, must be [0, master MTU(1450)]"),
    ],
)
def test_a_bad_value_is_refused_by_its_place(
    plugins: Any, static: Any, kind: str, keys: dict[str, Any], code: int, said: str
) -> None:
    refused = plugins.refusal({"type": kind, "ipam": static(), **KINDS[kind], **keys})

    assert refused[0] == code
    assert said in refused[1]


@pytest.mark.parametrize(
    ("kind", "keys", "settings"),
    [
        ("macvlan", {}, Macvlan("bridge")),
        ("macvlan", {"mode": "vepa", "bcqueuelen": 7}, Macvlan("vepa", 7)),
        ("macvlan", {"bcqueuelen": 1000}, Macvlan("bridge")),
        ("ipvlan", {}, Ipvlan("l2")),
        ("ipvlan", {"mode": "l3s"}, Ipvlan("l3s")),
        ("vlan", {}, Vlan(7)),
        ("vlan", {"vlanId": 0}, Vlan(0)),
    ],
)
def test_the_link_is_what_was_asked_for(
    plugins: Any, static: Any, kind: str, keys: dict[str, Any], settings: object
) -> None:
    config = {"type": kind, "ipam": static(), **KINDS[kind], **keys}

    result = plugins.add(config)

    link = plugins.link()
    assert (link.settings, link.mtu, link.up) == (settings, 1450, True)
    assert [one["name"] for one in result["interfaces"]] == ["eth0"]
    assert result["interfaces"][0]["mac"] == link.mac
    assert result["ips"][0]["interface"] == 0
    assert plugins.call("CHECK", {**config, "prevResult": result}) == (0, None)
    assert plugins.call("DEL", config) == (0, None)
    assert plugins.link() is None


@every_kind
def test_a_link_in_the_container_may_be_the_master(plugins: Any, static: Any, kind: str) -> None:
    with plugins.kernel.open_netns("/run/netns/c1") as netns, plugins.kernel.inside(netns) as inner:
        inner.add_link(LinkSpec("wire", mtu=1300, up=True), Dummy())
        inner.add_route("wire", Route(destination=parse_subnet("0.0.0.0/0")))
        index = inner.link("wire").ifindex
    config = {"type": kind, "ipam": static(), **KINDS[kind], "linkInContainer": True}
    config |= {"master": "wire"} if kind == "vlan" else {}

    result = plugins.add(config)

    assert plugins.link().parent_ifindex == index
    assert not plugins.link().parent_abroad
    assert plugins.link().mtu == 1300
    assert plugins.call("CHECK", {**config, "prevResult": result}) == (0, None)
    assert plugins.engine.parts.all()[0].link == ""


@every_kind
def test_status_is_50_without_a_master(plugins: Any, static: Any, kind: str) -> None:
    config = {"type": kind, "ipam": static(), **KINDS[kind]}
    assert plugins.call("STATUS", config) == (0, None)

    assert plugins.refusal({**config, "master": "nowhere"}, "STATUS")[0] == 50


@pytest.mark.parametrize("kind", ["macvlan", "ipvlan"])
def test_status_is_50_without_a_master_or_a_default_route(plugins: Any, static: Any, kind: str) -> None:
    plugins.kernel.delete_route("up0", Route(destination=parse_subnet("0.0.0.0/0")))
    plugins.kernel.commands.clear()

    code, said = plugins.refusal({"type": kind, "ipam": static()}, "STATUS")

    assert (code, "there is no default route" in said) == (50, True)


def test_ipvlan_after_another_plugin_has_its_interface_and_addresses(plugins: Any) -> None:
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "other"}],
        "ips": [{"address": "10.60.0.9/24", "gateway": "10.60.0.1", "interface": 0}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    config = {"type": "ipvlan", "prevResult": previous}

    result = plugins.add(config)

    assert [one["name"] for one in result["interfaces"]] == ["eth0"]
    assert result["ips"][0] == {"address": "10.60.0.9/24", "gateway": "10.60.0.1", "interface": 0}
    assert plugins.link().parent_ifindex == plugins.kernel.link("other").ifindex


@pytest.mark.parametrize("interfaces", [[], [{"name": "up0"}, {"name": "other"}], [{"name": ""}]])
def test_ipvlan_after_another_plugin_needs_one_interface(plugins: Any, interfaces: list[Any]) -> None:
    previous = {"cniVersion": "1.0.0", "interfaces": interfaces, "ips": [{"address": "10.60.0.9/24"}]}

    code, said = plugins.refusal({"type": "ipvlan", "prevResult": previous})

    assert (code, "PrevResult lacks a single named interface" in said) == (7, True)


@every_kind
def test_what_fails_half_way_leaves_nothing(plugins: Any, static: Any, kind: str) -> None:
    config = {"type": kind, "ipam": static("10.60.0.2/24", "fd60::2/64"), **KINDS[kind]}

    for at in range(1, 20):
        plugins.kernel.fail(at=at)
        status, error = plugins.call("ADD", config)
        plugins.kernel.fail()
        if status == 0:
            break
        assert error["code"] == 5
        assert plugins.link() is None, f"after a failure of verb {at}"
        assert plugins.engine.parts.all() == []

    assert status == 0
    assert at > 3
