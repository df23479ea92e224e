"""One nftables table: its elements, added, deleted and read over nfnetlink without running ``nft``.

What types a set has is asked once and remembered, until the kernel says that the set is gone.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import NamedTuple

from dovetail.errors import AlreadyExists, Busy, DovetailError, NotFound
from dovetail.kernel.commands import describe, element_text
from dovetail.kernel.netlink import Message, NetlinkSocket, Refusal, RefusedError, SocketPool
from dovetail.kernel.nfnetlink import (
    NFPROTO_INET,
    comment,
    generation,
    get_generation,
    get_rules,
    get_table,
    rule_chain,
    transaction,
)
from dovetail.kernel.nft_elements import (
    DESTROY,
    Shape,
    add_elements,
    blamed,
    delete_elements,
    dump_elements,
    dump_sets,
    get_element,
    parse_elements,
    parse_set,
)
from dovetail.kernel.protocol import TableState
from dovetail.kernel.refusals import explain
from dovetail.model.element import Element

__all__ = ["NftTable"]

_FAMILY = NFPROTO_INET
_ELEMENTS_PER_MESSAGE = 500  # an attribute holds 64 KiB, the largest element is 84 bytes
_TRANSACTION_BYTES = 1 << 17  # fits the default of net.core.wmem_max
_READ_ATTEMPTS = 1000
_STALE = frozenset({errno.ENOENT, errno.EINVAL})  # what a set that was made anew may cause


class _Part(NamedTuple):
    """A message and the elements of one set in it."""

    shape: Shape
    elements: Sequence[Element]
    message: Message


_Write = Callable[[Shape, Sequence[Element]], Message]


class NftTable:
    """``table inet NAME`` of one namespace; safe from any thread."""

    def __init__(self, sockets: SocketPool, name: str) -> None:
        self._sockets = sockets
        self._name = name
        self._shapes: dict[str, Shape] = {}
        self._destroys = True

    def exists(self) -> bool:
        """Say whether the table is there."""
        with self._sockets.borrow() as netlink:
            try:
                netlink.request(get_table(self._name, _FAMILY))
            except RefusedError as exc:
                if exc.refusal.errno == errno.ENOENT:
                    return False
                raise explain(exc.refusal, f"nft list table inet {self._name}") from exc
        return True

    def state(self) -> TableState | None:
        """Say what the table is now; None without it."""
        with self._sockets.borrow() as netlink:
            try:
                said = comment(netlink.request(get_table(self._name, _FAMILY)))
                rules = Counter(map(rule_chain, netlink.dump(get_rules(self._name, _FAMILY))))
            except RefusedError as exc:
                if exc.refusal.errno == errno.ENOENT:
                    return None
                raise explain(exc.refusal, f"nft list table inet {self._name}") from exc
        return TableState(said, dict(rules))

    def forget(self) -> None:
        """Ask for the sets' types again next time."""
        self._shapes = {}

    def add(self, elements: Collection[Element]) -> None:
        """Add `elements` in one transaction (of 128 KiB: some 1500 elements).

        Raises NotFound (the table or a set), AlreadyExists (a key is there with other data, or its
        interval overlaps another), PermissionDenied, KernelError.
        """
        if not elements:
            return
        with self._sockets.borrow() as netlink:
            shapes, fresh = self._known(netlink, elements)
            refused = self._write(netlink, shapes, elements, self._adding)
            if refused is not None and refused[1].errno in _STALE and not fresh:
                self.forget()
                shapes, _ = self._known(netlink, elements)
                refused = self._write(netlink, shapes, elements, self._adding)
        if refused is not None:
            self.forget()
            raise self._error("nft_add_elements", *refused)

    def delete(self, elements: Collection[Element]) -> None:
        """Delete `elements` by key, in one transaction as `add`; missing ones, sets and tables are no error."""
        if not elements:
            return
        with self._sockets.borrow() as netlink:
            shapes, _ = self._known(netlink, elements, missing_ok=True)
            refused = self._delete(netlink, shapes, elements)
            if refused is not None and refused[1].errno in _STALE:
                self.forget()
                shapes, _ = self._known(netlink, elements, missing_ok=True)
                refused = self._delete(netlink, shapes, elements)
        if refused is not None and refused[1].errno != errno.ENOENT:
            raise self._error("nft_delete_elements", *refused)

    def elements(self) -> set[Element]:
        """Read every element of every named set and map, each set as it was at one moment; empty without the table.

        Raises Busy where transactions follow each other so fast that a set is never read whole.
        """
        found: set[Element] = set()
        with self._sockets.borrow() as netlink:
            for shape in self._load(netlink).values():
                try:
                    found.update(parse_elements(shape, self._rows(netlink, shape)))
                except RefusedError as exc:
                    if exc.refusal.errno != errno.ENOENT:
                        command = f"nft list set inet {self._name} {shape.name}"
                        raise explain(exc.refusal, command) from exc
        return found

    def missing(self, elements: Collection[Element]) -> set[Element]:
        """Give those of `elements` that are not there, by a look-up each (NFT_MSG_GETSETELEM without NLM_F_DUMP).

        What is not found so is looked for in the whole: a look-up of a range finds another one that begins with it,
        and none in a set of single ranges, whose ends are elements of their own.
        """
        with self._sockets.borrow() as netlink:
            if not {element.set for element in elements} <= self._shapes.keys():
                self._load(netlink)
            doubtful = {element for element in elements if not self._finds(netlink, element)}
        return doubtful - self.elements() if doubtful else doubtful

    def _finds(self, netlink: NetlinkSocket, element: Element) -> bool:
        shape = self._shapes.get(element.set)
        if shape is None:
            return False
        try:
            body = netlink.request(get_element(_FAMILY, self._name, shape, element))
        except RefusedError:  # missing, or a set that was made anew: the whole tells
            return False
        return element in parse_elements(shape, [body])

    def _rows(self, netlink: NetlinkSocket, shape: Shape) -> list[bytes]:
        """List a set; the kernel tells of a change between two packets of a list, but not within one."""
        before = generation(netlink.request(get_generation()))
        for _ in range(_READ_ATTEMPTS):
            rows = netlink.dump(dump_elements(_FAMILY, self._name, shape.name))
            after = generation(netlink.request(get_generation()))
            if after == before:
                return rows
            before = after
        raise Busy(f"nftables set {shape.name!r} kept changing while it was read", hint="try again")

    # -- below ------------------------------------------------------------------------------------

    def _adding(self, shape: Shape, elements: Sequence[Element]) -> Message:
        return add_elements(_FAMILY, self._name, shape, elements)

    def _destroying(self, shape: Shape, elements: Sequence[Element]) -> Message:
        return delete_elements(_FAMILY, self._name, shape, elements, command=DESTROY)

    def _deleting(self, shape: Shape, elements: Sequence[Element]) -> Message:
        return delete_elements(_FAMILY, self._name, shape, elements)

    def _known(
        self, netlink: NetlinkSocket, elements: Collection[Element], *, missing_ok: bool = False
    ) -> tuple[dict[str, Shape], bool]:
        """Give the shapes of the sets of `elements`, and whether they were asked just now."""
        names = {element.set for element in elements}
        if names <= self._shapes.keys():
            return self._shapes, False
        shapes = self._load(netlink)
        missing = sorted(names - shapes.keys())
        if missing and not missing_ok:
            if not shapes and not self._is_there(netlink):
                raise NotFound("nftables table", f"inet {self._name}")
            raise NotFound("nftables set", missing[0], where=f"table inet {self._name}")
        return shapes, True

    def _is_there(self, netlink: NetlinkSocket) -> bool:
        try:
            netlink.request(get_table(self._name, _FAMILY))
        except RefusedError:
            return False
        return True

    def _load(self, netlink: NetlinkSocket) -> dict[str, Shape]:
        try:
            rows = netlink.dump(dump_sets(_FAMILY, self._name))
        except RefusedError as exc:
            if exc.refusal.errno != errno.ENOENT:
                raise explain(exc.refusal, f"nft list table inet {self._name}") from exc
            rows = []
        self._shapes = {shape.name: shape for shape in map(parse_set, rows) if shape is not None}
        return self._shapes

    def _delete(
        self, netlink: NetlinkSocket, shapes: dict[str, Shape], elements: Collection[Element]
    ) -> tuple[_Part, Refusal] | None:
        present = [element for element in elements if element.set in shapes]
        if self._destroys:
            refused = self._write(netlink, shapes, present, self._destroying)
            if refused is None or refused[1].errno != errno.EINVAL:
                return refused
            self._destroys = False  # Linux before 6.3 does not know the message
        return self._delete_one_by_one(netlink, shapes, present)

    def _delete_one_by_one(
        self, netlink: NetlinkSocket, shapes: dict[str, Shape], elements: Sequence[Element]
    ) -> tuple[_Part, Refusal] | None:
        """Leave out what is missing and try again, until the transaction has what is there only."""
        while elements:
            parts = [
                _Part(shapes[e.set], [e], self._deleting(shapes[e.set], [e]))
                for e in elements[:_ELEMENTS_PER_MESSAGE]
            ]
            refusals = netlink.transact(transaction([part.message for part in parts]))
            for part, refusal in zip([parts[0], *parts], refusals, strict=False):
                if refusal is not None and refusal.errno != errno.ENOENT:
                    return part, refusal
            there = [
                part.elements[0] for part, refusal in zip(parts, refusals[1:], strict=False) if not refusal
            ]
            done = len(there) == len(parts)
            elements = [*([] if done else there), *elements[_ELEMENTS_PER_MESSAGE:]]
        return None

    def _write(
        self,
        netlink: NetlinkSocket,
        shapes: dict[str, Shape],
        elements: Collection[Element],
        write: _Write,
    ) -> tuple[_Part, Refusal] | None:
        """Send the elements by transactions; gives the first refusal and the part it is about."""
        for parts in _transactions(shapes, elements, write):
            refusals = netlink.transact(transaction([part.message for part in parts]))
            for part, refusal in zip([parts[0], *parts], refusals, strict=False):
                if refusal is not None:
                    return part, refusal
        return None

    def _error(self, verb: str, part: _Part, refusal: Refusal) -> DovetailError:
        element = blamed(self._name, part.shape, part.elements, refusal.offset)
        if element is None and len(part.elements) == 1:
            element = part.elements[0]
        if refusal.errno == errno.EEXIST and element is not None:
            return AlreadyExists("nftables element", f"{element.set} {element_text(element)}")
        if refusal.errno == errno.ENOENT:
            return NotFound("nftables set", part.shape.name, where=f"table inet {self._name}")
        return explain(refusal, describe(verb, [element or part.elements[0]])[0])


def _transactions(
    shapes: dict[str, Shape], elements: Collection[Element], write: _Write
) -> Iterator[list[_Part]]:
    by_set: dict[str, list[Element]] = {}
    for element in elements:
        by_set.setdefault(element.set, []).append(element)
    parts: list[_Part] = []
    size = 0
    for name, members in by_set.items():
        for start in range(0, len(members), _ELEMENTS_PER_MESSAGE):
            some = members[start : start + _ELEMENTS_PER_MESSAGE]
            part = _Part(shapes[name], some, write(shapes[name], some))
            if parts and size + len(part.message.body) > _TRANSACTION_BYTES:
                yield parts
                parts, size = [], 0
            parts.append(part)
            size += len(part.message.body)
    if parts:
        yield parts
