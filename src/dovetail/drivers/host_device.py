"""A network card of the host that is lent to a sandbox, as CNI's type ``host-device`` has it.

Its name on the host stands in its alias meanwhile, as the reference plugin keeps it: so either brings back what the
other has moved, and a card that the kernel brought back, when its namespace ended, is known.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

from dovetail.drivers import attachment_link, sandbox_end
from dovetail.drivers.later_addresses import LaterAddresses
from dovetail.errors import AlreadyExists, InvalidArgument, NotFound
from dovetail.kernel.protocol import Kernel, Link, Netns
from dovetail.model.endpoint import Owner
from dovetail.model.host_device import HostDevice
from dovetail.model.names import check_ifname

__all__ = ["HostDevices"]


class HostDevices(LaterAddresses[HostDevice]):
    """The kind of part ``host-device``."""

    name = "host-device"
    layer: Literal["driver"] = "driver"
    detail = HostDevice

    def make(
        self,
        kernel: Kernel,
        detail: HostDevice,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> HostDevice:
        """Move the device into the sandbox, under the name it is to have there, address and route it.

        What it had of addresses is lost. Raises AlreadyExists where the sandbox has an interface of that name, NotFound
        for a namespace or a device that is gone, KernelError for a link that cannot move.
        """
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        if not detail.device:
            return detail
        ifname = detail.attachment.ifname
        kernel.move_link(detail.device, netns, new_name=ifname, alias=detail.device)
        undo.callback(_bring_back, kernel, netns, ifname, detail, owner)
        with kernel.inside(netns) as inner:
            sandbox_end.configure(inner, detail.attachment, loopback=False)
        return detail

    def unmake(self, kernel: Kernel, detail: HostDevice, *, owner: Owner, netns: Netns | None) -> None:
        """Bring the device back, down, with its name and alias.

        A card whose namespace has ended is on the host by then, a link of software has gone with it
        (default_device_exit_net, net/core/dev.c). Where its name has been taken, it gets another one.
        """
        if detail.driver:
            return
        if netns is None:
            _rename(kernel, detail)
            return
        with kernel.inside(netns) as inner:
            link = _lent(inner, detail)
        if link is not None:
            _bring_back(kernel, netns, link.name, _known(detail, link), owner)
        elif detail.device:
            _rename(kernel, detail)

    def differences(
        self, kernel: Kernel, detail: HostDevice, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Compare the device's MAC and MTU, its addresses and routes."""
        if netns is None or detail.driver:
            return []
        with kernel.inside(netns) as inner:
            return list(sandbox_end.differences(inner, detail.attachment))

    def link(self, detail: HostDevice) -> str:
        """Name none: it is not on the host."""
        return ""

    def is_alive(self, kernel: Kernel, detail: HostDevice, links: frozenset[str]) -> bool:
        """Say whether the device is in the sandbox; one that a process has is."""
        if detail.driver:
            return True
        try:
            opened = kernel.open_netns(detail.attachment.sandbox)
        except (InvalidArgument, NotFound):
            return False
        with opened, kernel.inside(opened) as inner:
            return _lent(inner, detail) is not None


def _lent(inner: Kernel, detail: HostDevice) -> Link | None:
    """Find the device in the sandbox, whatever its name is by now; one of another program's by its name."""
    if detail.device:
        return next((link for link in inner.links() if link.alias == detail.device), None)
    link = inner.link(detail.attachment.ifname)
    return link if link is not None and _is_name(link.alias) else None


def _known(detail: HostDevice, link: Link) -> HostDevice:
    """Complete what another program has moved: its name on the host is its alias."""
    return detail if detail.device else HostDevice(attachment=detail.attachment, device=link.alias)


def _is_name(text: str) -> bool:
    try:
        check_ifname(text)
    except InvalidArgument:
        return False
    return True


def _bring_back(kernel: Kernel, netns: Netns, name: str, detail: HostDevice, owner: Owner) -> None:
    with kernel.inside(netns) as inner:
        inner.set_link(name, up=False)
    try:
        kernel.take_link(name, netns, new_name=detail.device, alias=detail.alias)
    except AlreadyExists:
        kernel.take_link(name, netns, new_name=_other_name(owner), alias=detail.device)


def _rename(kernel: Kernel, detail: HostDevice) -> None:
    """Give a card that the kernel has brought back its name; it is up where it was up in the sandbox."""
    name, mac = detail.device, detail.attachment.mac
    link = next((link for link in kernel.links() if name and link.alias == name), None)
    if link is None or (mac is not None and link.mac != mac):
        return
    kernel.set_link(link.name, up=False)
    if link.name == name:
        kernel.set_link(name, alias=detail.alias)
        return
    try:
        kernel.rename_link(link.name, name)
    except AlreadyExists:
        return
    kernel.set_link(name, alias=detail.alias)


def _other_name(owner: Owner) -> str:
    return f"dev{attachment_link.attachment_id(owner)[:12]}"
