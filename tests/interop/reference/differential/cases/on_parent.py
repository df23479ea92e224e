"""Cases of ``macvlan``, ``ipvlan`` and ``vlan``: what lies on a link of the host."""

from __future__ import annotations

from typing import Any

from differential.case import Case, in_all_versions
from differential.cases.parts import (
    AGAIN,
    DEFAULT_4,
    DEFAULT_6,
    DNS,
    FORGOTTEN,
    GONE,
    HOST_LOCAL_4,
    HOST_LOCAL_6,
    HOST_LOCAL_DUAL,
    NOWHERE,
    TWICE,
    TWO,
    static,
)

MACVLAN_KEYS = [
    "master",
    "mode",
    "mtu",
    "mac",
    "linkInContainer",
    "bcqueuelen",
    "dns",
    "ipam",
    "runtimeConfig",
]
IPVLAN_KEYS = ["master", "mode", "mtu", "linkInContainer", "dns", "ipam"]
VLAN_KEYS = ["master", "vlanId", "mtu", "linkInContainer", "dns", "ipam"]
MAC = "02:42:ac:11:00:77"
FAILS = ("ADD c1", "DEL c1")
# a link in the container that another can lie on
INSIDE = "in c1 ip link add base type veth peer name other && ip link set base up && ip link set other up"


def _on_parent(plugin: str, name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any) -> Case:
    document = {
        "type": plugin,
        "master": "up0",
        **({"vlanId": 100} if plugin == "vlan" else {}),
        **(keys or {}),
    }
    if document["master"] is None:
        del document["master"]
    if ipam is not None:
        document["ipam"] = ipam
    return Case(plugin, name, (document,), needs=(plugin,), **settings)


def _shared(plugin: str) -> list[Case]:
    """Give the cases that the three have in common."""

    def case(name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any) -> Case:
        return _on_parent(plugin, name, ipam, keys, **settings)

    return [
        *in_all_versions("0.1.0", case("v4")),
        *in_all_versions("0.3.0", case("dual", HOST_LOCAL_DUAL)),
        case("v6", HOST_LOCAL_6),
        case("default-routes", {**HOST_LOCAL_DUAL, "routes": [DEFAULT_4, DEFAULT_6]}),
        case("route-by-a-gateway", {**HOST_LOCAL_4, "routes": [{"dst": "10.60.0.0/16", "gw": "10.50.0.9"}]}),
        case("other-master", keys={"master": "up1"}),
        case("no-such-master", keys={"master": "up9"}, steps=FAILS),
        case("mtu", keys={"mtu": 1400}),
        case("mtu-0", keys={"mtu": 0}),
        case("mtu-above-the-master-s", keys={"mtu": 9000}, steps=FAILS),
        case("mtu-negative", keys={"mtu": -1}, steps=FAILS),
        case("mtu-of-a-small-master", keys={"master": "up1"}, before=("ip link set up1 mtu 1350",)),
        case("dns", keys={"dns": DNS}),
        case("static", static("10.50.0.5/24 10.50.0.1", "fd50::5/64")),
        case("two", steps=TWO),
        case("twice-in-one-container", steps=TWICE),
        case("again", steps=AGAIN),
        case("namespace-gone", steps=GONE),
        case("namespace-forgotten", steps=NOWHERE),
        case("result-forgotten", steps=FORGOTTEN),
        case(
            "interface-is-there",
            steps=("in c1 ip link add eth0 type veth peer name other", "ADD c1", "DEL c1"),
        ),
        case("link-removed", steps=("ADD c1", "in c1 ip link del eth0", "CHECK c1", "DEL c1")),
        case("address-removed", steps=("ADD c1", "in c1 ip addr flush dev eth0", "CHECK c1", "DEL c1")),
        case(
            "master-removed",
            keys={"master": "base"},
            before=("ip link add base type ifb && ip link set base up",),
            steps=("ADD c1", "host ip link del base", "DEL c1", "DEL c1"),
        ),
        case("link-in-container", keys={"master": "base", "linkInContainer": True}, steps=(INSIDE, *FAILS)),
        case("ipam-without-addresses", {"type": "static"}, steps=FAILS),
    ]


def _macvlan(name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any) -> Case:
    return _on_parent("macvlan", name, ipam, keys, **settings)


def _ipvlan(name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any) -> Case:
    return _on_parent("ipvlan", name, ipam, keys, **settings)


def _vlan(name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any) -> Case:
    return _on_parent("vlan", name, ipam, keys, **settings)


CASES = [
    *_shared("macvlan"),
    *(_macvlan(f"mode-{mode}", keys={"mode": mode}) for mode in ("bridge", "private", "vepa")),
    _macvlan("mode-passthru", keys={"mode": "passthru", "master": "up1"}),
    _macvlan("mode-wrong", keys={"mode": "sideways"}, steps=FAILS),
    _macvlan("default-master", keys={"master": None}),
    _macvlan("level-2", None),
    _macvlan("level-2-two", None, steps=TWO),
    _macvlan("mac", keys={"mac": MAC}),
    _macvlan("mac-of-args", args=f"IgnoreUnknown=1;MAC={MAC}"),
    _macvlan("mac-of-capabilities", keys={"capabilities": {"mac": True}}, capabilities={"mac": MAC}),
    _macvlan(
        "mac-of-all-three",
        keys={"capabilities": {"mac": True}, "mac": "02:42:ac:11:00:01"},
        capabilities={"mac": MAC},
        args="IgnoreUnknown=1;MAC=02:42:ac:11:00:02",
    ),
    _macvlan("mac-wrong", keys={"mac": "nonsense"}, steps=FAILS),
    _macvlan("queue-length", keys={"bcqueuelen": 500}),
    *_shared("ipvlan"),
    *(_ipvlan(f"mode-{mode}", keys={"mode": mode}) for mode in ("l2", "l3", "l3s")),
    _ipvlan("mode-wrong", keys={"mode": "l4"}, steps=FAILS),
    _ipvlan("default-master", keys={"master": None}),
    _ipvlan("no-ipam", None, steps=FAILS),
    *_shared("vlan"),
    *(_vlan(f"id-{number}", keys={"vlanId": number}) for number in (1, 4094)),
    _vlan("id-0", keys={"vlanId": 0}),
    _vlan("id-wrong", keys={"vlanId": 4095}, steps=FAILS),
    _vlan("id-negative", keys={"vlanId": -1}, steps=FAILS),
    _vlan("id-taken", steps=("ADD c1", "ADD c2", "DEL c2", "DEL c1")),
    _vlan("no-master", keys={"master": None}, steps=FAILS),
    _vlan("no-ipam", None, steps=FAILS),
]
