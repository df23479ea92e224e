"""Messages of rtnetlink for bridges, their ports and VLANs: written and read, never sent.

Source: include/uapi/linux/{if_link,if_bridge}.h; net/bridge/br_netlink.c.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

from dovetail.errors import InvalidArgument
from dovetail.kernel.attributes import attribute, attributes, each, nest, nul, number, text, u8, u16, u32
from dovetail.kernel.netlink import Message
from dovetail.kernel.protocol_bridges import BridgePort, BridgeSettings, PortState, VlanRange

__all__ = [
    "add_vlans",
    "delete_vlans",
    "dump_vlans",
    "parse_port",
    "parse_settings",
    "parse_vlans",
    "set_bridge",
]

_NEWLINK, _DELLINK, _GETLINK, _SETLINK = 16, 17, 18, 19  # RTM_…
_AF_BRIDGE = 7  # include/linux/socket.h
_IFINFOMSG = Struct("=BxHiII")  # family, device type, index, flags, mask of flags to change
_VLAN_INFO = Struct("=HH")  # struct bridge_vlan_info: flags, VLAN
_U16 = Struct("=H")

_IFLA_IFNAME = 3
_IFLA_MASTER = 10
_IFLA_LINKINFO = 18
_IFLA_AF_SPEC = 26
_IFLA_EXT_MASK = 29
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_IFLA_INFO_SLAVE_KIND = 4
_IFLA_INFO_SLAVE_DATA = 5
_IFLA_BR_VLAN_FILTERING = 7
_IFLA_BR_VLAN_DEFAULT_PVID = 39
_IFLA_BRPORT_STATE = 1
_IFLA_BRPORT_MODE = 4  # hairpin
_IFLA_BRPORT_ISOLATED = 33
_IFLA_BRIDGE_FLAGS = 0
_IFLA_BRIDGE_VLAN_INFO = 2
_BRIDGE_FLAGS_SELF = 2
_PVID = 0x2  # BRIDGE_VLAN_INFO_…
_UNTAGGED = 0x4
_RANGE_BEGIN = 0x8
_RANGE_END = 0x10
_RTEXT_FILTER_BRVLAN_COMPRESSED = 1 << 2
_STATES: tuple[PortState, ...] = ("disabled", "listening", "learning", "forwarding", "blocking")
_LAST_VLAN = 4094


def set_bridge(name: str, *, vlan_filtering: bool | None = None, default_pvid: int | None = None) -> Message:
    """Change what is not None of the bridge `name`; RTM_NEWLINK alone looks at IFLA_INFO_DATA."""
    data = [u8(_IFLA_BR_VLAN_FILTERING, int(vlan_filtering))] if vlan_filtering is not None else []
    if default_pvid is not None:
        if not 0 <= default_pvid <= _LAST_VLAN:
            raise InvalidArgument(f"{default_pvid} is no VLAN", hint=f"1 to {_LAST_VLAN}, or 0 for none")
        data.append(u16(_IFLA_BR_VLAN_DEFAULT_PVID, default_pvid))
    info = nest(_IFLA_LINKINFO, nul(_IFLA_INFO_KIND, "bridge"), nest(_IFLA_INFO_DATA, *data))
    return Message(_NEWLINK, 0, _IFINFOMSG.pack(0, 0, 0, 0, 0) + nul(_IFLA_IFNAME, name) + info)


def parse_settings(body: bytes) -> BridgeSettings | None:
    """Read them from what RTM_GETLINK answers; None for what is no bridge."""
    info = attributes(attributes(body, _IFINFOMSG.size).get(_IFLA_LINKINFO, b""))
    if text(info.get(_IFLA_INFO_KIND, b"")) != "bridge":
        return None
    data = attributes(info.get(_IFLA_INFO_DATA, b""))
    pvid = data.get(_IFLA_BR_VLAN_DEFAULT_PVID, b"")
    return BridgeSettings(
        vlan_filtering=any(data.get(_IFLA_BR_VLAN_FILTERING, b"")),
        default_pvid=_U16.unpack(pvid)[0] if len(pvid) == _U16.size else 0,
    )


def parse_port(body: bytes) -> tuple[int, BridgePort] | None:
    """Read a port, without its bridge's name but with its index, from what RTM_GETLINK answers."""
    said = attributes(body, _IFINFOMSG.size)
    info = attributes(said.get(_IFLA_LINKINFO, b""))
    if text(info.get(_IFLA_INFO_SLAVE_KIND, b"")) != "bridge":
        return None
    data = attributes(info.get(_IFLA_INFO_SLAVE_DATA, b""))
    state = data.get(_IFLA_BRPORT_STATE, b"\0")[0]
    return number(said.get(_IFLA_MASTER)), BridgePort(
        bridge="",
        state=_STATES[state] if state < len(_STATES) else "disabled",
        hairpin=any(data.get(_IFLA_BRPORT_MODE, b"")),
        isolated=any(data.get(_IFLA_BRPORT_ISOLATED, b"")),
    )


