"""rtnetlink messages for links, addresses and routes: built and read, never sent here.

Numbers are from include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h, veth.h and if_bridge.h.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

from dovetail.kernel.netlink import CREATE, EXCL, Message, attribute, attributes, nested
from dovetail.kernel.protocol import Link, LinkSpec
from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac

__all__ = [
    "add_bridge",
    "address_change",
    "delete_link",
    "get_link",
    "ifaddrmsg",
    "link_by_name",
    "new_route",
    "new_veth",
    "port_flags",
    "read_address",
    "read_link",
    "read_route",
    "rtmsg",
    "set_link",
]

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_NET_NS_FD = 18, 20, 28
_INFO_KIND, _INFO_DATA, _INFO_SLAVE_KIND, _INFO_SLAVE_DATA = 1, 2, 4, 5
_VETH_INFO_PEER = 1
_BRPORT_MODE, _BRPORT_ISOLATED = 4, 33
_IFF_UP = 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, _RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RT_TABLE_MAIN, _RTPROT_BOOT, _RTN_UNICAST = 254, 3, 1
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")


def _ifinfo(index: int = 0, *, up: bool | None = None) -> bytes:
    flags, change = (0, 0) if up is None else (_IFF_UP if up else 0, _IFF_UP)
    return _IFINFO.pack(socket.AF_UNSPEC, 0, index, flags, change)


def _name(name: str) -> bytes:
    return attribute(_IFLA_IFNAME, name.encode() + b"\0")


def _u32(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def _basics(mac: Mac | None, mtu: int, alias: str = "") -> bytes:
    return b"".join(
        (
            _u32(_IFLA_MTU, mtu) if mtu else b"",
            attribute(_IFLA_ADDRESS, mac.packed()) if mac else b"",
            attribute(_IFLA_IFALIAS, alias.encode()) if alias else b"",
        )
    )


def get_link() -> bytes:
    """Give the payload of a dump of all links."""
    return _ifinfo()


def link_by_name(name: str) -> bytes:
    """Give the payload that asks for one link."""
    return _ifinfo() + _name(name)


def add_bridge(name: str, mac: Mac | None, mtu: int) -> Message:
    """``ip link add NAME type bridge``."""
    info = nested(_IFLA_LINKINFO, attribute(_INFO_KIND, b"bridge"))
    return Message(
        RTM_NEWLINK, CREATE | EXCL, _ifinfo() + _name(name) + _basics(mac, mtu) + info, f"ip link add {name}"
    )


def new_veth(end: LinkSpec, peer: LinkSpec, master: int) -> Message:
    """Make a pair in one message: both ends named, addressed, sized, placed and, where asked, enslaved and up."""
    inner = _ifinfo(up=True if peer.up else None) + _end(peer)
    info = nested(
        _IFLA_LINKINFO,
        attribute(_INFO_KIND, b"veth"),
        nested(_INFO_DATA, attribute(_VETH_INFO_PEER, inner)),
    )
    outer = (
        _ifinfo(up=True if end.up else None)
        + _end(end)
        + (_u32(_IFLA_MASTER, master) if master else b"")
        + info
    )
    return Message(
        RTM_NEWLINK, CREATE | EXCL, outer, f"ip link add {end.name} type veth peer name {peer.name}"
    )


def _end(spec: LinkSpec) -> bytes:
    netns = _u32(_IFLA_NET_NS_FD, spec.netns.fileno()) if spec.netns is not None else b""
    return _name(spec.name) + _basics(spec.mac, spec.mtu) + netns


def port_flags(name: str, *, hairpin: bool | None, isolated: bool | None) -> Message:
    """``ip link set NAME type bridge_slave hairpin on isolated on``."""
    data = b"".join(
        attribute(kind, bytes([value]))
        for kind, value in ((_BRPORT_MODE, hairpin), (_BRPORT_ISOLATED, isolated))
        if value is not None
    )
    info = nested(_IFLA_LINKINFO, attribute(_INFO_SLAVE_KIND, b"bridge"), nested(_INFO_SLAVE_DATA, data))
    return Message(RTM_NEWLINK, 0, _ifinfo() + _name(name) + info, f"bridge link set dev {name}")


def set_link(
    name: str, *, up: bool | None, mtu: int | None, mac: Mac | None, master: int | None, alias: str | None
) -> Message:
    """``ip link set NAME …``; `master` is an index, 0 releases the link."""
    payload = _ifinfo(up=up) + _name(name) + _basics(mac, mtu or 0)
    if master is not None:
        payload += _u32(_IFLA_MASTER, master)
    if alias is not None:
        payload += attribute(_IFLA_IFALIAS, alias.encode())
    return Message(RTM_SETLINK, 0, payload, f"ip link set {name}")


def delete_link(name: str) -> Message:
    """``ip link del NAME``."""
    return Message(RTM_DELLINK, 0, _ifinfo() + _name(name), f"ip link del {name}")


def read_link(payload: bytes) -> Link:
    """Read an RTM_NEWLINK."""
    _, _, index, flags, _ = _IFINFO.unpack_from(payload)
    found = attributes(payload, 16)
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    mac = found.get(_IFLA_ADDRESS, b"")
    return Link(
        name=found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        ifindex=index,
        kind=info.get(_INFO_KIND, b"").rstrip(b"\0").decode(),
        mac=mac.hex(":") if len(mac) == 6 else "",
        mtu=_number(found.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        master=_number(found.get(_IFLA_MASTER)),
        alias=found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace"),
        peer_ifindex=_number(found.get(_IFLA_LINK)),
    )


def ifaddrmsg(index: int = 0) -> bytes:
    """Give the payload of a dump of addresses, of one link or of all."""
    return _IFADDR.pack(socket.AF_UNSPEC, 0, 0, 0, index)


def address_change(kind: int, index: int, address: IPInterface, *, dad: bool, words: str) -> Message:
    """``ip addr add`` or ``del``: kind is RTM_NEWADDR or RTM_DELADDR."""
    flags = 0 if dad or address.version == 4 else _IFA_F_NODAD
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    packed = address.ip.packed
    payload = _IFADDR.pack(family, address.network.prefixlen, flags, 0, index)
    payload += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    return Message(kind, CREATE | EXCL if kind == RTM_NEWADDR else 0, payload, words)


def read_address(payload: bytes) -> tuple[int, IPInterface]:
    """Read an RTM_NEWADDR as (link index, address)."""
    _, prefix_length, _, _, index = _IFADDR.unpack_from(payload)
    found = attributes(payload, 8)
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    return index, ipaddress.ip_interface((packed, prefix_length))


def new_route(index: int, route: Route, words: str) -> Message:
    """``ip route add``."""
    family = socket.AF_INET if route.destination.version == 4 else socket.AF_INET6
    scope = route.scope
    if scope is None:
        scope = _SCOPE_LINK if route.gateway is None and family == socket.AF_INET else _SCOPE_UNIVERSE
    table = route.table or _RT_TABLE_MAIN
    header = _RTMSG.pack(
        family,
        route.destination.prefixlen,
        0,
        0,
        table if table < 256 else 0,
        _RTPROT_BOOT,
        scope,
        _RTN_UNICAST,
        0,
    )
    metrics = b"".join(_u32(k, v) for k, v in ((_RTAX_MTU, route.mtu), (_RTAX_ADVMSS, route.advmss)) if v)
    payload = b"".join(
        (
            attribute(_RTA_DST, route.destination.network_address.packed)
            if route.destination.prefixlen
            else b"",
            attribute(_RTA_GATEWAY, route.gateway.packed) if route.gateway is not None else b"",
            _u32(_RTA_OIF, index),
            _u32(_RTA_PRIORITY, route.priority) if route.priority else b"",
            _u32(_RTA_TABLE, table),
            nested(_RTA_METRICS, metrics) if metrics else b"",
        )
    )
    return Message(RTM_NEWROUTE, CREATE | EXCL, header + payload, words)


def rtmsg() -> bytes:
    """Give the payload of a dump of routes."""
    return _RTMSG.pack(0, 0, 0, 0, 0, 0, 0, 0, 0)


def read_route(payload: bytes) -> tuple[IPNetwork, IPAddress | None, int] | None:
    """Read a unicast route of the main table as (destination, gateway, link index); None for any other."""
    family, length, _, _, table, _, _, kind, _ = _RTMSG.unpack_from(payload)
    found = attributes(payload, 12)
    if _number(found.get(_RTA_TABLE)) or table:
        table = _number(found.get(_RTA_TABLE)) or table
    if table != _RT_TABLE_MAIN or kind != _RTN_UNICAST or family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    packed = found.get(_RTA_DST) or bytes(4 if family == socket.AF_INET else 16)
    gateway = found.get(_RTA_GATEWAY)
    return (
        ipaddress.ip_network((packed, length)),
        ipaddress.ip_address(gateway) if gateway else None,
        _number(found.get(_RTA_OIF)),
    )


def _number(data: bytes | None) -> int:
    return struct.unpack("=I", data[:4])[0] if data and len(data) >= 4 else 0
