"""A train: what several verbs ask of rtnetlink, sent as one.

An `Operation` becomes messages only when the train leaves, as addresses and routes name their link
by index, and the link may be one that an earlier operation of the same train makes: then the train
is cut there, and the rest leaves when the link exists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from errno import EEXIST, ENODEV
from typing import NamedTuple

from dovetail.errors import AlreadyExists, DovetailError, NotFound
from dovetail.kernel.ifindex import index_of
from dovetail.kernel.netlink import Message, NetlinkSocket, Refusal
from dovetail.kernel.refusals import explain
from dovetail.kernel.rtnl import delete_link

__all__ = ["Operation", "Resolve", "send_train"]

Resolve = Callable[[str], int]
Exists = AlreadyExists | Callable[[], AlreadyExists]


class Operation(NamedTuple):
    """One verb's messages and what their refusal means.

    commands: the lines of ``ip`` that it equals, for error texts. exists: what EEXIST on the first message means.
    link: what ENODEV is about. tolerated: errnos that mean there is nothing to do. made: the link that
    the first message makes; it goes again where a later one is refused. after: runs when all succeeded.
    refused: what a refusal of the first message means, where it can say.
    """

    commands: Callable[[], list[str]]
    build: Callable[[Resolve], Sequence[Message]]
    exists: Exists | None = None
    link: str = ""
    tolerated: frozenset[int] = frozenset()
    made: str = ""
    after: Callable[[], None] | None = None
    refused: Callable[[Refusal], DovetailError | None] | None = None

    def error(self, index: int, refusal: Refusal) -> DovetailError:
        """Explain the refusal of its message number `index`."""
        if index == 0 and self.refused is not None and (meant := self.refused(refusal)) is not None:
            return meant
        lines = self.commands() or ["ip link set"]
        if refusal.errno == EEXIST and index == 0 and self.exists is not None:
            return self.exists() if callable(self.exists) else self.exists
        return explain(refusal, lines[min(index, len(lines) - 1)], link=self.link)


def send_train(netlink: NetlinkSocket, operations: Iterable[Operation]) -> DovetailError | None:
    """Carry out `operations` in order, all of them; gives the first error."""
    train = _Train(netlink)
    for operation in operations:
        train.couple(operation)
    train.leave()
    return train.error


class _Train:
    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._waiting: list[tuple[Operation, Sequence[Message]]] = []
        self.error: DovetailError | None = None

    def couple(self, operation: Operation) -> None:
        try:
            messages = operation.build(self._resolve)
        except DovetailError as exc:
            if not (isinstance(exc, NotFound) and ENODEV in operation.tolerated):
                self.error = self.error or exc
            return
        self._waiting.append((operation, messages))
        if operation.after is not None:
            self.leave()

    def leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        refusals = self._netlink.execute([message for _, messages in waiting for message in messages])
        start = 0
        for operation, messages in waiting:
            self._judge(operation, refusals[start : start + len(messages)])
            start += len(messages)

    def _judge(self, operation: Operation, refusals: Sequence[Refusal | None]) -> None:
        for index, refusal in enumerate(refusals):
            if refusal is None or refusal.errno in operation.tolerated:
                continue
            self.error = self.error or operation.error(index, refusal)
            if operation.made and index > 0 and refusals[0] is None:
                self._netlink.execute([delete_link(operation.made)])
            return
        if operation.after is not None:
            try:
                operation.after()
            except DovetailError as exc:
                self.error = self.error or exc

    def _resolve(self, name: str) -> int:
        index = index_of(self._netlink.fileno(), name)
        if not index and self._waiting:
            self.leave()
            index = index_of(self._netlink.fileno(), name)
        if not index:
            raise NotFound("interface", name)
        return index
