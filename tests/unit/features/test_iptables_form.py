from __future__ import annotations

from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from dovetail.errors import InvalidArgument, KernelError
from dovetail.features import iptables_form, iptables_masquerade, iptables_portmap, reference_rules
from dovetail.features.iptables_firewall import FirewallSettings
from dovetail.features.iptables_form import Form, Wanted, check_chain, check_conditions, planned, present
from dovetail.features.iptables_portmap import PortmapSettings
from dovetail.features.reference_names import (
    Owner,
    chain_name,
    dnat_comment,
    masquerade_comment,
    masquerade_hash,
)
from dovetail.features.spoof_check import spoof_check_text
from dovetail.kernel.packet_filter import NftChain, NftRule
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.mac import Mac
from dovetail.model.port import PortMapping

OWNER = Owner("mynet", "ctr1", "eth0")
V4, V6 = ip_interface("10.50.0.2/24"), ip_interface("fd50::2/64")


def wanted(chain: str, target: str, *, first: bool = False, jumps: bool = False) -> Wanted:
    return Wanted(chain, ("-j", target), first=first, jumps=jumps)


# -- names ------------------------------------------------------------------------------------------


def test_names_are_those_of_the_reference_plugins() -> None:
    assert chain_name(OWNER) == "CNI-5145007e2a8415ce07579739"
    assert chain_name(OWNER, "DN-") == "CNI-DN-5145007e2a8415ce07579"
    assert masquerade_comment(OWNER) == 'name: "mynet" id: "ctr1"'
    # the hash in pkg/ip/ipmasq_nftables_linux_test.go
    assert masquerade_hash(Owner("unit-test", "one", "eth0")) == "6fd94d501e58f0aa-287fc69eff0574a2"
    assert masquerade_hash(Owner("unit-test", "one")) == "6fd94d501e58f0aa-"


def test_a_comment_is_no_longer_than_iptables_takes() -> None:
    long = Owner("n" * 200, "c" * 200)

    assert len(dnat_comment(long)) == len(masquerade_comment(long)) == 255
    assert dnat_comment(long).endswith("...")


# -- making -----------------------------------------------------------------------------------------


def test_what_is_there_stays_where_it_is() -> None:
    form = Form("nat", ("A",), (wanted("X", "A", first=True), wanted("A", "RETURN")))

    assert planned(form, present(["-P X ACCEPT", "-N A", "-A X -j B", "-A X -j A", "-A A -j RETURN"])) == []


def test_a_rule_with_another_comment_is_the_same_rule() -> None:
    form = Form("nat", (), (Wanted("X", ("-m", "comment", "--comment", "new", "-j", "A")),))

    assert planned(form, present(['-A X -m comment --comment "old one" -j A'])) == []


def test_rules_wanted_first_stand_in_their_order_before_the_others() -> None:
    form = Form("t", (), (wanted("X", "A", first=True), wanted("X", "B", first=True), wanted("X", "C")))

    assert planned(form, present(["-A X -j OTHER"])) == ["-I X 1 -j A", "-I X 2 -j B", "-A X -j C"]
    assert planned(form, present(["-A X -j OTHER", "-A X -j A"])) == ["-A X -j B", "-A X -j C"]
    assert planned(form, present(["-A X -j A", "-A X -j OTHER"])) == ["-I X 2 -j B", "-A X -j C"]
    assert planned(form, present(["-A X -j OTHER", "-A X -j B"])) == ["-I X 1 -j A", "-A X -j C"]


def test_a_chain_of_its_own_is_filled_anew_where_anything_in_it_differs() -> None:
    form = Form("nat", whole={"C": [("-j", "A"), ("-j", "B")]})

    assert planned(form, present(["-N C", "-A C -j A", "-A C -j B"])) == []
    assert planned(form, present(["-N C"])) == ["-A C -j A", "-A C -j B"]
    assert planned(form, present(["-N C", "-A C -j B"])) == [":C - [0:0]", "-A C -j A", "-A C -j B"]


def test_a_rule_that_leads_there_and_is_not_wanted_goes() -> None:
    form = Form("nat", (), (Wanted("D", ("-p", "tcp", "-j", "C")),), {"C": []}, "C")

    lines = planned(form, present(["-N C", "-N D", "-A D -p udp -j C", "-A D -p udp -j OTHER"]))

    assert lines == ["-A D -p tcp -j C", "-D D -p udp -j C"]


