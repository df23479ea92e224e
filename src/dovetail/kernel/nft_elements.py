"""Elements of nftables sets and maps, as the kernel has them.

A set's key is a row of registers: each field of a concatenation is padded to four bytes. Intervals
come in two kinds. In a set of one field an element marks where a range begins and another
(NFT_SET_ELEM_INTERVAL_END) where it has ended; in a concatenation one element has the lowest values
as its key and the highest as its key's end.

Source: include/uapi/linux/netfilter/nf_tables.h; the numbers of types are an agreement of userspace
that the kernel stores (NFTA_SET_KEY_TYPE), as nftables 0.9 to 1.1 have them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from struct import Struct
from typing import NamedTuple

from dovetail.errors import InvalidArgument
from dovetail.kernel.attributes import attribute, attributes, be32, each, nest, nul
from dovetail.kernel.netlink import NLM_F_CREATE, Message
from dovetail.kernel.nfnetlink import HEADER, nft
from dovetail.model.element import Element, ElementValue

__all__ = [
    "DESTROY",
    "Shape",
    "add_elements",
    "blamed",
    "delete_elements",
    "dump_elements",
    "dump_sets",
    "get_element",
    "parse_elements",
    "parse_set",
]

_GETSET, _NEWSETELEM, _GETSETELEM, _DELSETELEM, _DESTROYSETELEM = 10, 12, 13, 14, 30  # NFT_MSG_…
DESTROY = _DESTROYSETELEM
"""Deletes what is there and does not mind what is not; Linux 6.3."""

_NFTA_SET_TABLE = 1
_NFTA_SET_NAME = 2
_NFTA_SET_FLAGS = 3
_NFTA_SET_KEY_TYPE = 4
_NFTA_SET_DATA_TYPE = 6
_SET_ANONYMOUS, _SET_INTERVAL, _SET_MAP = 0x1, 0x4, 0x8  # NFT_SET_…
_NFTA_LIST_TABLE = 1  # NFTA_SET_ELEM_LIST_…
_NFTA_LIST_SET = 2
_NFTA_LIST_ELEMENTS = 3
_NFTA_LIST_ELEM = 1
_NFTA_ELEM_KEY = 1  # NFTA_SET_ELEM_…
_NFTA_ELEM_DATA = 2
_NFTA_ELEM_FLAGS = 3
_NFTA_ELEM_KEY_END = 10
_NFTA_DATA_VALUE = 1
_ELEM_INTERVAL_END = 0x1  # NFT_SET_ELEM_INTERVAL_END
_TYPE_BITS = 6  # of one field's type in a concatenation's
_TYPES = {7: "ipv4_addr", 8: "ipv6_addr", 12: "inet_proto", 13: "inet_service", 41: "ifname"}
_SIZES = {"ipv4_addr": 4, "ipv6_addr": 16, "inet_proto": 1, "inet_service": 2, "ifname": 16}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "dccp": 33, "udplite": 136, "icmp": 1, "ipv6-icmp": 58}
_PROTOCOL_NAMES = {number: name for name, number in _PROTOCOLS.items()}
_U16 = Struct(">H")
_PORT_MAX = 65535
_NLMSG_HEADER_BYTES = 16


class Shape(NamedTuple):
    """What a set takes: the types of its key's and (of a map) its data's fields."""

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...] = ()
    interval: bool = False


# -- sets -----------------------------------------------------------------------------------------


def dump_sets(family: int, table: str) -> Message:
    """List the sets and maps of a table."""
    return nft(_GETSET, family, nul(_NFTA_SET_TABLE, table))


def parse_set(body: bytes) -> Shape | None:
    """Read one row of the list; None for anonymous sets and those with types that `Element` has no value for."""
    said = attributes(body, HEADER.size)
    flags = int.from_bytes(said.get(_NFTA_SET_FLAGS, b""))
    if flags & _SET_ANONYMOUS:
        return None
    key = _types(int.from_bytes(said.get(_NFTA_SET_KEY_TYPE, b"")))
    data = _types(int.from_bytes(said.get(_NFTA_SET_DATA_TYPE, b""))) if flags & _SET_MAP else ()
    name = said.get(_NFTA_SET_NAME, b"").split(b"\0")[0].decode()
    if not key or None in key or None in data:
        return None
    return Shape(name, tuple(filter(None, key)), tuple(filter(None, data)), bool(flags & _SET_INTERVAL))


def _types(number: int) -> tuple[str | None, ...]:
    fields: list[str | None] = []
    while number:
        fields.append(_TYPES.get(number & ((1 << _TYPE_BITS) - 1)))
        number >>= _TYPE_BITS
    return tuple(reversed(fields))


# -- elements: written ----------------------------------------------------------------------------


def add_elements(family: int, table: str, shape: Shape, elements: Sequence[Element]) -> Message:
    """Add to one set; an element that is there with the same data is no error, with other data EEXIST."""
    return nft(_NEWSETELEM, family, _list(table, shape, elements), NLM_F_CREATE)


def delete_elements(
    family: int, table: str, shape: Shape, elements: Sequence[Element], *, command: int = _DELSETELEM
) -> Message:
    """Delete from one set, by key; a missing element is ENOENT unless `command` is `DESTROY`."""
    keys = [element._replace(data=()) for element in elements]
    return nft(command, family, _list(table, shape._replace(data=()), keys))


def _list(table: str, shape: Shape, elements: Iterable[Element]) -> bytes:
    items = [nest(_NFTA_LIST_ELEM, item) for element in elements for item in _items(shape, element)]
    names = nul(_NFTA_LIST_TABLE, table) + nul(_NFTA_LIST_SET, shape.name)
    return names + nest(_NFTA_LIST_ELEMENTS, *items)


def blamed(table: str, shape: Shape, elements: Sequence[Element], offset: int) -> Element | None:
    """Find which of `elements` the attribute at `offset` of their message stands for (`Refusal.offset`)."""
    position = _NLMSG_HEADER_BYTES + HEADER.size + len(_list(table, shape, ()))
    for element in elements:
        position += sum(len(nest(_NFTA_LIST_ELEM, item)) for item in _items(shape, element))
        if 0 < offset < position:
            return element
    return None


def _items(shape: Shape, element: Element) -> Iterator[bytes]:
    """Write what stands for one element: one item, or two for an interval of one field."""
    if len(element.key) != len(shape.key) or len(element.data) != len(shape.data):
        raise InvalidArgument(f"{element} does not fit the nftables set {shape.name!r}")
    low, high = _bounds(shape.key, element.key)
    data = _value(_NFTA_ELEM_DATA, _bounds(shape.data, element.data)[0]) if shape.data else b""
    if not shape.interval:
        yield _value(_NFTA_ELEM_KEY, low) + data
    elif len(shape.key) > 1:
        yield _value(_NFTA_ELEM_KEY, low) + data + _value(_NFTA_ELEM_KEY_END, high)
    else:
        yield _value(_NFTA_ELEM_KEY, low) + data
        behind = int.from_bytes(high) + 1
        if behind < 1 << (8 * len(high)):  # a range up to the last address has no end
            yield _value(_NFTA_ELEM_KEY, behind.to_bytes(len(high))) + be32(
                _NFTA_ELEM_FLAGS, _ELEM_INTERVAL_END
            )


def _value(kind: int, data: bytes) -> bytes:
    return nest(kind, attribute(_NFTA_DATA_VALUE, data))


def _bounds(types: Sequence[str], values: Sequence[ElementValue]) -> tuple[bytes, bytes]:
    """Write the lowest and the highest row of registers that `values` stand for."""
    fields = [_field(kind, value) for kind, value in zip(types, values, strict=True)]
    if len(fields) == 1:
        return fields[0]
    return b"".join(_padded(low) for low, _ in fields), b"".join(_padded(high) for _, high in fields)


def _padded(field: bytes) -> bytes:
    return field + bytes(-len(field) & 3)


def _field(kind: str, value: ElementValue) -> tuple[bytes, bytes]:
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        packed = value.network_address.packed, value.broadcast_address.packed
    elif isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        packed = value.packed, value.packed
    elif kind == "inet_service" and isinstance(value, int) and 0 <= value <= _PORT_MAX:
        packed = _U16.pack(value), _U16.pack(value)
    elif kind == "inet_proto" and isinstance(value, str) and value in _PROTOCOLS:
        packed = bytes([_PROTOCOLS[value]]), bytes([_PROTOCOLS[value]])
    elif kind == "ifname" and isinstance(value, str):
        name = value.encode().ljust(_SIZES[kind], b"\0")
        packed = name, name
    else:
        raise InvalidArgument(f"{value!r} is no value of the nftables type {kind}")
    if len(packed[0]) != _SIZES[kind]:
        raise InvalidArgument(f"{value!r} is no value of the nftables type {kind}")
    return packed


# -- elements: read -------------------------------------------------------------------------------


def dump_elements(family: int, table: str, name: str) -> Message:
    """List the elements of a set."""
    return nft(_GETSETELEM, family, nul(_NFTA_LIST_TABLE, table) + nul(_NFTA_LIST_SET, name))


def get_element(family: int, table: str, shape: Shape, element: Element) -> Message:
    """Ask for one element of a set by its key; the answer is a list of one, a missing one ENOENT."""
    return delete_elements(family, table, shape, [element], command=_GETSETELEM)


def parse_elements(shape: Shape, bodies: Iterable[bytes]) -> Iterator[Element]:
    """Read the list; a range that is no network is given as the networks that make it up."""
    items = [
        attributes(item)
        for body in bodies
        for _, item in each(attributes(body, HEADER.size).get(_NFTA_LIST_ELEMENTS, b""))
    ]
    items = [item for item in items if _NFTA_ELEM_KEY in item]  # a catch-all element has none
    if shape.interval and len(shape.key) == 1:
        yield from _ranges(shape, items)
        return
    for item in items:
        low = _read_value(item, _NFTA_ELEM_KEY)
        high = _read_value(item, _NFTA_ELEM_KEY_END) or low
        data = _values(shape.data, _read_value(item, _NFTA_ELEM_DATA))
        yield Element(shape.name, _values(shape.key, low, high if shape.interval else None), data)


def _ranges(shape: Shape, items: Iterable[dict[int, bytes]]) -> Iterator[Element]:
    marks = sorted(
        (
            int.from_bytes(_read_value(item, _NFTA_ELEM_KEY)),
            not int.from_bytes(item.get(_NFTA_ELEM_FLAGS, b"")) & _ELEM_INTERVAL_END,  # an end sorts first
            _read_value(item, _NFTA_ELEM_DATA),
        )
        for item in items
    )
    size = _SIZES[shape.key[0]]
    last = (1 << (8 * size)) - 1
    for position, (low, begins, data) in enumerate(marks):
        if not begins:
            continue
        high = marks[position + 1][0] - 1 if position + 1 < len(marks) else last
        values = _values(shape.data, data)
        for value in _networks(shape.key[0], low.to_bytes(size), high.to_bytes(size)):
            yield Element(shape.name, (value,), values)


def _networks(kind: str, low: bytes, high: bytes) -> Iterable[ElementValue]:
    if kind == "ipv4_addr":
        return ipaddress.summarize_address_range(ipaddress.IPv4Address(low), ipaddress.IPv4Address(high))
    if kind == "ipv6_addr":
        return ipaddress.summarize_address_range(ipaddress.IPv6Address(low), ipaddress.IPv6Address(high))
    return [_read_field(kind, low)]


def _values(types: Sequence[str], low: bytes, high: bytes | None = None) -> tuple[ElementValue, ...]:
    """Read a row of registers; with `high`, addresses become networks."""
    values: list[ElementValue] = []
    offset = 0
    for kind in types:
        size = _SIZES[kind]
        field = low[offset : offset + size]
        if high is not None and kind in ("ipv4_addr", "ipv6_addr"):
            values.append(next(iter(_networks(kind, field, high[offset : offset + size]))))
        else:
            values.append(_read_field(kind, field))
        offset += (size + 3) & ~3
    return tuple(values)


def _read_field(kind: str, data: bytes) -> ElementValue:
    if kind == "ifname":
        return data.split(b"\0")[0].decode(errors="replace")
    if kind == "inet_service":
        return int.from_bytes(data)
    if kind == "inet_proto":
        return _PROTOCOL_NAMES.get(data[0], str(data[0]))
    return ipaddress.ip_address(data)


def _read_value(item: dict[int, bytes], kind: int) -> bytes:
    return attributes(item.get(kind, b"")).get(_NFTA_DATA_VALUE, b"")
