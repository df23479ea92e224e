"""Network cards as they are named, on a sysfs that is made up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dovetail.errors import InvalidArgument, NotFound
from dovetail.kernel.devices import DeviceSelector, find_device, read_device_id, userspace_driver
from dovetail.kernel.protocol import Dummy, LinkSpec, Vlan
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.mac import Mac

MAC = Mac("02:00:00:00:00:01")
CARD, VIRTIO, TAKEN, BARE = "0000:3b:00.1", "0000:00:03.0", "10000:01:00.0", "0000:3b:00.2"


@pytest.fixture
def sysfs(tmp_path: Path) -> str:
    """Four PCI devices, as the kernel lays them out, and a subfunction of one."""
    root = tmp_path / "sys"
    tree = root / "devices" / "pci0000:00"
    (tree / CARD / "net" / "ens1f1").mkdir(parents=True)
    (tree / CARD / "net" / "ens1f1d1").mkdir()
    (tree / VIRTIO / "virtio0" / "net" / "eth7").mkdir(parents=True)
    (tree / TAKEN).mkdir()
    (tree / BARE).mkdir()
    (tree / CARD / "mlx5_core.sf.4" / "net" / "sf4").mkdir(parents=True)
    devices, auxiliary = root / "bus" / "pci" / "devices", root / "bus" / "auxiliary" / "devices"
    devices.mkdir(parents=True)
    auxiliary.mkdir(parents=True)
    for address in (CARD, VIRTIO, TAKEN, BARE):
        os.symlink(f"../../../devices/pci0000:00/{address}", devices / address)
    os.symlink(f"../../../devices/pci0000:00/{CARD}/mlx5_core.sf.4", auxiliary / "mlx5_core.sf.4")
    for address, driver in ((CARD, "mlx5_core"), (TAKEN, "vfio-pci")):
        (root / "bus" / "pci" / "drivers" / driver).mkdir(parents=True)
        os.symlink(f"../../../bus/pci/drivers/{driver}", tree / address / "driver")
    return str(root)


@pytest.fixture
def kernel() -> RecordingKernel:
    made = RecordingKernel()
    for name in ("ens1f1", "ens1f1d1", "eth7", "sf4"):
        made.add_link(LinkSpec(name, Mac.derived(name)), Dummy())
    return made


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        (DeviceSelector(name="eth7"), "eth7"),
        (DeviceSelector(name="eth7", pci=CARD), "eth7"),
        (DeviceSelector(mac=Mac.derived("eth7")), "eth7"),
        (DeviceSelector(kernel_path=f"/sys/devices/pci0000:00/{CARD}"), "ens1f1"),
        (DeviceSelector(kernel_path=f"/sys/devices/pci0000:00/{CARD}/"), "ens1f1"),
        (DeviceSelector(kernel_path=f"/sys/devices/pci0000:00/{VIRTIO}/virtio0"), "eth7"),
        (DeviceSelector(pci=CARD), "ens1f1"),
        (DeviceSelector(pci=CARD.upper()), "ens1f1"),
        (DeviceSelector(pci=VIRTIO), "eth7"),
        (DeviceSelector(auxiliary="mlx5_core.sf.4"), "sf4"),
    ],
)
def test_a_card_is_found_by_each_of_its_names(
    kernel: RecordingKernel, sysfs: str, selector: DeviceSelector, name: str
) -> None:
    assert find_device(kernel, selector, sysfs=sysfs).name == name


def test_an_interface_that_is_elsewhere_is_passed_over(kernel: RecordingKernel, sysfs: str) -> None:
    kernel.delete_links(["ens1f1"])
    assert find_device(kernel, DeviceSelector(pci=CARD), sysfs=sysfs).name == "ens1f1d1"
    kernel.delete_links(["ens1f1d1"])

    with pytest.raises(
        NotFound,
        match=f"interface of PCI device: '{CARD}'.* has ens1f1, ens1f1d1, which is in another namespace",
    ):
        find_device(kernel, DeviceSelector(pci=CARD), sysfs=sysfs)


def test_a_card_is_meant_before_what_has_its_mac_too(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("eth7.10"), Vlan(10), parent="eth7")
    kernel.add_bridge("a", mac=MAC)
    kernel.add_bridge("lo0", mac=MAC)
    link = kernel.link("lo0")
    assert link is not None
    kernel._space.links["lo0"] = link._replace(kind="")

    assert find_device(kernel, DeviceSelector(mac=MAC)).name == "lo0"
    assert find_device(kernel, DeviceSelector(mac=Mac.derived("eth7"))).name == "eth7"


@pytest.mark.parametrize(
    ("selector", "kind", "text"),
    [
        (DeviceSelector(), InvalidArgument, r"\$.x: no device is named"),
        (DeviceSelector(name="no"), NotFound, r"\$.x: no such interface: 'no'"),
        (DeviceSelector(mac=MAC), NotFound, f"interface with MAC address: '{MAC}'"),
        (DeviceSelector(kernel_path="/etc"), InvalidArgument, "'/etc' is no device of the kernel"),
        (DeviceSelector(kernel_path="sys/devices/a"), InvalidArgument, "is no device of the kernel"),
        (DeviceSelector(kernel_path="/sys/devicesX/a"), InvalidArgument, "is no device of the kernel"),
        (DeviceSelector(kernel_path="/sys/devices/../../etc"), InvalidArgument, "without .."),
        (DeviceSelector(kernel_path="/sys/devices/a/./b"), InvalidArgument, "is no device of the kernel"),
        (DeviceSelector(kernel_path="/sys/devices/a\0b"), InvalidArgument, "is no device of the kernel"),
        (DeviceSelector(kernel_path="/sys/devices/"), InvalidArgument, "leads out of"),
        (DeviceSelector(kernel_path="/sys/devices//etc"), NotFound, "device: '/sys/devices//etc'"),
        (
            DeviceSelector(kernel_path=f"/sys/devices/pci0000:00/{CARD}/driver"),
            InvalidArgument,
            "leads out of /sys/devices/",
        ),
        (DeviceSelector(kernel_path="/sys/devices/none"), NotFound, "no such device"),
        (DeviceSelector(pci="0000:3b:00.9"), InvalidArgument, "'0000:3b:00.9' is no PCI address"),
        (DeviceSelector(pci="../../net"), InvalidArgument, "is no PCI address"),
        (DeviceSelector(pci="0000:3c:00.0"), NotFound, "no such PCI device: '0000:3c:00.0'"),
        (DeviceSelector(pci=TAKEN), NotFound, "its driver is vfio-pci, which gives it to a process"),
        (DeviceSelector(pci=BARE), NotFound, f"no such interface of PCI device: '{BARE}'"),
        (DeviceSelector(auxiliary="a/../b.c"), InvalidArgument, "is no auxiliary device"),
        (DeviceSelector(auxiliary=".."), InvalidArgument, "is no auxiliary device"),
        (DeviceSelector(auxiliary="mlx5_core.sf.5"), NotFound, "auxiliary device: 'mlx5_core.sf.5'"),
    ],
)
def test_what_is_not_there_or_cannot_be_is_named(
    kernel: RecordingKernel, sysfs: str, selector: DeviceSelector, kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        find_device(kernel, selector, sysfs=sysfs, where="$.x")


def test_a_driver_that_gives_the_card_to_a_process_is_named(sysfs: str) -> None:
    assert userspace_driver(TAKEN, sysfs=sysfs) == "vfio-pci"
    assert userspace_driver(CARD, sysfs=sysfs) == ""
    assert userspace_driver(BARE, sysfs=sysfs) == ""
    with pytest.raises(NotFound, match=r"\$.pciBusID"):
        userspace_driver("0000:3c:00.0", sysfs=sysfs, where="$.pciBusID")


def test_a_device_id_is_an_auxiliary_device_or_a_pci_address(sysfs: str) -> None:
    assert read_device_id("mlx5_core.sf.4", sysfs=sysfs) == DeviceSelector(auxiliary="mlx5_core.sf.4")
    assert read_device_id(CARD.upper(), sysfs=sysfs) == DeviceSelector(pci=CARD)
    for text in ("mlx5_core.sf.5", "..", "a/b.c", ""):
        with pytest.raises(InvalidArgument, match=r"\$.runtimeConfig.deviceID: .* is no PCI address"):
            read_device_id(text, sysfs=sysfs, where="$.runtimeConfig.deviceID")
