"""Messages of rtnetlink for routes: written and read, never sent.

Source: include/uapi/linux/rtnetlink.h; net/ipv4/fib_{frontend,trie,semantics}.c, net/ipv6/{route,ip6_fib}.c.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from dovetail.kernel.attributes import attribute, attributes, each, nest, number, u32
from dovetail.kernel.families import FAMILIES, VERSIONS
from dovetail.kernel.netlink import NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, Message
from dovetail.model.addresses import IPAddress, IPNetwork
from dovetail.model.attachment import Route

__all__ = [
    "MAIN",
    "RouteRow",
    "dump_routes",
    "dump_unreachable",
    "new_route",
    "new_unreachable",
    "parse_routes",
    "parse_unreachable",
    "remove_route",
    "remove_unreachable",
]

MAIN = 254  # RT_TABLE_MAIN

_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26  # RTM_…
_RTMSG = Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTNEXTHOP = Struct("=HBBi")  # length, flags, hops, link's index
_U16 = Struct("=H")

_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_PREFSRC = 7
_RTA_METRICS = 8
_RTA_MULTIPATH = 9
_RTA_TABLE = 15
_RTA_VIA = 18
_RTAX_MTU = 2
_RTAX_ADVMSS = 8
_RT_TABLE_UNSPEC = 0
_RTPROT_UNSPEC = 0
_RTPROT_BOOT = 3  # what `ip route` writes
_RTPROT_DOVETAIL = 208  # a number that nobody has, include/uapi/linux/rtnetlink.h and iproute2's rt_protos
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_SCOPE_NOWHERE = 255
_RTN_UNSPEC = 0
_RTN_UNICAST = 1
_RTN_UNREACHABLE = 7
_RTM_F_CLONED = 0x200

_V6 = 6


class RouteRow(NamedTuple):
    """A route, or one next hop of it, and the index of its link; the rest as `KernelRoute` has it."""

    destination: IPNetwork
    gateway: IPAddress | None
    ifindex: int
    source: IPAddress | None = None
    priority: int = 0
    table: int = MAIN
    scope: int = _RT_SCOPE_UNIVERSE
    mtu: int = 0
    advmss: int = 0
    protocol: int = 0


def new_route(
    ifindex: int, route: Route, *, append: bool = False, source: IPAddress | None = None
) -> Message:
    """Add a route as ``ip route add`` or ``append`` does: its scope is the link's where there is no gateway."""
    link_scope = route.gateway is None and route.destination.version != _V6
    scope = route.scope if route.scope is not None else _RT_SCOPE_LINK if link_scope else _RT_SCOPE_UNIVERSE
    body = _route_body(ifindex, route, source, (_RTPROT_BOOT, scope, _RTN_UNICAST))
    return Message(_NEWROUTE, NLM_F_CREATE | (NLM_F_APPEND if append else NLM_F_EXCL), body)


def remove_route(ifindex: int, route: Route, *, source: IPAddress | None = None) -> Message:
    """Delete a route as ``ip route del`` does: of any protocol, and of any of what `route` leaves open.

    Metrics are no part of a route's identity (fib_nh_match, ip6_route_del), so they are left out.
    """
    scope = route.scope if route.scope is not None else _RT_SCOPE_NOWHERE
    body = _route_body(ifindex, route, source, (_RTPROT_UNSPEC, scope, _RTN_UNSPEC), metrics=False)
    return Message(_DELROUTE, 0, body)


def _route_body(
    ifindex: int, route: Route, source: IPAddress | None, kind: tuple[int, int, int], *, metrics: bool = True
) -> bytes:
    """Write a route; `kind` is its protocol, scope and type."""
    destination = route.destination
    table = route.table or MAIN
    family = FAMILIES[destination.version]
    byte = table if table < 256 else _RT_TABLE_UNSPEC
    parts = [_RTMSG.pack(family, destination.prefixlen, 0, 0, byte, *kind, 0)]
    if destination.prefixlen:
        parts.append(attribute(_RTA_DST, destination.network_address.packed))
    if route.gateway is not None:
        parts.append(_gateway(route.gateway, destination.version))
    if source is not None:
        parts.append(attribute(_RTA_PREFSRC, source.packed))
    parts.append(u32(_RTA_OIF, ifindex))
    if route.priority:
        parts.append(u32(_RTA_PRIORITY, route.priority))
    parts.append(u32(_RTA_TABLE, table))
    numbers = ((_RTAX_MTU, route.mtu), (_RTAX_ADVMSS, route.advmss)) if metrics else ()
    if said := [u32(kind, n) for kind, n in numbers if n]:
        parts.append(nest(_RTA_METRICS, *said))
    return b"".join(parts)


