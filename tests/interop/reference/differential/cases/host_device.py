"""Cases of ``host-device``: dev0 of the host goes into the container."""

from __future__ import annotations

from typing import Any

from differential.case import Case, in_all_versions
from differential.cases.parts import (
    DEFAULT_4,
    DEFAULT_6,
    DNS,
    FORGOTTEN,
    HOST_LOCAL_4,
    HOST_LOCAL_6,
    HOST_LOCAL_DUAL,
    TWICE,
    static,
)

KEYS = ["device", "hwaddr", "kernelpath", "pciBusID", "runtimeConfig", "dns", "ipam"]
FAILS = ("ADD c1", "DEL c1")
MAC = "02:42:ac:11:00:77"
# veth, as its name is kept: an ifb's or a real card's would be too
MADE = f"ip link add dev0 address {MAC} type veth peer name dev0p && ip link set dev0p up"
BACK = ("ADD c1", "CHECK c1", "DEL c1", "ADD c1", "DEL c1")


def _case(
    name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, *, before: Any = (MADE,), **settings: Any
) -> Case:
    plugin = {"type": "host-device", **({"device": "dev0"} if keys is None else keys)}
    if ipam is not None:
        plugin["ipam"] = ipam
    return Case("host-device", name, (plugin,), before=before, **settings)


CASES = [
    *in_all_versions("0.1.0", _case("v4")),
    *in_all_versions("0.3.0", _case("dual", HOST_LOCAL_DUAL)),
    *in_all_versions("0.3.1", _case("level-2", None)),
    _case("v6", HOST_LOCAL_6),
    _case("back", steps=BACK),
    _case("default-routes", {**HOST_LOCAL_DUAL, "routes": [DEFAULT_4, DEFAULT_6]}),
    _case("static", static("10.50.0.5/24 10.50.0.1")),
    _case("ipam-without-addresses", {"type": "static"}, steps=FAILS),
    _case("hwaddr", keys={"hwaddr": MAC}),
    _case("hwaddr-unknown", keys={"hwaddr": "02:42:ac:11:00:99"}, steps=FAILS),
    _case("hwaddr-wrong", keys={"hwaddr": "nonsense"}, steps=FAILS),
    _case("kernelpath", keys={"kernelpath": "/sys/devices/virtual"}, steps=FAILS),
    _case("kernelpath-elsewhere", keys={"kernelpath": "/etc"}, steps=FAILS),
    _case("pci-bus-id-unknown", keys={"pciBusID": "0000:99:00.1"}, steps=FAILS),
    _case(
        "device-id-unknown",
        keys={"capabilities": {"deviceID": True}},
        capabilities={"deviceID": "0000:99:00.1"},
        steps=FAILS,
    ),
    _case("no-selector", keys={}, steps=FAILS),
    _case("device-unknown", keys={"device": "dev9"}, steps=FAILS),
    _case("same-name", keys={"device": "eth0"}, before=("ip link add eth0 type veth peer name dev0p",)),
    _case("was-up", before=(MADE, "ip link set dev0 up")),
    _case("has-an-address", before=(MADE, "ip link set dev0 up && ip addr add 10.98.0.1/24 dev dev0")),
    _case("has-an-mtu", before=(MADE, "ip link set dev0 mtu 1400")),
    _case("has-an-alias", before=(MADE, "ip link set dev0 alias other")),
    _case("dns", keys={"device": "dev0", "dns": DNS}),
    _case(
        "interface-is-there", steps=("in c1 ip link add eth0 type veth peer name other", "ADD c1", "DEL c1")
    ),
    _case("two-want-it", steps=("ADD c1", "ADD c2", "DEL c2", "DEL c1")),
    _case("twice-in-one-container", steps=TWICE[:2]),
    _case(
        "name-taken-meanwhile", steps=("ADD c1", "host ip link add dev0 type veth peer name dev1", "DEL c1")
    ),
    _case("link-removed", steps=("ADD c1", "in c1 ip link del eth0", "CHECK c1", "DEL c1")),
    _case("address-removed", steps=("ADD c1", "in c1 ip addr flush dev eth0", "CHECK c1", "DEL c1")),
    _case("set-down", steps=("ADD c1", "in c1 ip link set eth0 down", "CHECK c1", "DEL c1")),
    _case("namespace-forgotten", steps=("ADD c1", "DEL c1 netns=", "DEL c1")),
    _case("result-forgotten", steps=FORGOTTEN),
    _case("namespace-missing", steps=("ADD c1 eth0 netns=/run/netns/none", "DEL c1")),
    _case("never-added", steps=("DEL c1",)),
]
