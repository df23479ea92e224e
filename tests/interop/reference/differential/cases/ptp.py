"""Cases of ``ptp``."""

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

KEYS = ["ipMasq", "ipMasqBackend", "mtu", "dns", "ipam"]
MASQUERADE = {"ipMasq": True, "ipMasqBackend": "iptables"}


def _case(name: str, ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any) -> Case:
    return Case("ptp", name, ({"type": "ptp", "ipam": ipam, **(keys or {})},), **settings)


CASES = [
    *in_all_versions("0.1.0", _case("v4")),
    *in_all_versions("0.3.0", _case("dual", HOST_LOCAL_DUAL)),
    _case("v6", HOST_LOCAL_6),
    _case("default-route", {**HOST_LOCAL_4, "routes": [DEFAULT_4]}),
    _case("default-routes", {**HOST_LOCAL_DUAL, "routes": [DEFAULT_4, DEFAULT_6]}),
    _case("route-by-a-gateway", {**HOST_LOCAL_4, "routes": [{"dst": "10.60.0.0/16", "gw": "10.50.0.9"}]}),
    _case("route-without-a-gateway", {**HOST_LOCAL_4, "routes": [{"dst": "10.60.0.0/16"}]}),
    _case("mtu", keys={"mtu": 1400}),
    _case("mtu-dual", HOST_LOCAL_DUAL, {"mtu": 1300}),
    _case("mtu-too-large", keys={"mtu": 70000}, steps=("ADD c1", "DEL c1")),
    _case("masquerade", keys=MASQUERADE),
    _case("masquerade-dual", HOST_LOCAL_DUAL, MASQUERADE),
    _case("masquerade-two", keys=MASQUERADE, steps=TWO),
    _case("masquerade-gone", keys=MASQUERADE, steps=GONE),
    _case("masquerade-as-it-comes", keys={"ipMasq": True}),
    _case("masquerade-nftables", keys={"ipMasq": True, "ipMasqBackend": "nftables"}),
    _case("dns", keys={"dns": DNS}),
    _case("dns-of-ipam", static("10.50.0.5/24 10.50.0.1", dns=DNS)),
    _case("dns-of-both", static("10.50.0.5/24 10.50.0.1", dns=DNS), {"dns": {"nameservers": ["192.0.2.54"]}}),
    _case("two", steps=TWO),
    _case("two-dual", HOST_LOCAL_DUAL, steps=TWO),
    _case("twice-in-one-container", steps=TWICE),
    _case("again", steps=AGAIN),
    _case("namespace-gone", steps=GONE),
    _case("namespace-forgotten", steps=NOWHERE),
    _case("result-forgotten", steps=FORGOTTEN),
    _case(
        "interface-is-there", steps=("in c1 ip link add eth0 type veth peer name other", "ADD c1", "DEL c1")
    ),
    _case("link-removed", steps=("ADD c1", "in c1 ip link del eth0", "CHECK c1", "DEL c1")),
    _case("address-removed", steps=("ADD c1", "in c1 ip addr flush dev eth0", "CHECK c1", "DEL c1")),
    _case(
        "route-removed",
        {**HOST_LOCAL_4, "routes": [DEFAULT_4]},
        steps=("ADD c1", "in c1 ip route del default", "CHECK c1", "DEL c1"),
    ),
    _case("static", static("10.50.0.5/24 10.50.0.1")),
    _case("static-without-gateway", static("10.50.0.5/24"), steps=("ADD c1", "DEL c1")),
    _case("static-two-addresses", static("10.50.0.5/24 10.50.0.1", "10.51.0.6/24 10.51.0.1")),
    _case("static-two-of-a-subnet", static("10.50.0.5/24 10.50.0.1", "10.50.0.6/24 10.50.0.1")),
    _case("static-host-length", static("10.50.0.5/32 10.50.0.1"), steps=("ADD c1", "DEL c1")),
    _case("ipam-without-addresses", {"type": "static"}, steps=("ADD c1", "DEL c1")),
    Case("ptp", "no-ipam", ({"type": "ptp"},), steps=("ADD c1", "DEL c1")),
]
