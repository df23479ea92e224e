"""Leases of DHCP servers as a part of an attachment, and the keeper that renews them in a process that stays.

The part's row is the lease as it was given last: from it the daemon goes on after a restart. In a process that does
not stay (no daemon runs) the keeper lives for one call, and the container has its address until the lease is over or a
daemon comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Literal, TypeVar

from dovetail.errors import AlreadyExists, NotFound
from dovetail.ipam.dhcp.holding import Event
from dovetail.ipam.dhcp.lease import Held
from dovetail.ipam.dhcp.leases import Leases
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.addresses import IPInterface
from dovetail.model.attachment import Route
from dovetail.model.endpoint import Owner
from dovetail.model.part import PartEvent
from dovetail.model.readdressing import Readdressing

__all__ = ["DhcpParts"]

_ASK_S = 25.0  # the CNI executable waits for 30 s (shim/dovetail-cni.c), and what has been made is undone meanwhile

_Given = TypeVar("_Given", IPInterface, Route)


class DhcpParts:
    """The kind of part ``dhcp``: what there is of it is held by one keeper, which is made with the first."""

    name = "dhcp"
    layer: Literal["ipam"] = "ipam"
    detail = Held

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keeper: Leases | None = None
        self._tell: Callable[[PartEvent], None] | None = None

    def make(
        self,
        kernel: Kernel,
        detail: Held,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> Held:
        """Get the leases of ``detail.request``; brings the interface up and gives it nothing. See `Leases.acquire`."""
        if netns is None:
            raise NotFound("namespace", detail.netns)
        held = self._leases().acquire(detail.request, netns, deadline_s=_ASK_S)
        undo.callback(self._leases().release, held.key)
        return held

    def unmake(self, kernel: Kernel, detail: Held, *, owner: Owner, netns: Netns | None) -> None:
        """Give the leases back to their servers, by the interface; where that is gone they run out."""
        keeper = self._leases()
        if netns is not None and detail.leases and not detail.is_over(time.time()):
            keeper.restore([detail])  # another process may have got them
        keeper.release(detail.key)

    def differences(self, kernel: Kernel, detail: Held, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Say what is held no longer, and which addresses the interface lacks."""
        request, found = detail.request, []
        for version, lease in ((4, detail.v4), (6, detail.v6)):
            if lease is None and (version == 4 or request.ipv6):
                family = "DHCP" if version == 4 else "DHCPv6"
                found.append(f"the {family} lease of interface {request.ifname!r} is lost")
        if detail.is_over(time.time()):
            found.append(f"the DHCP lease of interface {request.ifname!r} has run out, nobody renewed it")
        if netns is not None:
            with kernel.inside(netns) as inner:
                present = {address for _, address in inner.addresses(request.ifname)}
            found += [
                f"interface {request.ifname!r} has lost address {lease.address}"
                for lease in detail.leases
                if lease.address not in present
            ]
        return found

    # -- as a kind that is tended -------------------------------------------------------------------------

    def tend(self, tell: Callable[[PartEvent], None], details: Iterable[Held]) -> None:
        """Go on with stored leases, those that are held already apart, and tell what becomes of all."""
        self._tell = tell
        self._leases().restore(details)

    def change(self, before: Held, now: Held) -> Readdressing:
        """Say which addresses and routes are others. All routes of an address that is new are: they went with the old one."""
        gone: list[IPInterface] = []
        come: list[IPInterface] = []
        routes_gone: list[Route] = []
        routes: list[Route] = []
        for old, new in ((before.v4, now.v4), (before.v6, now.v6)):
            if old is not None and new is not None and (old.address, old.routes) == (new.address, new.routes):
                continue
            same_address = old is not None and new is not None and old.address == new.address
            if old is not None:
                gone += [] if same_address else [old.address]
                routes_gone += old.routes
            if new is not None:
                come += [] if same_address else [new.address]
                routes += new.routes
        return Readdressing(
            ifname=now.request.ifname,
            addresses_gone=tuple(gone),
            addresses=tuple(come),
            routes_gone=tuple(routes_gone),
            routes=tuple(routes),
        )

    def follow(self, kernel: Kernel, change: Readdressing, *, owner: Owner, netns: Netns) -> None:
        """Take the old addresses and routes away, then give the new ones.

        In this order: where the old address is the first of its subnet, the kernel takes the later ones away with it
        (promote_secondaries, Documentation/networking/ip-sysctl.rst).
        """
        name = change.ifname
        with kernel.inside(netns) as inner:
            if inner.link(name) is None:
                return
            for route in change.routes_gone:
                inner.delete_route(name, route)
            for gone in change.addresses_gone:
                inner.delete_address(name, gone)
            for address in change.addresses:
                _unless_there(inner.add_address, name, address)
            for route in change.routes:
                _unless_there(inner.add_route, name, route)

    def drop(self, detail: Held) -> None:
        """Hold leases no longer; their server learns of it where the interface is there."""
        keeper = self._keeper
        if keeper is not None:
            keeper.release(detail.key)

    def close(self) -> None:
        """Stop renewing."""
        with self._lock:
            keeper, self._keeper, self._tell = self._keeper, None, None
        if keeper is not None:
            keeper.close()

    def _leases(self) -> Leases:
        with self._lock:
            if self._keeper is None:
                self._keeper = Leases(self._on_event)
            return self._keeper

    def _on_event(self, event: Event) -> None:
        tell, held = self._tell, event.held
        if tell is not None:
            request = held.request
            owner = Owner(
                face="cni", network=request.network, container=request.container, ifname=request.ifname
            )
            tell(PartEvent(owner, held.netns_inode, held, event.kind == "gone"))


def _unless_there(add: Callable[[str, _Given], None], name: str, given: _Given) -> None:
    try:
        add(name, given)
    except AlreadyExists:
        return
