"""What the types ``ptp`` and ``bridge`` read of a configuration, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

pairs = pytest.mark.parametrize("kind", ["ptp", "bridge"])


def test_ipam_is_needed(plugins: Any) -> None:
    assert plugins.refusal({"type": "ptp"}) == (7, "$.ipam.type: missing (ptp needs an IPAM plugin)")


def test_each_address_needs_a_gateway(plugins: Any) -> None:
    ipam = {"type": "static", "addresses": [{"address": "10.60.0.2/24"}]}

    code, said = plugins.refusal({"type": "ptp", "ipam": ipam})

    assert code == 7
    assert "$.ipam: static gave 10.60.0.2/24 without a gateway" in said


@pairs
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"mtu": -1}, "invalid MTU -1, must be [68, 65535]"),
        ({"mtu": 70000}, "invalid MTU 70000"),
        ({"mtu": "large"}, "$.mtu: expected a whole number"),
        ({"hostInterfaceName": "a b"}, "$.hostInterfaceName: 'a b' is not a valid interface name"),
        ({"hostInterfaceName": "sixteen-letters."}, "'sixteen-letters.' is not a valid"),
        ({"hostInterfaceName": "a%b%"}, "more than one '%'"),
        ({"hostInterfaceName": "longprefix%"}, "leaves no room for the 6 digits"),
        ({"runtimeConfig": {"mac": "nonsense"}}, "$.runtimeConfig.mac: 'nonsense' is not a MAC address"),
        (
            {"args": {"cni": {"mac": "01:00:5e:00:00:01"}}},
            "$.args.cni.mac: '01:00:5e:00:00:01' is a multicast",
        ),
    ],
)
def test_a_bad_value_is_refused_by_its_place(
    plugins: Any, static: Any, kind: str, keys: dict[str, Any], said: str
) -> None:
    code, sentence = plugins.refusal({"type": kind, "ipam": static(), **keys})

    assert code == 7
    assert said in sentence


@pairs
def test_an_mtu_of_auto_is_that_of_the_default_route(plugins: Any, static: Any, kind: str) -> None:
    result = plugins.add({"type": kind, "mtu": "auto", "ipam": static()})

    assert {one["mtu"] for one in result["interfaces"]} == {1450}
    assert plugins.link().mtu == 1450


@pytest.mark.parametrize(
    ("keys", "args", "mac"),
    [
        ({"runtimeConfig": {"mac": "02:00:00:00:00:01"}}, "MAC=02:00:00:00:00:03", "02:00:00:00:00:01"),
        ({"args": {"cni": {"mac": "02:00:00:00:00:02"}}}, "MAC=02:00:00:00:00:03", "02:00:00:00:00:02"),
        ({}, "MAC=02:00:00:00:00:03", "02:00:00:00:00:03"),
    ],
)
@pairs
def test_the_mac_is_the_runtimes_before_others(
    plugins: Any, static: Any, kind: str, keys: dict[str, Any], args: str, mac: str
) -> None:
    plugins.add({"type": kind, "ipam": static(), **keys}, args=f"IgnoreUnknown=1;{args}")

    assert plugins.link().mac == mac


@pairs
def test_the_hosts_end_bears_digits_of_the_attachment(plugins: Any, static: Any, kind: str) -> None:
    plain = plugins.add({"type": kind, "name": "one", "ipam": static()})
    plugins.call("DEL", {"type": kind, "name": "one", "ipam": static()})
    named = plugins.add({"type": kind, "name": "two", "ipam": static(), "hostInterfaceName": "web%"})

    names = [next(i["name"] for i in r["interfaces"][-2:] if "sandbox" not in i) for r in (plain, named)]
    assert names[0].startswith("veth")
    assert names[1].startswith("web")
    assert [len(name) for name in names] == [15, 14]


def test_a_ptp_that_fails_half_way_leaves_nothing(plugins: Any, static: Any) -> None:
    config = {"type": "ptp", "ipam": static("10.60.0.2/24", "fd60::2/64"), "ipMasq": True}
    plugins.add(config)
    total = plugins.kernel.mutations
    plugins.call("DEL", config)

    for at in range(1, total + 1):
        plugins.kernel.fail(at=at)
        status, error = plugins.call("ADD", config)
        if status == 0:
            break
        plugins.kernel.fail()
        assert error["code"] == 5
        assert plugins.link() is None, f"after a failure of verb {at}"
        assert {link.name for link in plugins.kernel.links()} == {"lo", "up0", "other"}
        assert plugins.engine.parts.all() == []
    plugins.kernel.fail()
    plugins.call("DEL", config)
