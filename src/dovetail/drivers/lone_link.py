"""Links of a sandbox that lead to nothing of the host's: CNI's types ``dummy`` and ``tap``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import ClassVar, Generic, Literal, TypeVar

import msgspec

from dovetail.drivers import attachment_link, carried, sandbox_end
from dovetail.drivers.later_addresses import LaterAddresses
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Dummy, Kernel, LinkSettings, LinkSpec, Netns, Tap
from dovetail.model.endpoint import Owner
from dovetail.model.lone_link import DummyLink, LoneLink, TapLink

__all__ = ["DummyLinks", "TapLinks"]

D = TypeVar("D", bound=LoneLink)


class _LoneLinks(LaterAddresses[D], ABC, Generic[D]):
    """What the two kinds do alike. kind: what the kernel calls such a link."""

    name: str
    layer: Literal["driver"] = "driver"
    kind: ClassVar[str]

    @abstractmethod
    def _settings(self, detail: D) -> LinkSettings:
        """Say what the link is made with."""

    def _bridge(self, detail: D) -> str:
        """Name the bridge of the sandbox that the link is a port of."""
        return ""

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

        Raises AlreadyExists where the sandbox has an interface of that name, NotFound for a namespace or a bridge that
        is gone, Unsupported where this kernel has no such links.
        """
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        attachment = detail.attachment
        mac = attachment.mac or attachment_link.mac_of(owner.network, attachment.addresses, owner)
        spec = LinkSpec(
            attachment.ifname,
            mac=mac,
            mtu=detail.mtu,
            master=self._bridge(detail),
            alias=attachment_link.alias_of(owner, store_id),
        )
        with kernel.inside(netns) as inner:
            if spec.master and inner.link(spec.master) is None:
                hint = f"it must be in {attachment.sandbox}"
                raise NotFound("bridge", spec.master, where="$.bridge", hint=hint)
            inner.add_link(spec, self._settings(detail))
            undo.callback(carried.delete_inside, kernel, netns, attachment.ifname)
            made = inner.link(attachment.ifname)
            mtu = made.mtu if made is not None else detail.mtu
            attachment = msgspec.structs.replace(attachment, mac=mac, mtu=mtu)
            sandbox_end.configure(inner, attachment, loopback=False)
        return msgspec.structs.replace(detail, attachment=attachment)

    def unmake(self, kernel: Kernel, detail: D, *, owner: Owner, netns: Netns | None) -> None:
        """Delete the link, which goes with its namespace too."""
        if netns is None:
            return
        if detail.ours:
            attachment_link.delete_owned(kernel, netns, owner)
        else:
            attachment_link.delete_foreign(kernel, netns, detail.attachment.ifname, (self.kind,))

    def differences(self, kernel: Kernel, detail: D, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Compare the link's kind, settings, bridge, MAC and MTU, its addresses and routes."""
        if netns is None:
            return []
        with kernel.inside(netns) as inner:
            found = [*sandbox_end.differences(inner, detail.attachment)]
            link = inner.link(detail.attachment.ifname)
            if link is None:
                return found
            found += carried.differences(self._settings(detail), link, None)
            bridge = self._bridge(detail)
            master = inner.link(bridge) if bridge else None
            if bridge and (master is None or link.master != master.ifindex):
                found.append(f"interface {link.name!r} is no port of bridge {bridge!r}")
        return found

    def link(self, detail: D) -> str:
        """Name none: nothing of it is on the host."""
        return ""

    def is_alive(self, kernel: Kernel, detail: D, links: frozenset[str]) -> bool:
        """Say whether the link is there; the namespace is."""
        return attachment_link.is_inside(kernel, detail.attachment.sandbox, self.kind)


class DummyLinks(_LoneLinks[DummyLink]):
    """The kind of part ``dummy``."""

    name = kind = "dummy"
    detail = DummyLink

    def _settings(self, detail: DummyLink) -> Dummy:
        return Dummy()


class TapLinks(_LoneLinks[TapLink]):
    """The kind of part ``tap``."""

    name = "tap"
    kind = "tun"
    detail = TapLink

    def _settings(self, detail: TapLink) -> Tap:
        return Tap(multi_queue=detail.multi_queue, owner=detail.owner, group=detail.group)

    def _bridge(self, detail: TapLink) -> str:
        return detail.bridge
