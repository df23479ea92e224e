"""Parts: made for one plugin of a chain each, compared, and taken back, whoever forgot to.

The order is that of endpoints: the row is written before the kernel is touched and goes after the kernel is
clean, so that what a crash left half made has an owner, which is asked to take it back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from typing import Any, TypeVar

import msgspec

from dovetail.engine.core import Core
from dovetail.engine.firewall import Firewall
from dovetail.engine.ids import endpoint_id
from dovetail.engine.part_kind import (
    Admitting,
    AnyPartKind,
    Completing,
    Limited,
    Linked,
    Preparing,
    Publishing,
    Releasing,
    Sweeping,
)
from dovetail.errors import (
    AddressInUse,
    AlreadyExists,
    Busy,
    DovetailError,
    InvalidArgument,
    NamespaceGone,
    NotFound,
    Unsupported,
)
from dovetail.kernel.protocol import Netns
from dovetail.model.codec import decode, encode
from dovetail.model.endpoint import Owner
from dovetail.model.names import derive_id, link_id, short
from dovetail.model.part import Part, PartStatus
from dovetail.model.port import PortMapping

__all__ = ["Parts"]

D = TypeVar("D")
_POLL_S = 0.001


class Parts:
    """Operations on parts."""

    def __init__(self, core: Core, firewall: Firewall) -> None:
        self._core = core
        self._firewall = firewall

    def alone(self, owner: Owner) -> AbstractContextManager[None]:
        """Keep other chains of the attachment waiting for the ``with``: one whose runtime gave up may still be at work.

        Raises Busy.
        """
        return self._core.locks.hold(
            derive_id("chain", endpoint_id(owner)),
            timeout_s=self._core.lock_timeout_s,
            what=f"attachment {short(owner.container)}/{owner.ifname}",
        )

    def begin(self, owner: Owner, *, netns: Netns) -> None:
        """Take back what a crash or a forgotten DEL left of the attachment, before a chain begins.

        Raises AlreadyExists where the sandbox has an interface of that name by then.
        """
        core, attachment = self._core, endpoint_id(owner)
        if core.store.parts(attachment=attachment):
            links = frozenset(link.name for link in core.kernel.links())
            with self.locked(attachment, owner):
                there = core.store.parts(attachment=attachment)
                for part in there:
                    if core.part_kind(part.kind).layer == "driver" and not self.loss(part, links):
                        raise _exists(owner)
                for part in reversed(there):
                    self.take_back(part)
        with core.kernel.inside(netns) as inner:
            if inner.link(owner.ifname) is not None:
                hint = "it is in the sandbox; delete it, or name another"
                raise AlreadyExists("interface", owner.ifname, hint=hint)

    def add(
        self,
        kind: str,
        owner: Owner,
        detail: D,
        *,
        netns: Netns | None,
        path: str = "",
        unfinished: bool = False,
    ) -> D:
        """Make `owner`'s part of `kind` as `detail` says; gives it as it turned out. All or nothing.

        netns: the sandbox's namespace; path: as the caller knows it. What a crash or a forgotten DEL left of the same
        part is taken back first, and so is what an earlier ADD made where it is a feature. unfinished: `complete` follows,
        and until then the part counts as half made. Raises AlreadyExists or AddressInUse where it is an interface or an
        address.
        """
        core, how = self._core, self._core.part_kind(kind)
        attachment = endpoint_id(owner)
        link = how.link(detail) if isinstance(how, Linked) else ""
        shared = ExitStack()
        try:
            with (
                core.tracer.step("engine", f"add {kind}", ifname=owner.ifname),
                self.locked(attachment, owner, link),
                ExitStack() as undo,
            ):
                self._clear_way(how, attachment, owner, detail, netns, undo)
                part = Part(
                    attachment=attachment,
                    kind=kind,
                    owner=owner,
                    link=link,
                    netns=path,
                    inode=netns.inode if netns is not None else 0,
                    host_ns=core.kernel.netns_inode,
                    boot_id=core.boot_id,
                    created=core.now(),
                    detail=encode(detail).decode(),
                )
                status: PartStatus = "making" if unfinished else "made"
                made = self._make(how, part, detail, netns, undo, shared, status)
                undo.pop_all()
        except BaseException:
            self._undo_shared(how, detail, link, attachment, shared)
            raise
        return made

    def _make(
        self,
        how: AnyPartKind,
        part: Part,
        detail: D,
        netns: Netns | None,
        undo: ExitStack,
        shared: ExitStack,
        status: PartStatus = "made",
    ) -> D:
        core = self._core
        self._write_down(part, how, detail, undo)
        with core.tracer.step(how.layer, part.kind, link=part.link):
            if isinstance(how, Preparing):
                detail = how.prepare(core.kernel, detail, store_id=core.store.id, undo=shared)
            made: D = how.make(
                core.kernel, detail, owner=part.owner, netns=netns, store_id=core.store.id, undo=undo
            )
        part = msgspec.structs.replace(part, status=status, detail=encode(made).decode())
        undo.callback(self._firewall.remove_part, part)
        filtered = self._firewall.add_part(part)
        if isinstance(how, Admitting) and (admitted := how.admits(made)):
            self._firewall.admit_link(admitted)
        self._forget_flows(how, made)
        core.store.put_part(part, filtered=filtered)
        return made

    def complete(self, kind: str, owner: Owner, detail: D, *, netns: Netns | None) -> D:
        """Give the interface that `add` left unfinished the addresses of `detail`, which says all that it is to be.

        Whoever called `add` removes the part where this fails. Raises Busy where it has been taken away meanwhile,
        Unsupported for a kind that gets addresses and interface at once.
        """
        core, how = self._core, self._core.part_kind(kind)
        attachment = endpoint_id(owner)
        if not isinstance(how, Completing):
            raise Unsupported(f"an interface of type {kind} cannot be made before its addresses are known")
        shared, link = ExitStack(), ""
        try:
            with (
                core.tracer.step("engine", f"complete {kind}", ifname=owner.ifname),
                self.locked(attachment, owner),
                ExitStack() as undo,
            ):
                part = core.store.part(attachment, kind)
                if part is None:
                    raise Busy(f"interface {owner.ifname} was taken away while it got its addresses")
                link = part.link
                part = msgspec.structs.replace(part, detail=encode(detail).decode())
                core.store.put_part(part, filtered=bool(self._firewall.part_elements(part)))
                with core.tracer.step(how.layer, f"{kind} addresses", link=link):
                    if isinstance(how, Preparing):
                        detail = how.prepare(core.kernel, detail, store_id=core.store.id, undo=shared)
                    made: D = how.complete(core.kernel, detail, owner=owner, netns=netns, undo=undo)
                part = msgspec.structs.replace(part, status="made", detail=encode(made).decode())
                undo.callback(self._firewall.remove_part, part)
                core.store.put_part(part, filtered=self._firewall.add_part(part))
                undo.pop_all()
        except BaseException:
            self._undo_shared(how, detail, link, attachment, shared)
            raise
        return made

    def _undo_shared(
        self, how: AnyPartKind, detail: Any, link: str, attachment: str, shared: ExitStack
    ) -> None:
        """Take back what was done to the interface for all on it, and what those did who have left it meanwhile."""
        with self._last_on(link, attachment) as last:
            if last:
                shared.close()
                if isinstance(how, Releasing) and self._core.store.part(attachment, how.name) is None:
                    how.release(self._core.kernel, detail)

    def _write_down(self, part: Part, how: AnyPartKind, detail: Any, undo: ExitStack) -> None:
        core = self._core
        ports = how.ports(detail) if isinstance(how, Publishing) else ()
        with core.store.transaction() if ports else nullcontext():  # a write by itself is one
            # sockets are no hindrance: a runtime may hold the host's port by one itself (podman, nerdctl)
            core.store.claim_ports(part.attachment, ports)
            core.store.put_part(part, filtered=bool(self._firewall.part_elements(part)))
        undo.callback(self._forget, part)

    def remove(
        self, kind: str, owner: Owner, *, netns: Netns | None, otherwise: D | None = None
    ) -> Any | None:
        """Take `owner`'s part of `kind` back; gives what it was, or `otherwise` where nothing is known of it.

        otherwise: what another program may have made in our place, which is taken back likewise.
        """
        core, how = self._core, self._core.part_kind(kind)
        attachment = endpoint_id(owner)
        with (
            core.tracer.step("engine", f"remove {kind}", ifname=owner.ifname),
            self.locked(attachment, owner),
        ):
            part = core.store.part(attachment, kind)
            if part is None:
                if otherwise is not None:
                    how.unmake(core.kernel, otherwise, owner=owner, netns=netns)
                return otherwise
            with self.inside(part, netns) as inner:
                return self._take_back(how, part, inner)

    def remove_addresses(self, owner: Owner, *, netns: Netns | None) -> None:
        """Take back the addresses that `owner` has by parts."""
        for part in self._core.store.parts(attachment=endpoint_id(owner)):
            if self._core.part_kind(part.kind).layer == "ipam":
                self.remove(part.kind, owner, netns=netns)

    def check(
        self,
        kind: str,
        owner: Owner,
        *,
        netns: Netns | None,
        otherwise: D | None = None,
        now: Callable[[D], D] = lambda detail: detail,
    ) -> list[str]:
        """Say, a sentence each, how the kernel differs from what `add` made; changes nothing.

        otherwise: what another program is to have made, where the part is not ours. Raises NotFound without it.
        now: says what others of the chain are known to have made of ours since.
        """
        core, how = self._core, self._core.part_kind(kind)
        part = core.store.part(endpoint_id(owner), kind)
        if part is None and otherwise is None:
            raise NotFound("endpoint", f"{owner.container}/{owner.ifname}")
        detail = now(decode(part.detail, how.detail)) if part is not None else otherwise
        differences = list(how.differences(core.kernel, detail, owner=owner, netns=netns))
        missing = self._firewall.missing_of(part) if part is not None else set()
        return differences + [
            f"nftables has no element {e.text} in {e.set}" for e in sorted(missing, key=str)
        ]

    def known(self, kind: str, owner: Owner) -> Any | None:
        """Give what `owner`'s part of `kind` is; None where there is none."""
        part = self._core.store.part(endpoint_id(owner), kind)
        return decode(part.detail, self._core.part_kind(kind).detail) if part is not None else None

    def all(self) -> list[Part]:
        """Give all, oldest first."""
        return self._core.store.parts()

    def require(self, kind: str, network: str, detail: Any) -> None:
        """Raise what would keep `add` of such a part from succeeding, as far as its kind can tell."""
        how = self._core.part_kind(kind)
        if isinstance(how, Limited):
            how.require(self._core.kernel, detail, network=network)

    def collect(
        self, kind: str, network: str, valid: Collection[tuple[str, str]], *, otherwise: Any = None
    ) -> list[Part]:
        """Take back the parts of `kind` that are not in `valid` (container, ifname) on a network by that name.

        otherwise: says where other programs may have left something likewise, which goes too. Goes on past a failure
        and raises all of them together.
        """
        core, how = self._core, self._core.part_kind(kind)
        failures: list[Exception] = []
        gone: list[Part] = []
        for part in self._core.store.parts(kind=kind, network=network):
            if (part.owner.container, part.owner.ifname) in valid:
                continue
            try:
                self.remove(kind, part.owner, netns=None)
                gone.append(part)
            except (DovetailError, ExceptionGroup) as exc:
                failures.append(exc)
        if otherwise is not None and isinstance(how, Sweeping):
            try:
                how.sweep(core.kernel, otherwise, network=network, valid=valid)
            except (DovetailError, ExceptionGroup) as exc:
                failures.append(exc)
        if failures:
            raise ExceptionGroup(f"not all stale parts of {network!r} could be removed", failures)
        return gone

    # -- for reconcile, under the attachment's lock ---------------------------------------------------

    def loss(self, part: Part, links: frozenset[str]) -> str:
        """Say why a part is of no use any more, as the rest of a sentence; an empty text where it is."""
        core, how = self._core, self._core.part_kind(part.kind)
        if part.boot_id != core.boot_id:
            return "the host has been restarted since"
        if part.status != "made":
            return "a crash left it half made"
        if part.netns and self._is_gone(part):
            return "its container's namespace is gone"
        if not isinstance(how, Linked):
            return ""
        detail = decode(part.detail, how.detail)
        alive = how.is_alive(core.kernel, detail, links) or how.is_alive(
            core.kernel, detail, frozenset(link.name for link in core.kernel.links())
        )
        return "" if alive else "its interface is gone"

    def take_back(self, part: Part) -> None:
        """Take a part back; the caller holds its attachment's lock."""
        how = self._core.part_kind(part.kind)
        with self.inside(part, None) as netns:
            self._take_back(how, part, netns)

    # -- pieces -----------------------------------------------------------------------------------------

    def _take_back(self, how: AnyPartKind, part: Part, netns: Netns | None) -> Any:
        core = self._core
        detail = decode(part.detail, how.detail)
        self._firewall.remove_part(part)
        with core.tracer.step(how.layer, f"{part.kind} away", link=part.link):
            how.unmake(core.kernel, detail, owner=part.owner, netns=netns)
        self._forget_flows(how, detail)
        if not isinstance(how, Releasing) or part.boot_id != core.boot_id:
            self._forget(part)
            return detail
        with self._alone_on(part.link, part.attachment) as alone:
            if alone:  # while it is written down whose it was
                how.release(core.kernel, detail)
        self._forget(part)
        if not alone:  # the others may have left at the same time, each with another still written down
            with self._last_on(part.link, part.attachment) as last:
                if last:
                    how.release(core.kernel, detail)
        return detail

    @contextmanager
    def _alone_on(self, link: str, attachment: str) -> Iterator[bool]:
        """Keep others off the host's interface `link`; False where one is on it, or comes or goes just now."""
        if not link or self._core.store.link_is_shared(link, attachment):
            yield False
            return
        with self._core.locks.try_hold(_link_lock(link)) as free:
            yield free and not self._core.store.link_is_shared(link, attachment)

    @contextmanager
    def _last_on(self, link: str, attachment: str) -> Iterator[bool]:
        """Like `_alone_on`, for one that has no part there any more, and waits for those that go just now.

        It does not wait for those that come: such a one sees to what is left when it goes, or when it fails.
        """
        core = self._core
        deadline = time.monotonic() + core.lock_timeout_s
        while True:
            with self._alone_on(link, attachment) as alone:
                if alone:
                    yield True
                    return
            stays = not link or core.store.link_is_shared(link, attachment)
            if stays or core.locks.is_shared(_link_lock(link)) or time.monotonic() >= deadline:
                yield False
                return
            time.sleep(_POLL_S)

    def _clear_way(
        self,
        how: AnyPartKind,
        attachment: str,
        owner: Owner,
        detail: Any,
        netns: Netns | None,
        undo: ExitStack,
    ) -> None:
        """Take back the part that is there, after what would be refused is; a feature's is put back if this fails."""
        there = self._core.store.part(attachment, how.name)
        if there is None:
            return
        live = not self.loss(there, frozenset(link.name for link in self._core.kernel.links()))
        if live and how.layer == "driver":
            raise _exists(owner)
        if live and how.layer == "ipam":
            raise AddressInUse(
                f"{short(owner.container)}/{owner.ifname} has addresses, duplicate allocation is not allowed",
                hint="DEL gives them back",
            )
        if isinstance(how, Publishing):
            self._try_ports(attachment, how.ports(detail))
        if live:
            undo.callback(self._make_again, how, there, netns)
        with self.inside(there, netns) as inner:
            self._take_back(how, there, inner)

    def _try_ports(self, attachment: str, ports: tuple[PortMapping, ...]) -> None:
        """Raise PortInUse where somebody else has one."""
        store = self._core.store
        with suppress(_RollBackError), store.transaction():
            store.release_ports(attachment)
            store.claim_ports(attachment, ports)
            raise _RollBackError

    def _make_again(self, how: AnyPartKind, part: Part, netns: Netns | None) -> None:
        with self.inside(part, netns) as inner, ExitStack() as undo:
            self._make(how, part, decode(part.detail, how.detail), inner, undo, undo)
            undo.pop_all()

    def _forget(self, part: Part) -> None:
        core = self._core
        publishes = isinstance(core.part_kind(part.kind), Publishing)
        with core.store.transaction() if publishes else nullcontext():  # a write by itself is one
            if publishes:
                core.store.release_ports(part.attachment)
            core.store.delete_part(part.attachment, part.kind)

    def _forget_flows(self, how: AnyPartKind, detail: Any) -> None:
        if not isinstance(how, Publishing):
            return
        for mapping in how.ports(detail):
            if mapping.protocol == "udp":  # else a flow goes on to the container before, as long as it talks
                self._core.kernel.flush_conntrack("udp", port=mapping.host_port)

    @contextmanager
    def inside(self, part: Part, netns: Netns | None) -> Iterator[Netns | None]:
        """Give the part's namespace: `netns` where the caller has it open, else by its path; None where it is gone.

        One of this boot only: another boot's path may be another container's by now. A container that is attached
        anew without a DEL may be in another namespace, which is not to be changed for what was in the first.
        """
        if part.boot_id != self._core.boot_id:
            yield None
            return
        if not part.netns or (netns is not None and netns.inode == part.inode):
            yield netns
            return
        try:
            opened = self._core.kernel.open_netns(part.netns)
        except (InvalidArgument, NotFound):
            yield None
            return
        with opened:
            yield opened if opened.inode == part.inode else None

    def _is_gone(self, part: Part) -> bool:
        """Say whether the part's namespace has ended; one that cannot be seen from here may live."""
        try:
            with self._core.kernel.open_netns(part.netns) as netns:
                return netns.inode != part.inode
        except (NamespaceGone, NotFound):
            return True
        except InvalidArgument:
            return False

    def locked(self, attachment: str, owner: Owner, link: str = "") -> AbstractContextManager[None]:
        """Keep other operations off the attachment, and with `link` those off it that want it for themselves."""
        return self._core.locks.hold(
            attachment,
            within=_link_lock(link) if link else "",
            timeout_s=self._core.lock_timeout_s,
            what=f"attachment {short(owner.container)}/{owner.ifname}",
        )


class _RollBackError(Exception):
    """Takes a trial back."""


def _exists(owner: Owner) -> AlreadyExists:
    return AlreadyExists("attachment", f"{owner.container}/{owner.ifname}", hint="delete it first")


def _link_lock(link: str) -> str:
    return link_id(link)
