"""Cases of ``vrf``, after ``bridge``."""

from __future__ import annotations

from typing import Any

from differential.case import Case, in_all_versions
from differential.cases.parts import (
    AGAIN,
    DEFAULT_4,
    DEFAULT_6,
    FORGOTTEN,
    GONE,
    HOST_LOCAL_4,
    HOST_LOCAL_6,
    HOST_LOCAL_DUAL,
    NOWHERE,
    TWICE,
    bridge,
    static,
)

KEYS = ["vrfname", "table"]
FAILS = ("ADD c1", "DEL c1")


def _case(name: str, main: Any = None, keys: Any = None, **settings: Any) -> Case:
    plugin = {"type": "vrf", "vrfname": "blue", **(keys or {})}
    return Case("vrf", name, (main or bridge(), plugin), needs=("vrf",), **settings)


CASES = [
    *in_all_versions("0.3.1", _case("v4")),
    *in_all_versions("0.3.1", _case("dual", bridge(HOST_LOCAL_DUAL))),
    *in_all_versions("0.3.1", _case("table", keys={"table": 1001})),
    *(_case(f"old-{version}", version=version, steps=FAILS) for version in ("0.1.0", "0.2.0", "0.3.0")),
    _case("v6", bridge(HOST_LOCAL_6)),
    _case("routes", bridge({**HOST_LOCAL_DUAL, "routes": [DEFAULT_4, DEFAULT_6]})),
    _case("default-gateway", bridge(HOST_LOCAL_DUAL, isDefaultGateway=True)),
    _case(
        "table-taken",
        keys={"table": 1001},
        steps=("in c1 ip link add red type vrf table 1001", "ADD c1", "DEL c1"),
    ),
    _case("table-1-taken", steps=("in c1 ip link add red type vrf table 1", "ADD c1", "CHECK c1", "DEL c1")),
    _case("vrf-is-there", steps=("in c1 ip link add blue type vrf table 5", "ADD c1", "CHECK c1", "DEL c1")),
    _case(
        "vrf-is-there-with-another-table",
        keys={"table": 6},
        steps=("in c1 ip link add blue type vrf table 5", *FAILS),
    ),
    _case("name-is-another-link", steps=("in c1 ip link add blue type veth peer name other", *FAILS)),
    _case("no-name", keys={"vrfname": ""}, steps=FAILS),
    _case("name-too-long", keys={"vrfname": "b" * 16}, steps=FAILS),
    _case("two-interfaces", steps=TWICE),
    _case("two-interfaces-dual", bridge(HOST_LOCAL_DUAL), steps=TWICE),
    _case("again", steps=AGAIN),
    _case("namespace-gone", steps=GONE),
    _case("namespace-forgotten", steps=NOWHERE),
    _case("result-forgotten", steps=FORGOTTEN),
    _case("released", steps=("ADD c1", "in c1 ip link set eth0 nomaster", "CHECK c1", "DEL c1")),
    _case("vrf-removed", steps=("ADD c1", "in c1 ip link del blue", "CHECK c1", "DEL c1")),
    _case("link-removed", steps=("ADD c1", "in c1 ip link del eth0", "CHECK c1", "DEL c1")),
    _case("level-2", bridge(None)),
    _case("ptp", {"type": "ptp", "ipam": HOST_LOCAL_4}),
    _case("static-two", bridge(static("10.50.0.5/24 10.50.0.1", "10.50.0.6/24"))),
    _case("mtu", bridge(mtu=1400)),
    Case("vrf", "first-of-the-chain", ({"type": "vrf", "vrfname": "blue"},), steps=FAILS, needs=("vrf",)),
]
