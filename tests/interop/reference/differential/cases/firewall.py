"""Cases of ``firewall``, after ``bridge`` or ``ptp``."""

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
    static,
)

KEYS = ["backend", "iptablesAdminChainName", "firewalldZone", "ingressPolicy"]
FAILS = ("ADD c1", "DEL c1")
PTP = {"type": "ptp", "ipam": HOST_LOCAL_4}


def _case(name: str, keys: Any = None, *, main: Any = None, **settings: Any) -> Case:
    plugin = {"type": "firewall", "backend": "iptables", **(keys or {})}
    return Case("firewall", name, (main or bridge(), plugin), **settings)


CASES = [
    *in_all_versions("0.4.0", _case("v4")),
    *in_all_versions("0.4.0", _case("dual", main=bridge(HOST_LOCAL_DUAL))),
    *in_all_versions("0.4.0", _case("same-bridge", {"ingressPolicy": "same-bridge"})),
    *(
        _case(f"old-{version}", version=version, steps=FAILS)
        for version in ("0.1.0", "0.2.0", "0.3.0", "0.3.1")
    ),
    _case("v6", main=bridge(HOST_LOCAL_6)),
    _case("two-addresses", main=bridge(static("10.50.0.5/24", "10.50.0.6/24"))),
    _case("admin-chain", {"iptablesAdminChainName": "MY-ADMIN"}),
    _case(
        "admin-chain-is-there",
        {"iptablesAdminChainName": "MY-ADMIN"},
        before=("iptables -N MY-ADMIN && iptables -A MY-ADMIN -s 198.51.100.1 -j DROP",),
    ),
    _case("policy-open", {"ingressPolicy": "open"}),
    _case("policy-wrong", {"ingressPolicy": "nonsense"}, steps=FAILS),
    _case("policy-isolated", {"ingressPolicy": "isolated"}, steps=FAILS),
    _case("same-bridge-dual", {"ingressPolicy": "same-bridge"}, main=bridge(HOST_LOCAL_DUAL)),
    _case("same-bridge-two", {"ingressPolicy": "same-bridge"}, steps=TWO),
    _case("same-bridge-of-ptp", {"ingressPolicy": "same-bridge"}, main=PTP, steps=FAILS),
    _case("same-bridge-gone", {"ingressPolicy": "same-bridge"}, steps=GONE),
    _case("forward-policy-drop", before=("iptables -P FORWARD DROP && ip6tables -P FORWARD DROP",)),
    _case("forward-rules", before=("iptables -A FORWARD -s 198.51.100.1 -j DROP",)),
    _case("as-it-comes", {"backend": ""}),
    _case("backend-wrong", {"backend": "nonsense"}, steps=FAILS),
    _case("firewalld-without-firewalld", {"backend": "firewalld", "firewalldZone": "trusted"}, steps=FAILS),
    _case("ptp", main=PTP),
    _case("ptp-two", main=PTP, steps=TWO),
    _case("level-2", main=bridge(None)),
    _case("two", steps=TWO),
    _case("two-dual", main=bridge(HOST_LOCAL_DUAL), steps=TWO),
    _case("twice-in-one-container", steps=TWICE),
    _case("again", steps=AGAIN),
    _case("namespace-gone", main=bridge(HOST_LOCAL_DUAL), steps=GONE),
    _case("namespace-forgotten", steps=NOWHERE),
    _case("result-forgotten", steps=FORGOTTEN),
    _case("rules-removed", steps=("ADD c1", "host iptables -F CNI-FORWARD", "CHECK c1", "DEL c1")),
    _case("all-flushed", steps=("ADD c1", "host nft delete table ip filter", "CHECK c1", "DEL c1", "DEL c1")),
    _case("masquerade", main=bridge(ipMasq=True, ipMasqBackend="iptables")),
    Case("firewall", "first-of-the-chain", ({"type": "firewall", "backend": "iptables"},), steps=FAILS),
]