def test_other_ports_take_the_place_of_those_before() -> None:
    kernel = RecordingKernel()
    iptables_portmap.make(kernel, OWNER, [V4], [PortMapping(container_port=80, host_port=8080)])
    kernel.commands.clear()

    iptables_portmap.make(kernel, OWNER, [V4], [PortMapping(container_port=80, host_port=8081)])

    chain = chain_name(OWNER, "DN-")
    rules = [line for line in kernel.iptables_rules("iptables", "nat") if "8080" in line or "8081" in line]
    assert len(rules) == 4
    assert all("8081" in line for line in rules)
    assert kernel.commands[0].splitlines()[2] == f":{chain} - [0:0]"


class Contended(RecordingKernel):
    """Another process makes the chain between the look and the change; `line` is wrong for good."""

    def __init__(self, *, hopeless: bool = False) -> None:
        super().__init__()
        self.refused = 0
        self.hopeless = hopeless

    def iptables_restore(self, program: str, changes: Any) -> None:
        if not self.refused or self.hopeless:
            self.refused += 1
            if not self.hopeless:
                super().iptables_restore(program, {"nat": ["-N CNI-HOSTPORT-DNAT"]})
            raise KernelError("`iptables-restore` refused: line 2 failed: Chain already exists.", 22)
        super().iptables_restore(program, changes)


def test_a_chain_that_another_process_makes_meanwhile_is_no_failure() -> None:
    kernel = Contended()
    mappings = [PortMapping(container_port=80, host_port=8080)]

    iptables_portmap.make(kernel, OWNER, [V4], mappings)

    assert kernel.refused == 1
    assert iptables_portmap.differences(kernel, OWNER, [V4], mappings) == []


def test_a_refusal_with_nothing_changed_is_final() -> None:
    kernel = Contended(hopeless=True)

    with pytest.raises(KernelError, match="Chain already exists"):
        iptables_masquerade.make(kernel, OWNER, [V4])

    assert kernel.refused == 2


def test_checking_names_what_is_missing_and_changes_nothing() -> None:
    kernel = RecordingKernel()
    iptables_masquerade.make(kernel, OWNER, [V4, V6])
    kernel.commands.clear()
    kernel.iptables_restore("ip6tables", {"nat": ["-F CNI-5145007e2a8415ce07579739"]})
    done = list(kernel.commands)

    found = iptables_masquerade.differences(kernel, OWNER, [V4, V6])

    assert len(found) == 2
    assert found[0].startswith("rule `-A CNI-5145007e2a8415ce07579739 -d fd50::/64")
    assert found[0].endswith("is missing in ip6tables table nat")
    assert kernel.commands == done


# -- input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ("-j", "ACCEPT"),
        ("-jACCEPT",),
        ("--jump", "X"),
        ("-g", "X"),
        ("-t", "filter"),
        ("--table=filter",),
        ("-A", "FORWARD"),
        ("--flush",),
        ("--jum", "X"),
        ("--tab=filter",),
        ("-M", "/bin/sh"),
        ("--modprobe=/bin/sh",),
        ("--modp", "/bin/sh"),
        ("--",),
        ("-6",),
        ("-vA", "FORWARD"),
        ("--ipv6",),
        ("-s", "1.2.3.4\n-A FORWARD -j ACCEPT"),
        ("-m", "comment", "--comment", "a\0b"),
        ("x" * 1001,),
    ],
)
def test_a_condition_that_would_be_another_rule_is_refused(words: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument) as caught:
        PortmapSettings(conditions6=words)

    assert caught.value.where.startswith("$.conditionsV6[")


def test_conditions_that_say_which_packets_pass() -> None:
    words = ("!", "-s", "10.0.0.0/8", "-i", "eth+", "-m", "mark", "--mark", "0x1/0x1", "--dst-type", "LOCAL")

    more = ("-m", "policy", "--pol", "ipsec", "--dir", "in", "-m", "recent", "--set", "--name", "x", "-f")
    ports = ("-m", "multiport", "--sports", "1,2", "--in-interface", "e", "-s192.0.2.1", "--limit=1/s", "-1")

    for some in (words, more, ports):
        assert check_conditions(some) == some


