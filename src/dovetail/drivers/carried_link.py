"""Links of a sandbox that another link, their master, carries: CNI's types ``macvlan``, ``ipvlan`` and ``vlan``.

::

    host                         sandbox
    eth0 (the master, a wire) ── eth0 (addresses, routes)

They differ from the drivers of the same names in that there is no network: any number of configurations share a
master, which the kernel alone keeps from what cannot be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import ClassVar, Generic, Literal, TypeVar

import msgspec

from dovetail.drivers import attachment_link, carried, sandbox_end
from dovetail.drivers.later_addresses import LaterAddresses
from dovetail.errors import Conflict, InvalidArgument, NotFound
from dovetail.kernel.protocol import Ipvlan, Kernel, Link, LinkSettings, LinkSpec, Macvlan, Netns, Vlan
from dovetail.model.carried_link import CarriedLink, IpvlanLink, MacvlanLink, VlanLink
from dovetail.model.endpoint import Owner
from dovetail.model.mac import Mac

__all__ = ["IpvlanLinks", "MacvlanLinks", "VlanLinks"]

D = TypeVar("D", bound=CarriedLink)


class _CarriedLinks(LaterAddresses[D], ABC, Generic[D]):
    """What the three kinds do alike."""

    name: str
    layer: Literal["driver"] = "driver"
    needs_master_up: ClassVar[bool] = False

    @abstractmethod
    def _settings(self, detail: D) -> LinkSettings:
        """Say what the link is made with."""

    def make(
        self,
        kernel: Kernel,
        detail: D,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> D:
        """Make the link in the sandbox, address and route it.

        Raises AlreadyExists where the sandbox has an interface of that name, NotFound for a namespace or a master that
        is gone, InvalidArgument for an MTU that is more than the master's, Conflict where something else has the
        master, Unsupported where this kernel has no such links.
        """
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        settings = self._settings(detail)
        with kernel.inside(netns) as inner:
            around = inner if detail.in_container else kernel
            master = _master(around, detail)
            if detail.mtu > master.mtu:
                raise InvalidArgument(
                    f"invalid MTU {detail.mtu}, must be [0, master MTU({master.mtu})]", where="$.mtu"
                )
            if self.needs_master_up and not master.up:
                hint = f"run: ip link set {master.name} up"
                raise Conflict(f"{master.name!r} is down, and no {self.name} of it can be up", hint=hint)
            attachment = detail.attachment
            mac = attachment.mac
            if mac is None and carried.has_own_mac(settings):
                mac = attachment_link.mac_of(owner.network, attachment.addresses, owner)
            spec = LinkSpec(
                attachment.ifname,
                mac=mac,
                mtu=detail.mtu,
                netns=None if detail.in_container else netns,
                alias=attachment_link.alias_of(owner, store_id),
            )
            carried.add_patiently(around, spec, settings, master.name)
            undo.callback(carried.delete_inside, kernel, netns, attachment.ifname)
            if mac is None and master.mac:
                mac = Mac(master.mac)
            attachment = msgspec.structs.replace(attachment, mac=mac, mtu=detail.mtu or master.mtu)
            carried.announce(inner, attachment)
            sandbox_end.configure(inner, attachment, loopback=False)
        return msgspec.structs.replace(detail, attachment=attachment)

    def unmake(self, kernel: Kernel, detail: D, *, owner: Owner, netns: Netns | None) -> None:
        """Delete the link, which goes with its namespace and with its master too."""
        if netns is None:
            return
        if detail.master:
            attachment_link.delete_owned(kernel, netns, owner)
        else:
            attachment_link.delete_foreign(kernel, netns, detail.attachment.ifname, (self.name,))

    def differences(self, kernel: Kernel, detail: D, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Compare the master, the link's kind, mode, MAC and MTU, its addresses and routes."""
        if netns is None:
            return [] if detail.in_container else [*_of_master(kernel, detail)]
        attachment = detail.attachment
        if not detail.mtu:
            attachment = msgspec.structs.replace(attachment, mtu=0)  # the kernel keeps it at the master's
        with kernel.inside(netns) as inner:
            around = inner if detail.in_container else kernel
            found = [*_of_master(around, detail), *sandbox_end.differences(inner, attachment)]
            link = inner.link(attachment.ifname)
            if link is not None:
                found += carried.differences(self._settings(detail), link, around.link(detail.master))
        return found

    def link(self, detail: D) -> str:
        """Name the master, where it is the host's."""
        return "" if detail.in_container else detail.master

    def is_alive(self, kernel: Kernel, detail: D, links: frozenset[str]) -> bool:
        """Say whether the link is there; the namespace is."""
        return attachment_link.is_inside(kernel, detail.attachment.sandbox, self.name)


class MacvlanLinks(_CarriedLinks[MacvlanLink]):
    """The kind of part ``macvlan``."""

    name = "macvlan"
    detail = MacvlanLink

    def _settings(self, detail: MacvlanLink) -> Macvlan:
        return Macvlan(detail.mode, detail.bc_queue_len)


class IpvlanLinks(_CarriedLinks[IpvlanLink]):
    """The kind of part ``ipvlan``."""

    name = "ipvlan"
    detail = IpvlanLink

    def _settings(self, detail: IpvlanLink) -> Ipvlan:
        return Ipvlan(detail.mode)


class VlanLinks(_CarriedLinks[VlanLink]):
    """The kind of part ``vlan``."""

    name = "vlan"
    detail = VlanLink
    needs_master_up = True  # vlan_dev_open, net/8021q/vlan_dev.c: ENETDOWN

    def _settings(self, detail: VlanLink) -> Vlan:
        return Vlan(detail.id)


def _master(around: Kernel, detail: CarriedLink) -> Link:
    master = around.link(detail.master)
    if master is None:
        where = f"in {detail.attachment.sandbox}" if detail.in_container else "on the host"
        raise NotFound("interface", detail.master, where="$.master", hint=f"there is none {where}")
    return master


def _of_master(around: Kernel, detail: CarriedLink) -> Iterator[str]:
    return carried.differences_of_carrier(detail.master, around.link(detail.master))
