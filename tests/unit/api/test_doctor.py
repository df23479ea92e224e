from __future__ import annotations

import pytest

from dovetail.api.doctor import examine
from dovetail.features.ruleset import RULESET
from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.model.addresses import parse_interface
from dovetail.model.names import link_alias


def verdicts(api, **kwargs):
    return {check.name: check for check in examine(api.engine, **kwargs)}


@pytest.fixture
def sound(api, tmp_path):
    api("POST", "/v1/networks/web/connect", {"sandbox": "a", "publish": ["8080:80"]})
    (tmp_path / "dovetail.sock").touch()
    return api


def test_a_sound_host_has_no_problem(sound, tmp_path):
    found = verdicts(sound, docker_plugin_dir=str(tmp_path))

    wrong = {name: check.detail for name, check in found.items() if check.verdict != "ok"}
    assert wrong.keys() <= {"privileges", "nft"}


def test_doctor_changes_nothing(sound):
    before = list(sound.kernel.commands)

    examine(sound.engine)

    assert sound.kernel.commands == before


def test_a_missing_table_is_a_problem(sound):
    sound.kernel.nft_apply("delete table inet dovetail\n")

    assert verdicts(sound)["nftables table"].verdict == "problem"


def test_missing_elements_are_counted(sound):
    sound.kernel.nft_delete_elements([e for e in sound.kernel.nft_elements() if e.set == "publish4"])

    check = verdicts(sound)["nftables elements"]
    assert (check.verdict, check.detail.split()[0]) == ("problem", "1")


def test_forwarding_that_was_switched_off_is_a_problem_with_the_command_that_helps(sound):
    sound.kernel.set_sysctl("net/ipv4/ip_forward", "0")

    check = verdicts(sound)["IPv4 forwarding"]
    assert check.verdict == "problem"
    assert check.hint == "run: sysctl -w net.ipv4.ip_forward=1"


def test_a_forward_policy_of_drop_without_our_accepts_is_a_problem(sound):
    sound.kernel.drop_forward = {"iptables": True}
    sound.kernel.rules = {"iptables": ["-N DOCKER-USER"]}

    check = verdicts(sound)["FORWARD policy"]
    assert check.verdict == "problem"
    assert "DOCKER-USER" in check.hint


@pytest.mark.parametrize(("chains", "verdict"), [(["-N DOCKER-USER"], "warning"), ([], "ok")])
def test_a_docker_that_relies_on_drop_is_told_of_where_forwarding_was_on_before_it_came(
    sound, chains, verdict
):
    sound.kernel.drop_forward = {"iptables": False}
    sound.kernel.rules = {"iptables": chains}

    check = verdicts(sound)["FORWARD policy"]
    assert check.verdict == verdict
    assert ("iptables -P FORWARD DROP" in check.hint) == (verdict == "warning")


def test_a_newer_docker_drops_by_rules_of_its_own(sound):
    sound.kernel.drop_forward = {"iptables": False}
    sound.kernel.rules = {"iptables": ["-N DOCKER-USER", "-N DOCKER-FORWARD"]}

    assert verdicts(sound)["FORWARD policy"].verdict == "ok"


def test_a_forward_policy_of_drop_with_our_accepts_is_sound(sound):
    sound.kernel.drop_forward = {"iptables": True}
    sound.kernel.rules = {"iptables": ["-N DOCKER-USER"]}
    sound.engine.restore_firewall()

    assert verdicts(sound)["FORWARD policy"].verdict == "ok"


def test_a_link_that_is_gone_is_a_problem_naming_its_network(sound):
    link = sound("GET", "/v1/networks/web").body["link"]
    sound.kernel.delete_links([link])

    check = verdicts(sound)["network links"]
    assert check.verdict == "problem"
    assert f"{link} (network web)" in check.detail


