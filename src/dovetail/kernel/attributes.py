"""Netlink attributes: a length, a type and a payload, padded to four bytes.

Source: struct nlattr, include/uapi/linux/netlink.h. Numbers are in host order unless the name says
``be`` (network order, as nfnetlink has them).
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

__all__ = [
    "attribute",
    "attributes",
    "be16",
    "be32",
    "each",
    "nest",
    "nul",
    "number",
    "text",
    "u8",
    "u16",
    "u32",
]

_HEADER = Struct("=HH")
_U8 = Struct("=HHBxxx")
_U16 = Struct("=HHHxx")
_U32 = Struct("=HHI")
_PLAIN_U32 = Struct("=I")
_BE16 = Struct(">H")
_BE32 = Struct(">I")
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK, include/uapi/linux/netlink.h
_NESTED = 0x8000  # NLA_F_NESTED
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")


def attribute(kind: int, payload: bytes) -> bytes:
    """Write one attribute with its padding."""
    return _HEADER.pack(4 + len(payload), kind) + payload + _PADDING[len(payload) & 3]


def nest(kind: int, *parts: bytes) -> bytes:
    """Write an attribute that holds attributes (NLA_F_NESTED)."""
    payload = b"".join(parts)
    return _HEADER.pack(4 + len(payload), kind | _NESTED) + payload


def u8(kind: int, value: int) -> bytes:
    """Write an 8-bit number."""
    return _U8.pack(5, kind, value)


def u16(kind: int, value: int) -> bytes:
    """Write a 16-bit number."""
    return _U16.pack(6, kind, value)


def u32(kind: int, value: int) -> bytes:
    """Write a 32-bit number."""
    return _U32.pack(8, kind, value)


def be16(kind: int, value: int) -> bytes:
    """Write a 16-bit number in network order."""
    return attribute(kind, _BE16.pack(value))


def be32(kind: int, value: int) -> bytes:
    """Write a 32-bit number in network order."""
    return attribute(kind, _BE32.pack(value))


def nul(kind: int, text: str) -> bytes:
    """Write a string with its terminating NUL."""
    return attribute(kind, text.encode() + b"\0")


def each(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Read attributes one after the other, for lists in which a type repeats; stops at a malformed one."""
    end = len(data)
    while offset + 4 <= end:
        length, kind = _HEADER.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            return
        yield kind & _TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Read attributes by type; of several of one type the last counts, as in the kernel's nla_parse."""
    return dict(each(data, offset))


def number(data: bytes | None) -> int:
    """Read a 32-bit number; 0 where there is none."""
    return int(_PLAIN_U32.unpack_from(data)[0]) if data is not None and len(data) >= _PLAIN_U32.size else 0


def text(data: bytes) -> str:
    """Read a string up to its terminating NUL."""
    return data.split(b"\0")[0].decode(errors="replace")
