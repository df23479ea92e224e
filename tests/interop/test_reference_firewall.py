"""The reference plugins' firewall: the same rules as theirs, and each side removes what the other made.

Both run in the same empty namespace, one after the other; what is compared is ``iptables-save``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

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
from dovetail.kernel.linux import LinuxKernel
from dovetail.model.addresses import IPInterface
from dovetail.model.mac import Mac
from dovetail.model.port import PortMapping

pytestmark = [pytest.mark.root, pytest.mark.interop]

PLUGINS = "/usr/lib/cni"
V4, V6 = "10.50.0.2/24", "fd50::2/64"
BRIDGE = "br50"
OWNER = Owner("mynet", "ctr1", "eth0")


@pytest.fixture(autouse=True)
def _needs_plugins() -> None:
    if not os.path.exists(f"{PLUGINS}/portmap"):
        pytest.skip("the reference plugins are not installed (Debian package containernetworking-plugins)")
    if shutil.which("iptables-save") is None:
        pytest.skip("iptables is not installed (Debian package iptables)")


@pytest.fixture
def kernel(host: Any) -> Iterator[LinuxKernel]:
    with LinuxKernel() as handle:
        yield handle


def go(verb: str, plugin: str, config: dict[str, Any], *, owner: Owner = OWNER, netns: str = "/none") -> Any:
    """Execute a reference plugin; gives its result."""
    environment = {
        "PATH": os.environ["PATH"],
        "CNI_PATH": PLUGINS,
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": owner.container,
        "CNI_NETNS": netns,
        "CNI_IFNAME": owner.ifname,
    }
    document = {"cniVersion": "0.4.0", "name": owner.network, "type": plugin, **config}
    done = subprocess.run(
        [f"{PLUGINS}/{plugin}"],
        input=json.dumps(document),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, f"{verb} {plugin}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout) if done.stdout.strip() else None


def result(addresses: Sequence[str]) -> dict[str, Any]:
    """Write what a bridge plugin would have answered."""
    links = [{"name": BRIDGE}, {"name": "veth0"}, {"name": "eth0", "sandbox": "/none"}]
    ips = [
        {"version": "6" if ":" in address else "4", "address": address, "interface": 2}
        for address in addresses
    ]
    return {"cniVersion": "0.4.0", "interfaces": links, "ips": ips, "dns": {}}


def saved(host: Any) -> str:
    """Give all rules of iptables, without counters and times, and without tables that say nothing."""
    tables = []
    for program in ("iptables", "ip6tables"):
        text = re.sub(r"^#.*\n| \[\d+:\d+\]$", "", host.run(f"{program}-save"), flags=re.MULTILINE)
        said = [
            table
            for table in text.split("COMMIT\n")
            if re.search(r"^-A|^:\S+ (?!ACCEPT)", table, re.MULTILINE)
        ]
        tables += [f"{program} {table}" for table in said]
    return "".join(tables)


def flush(host: Any) -> None:
    host.run("nft", "flush", "ruleset")


def port(text: str) -> PortMapping:
    """Read ``[HOSTIP@]HOST:CONTAINER/PROTOCOL``."""
    address, _, rest = text.rpartition("@")
    ports, _, protocol = rest.partition("/")
    outer, _, inner = ports.partition(":")
    return PortMapping(
        host_port=int(outer),
        container_port=int(inner),
        protocol=protocol or "tcp",  # type: ignore[arg-type]
        host_ip=ip_address(address) if address else None,
    )


def port_json(mapping: PortMapping) -> dict[str, Any]:
    said: dict[str, Any] = {
        "hostPort": mapping.host_port,
        "containerPort": mapping.container_port,
        "protocol": mapping.protocol,
    }
    return said | ({"hostIP": str(mapping.host_ip)} if mapping.host_ip else {})


# -- portmap ------------------------------------------------------------------------------------------


class Ports(NamedTuple):
    """A configuration of portmap: ports, addresses, and the keys in CNI's words."""

    ports: Sequence[str]
    addresses: Sequence[str] = (V4,)
    keys: Mapping[str, Any] = MappingProxyType({})
    owner: Owner = OWNER