@pytest.mark.parametrize(
    "name", ["", "-X", "!X", "a b", "x" * 29, 'a"b', "a'b", "a\\b", "a\nb", "FORWARD", "#x"]
)
def test_a_name_that_no_chain_has_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be the name of a chain"):
        check_chain(name)
    if name:
        with pytest.raises(InvalidArgument) as caught:
            PortmapSettings(set_mark_chain=name)
        assert caught.value.where == "$.externalSetMarkChain"
    with pytest.raises(InvalidArgument) as caught:
        FirewallSettings(admin_chain=name)
    assert caught.value.where == "$.iptablesAdminChainName"


@pytest.mark.parametrize("bit", [-1, 32])
def test_a_bit_that_no_mark_has_is_refused(bit: int) -> None:
    with pytest.raises(InvalidArgument, match="is not a bit of a mark"):
        PortmapSettings(mark_bit=bit)


@pytest.mark.parametrize("bridge", ["", "br/0", "br+", "br 0"])
def test_a_policy_needs_a_bridge_that_a_rule_can_name(bridge: str) -> None:
    with pytest.raises(InvalidArgument):
        FirewallSettings(policy="same-bridge", bridge=bridge)
    FirewallSettings(policy="open", bridge=bridge)


@pytest.mark.parametrize(
    "owner", [Owner("n", "c" * 120, "eth0"), Owner("n", "c", "eth0@x"), Owner("n", "c", 'e"')]
)
def test_macspoofchk_of_what_nftables_cannot_name_is_refused(owner: Owner) -> None:
    with pytest.raises(InvalidArgument, match="cannot be checked"):
        spoof_check_text(owner, "veth0", Mac("02:00:00:00:00:01"))


# -- removing ----------------------------------------------------------------------------------------


def jump(chain: NftChain, handle: int, to: str, address: Any) -> NftRule:
    return NftRule(chain, handle, "", to, (address.ip.packed,))


def test_the_second_interface_of_a_container_keeps_its_masquerading() -> None:
    kernel = RecordingKernel()
    postrouting, ours = NftChain("ip", "nat", "POSTROUTING"), NftChain("ip", "nat", chain_name(OWNER))
    second = ip_interface("10.50.0.3/24")
    kernel.chains = {
        postrouting: [jump(postrouting, 5, ours.name, V4), jump(postrouting, 6, ours.name, second)],
        ours: [NftRule(ours, 1), NftRule(ours, 2)],
    }

    assert reference_rules.remove(kernel, OWNER, [V4.ip])
    assert kernel.commands == ["nft 'delete rule ip nat POSTROUTING handle 5'"]
    assert not reference_rules.remove(kernel, OWNER, [V4.ip])
    assert reference_rules.remove(kernel, OWNER, [second.ip])
    assert kernel.nft_has_chains([ours]) == [False]


def test_only_the_parts_that_are_asked_for_go() -> None:
    kernel = RecordingKernel()
    ports = NftChain("ip", "nat", chain_name(OWNER, "DN-"))
    masquerade = NftChain("ip", "nat", chain_name(OWNER))
    kernel.chains = {ports: [], masquerade: []}

    assert reference_rules.remove(kernel, OWNER, parts={"portmap"})

    assert kernel.nft_has_chains([ports, masquerade]) == [False, True]


def test_a_process_is_run_for_legacy_tables_only_where_there_are_some() -> None:
    kernel = RecordingKernel()
    mappings = [PortMapping(container_port=80, host_port=8080, host_ip=ip_address("192.0.2.1"))]
    kernel.legacy = {"iptables-legacy": frozenset({"nat"})}
    lines = planned(iptables_portmap.portmap_form(OWNER, V4, mappings), present([]))
    lines += planned(iptables_masquerade.masquerade_form(OWNER, [V4]), present([]))
    kernel.iptables_restore("iptables-legacy", {"nat": lines})
    kernel.commands.clear()

    assert reference_rules.owners(kernel) == {OWNER._replace(ifname=""): {V4.ip}}
    assert reference_rules.remove(kernel, OWNER, [V4.ip])
    assert len(kernel.commands) == 1
    left = kernel.iptables_rules("iptables-legacy", "nat")
    assert not any("5145" in line for line in left)
    assert "-N CNI-HOSTPORT-DNAT" in left
    assert not reference_rules.remove(kernel, OWNER, [V4.ip])


def test_differences_are_none_for_a_form_that_wants_nothing() -> None:
    assert iptables_form.differences(RecordingKernel(), "iptables", Form("nat")) == []
