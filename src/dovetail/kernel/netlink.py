"""A netlink socket: trains of requests, their acknowledgements, and dumps.

Several messages go out in one send; the kernel carries them out in order, inside the send, and goes
on after one that fails. Only the last asks for an acknowledgement: refusals are reported in any case.

Source: include/uapi/linux/netlink.h; Documentation/userspace-api/netlink/intro.rst.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from errno import EAGAIN, EINTR, ENOBUFS
from struct import Struct
from threading import Lock
from types import TracebackType
from typing import NamedTuple

from dovetail.errors import Busy, KernelError
from dovetail.kernel.attributes import attributes

__all__ = ["Message", "NetlinkSocket", "Refusal", "RefusedError", "SocketPool"]

NLM_F_REQUEST = 0x1  # include/uapi/linux/netlink.h, as all names below
NLM_F_ACK = 0x4
NLM_F_DUMP_INTR = 0x10
NLM_F_EXCL = 0x200
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800
_NLM_F_CAPPED = 0x100
_MSG_TRUNC = int(socket.MSG_TRUNC)  # a flag of Python's is an object, and costs 1 µs a packet
_NLMSG_NOOP = 1
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSGERR_ATTR_MSG = 1
_NLMSGERR_ATTR_OFFS = 2
_SOL_NETLINK = 270  # include/linux/socket.h
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_SO_RCVBUFFORCE = 33  # include/uapi/asm-generic/socket.h
_SO_SNDBUFFORCE = 32

_HEADER = Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port id
_ERRNO = Struct("=i")
_TIMEVAL = Struct("@ll")
_U32 = Struct("=I")
_ERROR_SIZE = 20  # struct nlmsgerr: an int and the header of the message it is about
_RECEIVE_BYTES = 1 << 16  # the kernel fills a dump's packets up to 32 KiB
_BUFFER_BYTES = 1 << 20
_TRAIN_BYTES = 1 << 16
_SMALL_BYTES = 1 << 15  # a send up to this, and to so many messages, fits the buffers as they are, with
_FEW = 32  # its answers (net.core.wmem_default, rmem_default)
_DUMP_ATTEMPTS = 100
_IDLE_SOCKETS = 4


class Message(NamedTuple):
    """A request: RTM_… or subsystem and command, NLM_F_… besides REQUEST, and what follows the header."""

    kind: int
    flags: int
    body: bytes


class Refusal(NamedTuple):
    """Why the kernel refused a message: errno, its own words, and the offset of the attribute at fault.

    `offset` counts from the message's header (NLMSGERR_ATTR_OFFS), 0 where the kernel did not say.
    """

    errno: int
    extack: str = ""
    offset: int = 0


class RefusedError(Exception):
    """A single request was refused; stays inside `kernel/`, which knows what it was about."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


class _InterruptedDumpError(Exception):
    """What was being listed changed under way."""


