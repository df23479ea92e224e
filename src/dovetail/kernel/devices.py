"""Network cards as administrators name them: by interface, MAC, place in the kernel's tree, PCI address.

Read from sysfs, which shows the interfaces of the network namespace it was mounted in. Nothing is changed.
Source: Documentation/filesystems/sysfs.rst, Documentation/ABI/testing/{sysfs-bus-pci,sysfs-class-net}.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from dovetail.errors import InvalidArgument, NotFound
from dovetail.kernel.protocol import Kernel, Link
from dovetail.model.mac import Mac

__all__ = ["DeviceSelector", "find_device", "pci_address", "read_device_id", "userspace_driver"]

_SYSFS = "/sys"
_TREE = "/sys/devices/"
_PCI = "bus/pci/devices"
_AUXILIARY = "bus/auxiliary/devices"
# domain (more than 16 bits behind an Intel VMD), bus, device of 5 bits, function of 3
_PCI_ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_AUXILIARY_NAME = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+")  # module.name.id, drivers/base/auxiliary.c
_USERSPACE_DRIVERS = frozenset({"vfio-pci", "uio_pci_generic", "igb_uio"})


class DeviceSelector(NamedTuple):
    """How a card is named; of several the first counts.

    kernel_path: the device's directory below /sys/devices. pci: an address as ``lspci -D`` shows it. auxiliary: a
    part of a card with a driver of its own (a subfunction), such as ``mlx5_core.sf.4``.
    """

    name: str = ""
    mac: Mac | None = None
    kernel_path: str = ""
    pci: str = ""
    auxiliary: str = ""


def find_device(kernel: Kernel, selector: DeviceSelector, *, sysfs: str = _SYSFS, where: str = "") -> Link:
    """Find the link of this kernel's namespace that `selector` names.

    where: the place of the selector in the input, for errors. A device with several interfaces gives the first by
    name. Raises NotFound, InvalidArgument (nothing is named, or no such thing can be).
    """
    if selector.name:
        return _by_name(kernel, selector.name, where)
    if selector.mac is not None:
        return _by_mac(kernel, selector.mac, where)
    if selector.kernel_path:
        directory = _in_tree(selector.kernel_path, sysfs, where)
        return _below(kernel, directory, ("device", selector.kernel_path), where)
    if selector.pci:
        directory = _of_pci(selector.pci, sysfs, where)
        driver = userspace_driver(selector.pci, sysfs=sysfs, where=where)
        hint = f"its driver is {driver}, which gives it to a process" if driver else ""
        return _below(kernel, directory, ("PCI device", selector.pci), where, hint)
    if selector.auxiliary:
        directory = _of_auxiliary(selector.auxiliary, sysfs, where)
        return _below(kernel, directory, ("device", selector.auxiliary), where)
    raise InvalidArgument(
        "no device is named", where=where, hint="by its interface, MAC address, kernel path or PCI address"
    )


def read_device_id(text: str, *, sysfs: str = _SYSFS, where: str = "") -> DeviceSelector:
    """Read what a device plugin of Kubernetes calls a card (capability ``deviceID``): auxiliary where it is one, else PCI."""
    if _AUXILIARY_NAME.fullmatch(text) and os.path.isdir(os.path.join(sysfs, _AUXILIARY, text)):
        return DeviceSelector(auxiliary=text)
    return DeviceSelector(pci=_pci_address(text, where))


def pci_address(name: str, *, sysfs: str = _SYSFS) -> str:
    """Give the PCI address of the card with the interface `name`, by the nearest device above it that has one; else empty."""
    device = os.path.realpath(os.path.join(sysfs, "class/net", name, "device"))
    parts = device.split("/") if os.path.isdir(device) else []
    return next((part for part in reversed(parts) if _PCI_ADDRESS.fullmatch(part)), "")


def userspace_driver(pci: str, *, sysfs: str = _SYSFS, where: str = "") -> str:
    """Name the driver that has a PCI device for a process (DPDK, a virtual machine), so that it has no interface.

    Empty where it is another driver or none. Raises InvalidArgument, NotFound.
    """
    try:
        driver = os.path.basename(os.readlink(os.path.join(_of_pci(pci, sysfs, where), "driver")))
    except OSError:
        return ""
    return driver if driver in _USERSPACE_DRIVERS else ""


# -- interfaces ---------------------------------------------------------------------------------


def _by_name(kernel: Kernel, name: str, where: str) -> Link:
    link = kernel.link(name)
    if link is None:
        raise NotFound("interface", name, where=where)
    return link


def _by_mac(kernel: Kernel, mac: Mac, where: str) -> Link:
    """Find it; a VLAN, a bridge and others may have a card's MAC, and then the card is meant."""
    found = [link for link in kernel.links() if link.mac == mac]
    if not found:
        raise NotFound("interface with MAC address", mac, where=where)
    return next((link for link in found if not link.kind), found[0])


def _below(kernel: Kernel, directory: str, device: tuple[str, str], where: str, hint: str = "") -> Link:
    """Find an interface of a device, which has a kind and a name."""
    names = sorted(_interfaces(directory))
    for name in names:
        link = kernel.link(name)
        if link is not None:
            return link
    elsewhere = f"it has {', '.join(names)}, which is in another namespace" if names else ""
    kind, name = device
    raise NotFound(f"interface of {kind}", name, where=where, hint=hint or elsewhere)


def _interfaces(directory: str) -> Iterator[str]:
    """Name the interfaces of a device; virtio has a device of its own on the PCI device."""
    below = [directory, *(os.path.join(directory, n) for n in _listed(directory) if n.startswith("virtio"))]
    for device in below:
        yield from _listed(os.path.join(device, "net"))


def _listed(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


# -- devices ------------------------------------------------------------------------------------


def _in_tree(path: str, sysfs: str, where: str) -> str:
    parts = path.removeprefix(_TREE).split("/")
    if not path.startswith(_TREE) or "\0" in path or {".", ".."} & set(parts):
        raise InvalidArgument(
            f"{path!r} is no device of the kernel", where=where, hint=f"a directory below {_TREE}, without .."
        )
    root = os.path.realpath(os.path.join(sysfs, "devices"))
    # links lead across the tree, and out of it to drivers and classes
    found = os.path.realpath(os.path.join(root, *parts))
    if not found.startswith(f"{root}/"):
        raise InvalidArgument(f"{path!r} leads out of {_TREE}", where=where, hint="name the device itself")
    return _existing(found, "device", path, where)


def _of_pci(address: str, sysfs: str, where: str) -> str:
    directory = os.path.join(sysfs, _PCI, _pci_address(address, where))
    return _existing(directory, "PCI device", address, where)


def _pci_address(text: str, where: str) -> str:
    address = text.lower()
    if not _PCI_ADDRESS.fullmatch(address):
        raise InvalidArgument(
            f"{text!r} is no PCI address", where=where, hint="such as 0000:3b:00.1; lspci -D shows them"
        )
    return address


def _of_auxiliary(name: str, sysfs: str, where: str) -> str:
    if not _AUXILIARY_NAME.fullmatch(name):
        raise InvalidArgument(f"{name!r} is no auxiliary device", where=where, hint="such as mlx5_core.sf.4")
    return _existing(os.path.join(sysfs, _AUXILIARY, name), "auxiliary device", name, where)


def _existing(directory: str, kind: str, name: str, where: str) -> str:
    if not os.path.isdir(directory):
        raise NotFound(kind, name, where=where)
    return directory