def add_vlans(ifindex: int, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> Message:
    """Give a port VLANs, or the bridge itself; a range is two entries."""
    return Message(_SETLINK, 0, _vlans_body(ifindex, vlans, on_bridge=on_bridge))


def delete_vlans(ifindex: int, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> Message:
    """Take VLANs from a port, or from the bridge itself; missing ones are passed over (br_vlan_info)."""
    bare = [VlanRange(vlan.first, vlan.last) for vlan in vlans]
    return Message(_DELLINK, 0, _vlans_body(ifindex, bare, on_bridge=on_bridge))


def _vlans_body(ifindex: int, vlans: Iterable[VlanRange], *, on_bridge: bool) -> bytes:
    entries = [u16(_IFLA_BRIDGE_FLAGS, _BRIDGE_FLAGS_SELF)] if on_bridge else []
    for vlan in vlans:
        entries += [attribute(_IFLA_BRIDGE_VLAN_INFO, entry) for entry in _entries(vlan)]
    return _IFINFOMSG.pack(_AF_BRIDGE, 0, ifindex, 0, 0) + nest(_IFLA_AF_SPEC, *entries)


def _entries(vlan: VlanRange) -> list[bytes]:
    first, last = vlan.first, vlan.last or vlan.first
    if not 1 <= first <= last <= _LAST_VLAN:
        raise InvalidArgument(
            f"there are no VLANs {first} to {last}", hint=f"1 to {_LAST_VLAN}, the lower first"
        )
    flags = (_PVID if vlan.pvid else 0) | (_UNTAGGED if vlan.untagged else 0)
    if first == last:
        return [_VLAN_INFO.pack(flags, first)]
    if vlan.pvid:
        raise InvalidArgument(
            f"frames without a tag cannot be of VLANs {first} to {last}", hint="give one of them"
        )
    return [_VLAN_INFO.pack(flags | _RANGE_BEGIN, first), _VLAN_INFO.pack(flags | _RANGE_END, last)]


def dump_vlans() -> Message:
    """List ports and bridges with their VLANs, as ranges."""
    body = _IFINFOMSG.pack(_AF_BRIDGE, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_BRVLAN_COMPRESSED)
    return Message(_GETLINK, 0, body)


def parse_vlans(body: bytes) -> tuple[str, list[VlanRange]]:
    """Read one row of the list: a link's name and its VLANs, none where the kernel cannot filter."""
    said = attributes(body, _IFINFOMSG.size)
    found: list[VlanRange] = []
    begun = 0
    for kind, entry in each(said.get(_IFLA_AF_SPEC, b"")):
        if kind != _IFLA_BRIDGE_VLAN_INFO or len(entry) < _VLAN_INFO.size:
            continue
        flags, vlan = _VLAN_INFO.unpack_from(entry)
        if flags & _RANGE_BEGIN:
            begun = vlan
            continue
        first = begun if flags & _RANGE_END else vlan
        last = vlan if flags & _RANGE_END else 0
        found.append(VlanRange(first, last, pvid=bool(flags & _PVID), untagged=bool(flags & _UNTAGGED)))
    return text(said.get(_IFLA_IFNAME, b"")), found
