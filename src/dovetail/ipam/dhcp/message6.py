"""DHCPv6 messages between client and server, to bytes and back.

Reading is strict, as anybody on the network may send: whatever the bytes are, the outcome is a `Message6` or
MalformedError.

Source: RFC 8415 §8 (messages), §21 (options); RFC 3646 (DNS).
"""

from __future__ import annotations

from ipaddress import IPv6Address
from struct import Struct
from typing import NamedTuple

from dovetail.ipam.dhcp.values import MalformedError, number

__all__ = [
    "ADVERTISE",
    "NOT_ON_LINK",
    "NO_ADDRESSES",
    "NO_BINDING",
    "REBIND",
    "RELEASE6",
    "RENEW",
    "REPLY",
    "REQUEST6",
    "SOLICIT",
    "IaAddress",
    "IaNa",
    "Message6",
    "Options",
    "Status",
    "decode6",
    "encode6",
    "ia_na",
    "option",
    "read_ia_na",
    "read_status",
]

SOLICIT, ADVERTISE, REQUEST6, RENEW, REBIND, REPLY, RELEASE6 = 1, 2, 3, 5, 6, 7, 8  # RFC 8415 §7.3
SUCCESS, NO_ADDRESSES, NO_BINDING, NOT_ON_LINK = 0, 2, 3, 4  # RFC 8415 §21.13

_IA_ADDRESS, _STATUS = 5, 13  # RFC 8415 §21.6, §21.13
_OPTION = Struct(">HH")
_IA_NA = Struct(">III")
_IA_ADDRESS_FIXED = Struct(">16sII")
_RELAYS = frozenset({12, 13})  # have another form, and go to relays and servers only

Options = tuple[tuple[int, bytes], ...]
"""Options in their order, a number as often as it stands there."""


class Message6(NamedTuple):
    """A message: its type, a transaction id of 24 bits, and the options."""

    kind: int
    xid: int
    options: Options


class Status(NamedTuple):
    """A status code with the server's words."""

    code: int = SUCCESS
    text: str = ""


class IaAddress(NamedTuple):
    """An address in an identity association, with its lifetimes in seconds."""

    address: IPv6Address
    preferred: int = 0
    valid: int = 0
    status: Status = Status()


class IaNa(NamedTuple):
    """An identity association of non-temporary addresses; t1 and t2 0 leave the times to the client."""

    iaid: int
    t1: int = 0
    t2: int = 0
    addresses: tuple[IaAddress, ...] = ()
    status: Status = Status()


def encode6(message: Message6) -> bytes:
    """Write a message as the payload of its datagram."""
    return ((message.kind << 24) | message.xid).to_bytes(4, "big") + _encode_options(message.options)


def decode6(data: bytes) -> Message6:
    """Read the payload of a datagram; raises MalformedError and nothing else."""
    if len(data) < 4:
        raise MalformedError(f"{len(data)} bytes are no DHCPv6 message")
    if not data[0] or data[0] in _RELAYS:
        raise MalformedError(f"its type is {data[0]}, which no client gets")
    return Message6(data[0], int.from_bytes(data[1:4], "big"), _decode_options(data[4:]))


def option(options: Options, code: int) -> bytes | None:
    """Give the value of an option that may stand once, None where it does not."""
    found = [value for number_, value in options if number_ == code]
    if len(found) > 1:
        raise MalformedError(f"option {code} stands there {len(found)} times")
    return found[0] if found else None


def ia_na(association: IaNa) -> bytes:
    """Write an identity association as a client asks for it: without status codes."""
    inner = tuple(
        (_IA_ADDRESS, _IA_ADDRESS_FIXED.pack(one.address.packed, one.preferred, one.valid))
        for one in association.addresses
    )
    return _IA_NA.pack(association.iaid, association.t1, association.t2) + _encode_options(inner)


def read_ia_na(data: bytes) -> IaNa:
    """Read an identity association; raises MalformedError."""
    if len(data) < _IA_NA.size:
        raise MalformedError(f"an identity association has {len(data)} bytes")
    iaid, t1, t2 = _IA_NA.unpack_from(data)
    inner = _decode_options(data[_IA_NA.size :])
    addresses = tuple(_read_address(value) for code, value in inner if code == _IA_ADDRESS)
    return IaNa(iaid, t1, t2, addresses, read_status(inner))


def _read_address(data: bytes) -> IaAddress:
    if len(data) < _IA_ADDRESS_FIXED.size:
        raise MalformedError(f"an address has {len(data)} bytes")
    packed, preferred, valid = _IA_ADDRESS_FIXED.unpack_from(data)
    status = read_status(_decode_options(data[_IA_ADDRESS_FIXED.size :]))
    return IaAddress(IPv6Address(packed), preferred, valid, status)


def read_status(options: Options) -> Status:
    """Read the status code among `options`; none means success."""
    data = option(options, _STATUS)
    if data is None:
        return Status()
    code = number(data[:2], 2, "a status code")
    text = data[2:].decode("utf-8", "replace")
    return Status(code, "".join(char for char in text if char.isprintable()))


def _encode_options(options: Options) -> bytes:
    return b"".join(_OPTION.pack(code, len(value)) + value for code, value in options)


def _decode_options(data: bytes) -> Options:
    found: list[tuple[int, bytes]] = []
    at = 0
    while at < len(data):
        if at + _OPTION.size > len(data):
            raise MalformedError("its options end in the middle of one")
        code, length = _OPTION.unpack_from(data, at)
        at += _OPTION.size
        if at + length > len(data):
            raise MalformedError(f"its options end in the middle of option {code}")
        found.append((code, data[at : at + length]))
        at += length
    return tuple(found)
