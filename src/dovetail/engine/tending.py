"""Parts that change by themselves: leases, which a process renews, and which a server may change or take away.

A kind of such parts (`part_kind.Tended`) tells on threads of its own what becomes of them, and does not wait. Here that
is taken up in its order on a thread which holds the attachment's lock meanwhile, as every operation on it does.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Iterable
from functools import partial
from typing import Any, TypeVar

import msgspec

from dovetail.engine.core import Core
from dovetail.engine.firewall import Firewall
from dovetail.engine.ids import endpoint_id
from dovetail.engine.part_kind import Addressed, Tended
from dovetail.engine.parts import Parts
from dovetail.errors import DovetailError, Unsupported, one_sentence
from dovetail.kernel.protocol import Netns
from dovetail.model.codec import decode, encode
from dovetail.model.endpoint import Owner
from dovetail.model.part import Part, PartEvent
from dovetail.model.readdressing import Readdressing

__all__ = ["Tending"]

_LOG = logging.getLogger("dovetail")
D = TypeVar("D")


class Tending:
    """Looks after such parts in a process that stays; every method is for any thread."""

    def __init__(self, core: Core, parts: Parts, firewall: Firewall) -> None:
        self._core = core
        self._parts = parts
        self._firewall = firewall
        self._kinds: dict[str, Tended | None] = {}
        self._told: queue.SimpleQueue[tuple[str, PartEvent] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self, kind: str) -> None:
        """Look after the parts of `kind`, those of this boot that are written down, and those that come."""
        self._kinds[kind] = None
        self.look()

    def look(self) -> None:
        """Look after those too that other processes have written down since."""
        core = self._core
        for kind in tuple(self._kinds):
            mine = [
                part
                for part in core.store.parts(kind=kind)
                if part.status == "made"
                and part.boot_id == core.boot_id
                and part.host_ns == core.kernel.netns_inode
            ]
            if mine:
                self._begin(kind, [decode(part.detail, core.part_kind(kind).detail) for part in mine])

    def tends(self, kind: str) -> bool:
        """Say whether this process looks after parts of `kind`."""
        return kind in self._kinds

    def add(self, kind: str, owner: Owner, detail: D, *, netns: Netns | None, path: str = "") -> D:
        """Make a part as `Parts.add` does, and look after it if this process stays."""
        if kind in self._kinds and self._kinds[kind] is None:
            self._begin(kind, ())
        return self._parts.add(kind, owner, detail, netns=netns, path=path)

    def stop(self, timeout_s: float) -> None:
        """Look after nothing any more, when what was told is taken up. The parts stay."""
        kinds = [kind for kind in self._kinds.values() if kind is not None]
        self._kinds.clear()
        for kind in kinds:
            kind.close()
        if self._thread is not None:
            self._told.put(None)
            self._thread.join(timeout_s)

    def _begin(self, kind: str, details: Iterable[Any]) -> None:
        how = self._kinds[kind] = self._tended(kind)
        how.tend(partial(self._take, kind), details)

    def _tended(self, kind: str) -> Tended:
        how = self._core.part_kind(kind)
        if not isinstance(how, Tended):
            raise Unsupported(f"parts of kind {kind} do not change by themselves")
        return how

    def _take(self, kind: str, event: PartEvent) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="tending")
                self._thread.start()
        self._told.put((kind, event))

    def _run(self) -> None:
        while True:
            item = self._told.get()
            if item is None:
                return
            kind, event = item
            try:
                self._follow(kind, event)
            except (DovetailError, ExceptionGroup, OSError) as exc:
                self._complain(kind, event, exc)
            except Exception:  # the edge: the others' changes are to be taken up
                _LOG.exception("tending failed")

    @staticmethod
    def _complain(kind: str, event: PartEvent, exc: Exception) -> None:
        owner = event.owner
        fields = {
            "kind": kind,
            "network": owner.network,
            "container": owner.container,
            "ifname": owner.ifname,
        }
        _LOG.warning("not followed", extra={"fields": {**fields, "error": one_sentence(exc)}})

    def _follow(self, kind: str, event: PartEvent) -> None:
        """Write down what has become of a part by itself, and let its interface and the attachment's other parts follow.

        A part that is gone is forgotten; one that another process has taken back is not held any longer.
        """
        core, how = self._core, self._tended(kind)
        attachment = endpoint_id(event.owner)
        with (
            core.tracer.step("engine", f"follow {kind}", ifname=event.owner.ifname),
            self._parts.locked(attachment, event.owner),
        ):
            part = core.store.part(attachment, kind)
            if part is None:
                how.drop(event.detail)
            elif part.inode != event.inode or part.status != "made":
                return  # another container has the attachment's name now
            elif event.gone:
                self._parts.take_back(part)
            else:
                change = how.change(decode(part.detail, how.detail), event.detail)
                core.store.put_part(msgspec.structs.replace(part, detail=encode(event.detail).decode()))
                if change:
                    self._readdress(how, part, change)

    def _readdress(self, how: Tended, part: Part, change: Readdressing) -> None:
        core = self._core
        for other in core.store.parts(attachment=part.attachment):
            kind = core.part_kind(other.kind)
            if isinstance(kind, Addressed):
                detail = kind.readdressed(decode(other.detail, kind.detail), change)
                now = msgspec.structs.replace(other, detail=encode(detail).decode())
                if now != other:
                    self._firewall.remove_part(other)
                    core.store.put_part(now, filtered=bool(self._firewall.part_elements(now)))
                    self._firewall.add_part(now)
        with self._parts.inside(part, None) as netns:
            if netns is not None:
                how.follow(core.kernel, change, owner=part.owner, netns=netns)