def new_unreachable(destination: IPNetwork) -> Message:
    """Answer that `destination` cannot be reached, where no longer prefix leads to it."""
    return Message(_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _unreachable_body(destination, _RT_SCOPE_UNIVERSE))


def remove_unreachable(destination: IPNetwork) -> Message:
    """Remove what `new_unreachable` made, told by its protocol (fib_table_delete, ip6_route_del)."""
    return Message(_DELROUTE, 0, _unreachable_body(destination, _RT_SCOPE_NOWHERE))


def _unreachable_body(destination: IPNetwork, scope: int) -> bytes:
    head = _unreachable_head(destination.version, destination.prefixlen, scope)
    return head + attribute(_RTA_DST, destination.network_address.packed)


def _unreachable_head(version: int, prefix: int = 0, scope: int = 0) -> bytes:
    return _RTMSG.pack(*(FAMILIES[version], prefix, 0, 0, MAIN, _RTPROT_DOVETAIL, scope, _RTN_UNREACHABLE, 0))


def dump_unreachable(version: int) -> Message:
    """List what `new_unreachable` made, of one family."""
    return Message(_GETROUTE, 0, _unreachable_head(version))


def parse_unreachable(body: bytes) -> IPNetwork | None:
    """Read the destination of one row of the list; None for what is not ours, as old kernels do not filter."""
    family, prefix, _, _, _, protocol, _, kind, _ = _RTMSG.unpack_from(body)
    if family not in VERSIONS or (protocol, kind) != (_RTPROT_DOVETAIL, _RTN_UNREACHABLE):
        return None
    packed = attributes(body, _RTMSG.size).get(_RTA_DST) or bytes(4 if VERSIONS[family] != _V6 else 16)
    return ipaddress.ip_network((packed, prefix))


def _gateway(gateway: IPAddress, version: int) -> bytes:
    if gateway.version == version:
        return attribute(_RTA_GATEWAY, gateway.packed)
    return attribute(_RTA_VIA, _U16.pack(FAMILIES[gateway.version]) + gateway.packed)  # RFC 5549


def dump_routes(version: int, table: int = MAIN) -> Message:
    """List the unicast routes of one family in one table, 0: in all."""
    byte = table if table < 256 else _RT_TABLE_UNSPEC
    body = _RTMSG.pack(FAMILIES[version], 0, 0, 0, byte, 0, 0, _RTN_UNICAST, 0)
    return Message(_GETROUTE, 0, body + u32(_RTA_TABLE, table) if byte != table else body)


def parse_routes(body: bytes, table: int = MAIN) -> list[RouteRow]:
    """Read one route of the list: a row for each next hop, none for what is not unicast or of another table.

    The filter is repeated here: kernels before 4.20 do not know it.
    """
    family, prefix, _, _, byte, protocol, scope, kind, flags = _RTMSG.unpack_from(body)
    said = attributes(body, _RTMSG.size)
    in_table = number(said.get(_RTA_TABLE)) or byte
    if family not in VERSIONS or kind != _RTN_UNICAST or in_table != (table or in_table):
        return []
    if flags & _RTM_F_CLONED or not (_RTA_MULTIPATH in said or _RTA_OIF in said):
        return []
    packed = said.get(_RTA_DST) or bytes(4 if VERSIONS[family] != _V6 else 16)
    metrics = attributes(said[_RTA_METRICS]) if _RTA_METRICS in said else {}
    row = RouteRow(
        ipaddress.ip_network((packed, prefix)),
        _read_gateway(said),
        number(said.get(_RTA_OIF)),
        source=ipaddress.ip_address(said[_RTA_PREFSRC]) if _RTA_PREFSRC in said else None,
        priority=number(said.get(_RTA_PRIORITY)),
        table=in_table,
        scope=scope,
        mtu=number(metrics.get(_RTAX_MTU)),
        advmss=number(metrics.get(_RTAX_ADVMSS)),
        protocol=protocol,
    )
    if _RTA_MULTIPATH not in said:
        return [row]
    return [row._replace(gateway=gateway, ifindex=index) for index, gateway in _hops(said[_RTA_MULTIPATH])]


def _hops(data: bytes) -> Iterator[tuple[int, IPAddress | None]]:
    offset = 0
    while offset + _RTNEXTHOP.size <= len(data):
        length, _, _, index = _RTNEXTHOP.unpack_from(data, offset)
        if length < _RTNEXTHOP.size:
            return
        yield index, _read_gateway(dict(each(data[offset : offset + length], _RTNEXTHOP.size)))
        offset += (length + 3) & ~3


def _read_gateway(said: dict[int, bytes]) -> IPAddress | None:
    packed = said.get(_RTA_GATEWAY) or said.get(_RTA_VIA, b"")[_U16.size :]
    return ipaddress.ip_address(packed) if packed else None
