"""Bandwidth as a part of an attachment (CNI's type ``bandwidth``)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Literal

import msgspec

from dovetail.errors import NotFound
from dovetail.features import bandwidth
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.endpoint import Owner
from dovetail.model.names import derive_id, link_alias
from dovetail.model.shaped import Shaped

__all__ = ["BandwidthParts"]


class BandwidthParts:
    """The kind of part ``bandwidth``."""

    name = "bandwidth"
    layer: Literal["feature"] = "feature"
    detail = Shaped

    def make(
        self,
        kernel: Kernel,
        detail: Shaped,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> Shaped:
        """Shape the host's end of the pair; see `bandwidth.shape`. Raises NotFound where the host has no end."""
        host_link = _host_link(kernel, detail, owner, netns)
        end = kernel.link(host_link)
        ifb = bandwidth.ifb_name(owner.network, owner.container, owner.ifname)
        attachment = derive_id(owner.face, owner.network, owner.container, owner.ifname)
        bandwidth.unshape(kernel, ifb, host_link=host_link)  # of an earlier ADD
        mac = bandwidth.shape(
            kernel,
            host_link,
            ifb,
            detail.bandwidth,
            mtu=end.mtu if end is not None else 0,
            alias=link_alias(store_id, "attachment", attachment),
            undo=undo,
        )
        return msgspec.structs.replace(
            detail,
            host_link=host_link,
            ifb=ifb if mac is not None else "",
            mac=mac,
            mtu=end.mtu if end is not None else 0,
        )

    def unmake(self, kernel: Kernel, detail: Shaped, *, owner: Owner, netns: Netns | None) -> None:
        """Remove the ifb, and the rates of the pair while it is there."""
        ifb = bandwidth.find_ifb(kernel, owner.network, owner.container, owner.ifname)
        bandwidth.unshape(kernel, ifb, host_link=detail.host_link)

    def differences(self, kernel: Kernel, detail: Shaped, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Compare rates, bursts and redirect."""
        host_link = detail.host_link or _host_link(kernel, detail, owner, netns)
        ifb = bandwidth.find_ifb(kernel, owner.network, owner.container, owner.ifname)
        return bandwidth.differences(kernel, host_link, ifb, detail.bandwidth)

    def link(self, detail: Shaped) -> str:
        """Name the host's end of the pair, which is known once it is made."""
        return detail.host_link

    def is_alive(self, kernel: Kernel, detail: Shaped, links: frozenset[str]) -> bool:
        """Say whether it is there; the ifb is of no use without."""
        return not detail.host_link or detail.host_link in links


def _host_link(kernel: Kernel, detail: Shaped, owner: Owner, netns: Netns | None) -> str:
    """Name the host's end of the pair: of those that the result names the one whose peer is the sandbox's interface."""
    if netns is not None:
        with kernel.inside(netns) as inner:
            inside = inner.link(owner.ifname)
        for name in detail.candidates:
            link = kernel.link(name)
            if link is not None and inside is not None and link.ifindex == inside.peer_ifindex:
                return name
    raise NotFound(
        "host's end of the pair",
        owner.ifname,
        hint="bandwidth shapes what goes through a veth pair, as bridge and ptp make them",
    )
