"""Cases of ``static``."""

from __future__ import annotations

from typing import Any

from differential.case import Case, in_all_versions
from differential.cases.parts import DEFAULT_4, DEFAULT_6, DNS, TWO, bridge, static

KEYS = ["addresses", "routes", "dns", "args", "ips", "runtimeConfig", "ipam"]
FAILS = ("ADD c1", "DEL c1")
ONE = static("10.50.0.5/24 10.50.0.1")
DUAL = static("10.50.0.5/24 10.50.0.1", "fd50::5/64 fd50::1")


def _case(name: str, ipam: Any = ONE, keys: Any = None, **settings: Any) -> Case:
    return Case("static", name, ({"type": "static", "ipam": ipam, **(keys or {})},), **settings)


CASES = [
    *in_all_versions("0.1.0", _case("v4")),
    *in_all_versions("0.3.0", _case("dual", DUAL)),
    _case("dual-0.2.0", DUAL, version="0.2.0"),
    _case("v6", static("fd50::5/64 fd50::1")),
    _case("no-gateway", static("10.50.0.5/24")),
    _case("two-of-a-family", static("10.50.0.5/24", "10.51.0.5/24 10.51.0.1")),
    _case("two-of-a-family-0.2.0", static("10.50.0.5/24", "10.51.0.5/24"), version="0.2.0", steps=FAILS),
    _case("no-length", static("10.50.0.5"), steps=FAILS),
    _case("host-length", static("10.50.0.5/32")),
    _case("nonsense", static("nonsense"), steps=FAILS),
    _case("gateway-nonsense", static("10.50.0.5/24 nonsense"), steps=FAILS),
    _case("gateway-of-another-family", static("10.50.0.5/24 fd50::1"), steps=FAILS),
    _case("gateway-outside", static("10.50.0.5/24 10.99.0.1")),
    _case("routes", {**DUAL, "routes": [DEFAULT_4, DEFAULT_6, {"dst": "10.60.0.0/16", "gw": "10.50.0.9"}]}),
    _case("routes-0.2.0", {**DUAL, "routes": [DEFAULT_4, DEFAULT_6]}, version="0.2.0"),
    _case("route-nonsense", {**ONE, "routes": [{"dst": "nonsense"}]}, steps=FAILS),
    _case("dns", {**ONE, "dns": DNS}),
    _case("dns-0.3.1", {**ONE, "dns": DNS}, version="0.3.1"),
    _case("no-addresses", {"type": "static"}),
    _case("no-addresses-0.4.0", {"type": "static"}, version="0.4.0"),
    Case("static", "no-ipam", ({"type": "static"},), steps=FAILS),
    _case("args", args="IP=10.60.0.7/24"),
    _case("args-and-gateway", args="IP=10.60.0.7/24;GATEWAY=10.60.0.1"),
    _case("args-two", args="IP=10.60.0.7/24,fd60::7/64;GATEWAY=10.60.0.1,fd60::1"),
    _case("args-no-length", args="IP=10.60.0.7", steps=FAILS),
    _case("args-nonsense", args="IP=nonsense", steps=FAILS),
    _case("args-gateway-nonsense", args="IP=10.60.0.7/24;GATEWAY=nonsense", steps=FAILS),
    _case("args-gateway-alone", args="GATEWAY=10.50.0.9"),
    _case("args-unknown", args="COLOUR=red", steps=FAILS),
    _case("args-unknown-ignored", args="COLOUR=red;IgnoreUnknown=1"),
    _case("args-keep-routes", {**ONE, "routes": [DEFAULT_4], "dns": DNS}, args="IP=10.60.0.7/24"),
    _case("ips-of-configuration", keys={"args": {"cni": {"ips": ["10.60.0.7/24", "fd60::7/64"]}}}),
    _case("ips-of-configuration-no-length", keys={"args": {"cni": {"ips": ["10.60.0.7"]}}}, steps=FAILS),
    _case(
        "ips-of-capabilities",
        keys={"capabilities": {"ips": True}},
        capabilities={"ips": ["10.60.0.7/24", "fd60::7/64"]},
    ),
    _case(
        "ips-of-all",
        keys={"capabilities": {"ips": True}, "args": {"cni": {"ips": ["10.61.0.7/24"]}}},
        capabilities={"ips": ["10.60.0.7/24"]},
        args="IP=10.62.0.7/24",
    ),
    _case("ips-empty", keys={"capabilities": {"ips": True}}, capabilities={"ips": []}),
    _case("two-containers", steps=TWO),
    Case("static", "of-a-bridge", (bridge(DUAL, isDefaultGateway=True),)),
    Case(
        "static",
        "of-a-bridge-address-removed",
        (bridge(DUAL),),
        steps=("ADD c1", "in c1 ip addr flush dev eth0", "CHECK c1", "DEL c1"),
    ),
    Case("static", "of-a-bridge-routes", (bridge({**DUAL, "routes": [DEFAULT_4, {"dst": "fd60::/64"}]}),)),
    _case(
        "case-of-keys", {"type": "static", "Addresses": [{"Address": "10.50.0.5/24", "GATEWAY": "10.50.0.1"}]}
    ),
]
