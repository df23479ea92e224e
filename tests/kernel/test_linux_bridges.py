"""Bridges, ports and VLANs of `LinuxKernel`, seen by ``ip`` and ``bridge``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from dovetail.errors import InvalidArgument, NotFound, Unsupported
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import BridgePort, BridgeSettings, LinkSpec, VlanRange
from dovetail.model.mac import Mac

pytestmark = pytest.mark.root

MAC = Mac("02:00:5e:10:00:01")


@pytest.fixture
def wired(kernel: LinuxKernel) -> LinuxKernel:
    """``br0`` with the ports ``a0`` and ``b0``, all up."""
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)
    for name in ("a", "b"):
        kernel.add_veth(LinkSpec(f"{name}0", master="br0", up=True), LinkSpec(f"{name}1", up=True))
    return kernel


@pytest.fixture
def filtering(wired: LinuxKernel) -> LinuxKernel:
    """The same, filtering VLANs; skips where the kernel cannot."""
    try:
        wired.set_bridge("br0", vlan_filtering=True)
    except Unsupported:
        pytest.skip("this kernel has no CONFIG_BRIDGE_VLAN_FILTERING")
    return wired


def vlans_shown(host: Any) -> dict[str, set[tuple[int, int, frozenset[str]]]]:
    """Give the VLANs as ``bridge -j vlan`` shows them: (first, last, flags) by link."""
    shown = json.loads(host.run("bridge", "-j", "vlan"))
    return {
        row["ifname"]: {
            (v["vlan"], v.get("vlanEnd", v["vlan"]), frozenset(v.get("flags", ()))) for v in row["vlans"]
        }
        for row in shown
    }


BOTH = frozenset({"PVID", "Egress Untagged"})

# -- ports ----------------------------------------------------------------------------------------


def test_a_port_reads_as_bridge_shows_it(host: Any, wired: LinuxKernel) -> None:
    wired.set_bridge_port("a0", hairpin=True)
    wired.set_bridge_port("b0", isolated=True)

    deadline = time.monotonic() + 10
    while wired.bridge_port("a0") != BridgePort("br0", "forwarding", hairpin=True):
        assert time.monotonic() < deadline, wired.bridge_port("a0")
    assert wired.bridge_port("b0") == BridgePort("br0", "forwarding", isolated=True)
    states = {row["ifname"]: row["state"] for row in json.loads(host.run("bridge", "-j", "link"))}
    assert states == {"a0": "forwarding", "b0": "forwarding"}

    wired.set_link("a0", up=False)

    port = wired.bridge_port("a0")
    assert port is not None
    assert port.state == "disabled"


def test_what_is_no_port_has_none_of_it(wired: LinuxKernel) -> None:
    for name in ("br0", "a1", "lo", "missing", "a-name-that-is-too-long"):
        assert wired.bridge_port(name) is None
    wired.set_link("a0", master="")
    assert wired.bridge_port("a0") is None


def test_a_bridges_mac_stays_when_it_was_set(host: Any, wired: LinuxKernel) -> None:
    ageing = host.links()["br0"]["linkinfo"]["info_data"]["ageing_time"]
    wired.set_link("br0", mac=Mac("fe:00:5e:10:00:01"))

    wired.add_veth(LinkSpec("c0", MAC, master="br0", up=True), LinkSpec("c1", up=True))

    assert host.links()["br0"]["address"] == "fe:00:5e:10:00:01"
    assert host.links()["br0"]["linkinfo"]["info_data"]["ageing_time"] == ageing


# -- VLANs ----------------------------------------------------------------------------------------


def test_a_bridges_settings_read_as_ip_shows_them(host: Any, wired: LinuxKernel) -> None:
    shown = host.links()["br0"]["linkinfo"]["info_data"]

    assert wired.bridge_settings("br0") == BridgeSettings(
        bool(shown["vlan_filtering"]), shown.get("vlan_default_pvid", 0)
    )
    for name in ("a0", "lo", "missing"):
        assert wired.bridge_settings(name) is None


def test_a_bridge_filters_vlans_and_its_default_goes(host: Any, filtering: LinuxKernel) -> None:
    filtering.set_bridge("br0", default_pvid=0)

    assert filtering.bridge_settings("br0") == BridgeSettings(vlan_filtering=True, default_pvid=0)
    assert host.links()["br0"]["linkinfo"]["info_data"]["vlan_default_pvid"] == 0
    assert vlans_shown(host) == {}
    assert filtering.port_vlans() == {}


def test_a_port_has_a_vlan_of_its_own_and_a_trunk(host: Any, filtering: LinuxKernel) -> None:
    filtering.add_port_vlans("a0", [VlanRange(100, pvid=True, untagged=True)])
    filtering.delete_port_vlans("a0", [VlanRange(1)])
    filtering.add_port_vlans("b0", [VlanRange(10), VlanRange(20, 30), VlanRange(40, 41, untagged=True)])

    shown = vlans_shown(host)
    assert shown["a0"] == {(100, 100, BOTH)}
    assert shown["b0"] == {
        (1, 1, BOTH),
        (10, 10, frozenset()),
        (20, 30, frozenset()),
        (40, 41, frozenset({"Egress Untagged"})),
    }
    found = filtering.port_vlans()
    assert found["a0"] == [VlanRange(100, pvid=True, untagged=True)]
    assert found["b0"][1:] == [VlanRange(10), VlanRange(20, 30), VlanRange(40, 41, untagged=True)]


def test_vlans_go_by_their_numbers_and_missing_ones_are_gone_already(
    host: Any, filtering: LinuxKernel
) -> None:
    filtering.add_port_vlans("a0", [VlanRange(10, 20)])

    for _ in range(2):
        filtering.delete_port_vlans("a0", [VlanRange(12, 18), VlanRange(1, pvid=True)])

    assert vlans_shown(host)["a0"] == {(10, 11, frozenset()), (19, 20, frozenset())}


def test_the_host_takes_part_in_a_bridges_vlans(host: Any, filtering: LinuxKernel) -> None:
    filtering.add_port_vlans("br0", [VlanRange(100)], on_bridge=True)

    assert (100, 100, frozenset()) in vlans_shown(host)["br0"]

    filtering.delete_port_vlans("br0", [VlanRange(100)], on_bridge=True)

    assert (100, 100, frozenset()) not in vlans_shown(host)["br0"]


def test_a_kernel_that_cannot_filter_says_so(host: Any, wired: LinuxKernel) -> None:
    try:
        wired.set_bridge("br0", vlan_filtering=True)
    except Unsupported as exc:
        assert "CONFIG_BRIDGE_VLAN_FILTERING" in str(exc)
    else:
        pytest.skip("this kernel has CONFIG_BRIDGE_VLAN_FILTERING, so nothing is missing")
    with pytest.raises(Unsupported, match="cannot filter VLANs"):
        wired.add_port_vlans("a0", [VlanRange(10)])
    with pytest.raises(Unsupported, match="cannot filter VLANs"):
        wired.add_port_vlans("br0", [VlanRange(10)], on_bridge=True)
    assert wired.bridge_settings("br0") == BridgeSettings()
    assert wired.port_vlans() == {}


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (lambda k: k.set_bridge("no", vlan_filtering=True), NotFound, "interface: 'no'"),
        (lambda k: k.set_bridge("a1", vlan_filtering=True), InvalidArgument, "'a1' is no bridge"),
        (lambda k: k.set_bridge("a1", default_pvid=5), InvalidArgument, "'a1' is no bridge"),
        (lambda k: k.add_port_vlans("no", [VlanRange(5)]), NotFound, "interface: 'no'"),
        (lambda k: k.add_port_vlans("a1", [VlanRange(5)]), InvalidArgument, "'a1' is no port of a bridge"),
        (lambda k: k.add_port_vlans("a0", [VlanRange(5000)]), InvalidArgument, "no VLANs 5000 to 5000"),
    ],
)
def test_what_has_no_vlans_is_named(
    wired: LinuxKernel, act: Callable[[LinuxKernel], None], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        act(wired)


def test_nothing_to_change_is_no_message(kernel: LinuxKernel) -> None:
    kernel.set_bridge("no-such-bridge")
    kernel.add_port_vlans("no-such-port", [])
    kernel.delete_port_vlans("no-such-port", [])
