"""Messages of rtnetlink for links, addresses and routes: written and read, never sent.

Everything here is pure: bytes from values and values from bytes. Addressing a link by name
(IFLA_IFNAME with index 0) saves a lookup where the kernel allows it, which is for links only.

Source: include/uapi/linux/{rtnetlink,if_link,if_addr,if_bridge}.h, include/uapi/linux/veth.h.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from dovetail.kernel import link_settings
from dovetail.kernel.attributes import attribute, attributes, each, nest, nul, u8, u32
from dovetail.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message
from dovetail.kernel.protocol import Link, LinkSettings, LinkSpec
from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac

__all__ = [
    "AddressRow",
    "RouteRow",
    "delete_group",
    "delete_link",
    "dump_addresses",
    "dump_links",
    "dump_routes",
    "dump_unreachable",
    "get_link",
    "new_address",
    "new_bridge",
    "new_link",
    "new_route",
    "new_unreachable",
    "new_veth",
    "parse_address",
    "parse_link",
    "parse_routes",
    "parse_unreachable",
    "remove_address",
    "remove_unreachable",
    "set_link",
]

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19  # RTM_…
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26

_IFINFOMSG = Struct("=BxHiII")  # family, device type, index, flags, mask of flags to change
_IFADDRMSG = Struct("=BBBBI")  # family, prefix length, flags, scope, link's index
_RTMSG = Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_RTNEXTHOP = Struct("=HBBi")  # length, flags, hops, link's index
_U32 = Struct("=I")
_U16 = Struct("=H")

_IFF_UP = 0x1  # include/uapi/linux/if.h
_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_IFALIAS = 20
_IFLA_GROUP = 27
_IFLA_NET_NS_FD = 28
_IFLA_EXT_MASK = 29
_IFLA_NUM_TX_QUEUES = 31
_IFLA_NUM_RX_QUEUES = 32
_IFLA_LINK_NETNSID = 37
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_IFLA_INFO_SLAVE_KIND = 4
_IFLA_INFO_SLAVE_DATA = 5
_IFLA_BRPORT_MODE = 4  # hairpin
_IFLA_BRPORT_ISOLATED = 33
_VETH_INFO_PEER = 1
_RTEXT_FILTER_SKIP_STATS = 1 << 3

_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_IFA_FLAGS = 8
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200

_RTA_DST = 1
_RTA_OIF = 4
_RTA_GATEWAY = 5
_RTA_PRIORITY = 6
_RTA_METRICS = 8
_RTA_MULTIPATH = 9
_RTA_TABLE = 15
_RTA_VIA = 18
_RTAX_MTU = 2
_RTAX_ADVMSS = 8
_RT_TABLE_UNSPEC = 0
_RT_TABLE_MAIN = 254
_RTPROT_BOOT = 3  # what `ip route` writes
_RTPROT_DOVETAIL = 208  # a number that nobody has, include/uapi/linux/rtnetlink.h and iproute2's rt_protos
_RT_SCOPE_UNIVERSE = 0
_RT_SCOPE_LINK = 253
_RT_SCOPE_NOWHERE = 255
_RTN_UNICAST = 1
_RTN_UNREACHABLE = 7
_RTM_F_CLONED = 0x200

_ONE_QUEUE = u32(_IFLA_NUM_TX_QUEUES, 1) + u32(_IFLA_NUM_RX_QUEUES, 1)

_V6 = 6
_MAC_BYTES = 6
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSIONS = {int(family): version for version, family in _FAMILIES.items()}


# -- links ----------------------------------------------------------------------------------------


def get_link(name: str) -> Message:
    """Ask for one link by name, without its statistics."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + nul(_IFLA_IFNAME, name)
    return Message(_GETLINK, 0, body + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS))


def dump_links() -> Message:
    """List all links, without their statistics."""
    body = _IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return Message(_GETLINK, 0, body)


def new_bridge(name: str, *, mac: Mac | None = None) -> Message:
    """Make a bridge, down.

    Its MTU is set by `set_link`: only then the kernel remembers that it was asked for, and does not
    follow the ports' (br_change_mtu and br_mtu_auto_adjust, net/bridge).
    """
    parts = [_IFINFOMSG.pack(0, 0, 0, 0, 0), nul(_IFLA_IFNAME, name)]
    if mac is not None:
        parts.append(attribute(_IFLA_ADDRESS, mac.packed()))
    parts.append(nest(_IFLA_LINKINFO, nul(_IFLA_INFO_KIND, "bridge")))
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, b"".join(parts))