class NetlinkSocket:
    """One socket, in the network namespace in which it was opened, for one thread at a time."""

    def __init__(self, protocol: int, *, timeout_s: float = 30.0) -> None:
        self._timeout_s = timeout_s
        self._sequence = 0
        self._roomy = False
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._configure()
        except BaseException:
            self._socket.close()
            raise

    def _configure(self) -> None:
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK):
            self._set(option)
        seconds = int(self._timeout_s)
        timeval = _TIMEVAL.pack(seconds, int((self._timeout_s - seconds) * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    def _set(self, option: int) -> None:
        try:
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except OSError:  # before Linux 4.12 and 4.20: texts and filters are missing, nothing else
            return

    def _make_room(self) -> None:
        """Prepare for what is larger than a few messages: a socket in a sandbox sends those and is closed."""
        self._roomy = True
        self._set(_NETLINK_GET_STRICT_CHK)
        for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, forced, _BUFFER_BYTES)
            except PermissionError:
                self._socket.setsockopt(socket.SOL_SOCKET, plain, _BUFFER_BYTES)

    def fileno(self) -> int:
        """Give the descriptor, for ioctls in the socket's namespace."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it; closing twice is no error."""
        self._socket.close()

    def __del__(self) -> None:
        # a kernel handle may live as long as the process, and nobody has to close that
        if hasattr(self, "_socket"):
            self._socket.close()

    def execute(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """Send `messages` in order, in as few sends as fit; say for each why it was refused, or None."""
        refusals: list[Refusal | None] = []
        start = size = 0
        for index, message in enumerate(messages):
            if size and size + len(message.body) > _TRAIN_BYTES:
                refusals += self._execute(messages[start:index])
                start, size = index, 0
            size += len(message.body) + _HEADER.size
        return refusals + self._execute(messages[start:])

    def _execute(self, messages: Sequence[Message]) -> list[Refusal | None]:
        if not messages:
            return []
        first = self._send(messages, last=NLM_F_ACK)
        return self._collect(first, len(messages))

    def transact(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """Send an nfnetlink transaction: the first and last of `messages` are its BEGIN and END.

        The kernel reports what it refuses when it has seen all; a refusal of the whole stands at BEGIN.
        The acknowledgement is asked for on the message before END, as END has had none before Linux 6.10.
        """
        first = self._send(messages, last=0, before_last=NLM_F_ACK)
        return [*self._collect(first, len(messages) - 1, stop_at_first=True), None]

    def request(self, message: Message) -> bytes:
        """Ask for one thing and give the body of the answer; raises RefusedError."""
        if not self._roomy:
            self._make_room()
        wanted = self._send([message], last=0)
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != wanted:
                    continue
                if kind == _NLMSG_ERROR:
                    raise RefusedError(_refusal(kind, flags, body) or Refusal(0))
                return body

    def dump(self, message: Message) -> list[bytes]:
        """List; starts again as long as what is listed changes under way (NLM_F_DUMP_INTR, EINTR).

        Raises RefusedError, or Busy when it never holds still.
        """
        for _ in range(_DUMP_ATTEMPTS):
            try:
                return self._dump(message)
            except _InterruptedDumpError:
                continue
        raise Busy("the kernel's list kept changing while it was read", hint="try again")

    def _dump(self, message: Message) -> list[bytes]:
        if not self._roomy:
            self._make_room()
        wanted = self._send([message._replace(flags=message.flags | NLM_F_DUMP)], last=0)
        bodies: list[bytes] = []
        interrupted = False
        while True:
            for kind, flags, sequence, body in self._receive():
                if sequence != wanted:
                    continue
                interrupted |= bool(flags & NLM_F_DUMP_INTR)
                if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                    refusal = _refusal(kind, flags, body)
                    if interrupted or (refusal and refusal.errno in (EINTR, EAGAIN)):
                        raise _InterruptedDumpError
                    if refusal is not None:
                        raise RefusedError(refusal)
                    return bodies
                if kind != _NLMSG_NOOP:
                    bodies.append(body)

    # -- below ------------------------------------------------------------------------------------

    def _send(self, messages: Sequence[Message], *, last: int, before_last: int = 0) -> int:
        """Number and send `messages`; gives the number of the first. The kernel acts before this returns."""
        count = len(messages)
        if self._sequence + count > 0xFFFFFFFF:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        parts: list[bytes] = []
        for index, (kind, flags, body) in enumerate(messages):
            asked = last if index == count - 1 else before_last if index == count - 2 else 0
            length = _HEADER.size + len(body)
            parts.append(_HEADER.pack(length, kind, flags | asked | NLM_F_REQUEST, first + index, 0))
            parts.append(body)
            if length & 3:
                parts.append(b"\0" * (-length & 3))
        train = b"".join(parts)
        if not self._roomy and (len(train) > _SMALL_BYTES or count > _FEW):
            self._make_room()
        try:
            self._socket.send(train)
        except BlockingIOError as exc:
            raise self._timeout() from exc
        return first

    def _collect(self, first: int, count: int, *, stop_at_first: bool = False) -> list[Refusal | None]:
        """Read refusals of the messages numbered from `first` until the last of them is answered."""
        refusals: list[Refusal | None] = [None] * count
        while True:
            for kind, flags, sequence, body in self._receive():
                index = sequence - first
                if kind != _NLMSG_ERROR or not 0 <= index < count:
                    continue
                refusals[index] = _refusal(kind, flags, body)
                if index == count - 1 or (stop_at_first and index == 0 and refusals[0] is not None):
                    return refusals

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Read one packet from the kernel: (type, flags, sequence number, body) of each message."""
        try:
            data, _, flags, address = self._socket.recvmsg(_RECEIVE_BYTES)
        except BlockingIOError as exc:
            raise self._timeout() from exc
        except OSError as exc:
            if exc.errno == ENOBUFS:
                raise KernelError("the kernel's answer over netlink was lost", ENOBUFS) from exc
            raise
        if flags & _MSG_TRUNC:
            raise KernelError("the kernel's answer over netlink was too long", ENOBUFS)
        if address[0] != 0:
            return  # a process sent this, not the kernel
        offset, end = 0, len(data)
        while offset + _HEADER.size <= end:
            length, kind, message_flags, sequence, _ = _HEADER.unpack_from(data, offset)
            if length < _HEADER.size or offset + length > end:
                return
            yield kind, message_flags, sequence, data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3

    def _timeout(self) -> Busy:
        return Busy(
            f"the kernel did not answer over netlink within {self._timeout_s:g} s",
            hint="another process may hold the network configuration: try again",
        )


def _refusal(kind: int, flags: int, body: bytes) -> Refusal | None:
    """Read struct nlmsgerr, or the number in NLMSG_DONE; None when it says success."""
    code = _ERRNO.unpack_from(body)[0] if len(body) >= _ERRNO.size else 0
    if code >= 0:
        return None
    start = _ERRNO.size
    if kind == _NLMSG_ERROR and len(body) >= _ERROR_SIZE:
        length = _HEADER.unpack_from(body, _ERRNO.size)[0]
        start = _ERROR_SIZE if flags & _NLM_F_CAPPED else _ERRNO.size + ((length + 3) & ~3)
    said = attributes(body, start)
    text = said.get(_NLMSGERR_ATTR_MSG, b"").split(b"\0")[0].decode(errors="replace")
    offset = said.get(_NLMSGERR_ATTR_OFFS, b"")
    return Refusal(-code, text, _U32.unpack(offset)[0] if len(offset) == _U32.size else 0)


class SocketPool:
    """Sockets of one namespace and protocol, each lent to one thread at a time and kept open between.

    `open_socket` opens one in the right namespace. A few idle ones are kept.
    """

    def __init__(self, open_socket: Callable[[], NetlinkSocket]) -> None:
        self._open = open_socket
        self._idle: list[NetlinkSocket] = []
        self._lock = Lock()
        self._closed = False
        self._pid = os.getpid()

    def borrow(self) -> AbstractContextManager[NetlinkSocket]:
        """Lend a socket; one whose conversation broke off is closed, so no late answer is taken for another's."""
        return _Loan(self)

    def take(self) -> NetlinkSocket:
        """Take an idle socket, or open one; `borrow` does, and gives it back."""
        with self._lock:
            if self._pid != os.getpid():  # a fork: the sockets are the parent's
                self._idle, self._pid = [], os.getpid()
            lent = self._idle.pop() if self._idle else None
        return self._open() if lent is None else lent

    def give_back(self, lent: NetlinkSocket) -> None:
        """Keep a socket for the next, or close it."""
        with self._lock:
            if not self._closed and len(self._idle) < _IDLE_SOCKETS:
                self._idle.append(lent)
                return
        lent.close()

    def close(self) -> None:
        """Close the idle sockets, and those lent as they come back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()


class _Loan:
    """The ``with`` of `SocketPool.borrow`; a class, as a generator costs twice that, and every verb borrows."""

    __slots__ = ("_lent", "_pool")

    def __init__(self, pool: SocketPool) -> None:
        self._pool = pool

    def __enter__(self) -> NetlinkSocket:
        self._lent = self._pool.take()
        return self._lent

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None or isinstance(exc, RefusedError):
            self._pool.give_back(self._lent)
        else:
            self._lent.close()
