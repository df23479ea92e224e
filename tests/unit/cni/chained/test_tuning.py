"""Type ``tuning``: what it reads, refuses, does and says, over a recording kernel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dovetail.cni.plugins.tuning import TuningPlugin
from dovetail.kernel.protocol import LinkSpec

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
MAC = "02:00:00:00:00:99"
IP = "ip -n c1 link set dev eth0"


def tuning(chain: Any, **keys: Any) -> dict[str, Any]:
    return {"type": "tuning", "dataDir": str(chain.directory / "tuning"), **keys}


def backup(chain: Any) -> Path:
    return Path(chain.directory / "tuning" / "c1_eth0.json")


@pytest.fixture(autouse=True)
def allowlist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the host's own list be none of these tests' business."""
    path = tmp_path / "allowlist.conf"
    monkeypatch.setattr(TuningPlugin, "allowlist", path)
    return path


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_is_told_the_new_mac(chain: Any, version: str) -> None:
    status, said = chain.call("ADD", tuning(chain, mac=MAC, mtu=1400), version=version)

    wanted = chain.result(version)
    if version not in {"0.1.0", "0.2.0"}:
        wanted["interfaces"][1]["mac"] = MAC
    if version == "1.1.0":
        wanted["interfaces"][1]["mtu"] = 1400
    assert status == 0, said
    assert {key: said[key] for key in wanted if key != "dns"} == {
        k: v for k, v in wanted.items() if k != "dns"
    }


def test_all_that_concerns_the_interface_is_one_message_and_comes_before_the_sysctls(chain: Any) -> None:
    keys = {"mac": MAC, "promisc": True, "mtu": 1400, "txQLen": 0, "allmulti": False}
    status, said = chain.call("ADD", tuning(chain, **keys, sysctl={"net.core.somaxconn": "500"}))

    assert status == 0, said
    assert chain.commands() == [
        f"{IP} promisc on allmulticast off txqueuelen 0 address {MAC} mtu 1400",
        "nsenter --net=/run/netns/c1 sysctl -q -w net/core/somaxconn=500",
    ]


def test_what_the_interface_was_is_in_a_file_of_the_reference_plugin_s_form(chain: Any) -> None:
    chain.call("ADD", tuning(chain, mac=MAC, promisc=True, mtu=1400, allmulti=True))

    assert backup(chain).read_text() == (
        '{\n "mac": "02:00:00:00:00:02",\n "promisc": false,\n "mtu": 1500,\n "allmulti": false\n}'
    )
    assert oct(backup(chain).stat().st_mode) == "0o100600"


def test_only_what_is_changed_is_in_the_file(chain: Any) -> None:
    chain.call("ADD", tuning(chain, txQLen=77))

    assert json.loads(backup(chain).read_text()) == {"txQLen": 0}


def test_sysctls_alone_leave_no_file_and_del_leaves_them(chain: Any) -> None:
    config = tuning(chain, sysctl={"net.core.somaxconn": "500"})
    chain.call("ADD", config)
    chain.commands()

    status, said = chain.call("DEL", config)

    assert (status, said, chain.commands(), backup(chain).exists()) == (0, None, [], False)


def test_del_gives_back_what_was_and_a_second_one_does_nothing(chain: Any) -> None:
    config = tuning(chain, mac=MAC, mtu=1400, promisc=True, allmulti=True, txQLen=9)
    chain.call("ADD", config)
    chain.commands()

    assert [chain.call("DEL", config)[0] for _ in range(2)] == [0, 0]

    assert chain.commands() == [
        f"{IP} mtu 1500",
        f"{IP} address 02:00:00:00:00:02",
        f"{IP} promisc off",
        f"{IP} allmulticast off",
        f"{IP} txqueuelen 0",
    ]
    assert (backup(chain).exists(), chain.parts()) == (False, [])


@pytest.mark.parametrize("result", [None, {"cniVersion": "9.9.9"}, {"cniVersion": "1.0.0", "ips": 5}])
def test_del_needs_no_result_that_could_be_read(chain: Any, result: Any) -> None:
    config = tuning(chain, mtu=1400)
    chain.call("ADD", config)

    status, said = chain.call("DEL", config, result=result)

    assert (status, said, chain.parts()) == (0, None, [])


def test_del_of_a_namespace_that_is_gone_removes_the_file(chain: Any) -> None:
    config = tuning(chain, mtu=1400)
    chain.call("ADD", config)
    chain.kernel.delete_netns("/run/netns/c1")

    assert chain.call("DEL", config, netns="") == (0, None)
    assert (backup(chain).exists(), chain.parts()) == (False, [])


