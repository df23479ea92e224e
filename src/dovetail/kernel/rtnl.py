"""Messages of rtnetlink for links and addresses: written and read, never sent.

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
from dovetail.kernel.attributes import attribute, attributes, nest, nul, number, text, u8, u32
from dovetail.kernel.families import FAMILIES, VERSIONS
from dovetail.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message
from dovetail.kernel.protocol import Link, LinkSettings, LinkSpec, Netns
from dovetail.model.addresses import IPInterface
from dovetail.model.mac import Mac

__all__ = [
    "AddressRow",
    "delete_group",
    "delete_link",
    "dump_addresses",
    "dump_links",
    "get_link",
    "move_link",
    "new_address",
    "new_bridge",
    "new_link",
    "new_veth",
    "parse_address",
    "parse_link",
    "remove_address",
    "set_link",
]

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19  # RTM_…
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22

_IFINFOMSG = Struct("=BxHiII")  # family, device type, index, flags, mask of flags to change
_IFADDRMSG = Struct("=BBBBI")  # family, prefix length, flags, scope, link's index

_IFF_UP = 0x1  # include/uapi/linux/if.h
_IFF_PROMISC = 0x100
_IFF_ALLMULTI = 0x200
_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_LINK = 5
_IFLA_MASTER = 10
_IFLA_TXQLEN = 13
_IFLA_OPERSTATE = 16
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
_IFA_F_OPTIMISTIC = 0x04
_IFA_F_DADFAILED = 0x08
_IFA_F_TENTATIVE = 0x40
_IFA_F_NOPREFIXROUTE = 0x200
_SCOPE_UNIVERSE = 0  # RT_SCOPE_UNIVERSE, include/uapi/linux/rtnetlink.h

_OPERSTATES = {  # IF_OPER_…, include/uapi/linux/if.h
    bytes([code]): word
    for code, word in enumerate(
        ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
    )
}
_I32 = Struct("=i")

_ONE_QUEUE = u32(_IFLA_NUM_TX_QUEUES, 1) + u32(_IFLA_NUM_RX_QUEUES, 1)

_V6 = 6
_MAC_BYTES = 6


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
    promisc: bool | None = None,
    allmulti: bool | None = None,
    txqueuelen: int | None = None,
) -> Message:
    """Change what is not None of the link `name`; `master` is an index, 0 releases.

    hairpin and isolated need a bridge's port. They travel as IFLA_INFO_SLAVE_DATA, which RTM_NEWLINK
    alone looks at (rtnl_changelink, net/core/rtnetlink.c), and which finds its link by name.
    """
    wanted = ((_IFF_UP, up), (_IFF_PROMISC, promisc), (_IFF_ALLMULTI, allmulti))
    flags = sum(flag for flag, on in wanted if on)
    changed = sum(flag for flag, on in wanted if on is not None)
    parts = [_IFINFOMSG.pack(0, 0, 0, flags, changed), nul(_IFLA_IFNAME, name)]
    if mac is not None:
        parts.append(attribute(_IFLA_ADDRESS, mac.packed()))
    numbers = ((_IFLA_MTU, mtu), (_IFLA_MASTER, master), (_IFLA_GROUP, group), (_IFLA_TXQLEN, txqueuelen))
    for kind, value in numbers:
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


def move_link(ifindex: int, name: str, *, netns: Netns | None = None, alias: str | None = None) -> Message:
    """Give a link the name `name`, in the namespace `netns` where that is given.

    With an index, IFLA_IFNAME is the name that is wanted. It is asked for in the new namespace (do_setlink,
    net/core/rtnetlink.c), so two links of one name in two namespaces are in nobody's way.
    """
    parts = [_IFINFOMSG.pack(0, 0, ifindex, 0, 0), nul(_IFLA_IFNAME, name)]
    if netns is not None:
        parts.append(u32(_IFLA_NET_NS_FD, netns.fileno()))
    if alias is not None:
        parts.append(attribute(_IFLA_IFALIAS, alias.encode()))
    return Message(_SETLINK, 0, b"".join(parts))


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
    kind = text(info.get(_IFLA_INFO_KIND, b""))
    mac = said.get(_IFLA_ADDRESS, b"")
    other = number(said.get(_IFLA_LINK))  # a veth's peer, else what the link sits on
    parent = other if kind not in ("", "veth") else 0
    return Link(
        name=text(said.get(_IFLA_IFNAME, b"")),
        ifindex=index,
        kind=kind,
        mac=mac.hex(":") if len(mac) == _MAC_BYTES else "",
        mtu=number(said.get(_IFLA_MTU)),
        up=bool(flags & _IFF_UP),
        master=number(said.get(_IFLA_MASTER)),
        alias=text(said.get(_IFLA_IFALIAS, b"")),
        peer_ifindex=other if kind == "veth" else 0,
        parent_ifindex=parent,
        parent_abroad=bool(parent) and _IFLA_LINK_NETNSID in said,
        settings=link_settings.read(kind, info.get(_IFLA_INFO_DATA, b"")),
        promisc=bool(flags & _IFF_PROMISC),
        allmulti=bool(flags & _IFF_ALLMULTI),
        txqueuelen=number(said.get(_IFLA_TXQLEN)),
        operstate=_OPERSTATES.get(said.get(_IFLA_OPERSTATE, b""), ""),
        netnsid=_I32.unpack(said[_IFLA_LINK_NETNSID])[0] if _IFLA_LINK_NETNSID in said else -1,
    )


# -- addresses ------------------------------------------------------------------------------------


class AddressRow(NamedTuple):
    """An address and the index of its link.

    tentative: duplicate address detection goes on. duplicate: it found another owner (IFA_F_DADFAILED).
    """

    ifindex: int
    address: IPInterface
    tentative: bool = False
    duplicate: bool = False


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
    family = FAMILIES[address.version]
    head = _IFADDRMSG.pack(family, address.network.prefixlen, flags, _SCOPE_UNIVERSE, ifindex)
    return head + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)


def dump_addresses(ifindex: int = 0) -> Message:
    """List the addresses of both families, of one link or of all."""
    return Message(_GETADDR, 0, _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, ifindex))


def parse_address(body: bytes) -> AddressRow | None:
    """Read one row of the list; None for families that are not IP."""
    family, prefix, byte, _, ifindex = _IFADDRMSG.unpack_from(body)
    if family not in VERSIONS:
        return None
    said = attributes(body, _IFADDRMSG.size)
    packed = said.get(_IFA_LOCAL) or said.get(_IFA_ADDRESS)  # with a peer, IFA_ADDRESS is the peer's
    if packed is None:
        return None
    flags = number(said.get(_IFA_FLAGS)) or byte
    duplicate = bool(flags & _IFA_F_DADFAILED)
    # an optimistic one is used while it is looked for, RFC 4429
    tentative = flags & (_IFA_F_TENTATIVE | _IFA_F_OPTIMISTIC) == _IFA_F_TENTATIVE and not duplicate
    return AddressRow(ifindex, ipaddress.ip_interface((packed, prefix)), tentative, duplicate)
