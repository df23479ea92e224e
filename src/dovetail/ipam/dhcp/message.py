"""DHCPv4 messages: BOOTP's fixed part and the options, to bytes and back.

Reading is strict, as anybody on the network may send: whatever the bytes are, the outcome is a `Message` or
MalformedError. Options that overflow into BOOTP's ``file`` and ``sname`` are read there, and the pieces of a long
option are one.

Source: RFC 2131 §2 and §4.1, RFC 2132 §9.3 (overload), RFC 3396 (long options), RFC 951 and RFC 1542 (BOOTP).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from struct import Struct
from typing import NamedTuple

from dovetail.ipam.dhcp.options import MESSAGE_TYPE, OVERLOAD
from dovetail.ipam.dhcp.values import MalformedError

__all__ = [
    "ACK",
    "BOOTREPLY",
    "BOOTREQUEST",
    "DISCOVER",
    "NAK",
    "NOBODY",
    "OFFER",
    "RELEASE",
    "REQUEST",
    "Message",
    "decode",
    "encode",
]

BOOTREQUEST, BOOTREPLY = 1, 2
DISCOVER, OFFER, REQUEST, ACK, NAK, RELEASE = 1, 2, 3, 5, 6, 7  # RFC 2132 §9.6
NOBODY = IPv4Address(0)

# op htype hlen hops xid secs flags ciaddr yiaddr siaddr giaddr chaddr sname file cookie
_FIXED = Struct(">BBBBIHH4s4s4s4s16s64s128s4s")
_COOKIE = bytes((99, 130, 83, 99))
_ETHERNET = 1  # ARPHRD_ETHER, include/uapi/linux/if_arp.h
_BROADCAST = 0x8000
_BYTES = 300  # RFC 1542 §2.1: relays and servers drop shorter ones
_CHADDR_BYTES = 16
_PAD, _END = 0, 255
_FILE, _SNAME = 1, 2  # bits of the overload option


class Message(NamedTuple):
    """A DHCPv4 message.

    chaddr: the client's hardware address, up to 16 bytes. options: values by number, whole; without padding, end and
    overload. secs: since the client began. broadcast: replies go to everybody, as the client cannot take a unicast.
    """

    op: int
    xid: int
    chaddr: bytes
    options: Mapping[int, bytes]
    secs: int = 0
    broadcast: bool = False
    ciaddr: IPv4Address = NOBODY
    yiaddr: IPv4Address = NOBODY
    siaddr: IPv4Address = NOBODY
    giaddr: IPv4Address = NOBODY

    @property
    def kind(self) -> int:
        """Its message type (option 53), 0 where it has none: a BOOTP message."""
        value = self.options.get(MESSAGE_TYPE, b"")
        return value[0] if len(value) == 1 else 0


def encode(message: Message) -> bytes:
    """Write a message as the payload of its datagram."""
    flags = _BROADCAST if message.broadcast else 0
    fixed = _FIXED.pack(
        message.op, _ETHERNET, len(message.chaddr), 0, message.xid, message.secs, flags,
        message.ciaddr.packed, message.yiaddr.packed, message.siaddr.packed, message.giaddr.packed,
        message.chaddr, b"", b"", _COOKIE,
    )  # fmt: skip
    # some servers look for the message type in the first place only
    order = sorted(message.options, key=lambda code: code != MESSAGE_TYPE)
    pieces = [piece for code in order for piece in _pieces(code, message.options[code])]
    return b"".join((fixed, *pieces, bytes((_END,)))).ljust(_BYTES, b"\0")


def _pieces(code: int, value: bytes) -> Iterator[bytes]:
    """Cut a value into options of at most 255 bytes (RFC 3396 §6); an empty one is one."""
    for at in range(0, len(value) or 1, 255):
        piece = value[at : at + 255]
        yield bytes((code, len(piece))) + piece


def decode(data: bytes) -> Message:
    """Read the payload of a datagram; raises MalformedError and nothing else."""
    if len(data) < _FIXED.size:
        raise MalformedError(f"{len(data)} bytes are no DHCP message, which has {_FIXED.size} at least")
    (
        op, htype, hlen, _, xid, secs, flags, ciaddr, yiaddr, siaddr, giaddr, chaddr, sname, file, cookie,
    ) = _FIXED.unpack_from(data)  # fmt: skip
    if cookie != _COOKIE:
        raise MalformedError("it has no DHCP options (the magic cookie is missing)")
    if op not in (BOOTREQUEST, BOOTREPLY):
        raise MalformedError(f"its operation is {op}")
    if htype != _ETHERNET or hlen > _CHADDR_BYTES:
        raise MalformedError(f"its hardware type is {htype} with an address of {hlen} bytes")
    return Message(
        op=op,
        xid=xid,
        chaddr=chaddr[:hlen],
        options=_options(data[_FIXED.size :], file, sname),
        secs=secs,
        broadcast=bool(flags & _BROADCAST),
        ciaddr=IPv4Address(ciaddr),
        yiaddr=IPv4Address(yiaddr),
        siaddr=IPv4Address(siaddr),
        giaddr=IPv4Address(giaddr),
    )


def _options(field: bytes, file: bytes, sname: bytes) -> dict[int, bytes]:
    """Join the pieces of each option in the order of RFC 3396 §5: the options field, `file`, `sname`."""
    found: dict[int, bytearray] = {}
    _collect(field, found, "the options")
    overload = found.pop(OVERLOAD, b"")
    if overload:
        if len(overload) != 1 or not 1 <= overload[0] <= (_FILE | _SNAME):
            raise MalformedError(f"its overload option is {overload.hex()}")
        for bit, more, what in ((_FILE, file, "file"), (_SNAME, sname, "sname")):
            if overload[0] & bit:
                _collect(more, found, f"the options in {what}")
        found.pop(OVERLOAD, None)
    return {code: bytes(value) for code, value in found.items()}


def _collect(field: bytes, found: dict[int, bytearray], what: str) -> None:
    """Add the options of one field to `found`. A field that is full needs no end, what follows an end is padding."""
    at = 0
    while at < len(field) and field[at] != _END:
        if field[at] == _PAD:
            at += 1
            continue
        end = at + 2 + (field[at + 1] if at + 1 < len(field) else len(field))
        if end > len(field):
            raise MalformedError(f"{what} end in the middle of option {field[at]}")
        found.setdefault(field[at], bytearray()).extend(field[at + 2 : end])
        at = end