MANY = [f"{8000 + number}:{80 + number}" for number in range(40)]
# masqAll and ingressPolicy isolated came after 1.1.1: tests/golden/test_iptables_golden.py has them
PORTS = {
    "one port": Ports(["8080:80"]),
    "IPv6 alone": Ports(["8080:80"], (V6,)),
    "both families": Ports(["8080:80"], (V4, V6)),
    "the first address of each family counts": Ports(["8080:80"], (V4, "10.51.0.2/16", V6, "fd51::2/48")),
    "tcp, udp and sctp": Ports(["8080:80/tcp", "53:5353/udp", "9899:9899/sctp", "8081:81"], (V4, V6)),
    "more ports than a rule holds": Ports([*MANY, *(f"{one}/udp" for one in MANY[:16])], (V4, V6)),
    "exactly as many as a rule holds": Ports(MANY[:15]),
    "an address of the host": Ports(["192.0.2.1@8080:80", "8081:81"], (V4, V6)),
    "an IPv6 address of the host": Ports(["2001:db8::1@8080:80"], (V4, V6)),
    "every address of one family": Ports(["0.0.0.0@8080:80", "::@8081:81"], (V4, V6)),
    "the host alone": Ports(["127.0.0.1@8080:80"]),
    "one port on two addresses": Ports(["192.0.2.1@8080:80", "192.0.2.2@8080:81"]),
    "no snat": Ports(["8080:80"], (V4, V6), {"snat": False}),
    "another bit of the mark": Ports(["8080:80"], (V4, V6), {"markMasqBit": 5}),
    "the highest bit": Ports(["8080:80"], (V4,), {"markMasqBit": 31}),
    "the lowest bit": Ports(["8080:80"], (V4,), {"markMasqBit": 0}),
    "somebody else's chain": Ports(["8080:80"], (V4, V6), {"externalSetMarkChain": "KUBE-MARK-MASQ"}),
    "conditions": Ports(
        ["8080:80", "53:53/udp"],
        (V4, V6),
        {"conditionsV4": ["-s", "192.0.2.0/24"], "conditionsV6": ["!", "-d", "2001:db8::1/128"]},
    ),
    "conditions that iptables writes otherwise": Ports(
        ["8080:80"],
        (V4,),
        {"conditionsV4": ["--source", "192.0.2.1", "-i", "eth+", "-m", "mark", "--mark", "1"]},
    ),
    "a condition with white space and quotes": Ports(
        ["8080:80"], (V4,), {"conditionsV4": ["-m", "comment", "--comment", 'who\'s "there" \\ here']}
    ),
    "a wide subnet": Ports(["8080:80"], ("10.50.0.2/8",)),
    "a subnet of one": Ports(["8080:80"], ("10.50.0.2/32", "fd50::2/128")),
    "an address without a subnet": Ports(["8080:80"], ("10.50.0.2/0",)),
    "long names": Ports(["8080:80"], (V4,), {}, Owner("n" * 60, "c" * 64, "eth0")),
    "names with all that they may have": Ports(
        ["8080:80"], (V4,), {}, Owner("My_net-1.2", "A.b_c-9", "eth0")
    ),
}


def portmap_config(case: Ports) -> dict[str, Any]:
    mappings = [port_json(port(text)) for text in case.ports]
    return {
        **case.keys,
        "runtimeConfig": {"portMappings": mappings},
        "prevResult": result(case.addresses),
    }


class OurPorts(NamedTuple):
    owner: Owner
    addresses: list[IPInterface]
    mappings: list[PortMapping]
    settings: PortmapSettings


def ours(case: Ports) -> OurPorts:
    keys = case.keys
    settings = PortmapSettings(
        snat=keys.get("snat", True),
        mark_bit=keys.get("markMasqBit", 13),
        set_mark_chain=keys.get("externalSetMarkChain", ""),
        conditions4=tuple(keys.get("conditionsV4", ())),
        conditions6=tuple(keys.get("conditionsV6", ())),
    )
    return OurPorts(
        case.owner, [ip_interface(a) for a in case.addresses], [port(text) for text in case.ports], settings
    )


def others_chain(host: Any, case: Ports) -> None:
    for chain in filter(None, [case.keys.get("externalSetMarkChain")]):
        for program in ("iptables", "ip6tables"):
            host.run(program, "-t", "nat", "-N", chain)


@pytest.mark.parametrize("case", PORTS.values(), ids=PORTS)
def test_published_ports_are_the_same_rules(host: Any, kernel: LinuxKernel, case: Ports) -> None:
    others_chain(host, case)
    go("ADD", "portmap", portmap_config(case), owner=case.owner)
    theirs = saved(host)
    assert iptables_portmap.differences(kernel, *ours(case)) == []
    flush(host)
    others_chain(host, case)

    iptables_portmap.make(kernel, *ours(case))

    assert saved(host) == theirs
    iptables_portmap.make(kernel, *ours(case))
    assert saved(host) == theirs, "made twice"
    go("ADD", "portmap", portmap_config(case), owner=case.owner)
    assert saved(host) == theirs, "made by both"  # its CHECK, of 1.1.1, fails where one family has none