def test_del_restores_what_the_reference_plugin_wrote_down(chain: Any) -> None:
    backup(chain).parent.mkdir()
    backup(chain).write_text('{\n "mac": "02:00:00:00:00:07",\n "promisc": true\n}')

    assert chain.call("DEL", tuning(chain, mac=MAC)) == (0, None)

    assert chain.commands() == [f"{IP} address 02:00:00:00:00:07", f"{IP} promisc on"]
    assert not backup(chain).exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"mac": 5}', '{"mac": "zz"}', '{"mtu": null}', "\xff"])
def test_del_puts_up_with_a_file_that_says_nothing(chain: Any, text: str) -> None:
    backup(chain).parent.mkdir()
    backup(chain).write_text(text, encoding="latin-1")

    assert chain.call("DEL", tuning(chain, mac=MAC)) == (0, None)
    assert (chain.commands(), backup(chain).exists()) == ([], False)


def test_a_value_that_the_kernel_refuses_on_del_keeps_none_of_the_others(chain: Any) -> None:
    config = tuning(chain, mac=MAC, mtu=1400)
    chain.call("ADD", config)
    chain.commands()
    chain.kernel.fail(at=1)

    assert chain.call("DEL", config) == (0, None)
    assert chain.commands() == [f"{IP} address 02:00:00:00:00:02"]


def test_nothing_to_change_hands_the_result_on_and_keeps_nothing(chain: Any) -> None:
    status, said = chain.call("ADD", tuning(chain))

    assert (status, said["interfaces"]) == (0, chain.result()["interfaces"])
    assert (chain.commands(), chain.parts()) == ([], [])
    assert chain.call("CHECK", tuning(chain)) == (0, None)


def test_an_add_with_nothing_to_change_takes_back_what_was_forgotten(chain: Any) -> None:
    chain.call("ADD", tuning(chain, mtu=1400))
    chain.commands()

    assert chain.call("ADD", tuning(chain))[0] == 0
    assert (chain.commands(), chain.parts()) == ([f"{IP} mtu 1500"], [])


@pytest.mark.parametrize("fails", [1, 2])
def test_an_add_that_fails_leaves_nothing(chain: Any, fails: int) -> None:
    chain.kernel.fail(at=fails)

    status, said = chain.call("ADD", tuning(chain, mtu=1400, sysctl={"net.core.somaxconn": "500"}))
    chain.kernel.fail()

    assert (status, said["code"]) == (1, 5)
    with chain.kernel.open_netns("/run/netns/c1") as netns, chain.kernel.inside(netns) as inner:
        assert (inner.link("eth0").mtu, inner.sysctl("net/core/somaxconn")) == (1500, "4096")
    assert (backup(chain).exists(), chain.parts()) == (False, [])


# -- what is read -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "args", "mac"),
    [
        ({"mac": "02:00:00:00:00:0a"}, "", "02:00:00:00:00:0a"),
        ({"mac": "02:00:00:00:00:0a"}, "MAC=02:00:00:00:00:0b", "02:00:00:00:00:0b"),
        ({"runtimeConfig": {"mac": "02:00:00:00:00:0c"}}, "MAC=02:00:00:00:00:0b", "02:00:00:00:00:0c"),
        (
            {"runtimeConfig": {"mac": "02:00:00:00:00:0c"}, "args": {"cni": {"mac": "02-00-00-00-00-0D"}}},
            "MAC=02:00:00:00:00:0b;IgnoreUnknown=1;X=y",
            "02:00:00:00:00:0d",
        ),
    ],
)
def test_the_mac_comes_from_whoever_is_nearest(chain: Any, more: Any, args: str, mac: str) -> None:
    status, said = chain.call("ADD", tuning(chain, **more), args=args)

    assert (status, said["interfaces"][1]["mac"]) == (0, mac)
    assert chain.commands() == [f"{IP} address {mac}"]


def test_args_replace_the_configuration_s_values_and_add_to_its_sysctls(chain: Any) -> None:
    for_cni = {
        "mtu": 1300,
        "promisc": False,
        "allmulti": True,
        "txQLen": 5,
        "sysctl": {"net.core.somaxconn": "7"},
    }
    own = {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}
    chain.call("ADD", tuning(chain, mtu=1400, promisc=True, sysctl=own, args={"cni": for_cni}))

    assert chain.commands() == [
        f"{IP} allmulticast on txqueuelen 5 mtu 1300",
        "nsenter --net=/run/netns/c1 sysctl -q -w net/core/somaxconn=7",
        "nsenter --net=/run/netns/c1 sysctl -q -w net/ipv4/conf/eth0/arp_filter=1",
    ]


@pytest.mark.parametrize("key", ["net.core.somaxconn", "net/core/somaxconn"])
def test_either_separator_is_read(chain: Any, key: str) -> None:
    chain.call("ADD", tuning(chain, sysctl={key: "500"}))

    assert chain.commands() == ["nsenter --net=/run/netns/c1 sysctl -q -w net/core/somaxconn=500"]


