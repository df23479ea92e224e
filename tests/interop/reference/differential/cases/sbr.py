"""Cases of ``sbr``, routing by source, after ``bridge`` or ``ptp``."""

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
    TWO,
    bridge,
    static,
)

KEYS = ["table", "gateways", "addSourceHints"]
FAILS = ("ADD c1", "DEL c1")
ROUTED_4 = {**HOST_LOCAL_4, "routes": [DEFAULT_4]}
ROUTED = {**HOST_LOCAL_DUAL, "routes": [DEFAULT_4, DEFAULT_6]}
OTHERS = "in c1 ip link set lo up && ip rule add from 10.99.0.1 lookup 100"


def _case(name: str, main: Any = None, keys: Any = None, **settings: Any) -> Case:
    return Case("sbr", name, (main or bridge(ROUTED_4), {"type": "sbr", **(keys or {})}), **settings)


CASES = [
    *in_all_versions("0.3.0", _case("v4")),
    *in_all_versions("0.3.0", _case("dual", bridge(ROUTED))),
    *(_case(f"old-{version}", version=version) for version in ("0.1.0", "0.2.0")),
    _case("v6", bridge({**HOST_LOCAL_6, "routes": [DEFAULT_6]})),
    _case("no-routes", bridge()),
    _case("no-routes-dual", bridge(HOST_LOCAL_DUAL)),
    _case("default-gateway", bridge(HOST_LOCAL_DUAL, isDefaultGateway=True)),
    _case("no-gateway", bridge(static("10.50.0.5/24"), isGateway=False)),
    _case(
        "more-routes",
        bridge(
            {
                **HOST_LOCAL_4,
                "routes": [DEFAULT_4, {"dst": "10.60.0.0/16"}, {"dst": "10.61.0.0/16", "gw": "10.50.0.9"}],
            }
        ),
    ),
    _case(
        "two-addresses", bridge(static("10.50.0.5/24 10.50.0.1", "10.51.0.5/24 10.51.0.1"), isGateway=False)
    ),
    _case("two-of-a-subnet", bridge(static("10.50.0.5/24 10.50.0.1", "10.50.0.6/24 10.50.0.1"))),
    _case("host-length", bridge(static("10.50.0.5/32"), isGateway=False)),
    _case("ptp", {"type": "ptp", "ipam": ROUTED_4}),
    _case("ptp-dual", {"type": "ptp", "ipam": ROUTED}),
    _case("level-2", bridge(None)),
    _case("table-100-taken", steps=(OTHERS, "ADD c1", "CHECK c1", "DEL c1")),
    _case("mtu", bridge(ROUTED_4, mtu=1400)),
    _case("two", steps=TWO),
    _case("two-dual", bridge(ROUTED), steps=TWO),
    _case("twice-in-one-container", bridge(), steps=TWICE),
    _case("twice-dual", bridge(HOST_LOCAL_DUAL), steps=TWICE),
    _case("again", steps=AGAIN),
    _case("namespace-gone", steps=GONE),
    _case("namespace-forgotten", steps=NOWHERE),
    _case("result-forgotten", steps=FORGOTTEN),
    _case(
        "rules-removed",
        steps=("ADD c1", "in c1 ip rule flush && ip rule add lookup main pref 32766", "CHECK c1", "DEL c1"),
    ),
    _case("link-removed", steps=("ADD c1", "in c1 ip link del eth0", "CHECK c1", "DEL c1")),
    _case("table", keys={"table": 200}),
    _case("gateways", bridge(static("10.50.0.5/24"), isGateway=False), {"gateways": ["10.50.0.1"]}),
    _case("source-hints", keys={"addSourceHints": True}),
    _case("with-tuning-behind", steps=("ADD c1", "CHECK c1", "DEL c1", "DEL c1")),
    Case("sbr", "first-of-the-chain", ({"type": "sbr"},), steps=FAILS),
]