def new_veth(end: LinkSpec, peer: LinkSpec, *, master: int = 0) -> Message:
    """Make a pair, each end in its namespace under its name, `end` enslaved to `master` and up if so specified.

    The kernel takes no alias and no port flags here, and cannot bring the peer up before the pair is
    tied together (veth_open: ENOTCONN); that is `set_link`'s. Each end has one queue a direction: left to itself
    the kernel makes one a CPU, registers them all in sysfs and then uses one (veth_init_queues), which is
    a seventh of the time of an attachment on 2 CPUs and grows with their number.
    """
    up = _IFF_UP if end.up else 0
    parts = [_IFINFOMSG.pack(0, 0, 0, up, up), _ONE_QUEUE, *_birth(end)]
    if master:
        parts.append(u32(_IFLA_MASTER, master))
    parts.append(
        nest(
            _IFLA_LINKINFO,
            nul(_IFLA_INFO_KIND, "veth"),
            nest(
                _IFLA_INFO_DATA,
                nest(_VETH_INFO_PEER, _IFINFOMSG.pack(0, 0, 0, 0, 0), _ONE_QUEUE, *_birth(peer)),
            ),
        )
    )
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, b"".join(parts))


def new_link(spec: LinkSpec, settings: LinkSettings, *, parent: int = 0, master: int = 0) -> Message:
    """Make a link of one of the kinds of `LinkSettings`, up if so specified, in its namespace under its name.

    parent: an index of the sender's namespace, whatever the link's own (rtnl_newlink, net/core/rtnetlink.c).
    The kernel takes no alias and no port flags here; those are `set_link`'s.
    """
    up = _IFF_UP if spec.up else 0
    parts = [_IFINFOMSG.pack(0, 0, 0, up, up), *_birth(spec)]
    parts += [u32(kind, index) for kind, index in ((_IFLA_LINK, parent), (_IFLA_MASTER, master)) if index]
    data = link_settings.written(settings)
    kind = nul(_IFLA_INFO_KIND, link_settings.kind_of(settings))
    parts.append(nest(_IFLA_LINKINFO, kind, *([nest(_IFLA_INFO_DATA, *data)] if data else [])))
    return Message(_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, b"".join(parts))


def _birth(spec: LinkSpec) -> Iterator[bytes]:
    yield nul(_IFLA_IFNAME, spec.name)
    if spec.mac is not None:
        yield attribute(_IFLA_ADDRESS, spec.mac.packed())
    if spec.mtu:
        yield u32(_IFLA_MTU, spec.mtu)
    if spec.netns is not None:
        yield u32(_IFLA_NET_NS_FD, spec.netns.fileno())


def set_link(
    name: str,
    *,
    up: bool | None = None,
    mtu: int | None = None,
    mac: Mac | None = None,
    master: int | None = None,
    alias: str | None = None,
    group: int | None = None,
    hairpin: bool | None = None,
    isolated: bool | None = None,
) -> Message:
    """Change what is not None of the link `name`; `master` is an index, 0 releases.

    hairpin and isolated need a bridge's port. They travel as IFLA_INFO_SLAVE_DATA, which RTM_NEWLINK
    alone looks at (rtnl_changelink, net/core/rtnetlink.c), and which finds its link by name.
    """
    flags = _IFF_UP if up else 0
    parts = [_IFINFOMSG.pack(0, 0, 0, flags, 0 if up is None else _IFF_UP), nul(_IFLA_IFNAME, name)]
    if mac is not None:
        parts.append(attribute(_IFLA_ADDRESS, mac.packed()))
    for kind, value in ((_IFLA_MTU, mtu), (_IFLA_MASTER, master), (_IFLA_GROUP, group)):
        if value is not None:
            parts.append(u32(kind, value))
    if alias is not None:
        parts.append(attribute(_IFLA_IFALIAS, alias.encode()))
    port = [
        u8(kind, int(value))
        for kind, value in ((_IFLA_BRPORT_MODE, hairpin), (_IFLA_BRPORT_ISOLATED, isolated))
        if value is not None
    ]
    if not port:
        return Message(_SETLINK, 0, b"".join(parts))
    slave = nul(_IFLA_INFO_SLAVE_KIND, "bridge") + nest(_IFLA_INFO_SLAVE_DATA, *port)
    return Message(_NEWLINK, 0, b"".join([*parts, nest(_IFLA_LINKINFO, slave)]))