@pytest.mark.parametrize("case", PORTS.values(), ids=PORTS)
def test_published_ports_are_removed_by_either_side(host: Any, kernel: LinuxKernel, case: Ports) -> None:
    others_chain(host, case)
    other = case._replace(owner=Owner("mynet", "other", "eth0"), ports=["9999:99"])
    go("ADD", "portmap", portmap_config(other), owner=other.owner)
    others = saved(host)
    go("ADD", "portmap", portmap_config(case), owner=case.owner)

    assert reference_rules.remove(kernel, case.owner, [a.ip for a in ours(case).addresses])
    assert saved(host) == others
    assert not reference_rules.remove(kernel, case.owner, [a.ip for a in ours(case).addresses])
    assert len(iptables_portmap.differences(kernel, *ours(case))) >= 3

    iptables_portmap.make(kernel, *ours(case))
    assert saved(host) != others
    go("DEL", "portmap", portmap_config(case), owner=case.owner)
    assert saved(host) == others


# -- firewall -------------------------------------------------------------------------------------------


class Filter(NamedTuple):
    addresses: Sequence[str] = (V4,)
    keys: Mapping[str, Any] = MappingProxyType({})
    before: Sequence[Sequence[str]] = ()


FIREWALLS = {
    "open": Filter(),
    "open, both families": Filter((V4, V6)),
    "IPv6 alone": Filter((V6,)),
    "several addresses": Filter((V4, "10.51.0.2/24", V6, "fd51::2/64")),
    "same-bridge": Filter((V4, V6), {"ingressPolicy": "same-bridge"}),
    "said to be open": Filter((V4,), {"ingressPolicy": "open"}),
    "another chain for the administrator": Filter((V4, V6), {"iptablesAdminChainName": "NOMAD-ADMIN"}),
    "rules of others": Filter(
        (V4,),
        {"ingressPolicy": "same-bridge"},
        [("-N", "X"), ("-A", "FORWARD", "-j", "X"), ("-P", "FORWARD", "DROP")],
    ),
    "an administrator's rules": Filter(
        (V4,), {}, [("-N", "CNI-ADMIN"), ("-A", "CNI-ADMIN", "-s", "192.0.2.1", "-j", "DROP")]
    ),
    "an administrator who accepts first": Filter(
        (V4,), {}, [("-N", "CNI-FORWARD"), ("-A", "CNI-FORWARD", "-s", "192.0.2.1", "-j", "ACCEPT")]
    ),
}


def firewall_config(case: Filter) -> dict[str, Any]:
    return {"backend": "iptables", **case.keys, "prevResult": result(case.addresses)}


def firewall(case: Filter) -> tuple[list[IPInterface], FirewallSettings]:
    settings = FirewallSettings(
        admin_chain=case.keys.get("iptablesAdminChainName", "CNI-ADMIN"),
        policy=case.keys.get("ingressPolicy", "open"),
        bridge=BRIDGE,
    )
    return [ip_interface(address) for address in case.addresses], settings


@pytest.mark.parametrize("case", FIREWALLS.values(), ids=FIREWALLS)
def test_the_way_through_forward_is_the_same_rules(host: Any, kernel: LinuxKernel, case: Filter) -> None:
    for words in case.before:
        host.run("iptables", *words)
    go("ADD", "firewall", firewall_config(case))
    theirs = saved(host)
    assert iptables_firewall.differences(kernel, *firewall(case)) == []
    flush(host)
    for words in case.before:
        host.run("iptables", *words)

    iptables_firewall.make(kernel, *firewall(case))

    assert saved(host) == theirs
    iptables_firewall.make(kernel, *firewall(case))
    assert saved(host) == theirs, "made twice"
    go("ADD", "firewall", firewall_config(case))
    assert saved(host) == theirs, "made by both"
    go("CHECK", "firewall", firewall_config(case))


@pytest.mark.parametrize("case", FIREWALLS.values(), ids=FIREWALLS)
def test_the_way_through_forward_is_removed_by_either_side(
    host: Any, kernel: LinuxKernel, case: Filter
) -> None:
    for words in case.before:
        host.run("iptables", *words)
    both = {"prevResult": result(["10.50.0.3/24", "fd50::3/64"])}
    go("ADD", "firewall", firewall_config(case) | both)
    others = saved(host)
    addresses, settings = firewall(case)
    go("ADD", "firewall", firewall_config(case))

    assert reference_rules.remove(kernel, OWNER, [address.ip for address in addresses])
    assert saved(host) == others
    assert not reference_rules.remove(kernel, OWNER, [address.ip for address in addresses])

    iptables_firewall.make(kernel, addresses, settings)
    assert saved(host) != others
    go("DEL", "firewall", firewall_config(case))
    assert saved(host) == others


