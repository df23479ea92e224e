"""The reference plugins' form of iptables, as the commands that make it on an empty host, against committed text."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

from dovetail.features import (
    iptables_firewall,
    iptables_masquerade,
    iptables_portmap,
    reference_rules,
    spoof_check,
)
from dovetail.features.iptables_firewall import FirewallSettings
from dovetail.features.iptables_portmap import PortmapSettings
from dovetail.features.reference_names import Owner
from dovetail.kernel.packet_filter import NftChain, NftRule
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.mac import Mac
from dovetail.model.port import PortMapping

_HERE = Path(__file__).parent / "iptables"
OWNER = Owner("mynet", "ctr1", "eth0")
V4, V6 = ip_interface("10.50.0.2/24"), ip_interface("fd50::2/64")
PORTS = (
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=53, protocol="udp", host_ip=ip_address("192.0.2.1")),
    PortMapping(container_port=81, host_port=8081, host_ip=ip_address("::")),
)


def commands(*steps: Callable[[RecordingKernel], object]) -> str:
    """Give the commands; each step taken again has none."""
    kernel = RecordingKernel()
    for step in steps:
        step(kernel)
    done = list(kernel.commands)
    for step in steps:
        step(kernel)
    again = [line for line in kernel.commands[len(done) :] if not line.startswith(("conntrack", "sysctl"))]
    assert again == []
    return "\n".join(done)


def test_masquerading(compare: Any) -> None:
    cases = {
        "IPv4": [V4],
        "both families": [V4, V6],
        "two subnets": [V4, ip_interface("10.51.0.2/16")],
        "two addresses of a subnet": [V4, ip_interface("10.50.0.3/24")],
    }
    compare(
        _HERE / "masquerade.txt",
        [
            (title, commands(lambda k, a=addresses: iptables_masquerade.make(k, OWNER, a)), addresses)
            for title, addresses in cases.items()
        ],
    )


def test_published_ports(compare: Any) -> None:
    many = tuple(PortMapping(container_port=number, host_port=number) for number in range(1, 33))
    cases: dict[str, tuple[tuple[PortMapping, ...], PortmapSettings, str]] = {
        "as it comes": (PORTS, PortmapSettings(), ""),
        "with the link": (PORTS, PortmapSettings(), "br50"),
        "snat=false": (PORTS, PortmapSettings(snat=False), "br50"),
        "masqAll=true": (PORTS, PortmapSettings(masquerade_all=True), ""),
        "masqAll=true snat=false": (PORTS, PortmapSettings(masquerade_all=True, snat=False), ""),
        "markMasqBit=31": (PORTS[:1], PortmapSettings(mark_bit=31), ""),
        "externalSetMarkChain": (PORTS[:1], PortmapSettings(set_mark_chain="KUBE-MARK-MASQ"), ""),
        "conditions": (
            PORTS[:1],
            PortmapSettings(
                conditions4=("-s", "192.0.2.0/24"), conditions6=("-m", "comment", "--comment", 'a "b"')
            ),
            "",
        ),
        "32 ports": (many, PortmapSettings(snat=False), ""),
    }
    compare(
        _HERE / "portmap.txt",
        [
            (
                title,
                commands(
                    lambda k, p=ports, s=settings, at=link: iptables_portmap.make(
                        k, OWNER, [V4, V6], p, s, link=at
                    )
                ),
                settings,
            )
            for title, (ports, settings, link) in cases.items()
        ],
    )


def test_the_way_through_forward(compare: Any) -> None:
    cases = {
        "open": FirewallSettings(),
        "same-bridge": FirewallSettings(policy="same-bridge", bridge="br50"),
        "isolated": FirewallSettings(policy="isolated", bridge="br50"),
        "iptablesAdminChainName": FirewallSettings(admin_chain="NOMAD-ADMIN"),
    }
    results = [
        (title, commands(lambda k, s=settings: iptables_firewall.make(k, [V4, V6], s)), settings)
        for title, settings in cases.items()
    ]
    alone = cases["isolated"]
    results.append(
        ("isolated, without the rest", commands(lambda k: iptables_firewall.isolate(k, [V4], alone)), alone)
    )
    results.append(
        (
            "two bridges, two policies",
            commands(
                lambda k: iptables_firewall.make(k, [V4], cases["same-bridge"]),
                lambda k: iptables_firewall.make(
                    k, [ip_interface("10.51.0.2/24")], FirewallSettings(policy="isolated", bridge="br51")
                ),
            ),
            alone,
        )
    )
    compare(_HERE / "firewall.txt", results)


def test_macspoofchk(compare: Any) -> None:
    text = spoof_check.spoof_check_text(OWNER, "vethc83bcabc", Mac("a6:48:de:f0:67:0d"))
    again = spoof_check.spoof_check_text(OWNER, "vethc83bcabc", Mac("a6:48:de:f0:67:0d"), (4, 9))

    compare(_HERE / "macspoofchk.txt", [("first", text, OWNER), ("again", again, OWNER)])


def test_removing(compare: Any) -> None:
    kernel = RecordingKernel()
    nat = [NftChain(family, "nat", "POSTROUTING") for family in ("ip", "ip6")]  # type: ignore[arg-type]
    name = "CNI-5145007e2a8415ce07579739"
    for chain, address in zip(nat, (V4, V6), strict=True):
        kernel.chains[chain] = [NftRule(chain, 7, "", name, (address.ip.packed,)), NftRule(chain, 8)]
        kernel.chains[chain._replace(name=name)] = []
    spoof = NftChain("bridge", "nat", "PREROUTING")
    kernel.chains[spoof] = [NftRule(spoof, 3, "", "cni-br-iface-ctr1-eth0")]
    for chain in reference_rules.spoof_chains(OWNER):
        kernel.chains[chain] = []

    assert reference_rules.remove(kernel, OWNER, [V4.ip])
    first = "\n".join(kernel.commands)
    assert reference_rules.remove(kernel, OWNER)
    then = "\n".join(kernel.commands).removeprefix(first + "\n")
    assert not reference_rules.remove(kernel, OWNER)

    compare(_HERE / "remove.txt", [("one address", first, OWNER), ("the rest", then, OWNER)])
