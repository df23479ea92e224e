"""Cases of ``bandwidth``, after ``bridge`` or ``ptp``."""

from __future__ import annotations

from typing import Any

from differential.case import Case, in_all_versions
from differential.cases.parts import (
    AGAIN,
    FORGOTTEN,
    GONE,
    HOST_LOCAL_4,
    HOST_LOCAL_6,
    HOST_LOCAL_DUAL,
    NOWHERE,
    TWICE,
    TWO,
    bridge,
)

KEYS = ["ingressRate", "ingressBurst", "egressRate", "egressBurst", "bandwidth", "capabilities"]
FAILS = ("ADD c1", "DEL c1")
IN = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
OUT = {"egressRate": 4_000_000, "egressBurst": 400_000}
PTP = {"type": "ptp", "ipam": HOST_LOCAL_4}
MACVLAN = {"type": "macvlan", "master": "up0", "ipam": HOST_LOCAL_4}
NEEDS = ("ifb",)
REMOVE = 'host for link in $(ip -o link | grep -o "veth[0-9a-f]*"); do tc qdisc del dev "$link" root; done'


def _case(name: str, keys: Any = None, *, main: Any = None, given: Any = None, **settings: Any) -> Case:
    plugin = {"type": "bandwidth", **(keys or {})}
    if given is not None:
        plugin["capabilities"] = {"bandwidth": True}
        settings["capabilities"] = {"bandwidth": given}
    return Case("bandwidth", name, (main or bridge(), plugin), needs=NEEDS, **settings)


CASES = [
    *in_all_versions("0.3.0", _case("both", {**IN, **OUT})),
    *in_all_versions("0.3.0", _case("both-given", given={**IN, **OUT})),
    *(_case(f"old-{version}", {**IN, **OUT}, version=version, steps=FAILS) for version in ("0.1.0", "0.2.0")),
    _case("ingress", IN),
    _case("egress", OUT),
    _case("ingress-given", given=IN),
    _case("egress-given", given=OUT),
    _case("given-and-configured", {**IN, **OUT}, given={"ingressRate": 1_000_000, "ingressBurst": 100_000}),
    _case(
        "keys-of-go",
        given={"IngressRate": 8_000_000, "IngressBurst": 800_000, "EgressRate": 0, "EgressBurst": 0},
    ),
    _case("none"),
    _case("none-given", given={}),
    _case("zeros", {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}),
    _case("dual", {**IN, **OUT}, main=bridge(HOST_LOCAL_DUAL)),
    _case("v6", {**IN, **OUT}, main=bridge(HOST_LOCAL_6)),
    _case("ptp", {**IN, **OUT}, main=PTP),
    _case("ptp-two", {**IN, **OUT}, main=PTP, steps=TWO),
    _case("level-2", {**IN, **OUT}, main=bridge(None)),
    _case("mtu", {**IN, **OUT}, main=bridge(mtu=1400)),
    _case("macvlan-has-no-peer", IN, main=MACVLAN, steps=FAILS),
    _case("rate-without-burst", {"ingressRate": 8_000_000}, steps=FAILS),
    _case("burst-without-rate", {"egressBurst": 400_000}, steps=FAILS),
    _case("burst-too-large", {"ingressRate": 8_000_000, "ingressBurst": 8 * 2**32}, steps=FAILS),
    _case("burst-largest", {"ingressRate": 8_000_000, "ingressBurst": 8 * (2**32 - 1)}, steps=FAILS),
    _case("burst-small", {"ingressRate": 8_000_000, "ingressBurst": 8}),
    _case("rate-small", {"ingressRate": 8, "ingressBurst": 80_000}),
    _case(
        "rate-odd",
        {"ingressRate": 1_234_567, "ingressBurst": 76_543, "egressRate": 7_654_321, "egressBurst": 12_345},
    ),
    _case("rate-large", {"ingressRate": 40_000_000_000, "ingressBurst": 400_000_000}),
    _case("rate-negative", {"ingressRate": -8, "ingressBurst": 8}, steps=FAILS),
    _case("two", {**IN, **OUT}, steps=TWO),
    _case("two-rates", steps=TWO, given={**IN, **OUT}, capabilities_of={"c2": {"bandwidth": OUT}}),
    _case("twice-in-one-container", {**IN}, steps=TWICE),
    _case("again", {**IN, **OUT}, steps=AGAIN),
    _case("namespace-gone", {**IN, **OUT}, steps=GONE),
    _case("namespace-forgotten", {**IN, **OUT}, steps=NOWHERE),
    _case("result-forgotten", {**IN, **OUT}, steps=FORGOTTEN),
    _case("shaper-removed", IN, steps=("ADD c1", REMOVE, "CHECK c1", "DEL c1")),
    Case("bandwidth", "first-of-the-chain", ({"type": "bandwidth", **IN},), steps=FAILS),
    _case("other-network", {**IN, **OUT}, network="net-2.b_c"),
]
