"""Netlink sockets: framing, several messages in one send, acks matched, dumps that survive interruption.

Every number is from include/uapi/linux/netlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from collections.abc import Sequence
from typing import NamedTuple

from dovetail.errors import KernelError

__all__ = [
    "CREATE",
    "EXCL",
    "NETLINK_NETFILTER",
    "NETLINK_ROUTE",
    "Failure",
    "Message",
    "NetlinkSocket",
    "attribute",
    "attributes",
    "nested",
]

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NETLINK_GET_STRICT_CHK = 12
_REQUEST, _MULTI, _ACK, _DUMP_INTR, _DUMP = 0x1, 0x2, 0x4, 0x10, 0x300
EXCL, CREATE = 0x200, 0x400
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_ACK_TLVS = 0x200  # NLM_F_ACK_TLVS: extended ACK attributes follow
_CAPPED = 0x100  # NLM_F_CAPPED: the request's payload is not echoed
_NLMSGERR_ATTR_MSG = 1
_NESTED = 0x8000  # NLA_F_NESTED
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_ATTR = struct.Struct("=HH")  # struct nlattr
_RECEIVE_BYTES = 1 << 20
_TIMEOUT_S = 10.0
_DUMP_TRIES = 32


def attribute(kind: int, data: bytes) -> bytes:
    """Encode one attribute, padded to four bytes."""
    length = 4 + len(data)
    return _ATTR.pack(length, kind) + data + bytes(-length % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """Encode an attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Read a run of attributes; of equal types the last one counts."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


class Message(NamedTuple):
    """A request: type, flags beside NLM_F_REQUEST and NLM_F_ACK, the payload, and its words for errors."""

    kind: int
    flags: int
    payload: bytes
    words: str = ""
    acked: bool = True


class Failure(NamedTuple):
    """What the kernel said of a message it refused."""

    errno: int
    extack: str

    def error(self, words: str) -> KernelError:
        """Make it an exception that says what was attempted."""
        text = self.extack or os.strerror(self.errno)
        return KernelError(f"{words}: {text}", self.errno, extack=self.extack)


class NetlinkSocket:
    """One socket of the network namespace in which it was made; safe under threads."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        for option in (_NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._socket.settimeout(_TIMEOUT_S)
        self._socket.bind((0, 0))
        self._lock = threading.Lock()
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def transact(self, messages: Sequence[Message]) -> list[Failure | None]:
        """Send all messages at once; give for each what the kernel refused, or None.

        A message with ``acked=False`` (the frame of an nftables batch) is answered only if it fails.
        """
        with self._lock:
            numbers = []
            packed = []
            for message in messages:
                self._sequence += 1
                numbers.append(self._sequence)
                flags = message.flags | _REQUEST | (_ACK if message.acked else 0)
                header = _HEADER.pack(16 + len(message.payload), message.kind, flags, self._sequence, 0)
                packed.append(header + message.payload + bytes(-len(message.payload) % 4))
            self._socket.send(b"".join(packed))
            answers: dict[int, Failure | None] = {}
            waiting = {n for n, message in zip(numbers, messages, strict=True) if message.acked}
            while waiting:
                for kind, flags, sequence, payload in self._receive():
                    if kind == _NLMSG_ERROR and sequence in numbers:
                        failure = _failure(payload, flags)
                        answers[sequence] = answers.get(sequence) or failure
                        waiting.discard(sequence)
            return [answers.get(number) for number in numbers]

    def get(self, kind: int, payload: bytes, words: str = "") -> bytes | Failure:
        """Ask for one object; gives its payload, or the refusal."""
        with self._lock:
            self._sequence += 1
            self._socket.send(_HEADER.pack(16 + len(payload), kind, _REQUEST, self._sequence, 0) + payload)
            while True:
                for reply, flags, sequence, body in self._receive():
                    if sequence != self._sequence:
                        continue
                    if reply == _NLMSG_ERROR:
                        return _failure(body, flags) or Failure(errno.EIO, words)
                    return body

    def dump(self, kind: int, payload: bytes) -> list[bytes] | Failure:
        """List objects; a dump that a concurrent change interrupted (NLM_F_DUMP_INTR) is done again."""
        with self._lock:
            for _ in range(_DUMP_TRIES):
                found, whole = self._dump_once(kind, payload)
                if whole:
                    return found
            return Failure(errno.EINTR, "the list changed faster than it could be read")

    def _dump_once(self, kind: int, payload: bytes) -> tuple[list[bytes] | Failure, bool]:
        self._sequence += 1
        flags = _REQUEST | _DUMP
        self._socket.send(_HEADER.pack(16 + len(payload), kind, flags, self._sequence, 0) + payload)
        found: list[bytes] = []
        interrupted = False
        while True:
            for reply, reply_flags, sequence, body in self._receive():
                if sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(reply_flags & _DUMP_INTR)
                if reply == _NLMSG_ERROR:
                    failure = _failure(body, reply_flags)
                    if failure and failure.errno == errno.EINTR:
                        return [], False
                    return failure or Failure(errno.EIO, ""), True
                if reply == _NLMSG_DONE:
                    return found, not interrupted
                found.append(body)

    def _receive(self) -> list[tuple[int, int, int, bytes]]:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except TimeoutError as exc:
            raise KernelError(f"the kernel did not answer within {_TIMEOUT_S:g} s", errno.ETIMEDOUT) from exc
        except OSError as exc:
            raise KernelError(f"netlink: {exc.strerror}", exc.errno or errno.EIO) from exc
        messages = []
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            messages.append((kind, flags, sequence, data[offset + 16 : offset + length]))
            offset += (length + 3) & ~3
        return messages


def _failure(payload: bytes, flags: int) -> Failure | None:
    """Read an NLMSG_ERROR; error 0 is an ack."""
    (number,) = struct.unpack_from("=i", payload)
    if number == 0:
        return None
    text = ""
    if flags & _ACK_TLVS:
        (length,) = struct.unpack_from("=I", payload, 4)
        start = 4 + (16 if flags & _CAPPED else (length + 3) & ~3)
        text = attributes(payload, start).get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")
    return Failure(-number, text)
