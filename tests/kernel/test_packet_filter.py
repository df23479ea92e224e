"""Tables of others through `LinuxKernel`, against ``nft`` and ``iptables``; what newer reference plugins leave in nftables."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from dovetail.errors import InUse, KernelError, NotFound, Unsupported
from dovetail.features import (
    iptables_firewall,
    iptables_masquerade,
    iptables_portmap,
    reference_rules,
    spoof_check,
)
from dovetail.features.iptables_firewall import FirewallSettings
from dovetail.features.reference_names import Owner
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.packet_filter import NftChain, NftRule
from dovetail.model.mac import Mac
from dovetail.model.port import PortMapping

pytestmark = pytest.mark.root

OWNER = Owner("mynet", "ctr1", "eth0")
V4, V6 = ip_interface("10.50.0.2/24"), ip_interface("fd50::2/64")
ADDRESSES = [V4, V6]
MAC = Mac("02:00:5e:10:00:01")
IPS = [V4.ip, V6.ip]

# What containernetworking/plugins 1.6 and later make with ipMasqBackend and backend nftables, for two containers.
# ctr1's hashes are sha512("mynet") and sha512("eth0:ctr1"), as in pkg/ip/ipmasq_nftables_linux.go.
NFT = """
table inet cni_plugins_masquerade {
    comment "Masquerading for plugins from github.com/containernetworking/plugins"
    chain masq_checks {
        comment "Masquerade traffic from certain IPs to any (non-multicast) IP outside their subnet"
        ip saddr 10.50.0.2 ip daddr != 10.50.0.0/24 masquerade comment "NET-ONE, net: mynet, if: eth0, id: ctr1"
        ip6 saddr fd50::2 ip6 daddr != fd50::/64 masquerade comment "NET-ONE, net: mynet, if: eth0, id: ctr1"
        ip saddr 10.50.0.3 ip daddr != 10.50.0.0/24 masquerade comment "NET-TWO, net: mynet, if: eth0, id: ctr2"
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr 224.0.0.0/4 return
        ip6 daddr ff00::/8 return
        goto masq_checks
    }
}
"""
NFT_PORTS = """
table FAMILY cni_hostport {
    comment "CNI portmap plugin"
    chain hostports {
        tcp dport 8080 dnat to ONE comment "ctr1"
        udp dport 53 dnat to ONE comment "ctr1"
        tcp dport 9090 dnat to TWO comment "ctr2"
    }
    chain hostip_hostports { FAMILY daddr HOST tcp dport 8081 dnat to ONE comment "ctr1"; }
    chain hostports_all {
        jump hostip_hostports
        jump hostports
    }
    chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local jump hostports_all; }
    chain output { type nat hook output priority -100; fib daddr type local jump hostports_all; }
    chain masquerading {
        type nat hook postrouting priority srcnat;
        FAMILY saddr IPONE FAMILY daddr IPONE masquerade comment "ctr1"
        FAMILY saddr IPTWO FAMILY daddr IPTWO masquerade comment "ctr2"
    }
}
"""


def listing(host: Any) -> list[str]:
    return [line.strip() for line in host.run("nft", "list", "ruleset").splitlines()]


def apply(host: Any, text: str) -> None:
    host.run("nft", "-f", "-", stdin=text)


# -- the verbs ----------------------------------------------------------------------------------------


def test_chains_are_found_by_their_full_name(host: Any, kernel: LinuxKernel) -> None:
    asked = [
        NftChain("ip", "nat", "X"),
        NftChain("ip6", "nat", "X"),
        NftChain("inet", "t", "X"),
        NftChain("bridge", "t", "X"),
        NftChain("ip", "nat", "Y"),
    ]
    assert kernel.nft_has_chains(asked) == [False] * 5
    assert kernel.nft_has_chains([]) == []

    for family, table in (("ip", "nat"), ("bridge", "t"), ("inet", "t")):
        host.run("nft", f"add table {family} {table}; add chain {family} {table} X")

    assert kernel.nft_has_chains(asked) == [True, False, True, True, False]


def test_rules_are_read_with_what_tells_whose_they_are(host: Any, kernel: LinuxKernel) -> None:
    apply(
        host,
        """
        table ip t {
            chain b { }
            chain a {
                iifname "veth0" jump b comment "of nft"
                ip saddr 10.0.0.1 ip daddr != 10.0.0.0/8 counter goto b
                ip daddr 10.0.0.2 tcp dport 80 accept
            }
            chain n { type nat hook prerouting priority dstnat; tcp dport 80 dnat to 10.0.0.3:8080; }
        }
        """,
    )
    host.run(
        *("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.4"),
        *("-m", "comment", "--comment", "of iptables", "-j", "MASQUERADE"),
    )
    a, n = NftChain("ip", "t", "a"), NftChain("ip", "t", "n")

    jump, goto, accept = kernel.nft_rules(a)

    handles = [e["rule"]["handle"] for e in host.nft("-a", "list", "chain", "ip", "t", "a") if "rule" in e]
    assert [rule.handle for rule in (jump, goto, accept)] == handles
    assert (jump.chain, jump.comment, jump.jump) == (a, "of nft", "b")
    assert jump.values == (b"veth0".ljust(16, b"\0"),)
    assert (goto.jump, goto.values[0], goto.comment) == ("b", bytes([10, 0, 0, 1]), "")
    assert (accept.jump, accept.values[0]) == ("", bytes([10, 0, 0, 2]))
    assert [rule.accepts for rule in (jump, goto, accept)] == [False, False, True]
    (dnat,) = kernel.nft_rules(n)
    assert bytes([10, 0, 0, 3]) in dnat.values
    (source,) = kernel.nft_rules(NftChain("ip", "nat", "POSTROUTING"))
    assert (source.comment, source.values[0]) == ("of iptables", bytes([10, 0, 0, 4]))
    assert {rule.chain.name for rule in kernel.nft_rules(NftChain("ip", "t"))} == {"a", "n"}
    assert kernel.nft_rules(NftChain("ip", "t", "none")) == kernel.nft_rules(NftChain("inet", "none")) == []


def test_rules_and_chains_are_deleted_together_or_not_at_all(host: Any, kernel: LinuxKernel) -> None:
    text = "table ip t { chain b { drop; }; chain a { jump b; jump b; accept; }; }"
    apply(host, text)
    a, b = NftChain("ip", "t", "a"), NftChain("ip", "t", "b")
    first, second, _ = kernel.nft_rules(a)
    before = listing(host)

    with pytest.raises(InUse, match="ip t b"):
        kernel.nft_delete([first], [b])
    with pytest.raises(NotFound):
        kernel.nft_delete([first, NftRule(a, 999)])
    with pytest.raises(NotFound):
        kernel.nft_delete([first, second], [b, NftChain("ip", "t", "none")])
    assert listing(host) == before

    kernel.nft_delete([first, second], [b])
    assert [next(iter(entry)) for entry in host.nft("list", "table", "ip", "t")[1:]] == [
        "table",
        "chain",
        "rule",
    ]
    kernel.nft_delete([])


def test_a_line_that_iptables_refuses_is_told_and_nothing_is_changed(host: Any, kernel: LinuxKernel) -> None:
    with pytest.raises(KernelError, match="line 3 failed") as caught:
        kernel.iptables_restore("iptables", {"filter": ["-N X", "-A Y -j ACCEPT"]})
    assert "`iptables-restore` refused: " in str(caught.value)
    with pytest.raises(KernelError, match=r"unknown option|Couldn't load"):
        kernel.iptables_restore("ip6tables", {"nat": ["-A OUTPUT --no-such-thing"]})
    with pytest.raises(Unsupported, match="none-restore is not installed"):
        kernel.iptables_restore("none", {"filter": ["-N X"]})

    assert "-N X" not in kernel.iptables_rules("iptables")


def test_rules_of_any_table_are_listed_and_looked_for(host: Any, kernel: LinuxKernel, box: Any) -> None:
    with kernel.inside(box) as inner:
        inner.iptables_restore(
            "iptables", {"nat": ["-N X", "-A X -s 192.0.2.1 -j RETURN"], "filter": ["-N Z"]}
        )

        assert "-A X -s 192.0.2.1/32 -j RETURN" in inner.iptables_rules("iptables", "nat")
        assert inner.iptables_has_rule("iptables", "nat", "X", ("--source", "192.0.2.1", "-j", "RETURN"))
        assert not inner.iptables_has_rule("iptables", "nat", "X", ("-j", "RETURN"))
        assert "-N Z" in inner.iptables_rules("iptables")
    assert "-N X" not in kernel.iptables_rules("iptables", "nat")


# -- what others left ----------------------------------------------------------------------------------


@pytest.fixture
def of_nftables(host: Any) -> list[str]:
    """Make the rules of newer reference plugins; gives those of ctr2."""
    from hashlib import sha512

    digits = {name: sha512(name.encode()).hexdigest()[:16] for name in ("mynet", "eth0:ctr1", "eth0:ctr2")}
    text = NFT.replace("NET", digits["mynet"])
    text = text.replace("ONE", digits["eth0:ctr1"]).replace("TWO", digits["eth0:ctr2"])
    four = NFT_PORTS.replace("FAMILY", "ip").replace("IPONE", "10.50.0.2").replace("IPTWO", "10.50.0.3")
    four = four.replace("HOST", "192.0.2.1").replace("ONE", "10.50.0.2:80").replace("TWO", "10.50.0.3:80")
    six = NFT_PORTS.replace("FAMILY", "ip6").replace("IPONE", "fd50::2").replace("IPTWO", "fd50::3")
    six = six.replace("HOST", "2001:db8::1").replace("ONE", "[fd50::2]:80").replace("TWO", "[fd50::3]:80")
    apply(host, text + four + six)
    return [line for line in listing(host) if "ctr1" not in line]


@pytest.mark.parametrize("ips", [IPS, []], ids=["addresses known", "addresses unknown"])
@pytest.mark.parametrize("ifname", ["eth0", ""], ids=["interface known", "interface unknown"])
def test_what_newer_plugins_made_in_nftables_is_removed(
    host: Any, kernel: LinuxKernel, of_nftables: list[str], ips: Any, ifname: str
) -> None:
    owner = OWNER._replace(ifname=ifname)
    assert reference_rules.owners(kernel) == {
        OWNER: {*IPS},
        OWNER._replace(container="ctr2"): {ip_interface("10.50.0.3/24").ip},
    }

    assert reference_rules.remove(kernel, owner, ips)

    assert listing(host) == of_nftables
    assert not reference_rules.remove(kernel, owner, ips)


def test_what_is_somebody_elses_stays(host: Any, kernel: LinuxKernel, of_nftables: list[str]) -> None:
    before = listing(host)

    assert not reference_rules.remove(kernel, Owner("mynet", "ctr", "eth0"), IPS)
    assert not reference_rules.remove(kernel, Owner("mynet", "ctr11", "eth0"))
    assert not reference_rules.remove(kernel, OWNER._replace(network="other"), [], {"masquerade"})
    assert not reference_rules.remove(kernel, OWNER, [ip_interface("10.50.0.9/24").ip], {"portmap"})

    assert listing(host) == before


def test_a_rule_of_the_users_that_leads_to_a_chain_goes_with_it(host: Any, kernel: LinuxKernel) -> None:
    iptables_masquerade.make(kernel, OWNER, [V4])
    chain = "CNI-5145007e2a8415ce07579739"
    for words in (("-N", "MINE"), ("-A", "POSTROUTING", "-j", "MINE"), ("-A", "MINE", "-j", chain)):
        host.run("iptables", "-t", "nat", *words)

    assert reference_rules.remove(kernel, OWNER, [V4.ip])

    assert chain not in host.run("iptables-save")
    assert "-A POSTROUTING -j MINE" in host.run("iptables-save")


def test_an_administrators_rules_about_a_container_stay(host: Any, kernel: LinuxKernel) -> None:
    iptables_firewall.make(kernel, [V4])
    theirs = [
        ("-s", "10.50.0.2/32", "-j", "DROP"),
        ("-s", "10.50.0.2/32", "-p", "tcp", "-m", "tcp", "--dport", "25", "-j", "ACCEPT"),
        ("-s", "10.50.0.2/32", "-d", "192.0.2.1/32", "-j", "ACCEPT"),
        ("-s", "10.50.0.2/32", "-j", "CNI-ADMIN"),
        ("-j", "ACCEPT"),
    ]
    for rule in theirs:
        host.run("iptables", "-A", "CNI-FORWARD", *rule)

    assert reference_rules.remove(kernel, OWNER, [V4.ip])

    left = host.run("iptables", "-S", "CNI-FORWARD").splitlines()
    assert left[2:] == [" ".join(("-A", "CNI-FORWARD", *rule)) for rule in theirs]


def test_macspoofchk_of_ports_that_are_gone_is_swept(host: Any, kernel: LinuxKernel) -> None:
    host.run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there")
    for number, port in enumerate(("here", "gone", "gone2")):
        spoof_check.make(kernel, Owner("n", f"c{number}", "eth0"), port, MAC)
    host.run("nft", 'add rule bridge nat PREROUTING iifname "gone3" drop')

    assert spoof_check.sweep(kernel)

    rules = [entry["rule"] for entry in host.nft("list", "table", "bridge", "nat") if "rule" in entry]
    assert len(rules) == 5
    assert {rule.get("comment") for rule in rules} == {"macspoofchk-c0-eth0", None}
    assert not spoof_check.sweep(kernel)


def test_two_interfaces_of_a_container_on_a_network_are_removed_one_by_one(
    host: Any, kernel: LinuxKernel
) -> None:
    second = ip_interface("10.50.0.3/24")
    iptables_masquerade.make(kernel, OWNER, [V4])
    only_first = host.run("iptables", "-t", "nat", "-S")
    iptables_masquerade.make(kernel, OWNER, [second])
    assert iptables_masquerade.differences(kernel, OWNER, [V4, second]) == []

    assert reference_rules.remove(kernel, OWNER, [second.ip])
    assert host.run("iptables", "-t", "nat", "-S") == only_first
    assert reference_rules.remove(kernel, OWNER, [V4.ip])
    assert "CNI-" not in host.run("iptables", "-t", "nat", "-S")


def test_legacy_iptables_is_cleaned_as_well(
    host: Any, kernel: LinuxKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    multi = shutil.which("xtables-legacy-multi")
    if multi is None:
        pytest.skip("xtables-legacy-multi is not installed (Debian package iptables)")
    if subprocess.run(["iptables-legacy", "-t", "nat", "-S"], capture_output=True, check=False).returncode:
        pytest.skip("the kernel has no ip_tables")
    for name in ("iptables", "ip6tables", "iptables-restore", "ip6tables-restore"):
        (tmp_path / name).symlink_to(multi)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{tmp_path}:/usr/sbin:/usr/bin:/sbin:/bin")
        make_all(kernel)
        assert kernel.iptables_legacy_tables() == {
            name: frozenset({"nat", "filter"}) for name in ("iptables", "ip6tables")
        }
        first = [host.run(f"{name}-legacy-save", "-c") for name in ("iptables", "ip6tables")]
        make_all(kernel)
        assert [rules(text) for text in first] == [
            rules(host.run(f"{name}-legacy-save", "-c")) for name in ("iptables", "ip6tables")
        ], "made twice"
    assert set(kernel.iptables_legacy_tables()) == {"iptables-legacy", "ip6tables-legacy"}

    assert reference_rules.remove(kernel, OWNER, IPS)

    left = host.run("iptables-legacy-save") + host.run("ip6tables-legacy-save")
    assert "5145" not in left
    assert "10.50.0.2" not in left
    assert "fd50" not in left
    assert "CNI-HOSTPORT-DNAT" in left
    assert not reference_rules.remove(kernel, OWNER, IPS)


def rules(text: str) -> list[str]:
    return [line.partition("] ")[2] for line in text.splitlines() if line.startswith("[")]


PORTS = [
    PortMapping(container_port=80, host_port=8080),
    PortMapping(container_port=53, host_port=53, protocol="udp"),
]


def make_all(kernel: LinuxKernel, owner: Owner = OWNER, addresses: Any = ADDRESSES) -> None:
    iptables_masquerade.make(kernel, owner, addresses)
    iptables_portmap.make(kernel, owner, addresses, PORTS)
    iptables_firewall.make(kernel, addresses, FirewallSettings(policy="same-bridge", bridge="br50"))


def test_nothing_of_the_plugins_needs_no_process(
    host: Any, kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(kernel, Owner("mynet", "other", "eth0"), [ip_interface("10.50.0.9/24")])
    monkeypatch.setattr("dovetail.kernel.programs.Popen", None)

    assert not reference_rules.remove(kernel, OWNER, IPS)


def test_what_iptables_of_nftables_made_is_removed_without_a_process(
    host: Any, kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(kernel)
    with monkeypatch.context() as patch:
        patch.setattr("dovetail.kernel.programs.Popen", None)
        assert reference_rules.remove(kernel, OWNER, IPS)

    left = host.run("iptables-save") + host.run("ip6tables-save")
    assert "5145" not in left
    assert "10.50.0.2" not in left
    assert "fd50::2" not in left


def test_many_at_once_on_a_fresh_host_leave_each_shared_rule_once(host: Any, kernel: LinuxKernel) -> None:
    many = [(Owner("mynet", f"ctr{n}", "eth0"), ip_interface(f"10.50.0.{n}/24")) for n in range(2, 10)]
    failures: list[BaseException] = []

    def work(what: Any) -> None:
        try:
            with LinuxKernel(kernel._home) as mine:  # threads begin in the namespace of the process
                what(mine)
        except BaseException as exc:
            failures.append(exc)

    def together(*whats: Any) -> None:
        threads = [threading.Thread(target=work, args=(what,)) for what in whats]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    together(*(lambda k, o=owner, a=address: make_all(k, o, [a]) for owner, address in many))

    saved = [line for line in host.run("iptables-save").splitlines() if line.startswith("-A")]
    assert len(saved) == len(set(saved))
    for owner, address in many:
        assert iptables_masquerade.differences(kernel, owner, [address]) == []
        assert iptables_portmap.differences(kernel, owner, [address], PORTS) == []
    together(*(lambda k, o=owner, a=address: reference_rules.remove(k, o, [a.ip]) for owner, address in many))
    left = host.run("iptables-save")
    assert "10.50.0." not in left
    assert len([line for line in left.splitlines() if line.startswith("-A")]) == 12
    assert json.loads(host.run("nft", "-j", "list", "ruleset"))
