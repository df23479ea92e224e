"""Cases of ``host-local``: executed by itself, and where the address is used by ``bridge``."""

from __future__ import annotations

from typing import Any

from differential.case import Case, in_all_versions
from differential.cases.parts import DEFAULT_4, DEFAULT_6, bridge

KEYS = [
    "subnet",
    "rangeStart",
    "rangeEnd",
    "gateway",
    "ranges",
    "routes",
    "dataDir",
    "resolvConf",
    "ips",
    "ipRanges",
    "args",
    "runtimeConfig",
    "ipam",
]
FAILS = ("ADD c1", "DEL c1")
TWO = ("ADD c1", "ADD c2", "DEL c1", "ADD c3", "DEL c2", "DEL c3")
V4 = {"subnet": "10.50.0.0/24"}
V6 = {"subnet": "fd50::/64"}
SMALL = {"subnet": "10.50.0.0/24", "rangeStart": "10.50.0.10", "rangeEnd": "10.50.0.11"}
RESOLV_CONF = (
    "mkdir -p /run/case && printf 'nameserver 192.0.2.53\\nnameserver 2001:db8::53\\ndomain example.org\\n"
    "search a.example b.example\\noptions ndots:2 timeout:1\\n' >/run/case/resolv.conf"
)


def _case(name: str, ipam: Any, keys: Any = None, **settings: Any) -> Case:
    plugin = {"type": "host-local", "ipam": {"type": "host-local", **ipam}, **(keys or {})}
    return Case("host-local", name, (plugin,), **settings)


def _asked(
    name: str, *addresses: str, ipam: Any = V4, steps: Any = ("ADD c1", "CHECK c1", "DEL c1")
) -> list[Case]:
    """Give the ways a runtime asks for addresses."""
    return [
        _case(f"{name}-of-args", ipam, args=f"IP={addresses[0]}", steps=steps),
        _case(f"{name}-of-configuration", ipam, {"args": {"cni": {"ips": addresses}}}, steps=steps),
        _case(
            f"{name}-of-capabilities",
            ipam,
            {"capabilities": {"ips": True}},
            capabilities={"ips": addresses},
            steps=steps,
        ),
    ]


