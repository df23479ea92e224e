"""A handle to one network namespace: its rtnetlink sockets, and the trains that its verbs send over them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import local
from types import TracebackType
from typing import cast

from dovetail.kernel import rtnl
from dovetail.kernel.ifindex import index_of, name_of
from dovetail.kernel.netlink import Message, NetlinkSocket, RefusedError
from dovetail.kernel.netns import LinuxNetns
from dovetail.kernel.protocol import Netns
from dovetail.kernel.refusals import ABSENT, explain
from dovetail.kernel.train import Operation, send_train

__all__ = ["LinuxHandle", "names", "row", "rows"]


class _Batches(local):
    """What a thread collects, while it does."""

    operations: list[Operation] | None = None


class _Batch:
    """The ``with`` of `LinuxHandle.batch`; like the other two in every attachment a class, which costs half of a generator."""

    __slots__ = ("_handle",)

    def __init__(self, handle: LinuxHandle) -> None:
        self._handle = handle

    def __enter__(self) -> None:
        self._handle.collect()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._handle.send_collected(wanted=exc is None)


class LinuxHandle:
    """A handle to the namespace `home`, which must stay open as long; what the parts of `LinuxKernel` share."""

    def __init__(self, home: Netns) -> None:
        self._home = cast("LinuxNetns", home)  # only this package opens namespaces that Linux knows of
        self._route = self._home.route
        self._batches = _Batches()

    def borrow_route(self) -> AbstractContextManager[NetlinkSocket]:
        """Lend the namespace's rtnetlink socket."""
        return self._route.borrow()

    def batch(self) -> AbstractContextManager[None]:
        """Collect this thread's link, address, route and rule verbs until the block ends; a block that fails sends none.

        Within another batch it is part of that one.
        """
        return nullcontext() if self._batches.operations is not None else _Batch(self)

    def collect(self) -> None:
        """Begin a batch; `batch` does, and `send_collected` ends it."""
        self._batches.operations = []

    def send_collected(self, *, wanted: bool) -> None:
        """End the batch and send it, if it is still `wanted`."""
        operations, self._batches.operations = self._batches.operations, None
        if wanted and operations:
            self._send(operations)

    def _do(self, operation: Operation) -> None:
        collecting = self._batches.operations
        if collecting is not None:
            collecting.append(operation)
        else:
            self._send([operation])

    def _send(self, operations: Sequence[Operation]) -> None:
        if not operations:
            return
        with self._route.borrow() as netlink:
            error = send_train(netlink, operations)
        if error is not None:
            raise error


def rows(netlink: NetlinkSocket, message: Message, command: str) -> list[bytes]:
    """List; `command` says in ``ip``'s words what, for the error."""
    try:
        return netlink.dump(message)
    except RefusedError as exc:
        if exc.refusal.errno in ABSENT:  # no such table, link or family yet: an empty list
            return []
        raise explain(exc.refusal, command) from exc


def names(netlink: NetlinkSocket) -> Callable[[int], str]:
    """Give what names a link by its index, asking once for each."""
    known: dict[int, str] = {}

    def name(index: int) -> str:
        if index not in known:
            known[index] = name_of(netlink.fileno(), index)
        return known[index]

    return name


def row(netlink: NetlinkSocket, name: str) -> bytes | None:
    """Ask for one link by name; a missing one costs no more than an ioctl."""
    if not index_of(netlink.fileno(), name):
        return None
    try:
        return netlink.request(rtnl.get_link(name))
    except RefusedError as exc:
        if exc.refusal.errno == errno.ENODEV:
            return None
        raise explain(exc.refusal, f"ip link show dev {name}") from exc
