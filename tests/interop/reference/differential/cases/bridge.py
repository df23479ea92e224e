"""Cases of ``bridge``."""

from __future__ import annotations

from typing import Any

from differential.case import STEPS, Case, in_all_versions
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
    bridge,
    static,
)

KEYS = [
    "bridge",
    "isGateway",
    "isDefaultGateway",
    "forceAddress",
    "ipMasq",
    "ipMasqBackend",
    "mtu",
    "hairpinMode",
    "promiscMode",
    "vlan",
    "vlanTrunk",
    "preserveDefaultVlan",
    "macspoofchk",
    "enabledad",
    "disableContainerInterface",
    "portIsolation",
    "dns",
    "ipam",
    "args",
    "runtimeConfig",
]
VLANS = ("bridge VLAN filtering",)
MAC = "02:42:ac:11:00:77"


def _case(name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any) -> Case:
    return Case("bridge", name, (bridge(ipam, **(keys or {})),), **settings)


def _same_bridge(address: str) -> str:
    return f"ip link add br0 type bridge && ip addr add {address} dev br0 && ip link set br0 up"


CASES = [
    *in_all_versions("0.1.0", _case("gateway")),
    *in_all_versions("0.3.0", _case("dual", HOST_LOCAL_DUAL, {"isDefaultGateway": True})),
    _case("v6", HOST_LOCAL_6),
    _case("v6-default-gateway", HOST_LOCAL_6, {"isDefaultGateway": True}),
    _case("default-gateway", keys={"isGateway": False, "isDefaultGateway": True}),
    _case(
        "default-gateway-and-route",
        {**HOST_LOCAL_4, "routes": [DEFAULT_4, {"dst": "10.60.0.0/16", "gw": "10.50.0.9"}]},
        {"isDefaultGateway": True},
    ),
    _case("routes", {**HOST_LOCAL_DUAL, "routes": [DEFAULT_4, DEFAULT_6, {"dst": "10.60.0.0/16"}]}),
    _case("no-gateway", keys={"isGateway": False}),
    _case("level-2", None),
    _case("level-2-mtu", None, {"mtu": 1300}),
    _case("default-name", keys={"bridge": "cni0"}),
    Case("bridge", "no-name", ({"type": "bridge", "isGateway": True, "ipam": HOST_LOCAL_4},)),
    _case("mtu", keys={"mtu": 1400}),
    _case("mtu-of-a-bridge-that-is-there", keys={"mtu": 1400}, before=(_same_bridge("10.50.0.1/24"),)),
    _case("hairpin", keys={"hairpinMode": True}),
    _case("promiscuous", keys={"promiscMode": True}),
    _case(
        "hairpin-and-promiscuous", keys={"hairpinMode": True, "promiscMode": True}, steps=("ADD c1", "DEL c1")
    ),
    _case("masquerade", HOST_LOCAL_DUAL, {"ipMasq": True, "ipMasqBackend": "iptables"}),
    _case("masquerade-two", keys={"ipMasq": True, "ipMasqBackend": "iptables"}, steps=TWO),
    _case("masquerade-gone", keys={"ipMasq": True, "ipMasqBackend": "iptables"}, steps=GONE),
    _case("masquerade-as-it-comes", HOST_LOCAL_DUAL, {"ipMasq": True}),
    _case("masquerade-nftables", HOST_LOCAL_DUAL, {"ipMasq": True, "ipMasqBackend": "nftables"}),
    _case("mac-of-args", args=f"IgnoreUnknown=1;MAC={MAC}"),
    _case("mac-of-configuration", keys={"args": {"cni": {"mac": MAC}}}),
    _case("mac-of-capabilities", keys={"capabilities": {"mac": True}}, capabilities={"mac": MAC}),
    _case(
        "mac-of-all-three",
        keys={"capabilities": {"mac": True}, "args": {"cni": {"mac": "02:42:ac:11:00:01"}}},
        capabilities={"mac": MAC},
        args="IgnoreUnknown=1;MAC=02:42:ac:11:00:02",
    ),
    _case("mac-wrong", args="IgnoreUnknown=1;MAC=nonsense", steps=("ADD c1", "DEL c1")),
    _case("args-unknown", args="COLOUR=red", steps=("ADD c1", "DEL c1")),
    _case("args-unknown-ignored", args="COLOUR=red;IgnoreUnknown=true"),
    _case("dns", keys={"dns": DNS}),
    _case("dns-of-ipam", static("10.50.0.5/24 10.50.0.1", dns=DNS)),
    _case("two", HOST_LOCAL_DUAL, steps=TWO),
    _case("twice-in-one-container", steps=TWICE),
    _case("again", steps=AGAIN),
    _case("namespace-gone", HOST_LOCAL_DUAL, steps=GONE),
    _case("namespace-forgotten", steps=NOWHERE),
    _case("result-forgotten", steps=FORGOTTEN),
    _case(
        "interface-is-there", steps=("in c1 ip link add eth0 type veth peer name other", "ADD c1", "DEL c1")
    ),
    _case("link-removed", steps=("ADD c1", "in c1 ip link del eth0", "CHECK c1", "DEL c1")),
    _case("address-removed", steps=("ADD c1", "in c1 ip addr flush dev eth0", "CHECK c1", "DEL c1")),
    _case(
        "route-removed",
        keys={"isDefaultGateway": True},
        steps=("ADD c1", "in c1 ip route del default", "CHECK c1", "DEL c1"),
    ),
    _case(
        "bridge-removed", steps=("ADD c1", "host ip link del br0", "CHECK c1", "DEL c1", "ADD c1", "DEL c1")
    ),
    _case("address-of-the-bridge", before=(_same_bridge("10.99.0.1/24"),), steps=("ADD c1", "DEL c1")),
    _case("force-address", keys={"forceAddress": True}, before=(_same_bridge("10.50.0.3/24"),)),
    _case("force-other-address", keys={"forceAddress": True}, before=(_same_bridge("10.99.0.1/24"),)),
    _case("second-v6-address", HOST_LOCAL_6, before=(_same_bridge("fd99::1/64"),)),
    _case("not-a-bridge", keys={"bridge": "up1"}, steps=("ADD c1", "DEL c1")),
    _case("ipam-without-addresses", {"type": "static"}, steps=("ADD c1", "DEL c1")),
    _case("static-two-addresses", static("10.50.0.5/24 10.50.0.1", "10.50.0.6/24 10.50.0.1")),
    _case("static-no-gateway", static("10.50.0.5/24")),
    _case("mac-spoof-check", keys={"macspoofchk": True}),
    _case("mac-spoof-check-gone", keys={"macspoofchk": True}, steps=GONE),
    _case("mac-spoof-check-two", keys={"macspoofchk": True}, steps=TWO),
    _case("duplicate-address-detection", HOST_LOCAL_6, {"enabledad": True}),
    _case("port-isolation", keys={"portIsolation": True}),
    _case("container-interface-down", None, {"disableContainerInterface": True}),
    _case("vlan", keys={"vlan": 100}, needs=VLANS),
    _case("vlan-two", HOST_LOCAL_DUAL, {"vlan": 100}, steps=TWO, needs=VLANS),
    _case("vlan-level-2", None, {"vlan": 100}, needs=VLANS),
    _case("vlan-wrong", keys={"vlan": 4095}, steps=("ADD c1", "DEL c1")),
    _case("vlan-trunk", None, {"vlanTrunk": [{"id": 101}, {"minID": 200, "maxID": 205}]}, needs=VLANS),
    _case("vlan-and-default-vlan", None, {"vlan": 100, "preserveDefaultVlan": True}, needs=VLANS),
    _case("case-of-keys", keys={"ISGATEWAY": True, "Mtu": 1350}, steps=STEPS),
    _case("mac-case-of-keys", keys={"Capabilities": {}, "Args": {"CNI": {"MAC": MAC}}}),
]
