"""Cases of ``tuning``, after ``bridge``."""

from __future__ import annotations

from typing import Any

from differential.case import Case, in_all_versions
from differential.cases.parts import (
    AGAIN,
    FORGOTTEN,
    GONE,
    HOST_LOCAL_DUAL,
    NOWHERE,
    TWICE,
    TWO,
    bridge,
)

KEYS = ["sysctl", "mac", "promisc", "mtu", "txQLen", "allmulti", "dataDir", "args", "runtimeConfig"]
FAILS = ("ADD c1", "DEL c1")
MAC = "02:42:ac:11:00:77"
SYSCTL = {"net.ipv4.conf.all.log_martians": "1", "net.ipv4.conf.IFNAME.arp_filter": "1"}
ALLOW = "mkdir -p /etc/cni/tuning && printf '%s\\n' >/etc/cni/tuning/allowlist.conf"


def _case(name: str, keys: Any = None, *, main: Any = None, **settings: Any) -> Case:
    return Case("tuning", name, (main or bridge(), {"type": "tuning", **(keys or {})}), **settings)


def _listed(*patterns: str) -> tuple[str, ...]:
    lines = "\\n".join(patterns)
    return (f"mkdir -p /etc/cni/tuning && printf '{lines}\\n' >/etc/cni/tuning/allowlist.conf",)


CASES = [
    *in_all_versions("0.3.0", _case("sysctl", {"sysctl": SYSCTL})),
    *in_all_versions("0.3.0", _case("link", {"mac": MAC, "mtu": 1400, "promisc": True, "allmulti": True})),
    *(_case(f"old-{version}", {"sysctl": SYSCTL}, version=version) for version in ("0.1.0", "0.2.0")),
    _case("nothing"),
    _case("sysctl-by-slashes", {"sysctl": {"net/ipv4/conf/all/log_martians": "1"}}),
    _case("sysctl-somaxconn", {"sysctl": {"net.core.somaxconn": "500"}}),
    _case("sysctl-v6", {"sysctl": {"net.ipv6.conf.IFNAME.accept_ra": "0"}}, main=bridge(HOST_LOCAL_DUAL)),
    _case("sysctl-unknown", {"sysctl": {"net.ipv4.nonsense": "1"}}, steps=FAILS),
    _case("sysctl-not-net", {"sysctl": {"kernel.shmmax": "1"}}, steps=FAILS),
    _case("sysctl-escaping", {"sysctl": {"net.ipv4.../../../kernel/shmmax": "1"}}, steps=FAILS),
    _case("sysctl-escaping-slashes", {"sysctl": {"net/ipv4/../../kernel/shmmax": "1"}}, steps=FAILS),
    _case("sysctl-value-wrong", {"sysctl": {"net.ipv4.conf.all.log_martians": "nonsense"}}, steps=FAILS),
    _case("sysctl-number", {"sysctl": {"net.ipv4.conf.all.log_martians": 1}}, steps=FAILS),
    _case("sysctl-of-configuration", {"args": {"cni": {"sysctl": {"net.core.somaxconn": "400"}}}}),
    _case("mac", {"mac": MAC}),
    _case("mac-of-args", args=f"IgnoreUnknown=1;MAC={MAC}"),
    _case("mac-of-args-and-others", args=f"IgnoreUnknown=1;MAC={MAC};K8S_POD_NAME=one"),
    _case("mac-of-configuration", {"args": {"cni": {"mac": MAC}}}),
    _case("mac-of-capabilities", {"capabilities": {"mac": True}}, capabilities={"mac": MAC}),
    _case(
        "mac-of-all",
        {
            "mac": "02:42:ac:11:00:01",
            "capabilities": {"mac": True},
            "args": {"cni": {"mac": "02:42:ac:11:00:02"}},
        },
        capabilities={"mac": MAC},
    ),
    _case("mac-wrong", {"mac": "nonsense"}, steps=FAILS),
    _case("mac-multicast", {"mac": "03:42:ac:11:00:77"}, steps=FAILS),
    _case("mtu", {"mtu": 1300}),
    _case("mtu-of-configuration", {"args": {"cni": {"mtu": 1300}}}),
    _case("mtu-too-large", {"mtu": 70000}, steps=FAILS),
    _case("promiscuous", {"promisc": True}),
    _case("promiscuous-of-configuration", {"args": {"cni": {"promisc": True}}}),
    _case("promiscuous-false", {"promisc": False}),
    _case("allmulti", {"allmulti": True}),
    _case("allmulti-false", {"allmulti": False}),
    _case("allmulti-of-configuration", {"args": {"cni": {"allmulti": True}}}),
    _case("queue-length", {"txQLen": 250}),
    _case("queue-length-of-configuration", {"args": {"cni": {"txQLen": 250}}}),
    _case("data-dir", {"mac": MAC, "dataDir": "/run/case/tuning"}),
    _case("two", {"mac": MAC, "mtu": 1300}, steps=TWO),
    _case("twice-in-one-container", {"mtu": 1300, "promisc": True}, steps=TWICE),
    _case("again", {"mac": MAC}, steps=AGAIN),
    _case("namespace-gone", {"mac": MAC}, steps=GONE),
    _case("namespace-forgotten", {"mac": MAC}, steps=NOWHERE),
    _case("result-forgotten", {"mac": MAC}, steps=FORGOTTEN),
    _case(
        "sysctl-changed",
        {"sysctl": SYSCTL},
        steps=("ADD c1", "in c1 echo 0 >/proc/sys/net/ipv4/conf/all/log_martians", "CHECK c1", "DEL c1"),
    ),
    _case(
        "mtu-changed",
        {"mtu": 1300},
        steps=("ADD c1", "in c1 ip link set eth0 mtu 1200", "CHECK c1", "DEL c1"),
    ),
    _case(
        "mac-changed",
        {"mac": MAC},
        steps=("ADD c1", "in c1 ip link set eth0 address 02:42:ac:11:00:99", "CHECK c1", "DEL c1"),
    ),
    _case(
        "promiscuous-changed",
        {"promisc": True},
        steps=("ADD c1", "in c1 ip link set eth0 promisc off", "CHECK c1", "DEL c1"),
    ),
    _case(
        "allmulti-changed",
        {"allmulti": True},
        steps=("ADD c1", "in c1 ip link set eth0 allmulticast off", "CHECK c1", "DEL c1"),
    ),
    _case("allow-list", {"sysctl": SYSCTL}, before=_listed("^net.ipv4.conf.*$")),
    _case("allow-list-other", {"sysctl": SYSCTL}, before=_listed("^net.core.*$"), steps=FAILS),
    _case(
        "allow-list-two-lines",
        {"sysctl": {"net.core.somaxconn": "500"}},
        before=_listed("^net.ipv4.*$", "", "^net.core.*$"),
    ),
    Case("tuning", "first-of-the-chain", ({"type": "tuning", "mtu": 1300},), steps=FAILS),
]
