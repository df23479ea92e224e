"""Elements of nftables sets and maps over nfnetlink: encoded, sent as one transaction, listed.

A set's key and data types are learnt from the kernel: ``nft`` writes them into NFTA_SET_KEY_TYPE as
datatype numbers, six bits each for a concatenation. Numbers are from
include/uapi/linux/netfilter/nf_tables.h and nftables' src/datatype.c numbering (TYPE_*).
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

from dovetail.errors import KernelError, NotFound
from dovetail.kernel.netlink import CREATE, Failure, Message, NetlinkSocket, attribute, attributes, nested
from dovetail.model.element import Element, ElementValue

__all__ = ["Elements"]

_TABLE = b"dovetail\0"
_NFPROTO_INET = 1
_SUBSYS = 10 << 8  # NFNL_SUBSYS_NFTABLES
_GETTABLE, _GETCHAIN, _GETSET = _SUBSYS | 1, _SUBSYS | 4, _SUBSYS | 10
_NEWSETELEM, _GETSETELEM, _DELSETELEM = _SUBSYS | 12, _SUBSYS | 13, _SUBSYS | 14
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_SET_TABLE, _SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_DATA_TYPE = 1, 2, 3, 4, 6
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_ELEM_KEY, _ELEM_DATA, _ELEM_FLAGS, _ELEM_KEY_END = 1, 2, 3, 10
_DATA_VALUE = 1
_INTERVAL = 0x4  # NFT_SET_INTERVAL
_INTERVAL_END = 0x1  # NFT_SET_ELEM_INTERVAL_END
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_POLICY = 1, 3, 5
_IPV4, _IPV6, _PROTO, _SERVICE, _IFNAME = 7, 8, 12, 13, 41  # TYPE_IPADDR … TYPE_IFNAME
_WIDTH = {_IPV4: 4, _IPV6: 16, _PROTO: 1, _SERVICE: 2, _IFNAME: 16}
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_PROTOCOL_NAMES = {int(number): name for name, number in _PROTOCOLS.items()}


class _Set(NamedTuple):
    """A set as the kernel declares it."""

    key: tuple[int, ...]
    data: tuple[int, ...]
    interval: bool


class Elements:
    """The sets of ``table inet dovetail`` of one namespace."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._sets: dict[str, _Set] = {}

    def has_table(self) -> bool:
        """Say whether the table is there."""
        answer = self._netlink.get(_GETTABLE, _header(_NFPROTO_INET) + attribute(1, _TABLE))
        return isinstance(answer, bytes)

    def add(self, elements: Collection[Element]) -> None:
        """Add elements in one transaction; one that is there with the same data is no error."""
        failure = self._change(_NEWSETELEM, CREATE, elements)
        if failure is not None and failure.errno == errno.ENOENT:
            self._sets.clear()
            failure = self._change(_NEWSETELEM, CREATE, elements)
        if failure is not None:
            if failure.errno == errno.ENOENT:
                raise NotFound("nftables table or set", "inet dovetail")
            raise failure.error("nft add element inet dovetail")

    def delete(self, elements: Collection[Element]) -> None:
        """Delete elements; missing ones are no error."""
        failure = self._change(_DELSETELEM, 0, elements)
        if failure is None:
            return
        if failure.errno != errno.ENOENT:
            raise failure.error("nft delete element inet dovetail")
        if len(elements) > 1:  # one was missing, and with it the whole transaction failed
            for element in elements:
                self.delete([element])

    def all(self) -> set[Element]:
        """List every element of every named set."""
        self._sets.clear()
        self._learn()
        found: set[Element] = set()
        for name, declared in self._sets.items():
            payload = (
                _header(_NFPROTO_INET)
                + attribute(_LIST_TABLE, _TABLE)
                + attribute(_LIST_SET, name.encode() + b"\0")
            )
            replies = self._netlink.dump(_GETSETELEM, payload)
            if isinstance(replies, Failure):
                continue  # deleted between the two lists
            raw = [
                item for reply in replies for item in _items(attributes(reply, 4).get(_LIST_ELEMENTS, b""))
            ]
            found |= _read(name, declared, raw)
        return found

    def forward_policies(self) -> dict[str, bool]:
        """Say for iptables and ip6tables whether FORWARD drops by policy."""
        policies = {}
        for program, family in (("iptables", socket.AF_INET), ("ip6tables", socket.AF_INET6)):
            payload = (
                _header(family) + attribute(_CHAIN_TABLE, b"filter\0") + attribute(_CHAIN_NAME, b"FORWARD\0")
            )
            answer = self._netlink.get(_GETCHAIN, payload)
            if isinstance(answer, bytes):
                policy = attributes(answer, 4).get(_CHAIN_POLICY, b"\0\0\0\1")
                policies[program] = int.from_bytes(policy, "big") == 0  # NF_DROP
        return policies

    def _change(self, kind: int, flags: int, elements: Collection[Element]) -> Failure | None:
        if not elements:
            return None
        by_set: dict[str, list[Element]] = {}
        for element in elements:
            by_set.setdefault(element.set, []).append(element)
        frame = struct.pack("=BB", 0, 0) + struct.pack("!H", 10)
        messages = [Message(_BATCH_BEGIN, 0, frame, acked=False)]
        for name, members in by_set.items():
            declared = self._declared(name)
            if declared is None:
                return Failure(errno.ENOENT, f"no set {name}")
            items = b"".join(nested(1, part) for element in members for part in _encode(declared, element))
            payload = (
                _header(_NFPROTO_INET)
                + attribute(_LIST_TABLE, _TABLE)
                + attribute(_LIST_SET, name.encode() + b"\0")
                + nested(_LIST_ELEMENTS, items)
            )
            messages.append(Message(kind, flags, payload))
        messages.append(Message(_BATCH_END, 0, frame, acked=False))
        return next((failure for failure in self._netlink.transact(messages) if failure is not None), None)

    def _declared(self, name: str) -> _Set | None:
        if name not in self._sets:
            self._learn()
        return self._sets.get(name)

    def _learn(self) -> None:
        replies = self._netlink.dump(_GETSET, _header(_NFPROTO_INET) + attribute(_SET_TABLE, _TABLE))
        if isinstance(replies, Failure):
            if replies.errno == errno.ENOENT:
                return
            raise replies.error("nft list sets")
        for reply in replies:
            found = attributes(reply, 4)
            name = found.get(_SET_NAME, b"").rstrip(b"\0").decode()
            if (
                name and not name.startswith("__") and found.get(_SET_TABLE, _TABLE) == _TABLE
            ):  # __set0: anonymous
                flags = int.from_bytes(found.get(_SET_FLAGS, b""), "big")
                self._sets[name] = _Set(
                    _types(found.get(_SET_KEY_TYPE)),
                    _types(found.get(_SET_DATA_TYPE)),
                    bool(flags & _INTERVAL),
                )


