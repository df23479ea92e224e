"""Cases of ``portmap``, after ``bridge``."""

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

KEYS = [
    "backend",
    "snat",
    "conditionsV4",
    "conditionsV6",
    "masqAll",
    "markMasqBit",
    "externalSetMarkChain",
    "portMappings",
    "capabilities",
]
FAILS = ("ADD c1", "DEL c1")
WEB = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}


def _case(
    name: str, *ports: dict[str, Any], ipam: Any = HOST_LOCAL_4, keys: Any = None, **settings: Any
) -> Case:
    plugin = {
        "type": "portmap",
        "backend": "iptables",
        "capabilities": {"portMappings": True},
        **(keys or {}),
    }
    given = {"portMappings": list(ports)}
    return Case(
        "portmap", name, (bridge(ipam), plugin), capabilities=settings.pop("capabilities", given), **settings
    )


def _port(host: int, container: int, protocol: str = "tcp", host_ip: str = "") -> dict[str, Any]:
    port = {"hostPort": host, "containerPort": container, "protocol": protocol}
    return {**port, "hostIP": host_ip} if host_ip else port


CASES = [
    *in_all_versions("0.3.0", _case("tcp", WEB)),
    *in_all_versions("0.3.0", _case("dual", WEB, _port(53, 53, "udp"), ipam=HOST_LOCAL_DUAL)),
    *(_case(f"old-{version}", WEB, version=version) for version in ("0.1.0", "0.2.0")),
    _case("udp", _port(53, 5353, "udp")),
    _case("sctp", _port(7777, 77, "sctp")),
    _case("v6", WEB, ipam=HOST_LOCAL_6),
    _case("host-ip", _port(8080, 80, host_ip="192.0.2.1"), ipam=HOST_LOCAL_DUAL),
    _case("host-ip-v6", _port(8080, 80, host_ip="2001:db8::1"), ipam=HOST_LOCAL_DUAL),
    _case("host-ip-of-another-family", _port(8080, 80, host_ip="2001:db8::1")),
    _case("host-ip-any", _port(8080, 80, host_ip="0.0.0.0"), ipam=HOST_LOCAL_DUAL),
    _case("host-ip-any-v6", _port(8080, 80, host_ip="::"), ipam=HOST_LOCAL_DUAL),
    _case("host-ip-loopback", _port(8080, 80, host_ip="127.0.0.1")),
    _case("host-ip-wrong", _port(8080, 80, host_ip="nonsense"), steps=FAILS),
    _case("none"),
    _case("none-given", capabilities={}),
    _case("null-given", capabilities={"portMappings": None}),
    _case("many", *(_port(9000 + n, 80 + n) for n in range(20))),
    _case("fifteen", *(_port(9000 + n, 80 + n) for n in range(15))),
    _case("sixteen", *(_port(9000 + n, 80 + n, "udp") for n in range(16))),
    _case("protocols-mixed", WEB, _port(8080, 80, "udp"), _port(8081, 81)),
    _case("protocol-upper-case", _port(8080, 80, "TCP")),
    _case("protocol-wrong", _port(8080, 80, "icmp"), steps=FAILS),
    _case("protocol-missing", {"hostPort": 8080, "containerPort": 80}, steps=FAILS),
    _case("host-port-0", _port(0, 80), steps=FAILS),
    _case("container-port-0", _port(8080, 0), steps=FAILS),
    _case("port-too-large", _port(70000, 80), steps=FAILS),
    _case("keys-of-go", {"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}),
    _case("no-snat", WEB, keys={"snat": False}),
    _case("no-snat-dual", WEB, keys={"snat": False}, ipam=HOST_LOCAL_DUAL),
    _case(
        "conditions",
        WEB,
        keys={"conditionsV4": ["-s", "192.0.2.0/24"], "conditionsV6": ["-s", "2001:db8::/64"]},
        ipam=HOST_LOCAL_DUAL,
    ),
    _case("conditions-negated", WEB, keys={"conditionsV4": ["!", "-d", "192.0.2.0/24"]}),
    _case("conditions-wrong", WEB, keys={"conditionsV4": ["--nonsense"]}, steps=FAILS),
    _case("mark-bit", WEB, keys={"markMasqBit": 5}),
    _case("mark-bit-0", WEB, keys={"markMasqBit": 0}),
    _case("mark-bit-wrong", WEB, keys={"markMasqBit": 32}, steps=FAILS),
    _case(
        "mark-chain",
        WEB,
        keys={"externalSetMarkChain": "KUBE-MARK-MASQ"},
        before=(
            "iptables -t nat -N KUBE-MARK-MASQ && iptables -t nat -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
        ),
    ),
    _case(
        "mark-chain-and-bit",
        WEB,
        keys={"externalSetMarkChain": "KUBE-MARK-MASQ", "markMasqBit": 5},
        steps=FAILS,
    ),
    _case(
        "two",
        capabilities_of={"c1": {"portMappings": [WEB]}, "c2": {"portMappings": [_port(8081, 80)]}},
        steps=TWO,
    ),
    _case("same-port", WEB, steps=("ADD c1", "ADD c2", "DEL c2", "DEL c1")),
    _case("twice-in-one-container", WEB, steps=TWICE),
    _case("again", WEB, steps=AGAIN),
    _case("namespace-gone", WEB, ipam=HOST_LOCAL_DUAL, steps=GONE),
    _case("namespace-forgotten", WEB, steps=NOWHERE),
    _case("result-forgotten", WEB, steps=FORGOTTEN),
    _case(
        "rules-removed",
        WEB,
        steps=("ADD c1", "host iptables -t nat -F CNI-HOSTPORT-DNAT", "CHECK c1", "DEL c1"),
    ),
    _case("jump-removed", WEB, steps=("ADD c1", "host iptables -t nat -F PREROUTING", "CHECK c1", "DEL c1")),
    _case(
        "all-flushed", WEB, steps=("ADD c1", "host nft delete table ip nat", "CHECK c1", "DEL c1", "DEL c1")
    ),
    _case("masquerade-all", WEB, keys={"masqAll": True}),
    _case("as-it-comes", WEB, keys={"backend": None}),
    _case("nftables", WEB, keys={"backend": "nftables"}),
    Case(
        "portmap",
        "first-of-the-chain",
        ({"type": "portmap", "capabilities": {"portMappings": True}},),
        capabilities={"portMappings": [WEB]},
        steps=FAILS,
    ),
    Case(
        "portmap",
        "no-address",
        (bridge(None), {"type": "portmap", "capabilities": {"portMappings": True}}),
        capabilities={"portMappings": [WEB]},
        steps=FAILS,
    ),
    Case(
        "portmap",
        "not-a-capability",
        (bridge(), {"type": "portmap", "backend": "iptables"}),
        capabilities={"portMappings": [WEB]},
    ),
    Case(
        "portmap",
        "with-masquerade",
        (
            bridge(HOST_LOCAL_DUAL, ipMasq=True, ipMasqBackend="iptables"),
            {"type": "portmap", "backend": "iptables", "capabilities": {"portMappings": True}},
        ),
        capabilities={"portMappings": [WEB]},
    ),
]