@pytest.mark.parametrize(
    "key",
    [
        "kernel.hostname",
        "kernel/hostname",
        "net",
        "net.",
        "net/",
        "",
        "/net/core/somaxconn",
        "net/../kernel/hostname",
        "net/./core/somaxconn",
        "net//core/somaxconn",
        "net..core.somaxconn",
        "net.core.\0",
        "../net/core/somaxconn",
    ],
)
def test_a_key_that_is_not_of_the_namespace_is_refused(chain: Any, key: str) -> None:
    status, said = chain.call("ADD", tuning(chain, sysctl={key: "1"}))

    assert (status, said["code"]) == (1, 7)
    assert f"$.sysctl: invalid net sysctl key: {key!r}" in said["msg"]
    assert (chain.commands(), chain.parts()) == ([], [])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"mac": "zz"}, "not a MAC address"),
        ({"mac": "03:00:00:00:00:01"}, "multicast"),
        ({"mac": 5}, "$.mac: expected a string"),
        ({"mtu": -1}, "$.mtu: -1 is not a number from 0"),
        ({"mtu": 1.5}, "$.mtu: expected a whole number"),
        ({"mtu": 2**31}, "$.mtu"),
        ({"txQLen": "9"}, "$.txQLen: expected a whole number"),
        ({"promisc": "yes"}, "$.promisc: expected true or false"),
        ({"allmulti": 1}, "$.allmulti: expected true or false"),
        ({"sysctl": ["net.core.somaxconn"]}, "$.sysctl: expected an object"),
        ({"sysctl": {"net.core.somaxconn": 500}}, "$.sysctl: expected strings"),
        ({"sysctl": {"net.core.nosuch": "1"}}, "no such sysctl: 'net/core/nosuch'"),
        ({"dataDir": "run"}, "$.dataDir: 'run' is not an absolute path"),
        ({"args": {"cni": {"mtu": "x"}}}, "$.args.cni.mtu: expected a whole number"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_place(chain: Any, keys: Any, told: str) -> None:
    status, said = chain.call("ADD", tuning(chain, **keys))

    assert (status, said["code"]) == (1, 7), said
    assert told in said["msg"]
    assert (chain.commands(), chain.parts()) == ([], [])


def test_two_spellings_of_one_sysctl_are_refused(chain: Any) -> None:
    sysctl = {"net.ipv4.conf.IFNAME.arp_filter": "1", "net/ipv4/conf/eth0/arp_filter": "0"}
    status, said = chain.call("ADD", tuning(chain, sysctl=sysctl))

    assert (status, said["code"]) == (1, 7)
    assert "duplicated sysctl keys are not allowed" in said["msg"]


def test_a_key_that_is_written_twice_is_refused(chain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"cniVersion": "1.0.0", "name": "pods", **tuning(chain), "prevResult": chain.result()})
    twice = text[:-1] + ', "sysctl": {"net.core.somaxconn": "1", "net.core.somaxconn": "2"}}'
    monkeypatch.setattr("json.dumps", lambda _: twice)

    status, said = chain.call("ADD", tuning(chain))

    assert (status, said["code"]) == (1, 7)
    assert "duplicated sysctl keys are not allowed: net.core.somaxconn" in said["msg"]


def test_unknown_cni_args_are_refused(chain: Any) -> None:
    status, said = chain.call("ADD", tuning(chain, mtu=1400), args="COLOUR=blue")

    assert (status, said["code"]) == (1, 4)


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_without_a_previous_result_it_is_refused(chain: Any, verb: str) -> None:
    status, said = chain.call(verb, tuning(chain, mtu=1400), result=None)

    assert (status, said["code"], said["msg"]) == (1, 7, "Required prevResult missing")


def test_an_interface_that_is_missing_is_refused(chain: Any) -> None:
    chain.kernel.delete_links(["veth1"])

    status, said = chain.call("ADD", tuning(chain, mtu=1400))

    assert (status, "no such interface: 'eth0'" in said["msg"]) == (1, True)
    assert (backup(chain).exists(), chain.parts()) == (False, [])


# -- the allow-list -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "key", "allowed"),
    [
        (r"^net\.core\.somaxconn$", "net.core.somaxconn", True),
        ("\n  ^net.ipv4.conf.IFNAME.[a-z_]*$ \n", "net.ipv4.conf.IFNAME.arp_filter", True),
        ("^net.ipv4.conf.IFNAME.[a-z_]*$", "net.core.somaxconn", False),
        ("core", "net.core.somaxconn", True),  # a part of it is enough, as in the reference plugin
        ("", "net.core.somaxconn", False),
        (r"^net\.core\.", "net/core/somaxconn", False),  # as it is written
    ],
)
def test_a_list_says_which_sysctls_are_allowed(
    chain: Any, allowlist: Path, lines: str, key: str, *, allowed: bool
) -> None:
    allowlist.write_text(lines)

    status, said = chain.call("ADD", tuning(chain, sysctl={key: "1"}))

    assert (status == 0) == allowed, said
    if not allowed:
        assert said["code"] == 7
        assert f"Sysctl {key} is not allowed. Only the following sysctls are allowed" in said["msg"]
        assert chain.commands() == []