CASES = [
    *in_all_versions("0.1.0", _case("subnet", V4)),
    *in_all_versions("0.3.0", _case("dual", {"ranges": [[V4], [V6]]})),
    _case("v6", {"ranges": [[V6]]}),
    _case("v6-old-style", V6),
    _case("dual-old-version", {"ranges": [[V4], [V6]]}, version="0.2.0"),
    _case("two-of-a-family", {"ranges": [[V4], [{"subnet": "10.51.0.0/24"}]]}),
    _case(
        "two-of-a-family-old-version",
        {"ranges": [[V4], [{"subnet": "10.51.0.0/24"}]]},
        version="0.2.0",
        steps=FAILS,
    ),
    _case("old-and-new-style", {**V4, "ranges": [[V6]]}),
    _case("gateway", {**V4, "gateway": "10.50.0.254"}),
    _case("gateway-first", {**V4, "gateway": "10.50.0.2"}, steps=TWO),
    _case("range", {**V4, "rangeStart": "10.50.0.10", "rangeEnd": "10.50.0.20"}, steps=TWO),
    _case("range-of-one", {**V4, "rangeStart": "10.50.0.10", "rangeEnd": "10.50.0.10"}, steps=TWO),
    _case("range-with-the-gateway", {**V4, "rangeStart": "10.50.0.1", "rangeEnd": "10.50.0.3"}, steps=TWO),
    _case("round-robin", SMALL, steps=("ADD c1", "DEL c1", "ADD c1", "DEL c1", "ADD c1", "DEL c1")),
    _case(
        "exhausted",
        SMALL,
        steps=("ADD c1", "ADD c2", "ADD c3", "DEL c3", "DEL c1", "ADD c3", "DEL c2", "DEL c3"),
    ),
    _case(
        "alternatives",
        {"ranges": [[SMALL, {"subnet": "10.51.0.0/29"}]]},
        steps=("ADD c1", "ADD c2", "ADD c3", "DEL c2"),
    ),
    _case("twice", V4, steps=("ADD c1", "ADD c1", "DEL c1")),
    _case("two-interfaces", V4, steps=("ADD c1", "ADD c1 eth1", "DEL c1", "DEL c1 eth1")),
    _case(
        "routes",
        {
            "ranges": [[V4], [V6]],
            "routes": [DEFAULT_4, DEFAULT_6, {"dst": "10.60.0.0/16", "gw": "10.50.0.9"}],
        },
    ),
    _case(
        "routes-0.2.0",
        {**V4, "routes": [DEFAULT_4, {"dst": "10.60.0.0/16", "gw": "10.50.0.9"}]},
        version="0.2.0",
    ),
    _case("route-wrong", {**V4, "routes": [{"dst": "nonsense"}]}, steps=FAILS),
    _case("data-dir", {**V4, "dataDir": "/run/case/networks"}),
    _case("resolv-conf", {**V4, "resolvConf": "/run/case/resolv.conf"}, before=(RESOLV_CONF,)),
    _case("resolv-conf-missing", {**V4, "resolvConf": "/run/case/none"}, steps=FAILS),
    *_asked("asked", "10.50.0.77"),
    *_asked("asked-with-length", "10.50.0.77/24"),
    *_asked("asked-for-the-gateway", "10.50.0.1", steps=FAILS),
    *_asked("asked-outside", "10.99.0.7", steps=FAILS),
    *_asked("asked-twice", "10.50.0.77", steps=("ADD c1", "ADD c2", "DEL c2", "DEL c1")),
    *_asked("asked-nonsense", "nonsense", steps=FAILS),
    *_asked("asked-dual", "10.50.0.77", "fd50::77", ipam={"ranges": [[V4], [V6]]}),
    _case(
        "ranges-of-capabilities",
        {},
        {"capabilities": {"ipRanges": True}},
        capabilities={"ipRanges": [[V4], [V6]]},
    ),
    _case(
        "ranges-of-both",
        {"ranges": [[V6]]},
        {"capabilities": {"ipRanges": True}},
        capabilities={"ipRanges": [[{"Subnet": "10.50.0.0/24", "RangeStart": "10.50.0.9"}]]},
    ),
    _case("gone", V4, steps=("ADD c1", "lose c1", "DEL c1")),
    _case("forgotten", V4, steps=("ADD c1", "DEL c1 netns= prevResult=")),
    _case(
        "file-removed", V4, steps=("ADD c1", "host rm /var/lib/cni/networks/mynet/10.*", "CHECK c1", "DEL c1")
    ),
    _case(
        "file-of-an-old-plugin",
        V4,
        before=("mkdir -p /var/lib/cni/networks/mynet && printf c1 >/var/lib/cni/networks/mynet/10.50.0.2",),
        steps=("ADD c2", "DEL c1", "ADD c1", "DEL c1", "DEL c2"),
    ),
    _case(
        "file-without-a-last",
        V4,
        before=(
            "mkdir -p /var/lib/cni/networks/mynet",
            "printf 'other\\r\\neth0' >/var/lib/cni/networks/mynet/10.50.0.2",
            "printf 10.50.0.1 >/var/lib/cni/networks/mynet/last_reserved_ip.0",
        ),
    ),
    _case(
        "last-is-junk",
        V4,
        before=(
            "mkdir -p /var/lib/cni/networks/mynet && echo junk >/var/lib/cni/networks/mynet/last_reserved_ip.0",
        ),
    ),
    *(
        _case(f"small-{subnet.replace('/', '-')}", {"subnet": subnet}, steps=FAILS)
        for subnet in ("10.50.0.0/30", "10.50.0.0/31", "10.50.0.0/32", "fd50::/127", "fd50::/126")
    ),
    _case("host-bits", {"subnet": "10.50.0.7/24"}, steps=FAILS),
    _case("no-subnet", {}, steps=FAILS),
    _case("subnet-nonsense", {"subnet": "nonsense"}, steps=FAILS),
    _case("ranges-overlap", {"ranges": [[V4], [{"subnet": "10.50.0.128/25"}]]}, steps=FAILS),
    _case("ranges-overlap-in-a-set", {"ranges": [[V4, {"subnet": "10.50.0.128/25"}]]}, steps=FAILS),
    _case("families-mixed-in-a-set", {"ranges": [[V4, V6]]}, steps=FAILS),
    _case("start-outside", {**V4, "rangeStart": "10.51.0.1"}, steps=FAILS),
    _case("end-outside", {**V4, "rangeEnd": "10.51.0.1"}, steps=FAILS),
    _case("start-after-end", {**V4, "rangeStart": "10.50.0.20", "rangeEnd": "10.50.0.10"}, steps=FAILS),
    _case("gateway-outside", {**V4, "gateway": "10.99.0.1"}),
    _case(
        "end-is-the-broadcast-address",
        {**V4, "rangeStart": "10.50.0.253", "rangeEnd": "10.50.0.255"},
        steps=(*TWO[:2], "ADD c3", "ADD c4"),
    ),
    _case("args-unknown", V4, args="COLOUR=red", steps=FAILS),
    _case("args-unknown-ignored", V4, args="COLOUR=red;IgnoreUnknown=1"),
    Case("host-local", "no-ipam", ({"type": "host-local"},), steps=FAILS),
    Case(
        "host-local",
        "of-a-bridge",
        (bridge({"type": "host-local", **SMALL}),),
        steps=("ADD c1", "CHECK c1", "ADD c2", "ADD c3", "DEL c3", "DEL c1", "DEL c2"),
    ),
    Case(
        "host-local",
        "case-of-keys",
        (bridge({"type": "host-local", "Subnet": "10.50.0.0/24", "RANGESTART": "10.50.0.9"}),),
    ),
    _case("other-network", V4, network="net-2.b_c"),
]