def delete_link(name: str) -> Message:
    """Delete the link `name`."""
    return Message(_DELLINK, 0, _IFINFOMSG.pack(0, 0, 0, 0, 0) + nul(_IFLA_IFNAME, name))


def delete_group(group: int) -> Message:
    """Delete every link of the group; the kernel waits once for all (rtnl_group_dellink)."""
    return Message(_DELLINK, 0, _IFINFOMSG.pack(0, 0, 0, 0, 0) + u32(_IFLA_GROUP, group))


def parse_link(body: bytes) -> Link:
    """Read what RTM_GETLINK answers."""
    _, _, index, flags, _ = _IFINFOMSG.unpack_from(body)
    said = attributes(body, _IFINFOMSG.size)
    info = attributes(said.get(_IFLA_LINKINFO, b""))
    kind = _text(info.get(_IFLA_INFO_KIND, b""))
    mac = said.get(_IFLA_ADDRESS, b"")
    other = _number(said.get(_IFLA_LINK))  # a veth's peer, else what the link sits on
    parent = other if kind not in ("", "veth") else 0
    return Link(
        name=_text(said.get(_IFLA_IFNAME, b"")),
        ifindex=index,
        kind=kind,
        mac=mac.hex(":") if len(mac) == _MAC_BYTES else "",
        mtu=_number(said.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        master=_number(said.get(_IFLA_MASTER)),
        alias=_text(said.get(_IFLA_IFALIAS, b"")),
        peer_ifindex=other if kind == "veth" else 0,
        parent_ifindex=parent,
        parent_abroad=bool(parent) and _IFLA_LINK_NETNSID in said,
        settings=link_settings.read(kind, info.get(_IFLA_INFO_DATA, b"")),
    )


# -- addresses ------------------------------------------------------------------------------------


class AddressRow(NamedTuple):
    """An address and the index of its link."""

    ifindex: int
    address: IPInterface


def new_address(
    ifindex: int, address: IPInterface, *, dad: bool = False, prefix_route: bool = True
) -> Message:
    """Give a link an address; IPv6 without duplicate address detection unless `dad`."""
    flags = _IFA_F_NODAD if address.version == _V6 and not dad else 0
    body = _address_body(ifindex, address, flags)
    if not prefix_route:  # beyond the byte of the header, whose flags the attribute replaces
        body += u32(_IFA_FLAGS, flags | _IFA_F_NOPREFIXROUTE)
    return Message(_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, body)


def remove_address(ifindex: int, address: IPInterface) -> Message:
    """Take an address from a link."""
    return Message(_DELADDR, 0, _address_body(ifindex, address, 0))


def _address_body(ifindex: int, address: IPInterface, flags: int) -> bytes:
    packed = address.ip.packed
    family = _FAMILIES[address.version]
    head = _IFADDRMSG.pack(family, address.network.prefixlen, flags, _RT_SCOPE_UNIVERSE, ifindex)
    return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def dump_addresses(ifindex: int = 0) -> Message:
    """List the addresses of both families, of one link or of all."""
    return Message(_GETADDR, 0, _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, ifindex))


def parse_address(body: bytes) -> AddressRow | None:
    """Read one row of the list; None for families that are not IP."""
    family, prefix, _, _, ifindex = _IFADDRMSG.unpack_from(body)
    if family not in _VERSIONS:
        return None
    said = attributes(body, _IFADDRMSG.size)
    packed = said.get(_IFA_LOCAL) or said.get(_IFA_ADDRESS)  # with a peer, IFA_ADDRESS is the peer's
    if packed is None:
        return None
    return AddressRow(ifindex, ipaddress.ip_interface((packed, prefix)))


# -- routes ---------------------------------------------------------------------------------------


class RouteRow(NamedTuple):
    """A route, or one next hop of it, and the index of its link."""

    destination: IPNetwork
    gateway: IPAddress | None
    ifindex: int


