"""Cases of ``loopback``."""

from __future__ import annotations

from typing import Any

from differential.case import STEPS, VERSIONS, Case, in_all_versions
from differential.cases.parts import AGAIN, GONE, HOST_LOCAL_DUAL, NOWHERE, TWO, bridge

KEYS: list[str] = []
FAILS = ("ADD c1 lo", "DEL c1 lo")
PLUGIN = {"type": "loopback"}
LO = ("ADD c1 lo", "CHECK c1 lo", "DEL c1 lo", "DEL c1 lo")
UP = "in c1 ip link set lo up"


def _case(name: str, *steps: str, **settings: Any) -> Case:
    return Case("loopback", name, (PLUGIN,), steps=steps or LO, **settings)


CASES = [
    *in_all_versions("0.1.0", _case("lo")),
    *(_case(f"other-name-{version}", *STEPS, version=version) for version in VERSIONS),
    *(_case(f"was-up-{version}", UP, *LO, version=version) for version in VERSIONS),
    _case("two", *TWO),
    _case("again", *AGAIN),
    _case("namespace-gone", *GONE),
    _case("namespace-forgotten", *NOWHERE),
    _case("never-added", "DEL c1 lo"),
    _case("nowhere-at-all", "DEL c1 lo netns=/run/netns/none"),
    _case("no-such-namespace", "ADD c1 lo netns=/run/netns/none", "DEL c1 lo"),
    _case("not-a-namespace", "ADD c1 lo netns=/etc/hostname", "DEL c1 lo"),
    _case("taken-down", "ADD c1 lo", "in c1 ip link set lo down", "CHECK c1 lo", "DEL c1 lo"),
    _case("other-address", UP, "in c1 ip addr add 10.99.0.1/24 dev lo", *FAILS),
    _case("other-v6-address", UP, "in c1 ip addr add fd99::1/64 dev lo", *FAILS),
    _case("second-loopback-address", UP, "in c1 ip addr add 127.0.0.2/8 dev lo", *LO),
    _case("no-v6", "in c1 echo 1 >/proc/sys/net/ipv6/conf/lo/disable_ipv6", *LO),
    _case("no-addresses", UP, "in c1 ip addr flush dev lo", *LO),
    _case("args", args="IgnoreUnknown=1;K8S_POD_NAME=one"),
    _case("args-unknown", args="COLOUR=red"),
    Case("loopback", "after-a-bridge", (bridge(HOST_LOCAL_DUAL), PLUGIN)),
    *(
        Case("loopback", f"before-a-bridge-{version}", (PLUGIN, bridge()), version=version)
        for version in ("0.3.1", "0.4.0", "1.0.0")
    ),
    Case("loopback", "other-keys", ({**PLUGIN, "cniVersion": "0.3.1", "colour": "red"},), steps=LO),
]