def test_a_parent_that_is_down_or_gone_is_a_problem_naming_its_network(sound):
    sound.kernel.add_link(LinkSpec("up0"), Dummy())
    lan = {"name": "lan", "driver": "macvlan", "options": {"parent": "up0"}}
    assert sound("POST", "/v1/networks", lan).status == 201

    check = verdicts(sound)["network links"]
    assert (check.verdict, check.detail) == ("problem", "down: up0 (parent of network lan)")
    assert check.hint == "run: ip link set up0 up"
    sound.kernel.delete_links(["up0"])

    check = verdicts(sound)["network links"]
    assert (check.verdict, check.detail) == ("problem", "missing: up0 (parent of network lan)")


def test_the_parent_of_a_vlan_is_the_card_and_the_vlan_needs_no_link_of_the_hosts(sound):
    sound.kernel.add_link(LinkSpec("up0", up=True), Dummy())
    ten = {"name": "ten", "driver": "vlan", "options": {"parent": "up0", "id": "10"}}
    assert sound("POST", "/v1/networks", ten).status == 201

    before = verdicts(sound)["network links"]
    assert before.verdict == "ok", before.detail
    sound.kernel.delete_links(["up0"])

    check = verdicts(sound)["network links"]
    assert (check.verdict, check.detail) == ("problem", "missing: up0 (parent of network ten)")


def test_a_link_of_ours_that_nobody_owns_is_an_orphan(sound):
    alias = link_alias(sound.engine.core.store.id, "endpoint", "f" * 64)
    sound.kernel.add_bridge("dvhffffffffffff", alias=alias)

    check = verdicts(sound)["orphans"]
    assert check.verdict == "warning"
    assert "dvhffffffffffff" in check.detail


def test_a_route_that_leads_elsewhere_matters_where_the_host_is_the_gateway(sound):
    sound.kernel.add_link(LinkSpec("up0", up=True), Dummy())
    sound.kernel.add_address("up0", parse_interface("10.77.0.1/24"))
    lan = {
        "name": "lan",
        "driver": "macvlan",
        "subnets": [{"subnet": "10.77.0.0/24"}],
        "options": {"parent": "up0"},
    }
    assert sound("POST", "/v1/networks", lan).status == 201
    assert verdicts(sound)["pools"].verdict == "ok", "the wire that both are on"

    sound.kernel.add_address("up0", parse_interface("10.88.0.9/24"))

    check = verdicts(sound)["pools"]
    assert (check.verdict, check.detail) == (
        "warning",
        "10.88.0.0/24 of network web overlaps the route 10.88.0.0/24 dev up0",
    )


def test_a_check_that_cannot_run_does_not_stop_the_others(sound, monkeypatch):
    def broken():
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(sound.engine.core.store, "networks", broken)

    found = verdicts(sound)
    assert found["store"].verdict == "problem"
    assert "nft" in found


def test_a_table_that_somebody_changed_is_told_of(sound):
    sound.kernel.nft_apply(
        RULESET.replace("        iifname @internal drop", "        #"), sound.kernel.nft_elements()
    )

    check = verdicts(sound)["nftables table"]
    assert (check.verdict, check.detail) == ("warning", "rules of the nftables table were changed")
    assert verdicts(sound)["nftables elements"].verdict == "ok"


def test_rules_of_the_user_that_cannot_be_used_are_named(monkeypatch, tmp_path, request):
    monkeypatch.setenv("DOVETAIL_RULES_DIR", str(tmp_path))
    sound = request.getfixturevalue("sound")
    assert verdicts(sound)["rules of the user"].detail == "none"

    (tmp_path / "10.nft").write_text("ip saddr 203.0.113.9 drop\n")
    assert verdicts(sound)["rules of the user"].detail == f"{tmp_path}/10.nft"

    (tmp_path / "10.nft").write_bytes(b"\xff")
    check = verdicts(sound)["rules of the user"]
    assert (check.verdict, check.detail) == (
        "problem",
        f"the rules of {tmp_path}/10.nft are not in force: is not text",
    )
