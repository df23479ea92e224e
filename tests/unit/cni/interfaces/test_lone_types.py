"""What the types ``dummy``, ``tap`` and ``host-device`` read of a configuration, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dovetail.cni.plugins.tap import TapPlugin
from dovetail.kernel import devices
from dovetail.kernel.protocol import Dummy, Tap


@pytest.mark.parametrize(
    ("kind", "keys", "code", "said"),
    [
        ("dummy", {"ipam": {}}, 7, "$.ipam.type: missing (dummy needs an IPAM plugin)"),
        ("tap", {"owner": -1}, 7, "$.owner: -1 is not between 0 and 4294967294"),
        ("tap", {"group": 2**32 - 1}, 7, "$.group: 4294967295 is not between"),
        ("tap", {"owner": "root"}, 7, "$.owner: expected a whole number"),
        ("tap", {"multiQueue": 1}, 7, "$.multiQueue: expected true or false"),
        ("tap", {"mtu": 65536}, 7, "invalid MTU 65536"),
        ("tap", {"mac": "nonsense"}, 7, "$.mac: 'nonsense' is not a MAC address"),
        ("tap", {"bridge": "a b"}, 7, "$.bridge: 'a b' is not a valid interface name"),
        ("tap", {"bridge": "br9"}, 7, "$.bridge: no such bridge: 'br9' (it must be in /run/netns/c1)"),
        ("host-device", {}, 7, 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"'),
        ("host-device", {"device": "a b"}, 7, "$.device: 'a b' is not a valid interface name"),
        ("host-device", {"device": "nothing"}, 7, "$.device: no such interface: 'nothing'"),
        ("host-device", {"hwaddr": "nonsense"}, 7, "$.hwaddr: 'nonsense' is not a MAC address"),
        ("host-device", {"hwaddr": "02:00:00:00:00:99"}, 7, "$.hwaddr: no such interface with MAC address"),
        ("host-device", {"kernelpath": "/etc"}, 7, "$.kernelpath: '/etc' is no device of the kernel"),
        ("host-device", {"pciBusID": "1:2"}, 7, "$.pciBusID: '1:2' is no PCI address"),
        ("host-device", {"runtimeConfig": {"deviceID": "x"}}, 7, "$.runtimeConfig.deviceID: 'x' is no PCI"),
    ],
)
def test_a_bad_value_is_refused_by_its_place(
    plugins: Any, static: Any, kind: str, keys: dict[str, Any], code: int, said: str
) -> None:
    refused = plugins.refusal({"type": kind, "ipam": static(), **keys})

    assert refused[0] == code
    assert said in refused[1]


@pytest.mark.parametrize(
    ("kind", "keys", "settings"),
    [
        ("dummy", {}, Dummy()),
        ("tap", {}, Tap()),
        ("tap", {"ipam": {}}, Tap()),
        ("tap", {"multiQueue": True, "owner": 0, "group": 7}, Tap(multi_queue=True, owner=0, group=7)),
    ],
)
def test_the_link_is_what_was_asked_for(
    plugins: Any, static: Any, kind: str, keys: dict[str, Any], settings: object
) -> None:
    config = {"type": kind, "ipam": static(), **keys}

    result = plugins.add(config)

    link = plugins.link()
    assert (link.settings, link.up) == (settings, True)
    assert result["interfaces"] == [
        {"name": "eth0", "mac": link.mac, "mtu": link.mtu, "sandbox": "/run/netns/c1"}
    ]
    assert plugins.call("STATUS", config) == (0, None)
    assert plugins.call("CHECK", {**config, "prevResult": result}) == (0, None)
    assert plugins.call("DEL", config) == (0, None)
    assert plugins.link() is None


def test_a_tap_has_the_mtu_of_the_default_route_where_that_is_asked_for(plugins: Any) -> None:
    assert plugins.add({"type": "tap", "mtu": "auto"})["interfaces"][0]["mtu"] == 1450


def test_a_label_of_selinux_is_refused_where_there_is_selinux(
    plugins: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = {"type": "tap", "selinuxContext": "system_u:system_r:container_t:s0"}
    monkeypatch.setattr(TapPlugin, "selinux", str(tmp_path))
    assert plugins.refusal(config)[0] == 2

    monkeypatch.setattr(TapPlugin, "selinux", str(tmp_path / "none"))
    plugins.add(config)


def test_a_device_goes_and_comes_back(plugins: Any, static: Any) -> None:
    config = {"type": "host-device", "device": "other", "ipam": static()}

    result = plugins.add(config)

    assert plugins.kernel.link("other") is None
    assert (plugins.link().alias, plugins.link().mtu) == ("other", 9000)
    assert result["interfaces"][0]["mac"] == plugins.link().mac
    assert plugins.call("CHECK", {**config, "prevResult": result}) == (0, None)
    assert plugins.call("DEL", config) == (0, None)
    back = plugins.kernel.link("other")
    assert (back.alias, back.up, plugins.link()) == ("", False, None)


def test_a_card_says_its_pci_address(plugins: Any, static: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dovetail.cni.plugins.host_device.pci_address", lambda name: "0000:3b:00.1")

    result = plugins.add({"type": "host-device", "device": "other", "ipam": static()})

    assert result["interfaces"][0]["pciID"] == "0000:3b:00.1"


def test_a_card_that_a_process_has_stays_and_has_addresses(
    plugins: Any, static: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = "dovetail.cni.plugins.host_device.userspace_driver"
    monkeypatch.setattr(found, lambda pci, where="": "vfio-pci")
    config = {"type": "host-device", "pciBusID": "0000:3b:00.1", "ipam": static()}

    result = plugins.add(config)

    assert "interfaces" not in result
    assert result["ips"] == [{"address": "10.60.0.2/24", "gateway": "10.60.0.1"}]
    assert plugins.kernel.commands == []
    assert plugins.call("STATUS", config) == (0, None)
    assert plugins.call("CHECK", {**config, "prevResult": result}) == (0, None)
    assert plugins.call("DEL", config) == (0, None)


@pytest.mark.parametrize("kind", ["dummy", "tap", "host-device"])
def test_what_fails_half_way_leaves_nothing(plugins: Any, static: Any, kind: str) -> None:
    config = {"type": kind, "ipam": static("10.60.0.2/24", "fd60::2/64"), "device": "other"}

    for at in range(1, 20):
        plugins.kernel.fail(at=at)
        status, error = plugins.call("ADD", config)
        plugins.kernel.fail()
        if status == 0:
            break
        assert error["code"] == 5
        assert plugins.link() is None, f"after a failure of verb {at}"
        assert plugins.kernel.link("other") is not None
        assert plugins.engine.parts.all() == []

    assert status == 0
    assert at > 3


def test_the_pci_address_is_that_of_the_nearest_device_above(tmp_path: Path) -> None:
    deep = tmp_path / "devices" / "pci0000:00" / "0000:00:03.0" / "virtio0" / "net" / "eth0"
    deep.mkdir(parents=True)
    (deep / "device").symlink_to(deep.parents[1])
    classes = tmp_path / "class" / "net"
    classes.mkdir(parents=True)
    (classes / "eth0").symlink_to(deep)
    (classes / "veth0").mkdir()

    assert devices.pci_address("eth0", sysfs=str(tmp_path)) == "0000:00:03.0"
    assert devices.pci_address("veth0", sysfs=str(tmp_path)) == ""