def _header(family: int) -> bytes:
    return struct.pack("=BBH", family, 0, 0)  # struct nfgenmsg


def _types(data: bytes | None) -> tuple[int, ...]:
    number = int.from_bytes(data or b"", "big")
    kinds: list[int] = []
    while number:
        kinds.insert(0, number & 0x3F)
        number >>= 6
    return tuple(kinds)


def _encode(declared: _Set, element: Element) -> list[bytes]:
    low = _pack(declared.key, [_bound(value, high=False) for value in element.key])
    data = (
        nested(_ELEM_DATA, attribute(_DATA_VALUE, _pack(declared.data, element.data)))
        if element.data
        else b""
    )
    key = nested(_ELEM_KEY, attribute(_DATA_VALUE, low))
    if not declared.interval:
        return [key + data]
    high = _pack(declared.key, [_bound(value, high=True) for value in element.key])
    if len(declared.key) > 1:
        return [key + nested(_ELEM_KEY_END, attribute(_DATA_VALUE, high)) + data]
    after = int.from_bytes(high, "big") + 1
    if after >= 1 << (8 * len(high)):
        return [key + data]  # an interval that reaches the last address has no end
    end = nested(_ELEM_KEY, attribute(_DATA_VALUE, after.to_bytes(len(high), "big")))
    return [key + data, end + attribute(_ELEM_FLAGS, struct.pack("!I", _INTERVAL_END))]