# -- bridge: masquerading and macspoofchk -----------------------------------------------------------------


MASQUERADES = {
    "IPv4": [V4],
    "IPv6": [V6],
    "both families": [V4, V6],
    "a wide subnet": ["10.0.0.2/8"],
}


def bridge_config(subnets: Sequence[str], **keys: Any) -> dict[str, Any]:
    addresses = [{"address": address} for address in subnets]
    return {
        "bridge": BRIDGE,
        "isGateway": False,
        "ipMasq": True,
        "ipam": {"type": "static", "addresses": addresses},
        **keys,
    }


@pytest.fixture
def box(kernel: LinuxKernel, tmp_path: Any) -> Iterator[str]:
    path = str(tmp_path / "box")
    with kernel.create_netns(path):
        yield path
    kernel.delete_netns(path)


@pytest.mark.parametrize("texts", MASQUERADES.values(), ids=MASQUERADES)
def test_masquerading_is_the_same_rules(
    host: Any, kernel: LinuxKernel, box: str, texts: Sequence[str]
) -> None:
    addresses = [ip_interface(text) for text in texts]
    go("ADD", "bridge", bridge_config(texts), netns=box)
    theirs = saved(host)
    assert iptables_masquerade.differences(kernel, OWNER, addresses) == []
    flush(host)

    iptables_masquerade.make(kernel, OWNER, addresses)

    assert saved(host) == theirs
    iptables_masquerade.make(kernel, OWNER, addresses)
    assert saved(host) == theirs, "made twice"
    go("DEL", "bridge", bridge_config(texts), netns=box)
    assert "CNI-" not in saved(host), "their DEL leaves what we made"


@pytest.mark.parametrize("texts", MASQUERADES.values(), ids=MASQUERADES)
@pytest.mark.parametrize("known", [True, False], ids=["addresses known", "addresses unknown"])
def test_their_masquerading_is_removed(
    host: Any, kernel: LinuxKernel, box: str, texts: Sequence[str], known: bool
) -> None:
    addresses = [ip_interface(text) for text in texts]
    go("ADD", "bridge", bridge_config(texts), netns=box)
    assert reference_rules.owners(kernel) == {OWNER._replace(ifname=""): {a.ip for a in addresses}}

    assert reference_rules.remove(kernel, OWNER, [a.ip for a in addresses] if known else [])

    assert "CNI-" not in saved(host)
    assert reference_rules.owners(kernel) == {}
    assert not reference_rules.remove(kernel, OWNER)


def test_of_two_subnets_each_is_accepted_before_anything_is_masqueraded(
    host: Any, kernel: LinuxKernel, box: str
) -> None:
    texts = [V4, "10.51.0.2/24"]
    go("ADD", "bridge", bridge_config(texts), netns=box)
    theirs = saved(host)
    flush(host)

    iptables_masquerade.make(kernel, OWNER, [ip_interface(text) for text in texts])

    assert sorted(saved(host).splitlines()) == sorted(theirs.splitlines())
    chain = [line for line in saved(host).splitlines() if line.startswith("-A CNI-5145")]
    assert [line.rpartition(" ")[2] for line in chain] == ["ACCEPT", "ACCEPT", "MASQUERADE"]


def bridge_rules(host: Any) -> Any:
    """Give what is in ``table bridge nat``, without handles."""
    tables = json.loads(host.run("nft", "-j", "list", "ruleset"))["nftables"]
    found = [entry for entry in tables for row in entry.values() if row.get("family") == "bridge"]
    for entry in found:
        for row in entry.values():
            row.pop("handle", None)
    return found


def test_macspoofchk_is_the_same_rules_and_either_side_removes_them(
    host: Any, kernel: LinuxKernel, box: str
) -> None:
    config = bridge_config([V4], macspoofchk=True, ipMasq=False)
    answer = go("ADD", "bridge", config, netns=box)
    _, veth, inner = answer["interfaces"]
    theirs = bridge_rules(host)
    mac = Mac(inner["mac"])
    assert spoof_check.differences(kernel, OWNER, veth["name"], mac) == []

    assert spoof_check.remove(kernel, OWNER)
    shared = bridge_rules(host)
    assert [list(entry) for entry in shared] == [["table"], ["chain"]]
    assert len(spoof_check.differences(kernel, OWNER, veth["name"], mac)) == 3
    assert not spoof_check.remove(kernel, OWNER)

    spoof_check.make(kernel, OWNER, veth["name"], mac)
    assert bridge_rules(host) == theirs
    spoof_check.make(kernel, OWNER, veth["name"], mac)
    assert bridge_rules(host) == theirs, "made twice"
    go("DEL", "bridge", config, netns=box)
    assert bridge_rules(host) == shared