def test_a_list_that_is_no_regular_expression_is_named(chain: Any, allowlist: Path) -> None:
    allowlist.write_text("*")

    status, said = chain.call("STATUS", tuning(chain, sysctl={"net.core.somaxconn": "1"}))

    assert (status, said["code"]) == (1, 7)
    assert "'*' is no regular expression" in said["msg"]


# -- CHECK, GC, STATUS --------------------------------------------------------------------------------

TUNED: dict[str, Any] = {
    "mac": MAC,
    "mtu": 1400,
    "promisc": True,
    "allmulti": True,
    "txQLen": 9,
    "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"},
}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mac": "02:00:00:00:00:0e"}, f"interface 'eth0' has MAC 02:00:00:00:00:0e, not {MAC}"),
        ({"mtu": 1500}, "interface 'eth0' has MTU 1500, not 1400"),
        ({"promisc": False}, "interface 'eth0' has promiscuous mode off, not on"),
        ({"allmulti": False}, "interface 'eth0' has all-multicast mode off, not on"),
        ({"txqueuelen": 1}, "interface 'eth0' has transmit queue length 1, not 9"),
        ({}, "sysctl net/ipv4/conf/eth0/arp_filter is 0, not 1"),
    ],
)
@pytest.mark.parametrize("ours", [True, False])
def test_check_names_what_is_not_as_add_made_it(chain: Any, change: Any, told: str, *, ours: bool) -> None:
    config = tuning(chain, **TUNED)
    assert chain.call("ADD", config)[0] == 0
    assert chain.call("CHECK", config) == (0, None)
    if not ours:  # a reference plugin's ADD leaves no part
        chain.engine.core.store.delete_part(chain.engine.parts.all()[0].attachment, "tuning")
        assert chain.call("CHECK", config) == (0, None)
    with chain.kernel.open_netns("/run/netns/c1") as netns, chain.kernel.inside(netns) as inner:
        if change:
            inner.set_link("eth0", **change)
        else:
            inner.set_sysctl("net/ipv4/conf/eth0/arp_filter", "0")
    chain.commands()

    status, said = chain.call("CHECK", config)

    assert (status, said["code"], said["msg"], chain.commands()) == (1, 105, told, [])


def test_check_says_that_the_interface_is_gone(chain: Any) -> None:
    config = tuning(chain, mtu=1400)
    chain.call("ADD", config)
    chain.kernel.delete_links(["veth1"])

    _, said = chain.call("CHECK", config)

    assert said["msg"] == "interface 'eth0' is gone from the sandbox"


@pytest.mark.parametrize(
    ("valid", "left"), [(None, 1), ([{"containerID": "c1", "ifname": "eth0"}], 1), ([], 0)]
)
def test_gc_takes_back_what_the_runtime_does_not_have(chain: Any, valid: Any, left: int) -> None:
    config = tuning(chain, mtu=1400)
    chain.call("ADD", config)

    status, said = chain.call("GC", {**config, "cni.dev/valid-attachments": valid})

    assert (status, said, len(chain.parts()), backup(chain).exists()) == (0, None, left, bool(left))


def test_status_refuses_a_configuration_that_add_would_refuse(chain: Any) -> None:
    assert chain.call("STATUS", tuning(chain, mtu=1400)) == (0, None)
    assert chain.call("STATUS", tuning(chain, mtu=-1))[1]["code"] == 7


@pytest.mark.parametrize("is_there", [True, False])
def test_an_add_in_another_namespace_leaves_that_alone_with_what_was_forgotten(
    chain: Any, *, is_there: bool
) -> None:
    config = tuning(chain, mtu=1400)
    chain.call("ADD", config)
    other = "/run/netns/c1-again"
    with chain.kernel.create_netns(other) as netns:
        chain.kernel.add_veth(LinkSpec("veth2"), LinkSpec("eth0", mtu=1300, netns=netns))
    if not is_there:
        chain.kernel.delete_netns("/run/netns/c1")
    chain.commands()

    assert chain.call("ADD", config, netns=other)[0] == 0

    again = "ip -n c1-again link set dev eth0 mtu 1400"
    assert chain.commands() == ([f"{IP} mtu 1500", again] if is_there else [again])
    assert json.loads(backup(chain).read_text()) == {"mtu": 1300}