def _bound(value: ElementValue, *, high: bool) -> ElementValue:
    if isinstance(value, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        return value.broadcast_address if high else value.network_address
    return value


def _pack(kinds: tuple[int, ...], values: Collection[ElementValue]) -> bytes:
    parts = [_field(kind, value) for kind, value in zip(kinds, values, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def _field(kind: int, value: ElementValue) -> bytes:
    if isinstance(value, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        return value.packed
    if kind == _IFNAME:
        return str(value).encode().ljust(16, b"\0")
    if kind == _PROTO:
        return bytes([_PROTOCOLS[str(value)]])
    if kind == _SERVICE and isinstance(value, int):
        return value.to_bytes(2, "big")
    raise KernelError(f"{value!r} does not fit the set's type {kind}", errno.EINVAL)


def _items(data: bytes) -> list[dict[int, bytes]]:
    found = []
    offset = 0
    while offset + 4 <= len(data):
        length, _ = struct.unpack_from("=HH", data, offset)
        found.append(attributes(data[offset + 4 : offset + length]))
        offset += (length + 3) & ~3
    return found


def _read(name: str, declared: _Set, raw: list[dict[int, bytes]]) -> set[Element]:
    def value(item: dict[int, bytes], kind: int) -> bytes:
        return attributes(item.get(kind, b"")).get(_DATA_VALUE, b"")

    if declared.interval and len(declared.key) == 1:
        return _read_intervals(name, [(value(i, _ELEM_KEY), _is_end(i)) for i in raw])
    found = set()
    for item in raw:
        low = _unpack(declared.key, value(item, _ELEM_KEY))
        if declared.interval and _ELEM_KEY_END in item:
            high = _unpack(declared.key, value(item, _ELEM_KEY_END))
            low = tuple(_network(a, b) for a, b in zip(low, high, strict=True))
        data = _unpack(declared.data, value(item, _ELEM_DATA)) if declared.data else ()
        found.add(Element(name, low, data))
    return found


def _is_end(item: dict[int, bytes]) -> bool:
    return bool(int.from_bytes(item.get(_ELEM_FLAGS, b""), "big") & _INTERVAL_END)


def _read_intervals(name: str, marks: list[tuple[bytes, bool]]) -> set[Element]:
    found = set()
    ordered = sorted(marks, key=lambda mark: (mark[0], not mark[1]))
    for position, (low, is_end) in enumerate(ordered):
        if is_end or not low:
            continue
        following = ordered[position + 1][0] if position + 1 < len(ordered) else b""
        last = int.from_bytes(following, "big") - 1 if following else (1 << 8 * len(low)) - 1
        start = ipaddress.ip_address(low)
        found.add(Element(name, (_network(start, ipaddress.ip_address(last.to_bytes(len(low), "big"))),)))
    return found


def _network(low: ElementValue, high: ElementValue) -> ElementValue:
    if isinstance(low, ipaddress.IPv4Address) and isinstance(high, ipaddress.IPv4Address):
        return next(ipaddress.summarize_address_range(low, high))
    if isinstance(low, ipaddress.IPv6Address) and isinstance(high, ipaddress.IPv6Address):
        return next(ipaddress.summarize_address_range(low, high))
    return low


def _unpack(kinds: tuple[int, ...], data: bytes) -> tuple[ElementValue, ...]:
    values: list[ElementValue] = []
    offset = 0
    for kind in kinds:
        width = _WIDTH.get(kind, 4)
        part = data[offset : offset + width]
        offset += (width + 3) & ~3
        if kind in {_IPV4, _IPV6}:
            values.append(ipaddress.ip_address(part))
        elif kind == _IFNAME:
            values.append(part.rstrip(b"\0").decode())
        elif kind == _PROTO:
            values.append(_PROTOCOL_NAMES.get(part[0], str(part[0])))
        else:
            values.append(int.from_bytes(part, "big"))
    return tuple(values)