def new_route(ifindex: int, route: Route) -> Message:
    """Add a route as ``ip route add`` does: its scope is the link's where there is no gateway."""
    destination = route.destination
    link_scope = route.gateway is None and destination.version != _V6
    scope = route.scope if route.scope is not None else _RT_SCOPE_LINK if link_scope else _RT_SCOPE_UNIVERSE
    table = route.table or _RT_TABLE_MAIN
    family = _FAMILIES[destination.version]
    byte = table if table < 256 else _RT_TABLE_UNSPEC
    head = _RTMSG.pack(family, destination.prefixlen, 0, 0, byte, _RTPROT_BOOT, scope, _RTN_UNICAST, 0)
    parts = [head]
    if destination.prefixlen:
        parts.append(attribute(_RTA_DST, destination.network_address.packed))
    if route.gateway is not None:
        parts.append(_gateway(route.gateway, destination.version))
    parts.append(u32(_RTA_OIF, ifindex))
    if route.priority:
        parts.append(u32(_RTA_PRIORITY, route.priority))
    parts.append(u32(_RTA_TABLE, table))
    metrics = [u32(kind, n) for kind, n in ((_RTAX_MTU, route.mtu), (_RTAX_ADVMSS, route.advmss)) if n]
    if metrics:
        parts.append(nest(_RTA_METRICS, *metrics))
    return Message(_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, b"".join(parts))


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
    return _RTMSG.pack(
        *(_FAMILIES[version], prefix, 0, 0, _RT_TABLE_MAIN, _RTPROT_DOVETAIL, scope, _RTN_UNREACHABLE, 0)
    )


def dump_unreachable(version: int) -> Message:
    """List what `new_unreachable` made, of one family."""
    return Message(_GETROUTE, 0, _unreachable_head(version))


def parse_unreachable(body: bytes) -> IPNetwork | None:
    """Read the destination of one row of the list; None for what is not ours, as old kernels do not filter."""
    family, prefix, _, _, _, protocol, _, kind, _ = _RTMSG.unpack_from(body)
    if family not in _VERSIONS or (protocol, kind) != (_RTPROT_DOVETAIL, _RTN_UNREACHABLE):
        return None
    packed = attributes(body, _RTMSG.size).get(_RTA_DST) or bytes(4 if _VERSIONS[family] != _V6 else 16)
    return ipaddress.ip_network((packed, prefix))


def _gateway(gateway: IPAddress, version: int) -> bytes:
    if gateway.version == version:
        return attribute(_RTA_GATEWAY, gateway.packed)
    return attribute(_RTA_VIA, _U16.pack(_FAMILIES[gateway.version]) + gateway.packed)  # RFC 5549


def dump_routes(version: int) -> Message:
    """List the unicast routes of the main table of one family."""
    body = _RTMSG.pack(_FAMILIES[version], 0, 0, 0, _RT_TABLE_MAIN, 0, 0, _RTN_UNICAST, 0)
    return Message(_GETROUTE, 0, body)


def parse_routes(body: bytes) -> list[RouteRow]:
    """Read one route of the list: a row for each next hop, none for what is not main and unicast.

    The filter is repeated here: kernels before 4.20 do not know it.
    """
    family, prefix, _, _, byte, _, _, kind, flags = _RTMSG.unpack_from(body)
    said = attributes(body, _RTMSG.size)
    table = _number(said.get(_RTA_TABLE)) or byte
    if family not in _VERSIONS or kind != _RTN_UNICAST or table != _RT_TABLE_MAIN or flags & _RTM_F_CLONED:
        return []
    packed = said.get(_RTA_DST) or bytes(4 if _VERSIONS[family] != _V6 else 16)
    destination = ipaddress.ip_network((packed, prefix))
    if _RTA_MULTIPATH in said:
        return [
            RouteRow(destination, hop_gateway, index) for index, hop_gateway in _hops(said[_RTA_MULTIPATH])
        ]
    if _RTA_OIF not in said:
        return []
    return [RouteRow(destination, _read_gateway(said), _number(said[_RTA_OIF]))]


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


def _text(data: bytes) -> str:
    return data.split(b"\0")[0].decode(errors="replace")


def _number(data: bytes | None) -> int:
    return int(_U32.unpack_from(data)[0]) if data is not None and len(data) >= _U32.size else 0
