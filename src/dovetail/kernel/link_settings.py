"""What a kind of link keeps for itself: IFLA_INFO_DATA of macvlan, ipvlan, vlan, vrf and tun, written and read.

Source: include/uapi/linux/if_link.h (IFLA_MACVLAN_…, IFLA_IPVLAN_…, IFLA_VLAN_…, IFLA_VRF_…, IFLA_TUN_…).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import assert_never

from dovetail.kernel.attributes import attributes, u16, u32
from dovetail.kernel.protocol import (
    Dummy,
    Ifb,
    Ipvlan,
    IpvlanFlag,
    IpvlanMode,
    LinkSettings,
    Macvlan,
    MacvlanMode,
    Tap,
    Vlan,
    Vrf,
)

__all__ = ["kind_of", "read", "written"]

_U16 = Struct("=H")
_U32 = Struct("=I")

_IFLA_MACVLAN_MODE = 1
_IFLA_MACVLAN_BC_QUEUE_LEN = 7
_MACVLAN_BC_QUEUE_LEN = 1000  # MACVLAN_DEFAULT_BROADCAST_QUEUE_LEN, include/linux/if_macvlan.h
_IFLA_IPVLAN_MODE = 1
_IFLA_IPVLAN_FLAGS = 2
_IFLA_VLAN_ID = 1
_IFLA_VRF_TABLE = 1
_IFLA_TUN_OWNER = 1
_IFLA_TUN_GROUP = 2
_IFLA_TUN_TYPE = 3
_IFLA_TUN_MULTI_QUEUE = 7
_TYPE_TAP = b"\x02"  # IFF_TAP, include/uapi/linux/if_tun.h

_MACVLAN_MODES: dict[MacvlanMode, int] = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES: dict[IpvlanMode, int] = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS: dict[IpvlanFlag, int] = {"bridge": 0, "private": 1, "vepa": 2}
_MACVLAN_MODE_OF = {number: mode for mode, number in _MACVLAN_MODES.items()}
_IPVLAN_MODE_OF = {number: mode for mode, number in _IPVLAN_MODES.items()}
_IPVLAN_FLAG_OF = {number: flag for flag, number in _IPVLAN_FLAGS.items()}
_KINDS: dict[type[LinkSettings], str] = {
    Macvlan: "macvlan",
    Ipvlan: "ipvlan",
    Vlan: "vlan",
    Dummy: "dummy",
    Vrf: "vrf",
    Tap: "tun",
    Ifb: "ifb",
}


def kind_of(settings: LinkSettings) -> str:
    """Give the name of its kind (IFLA_INFO_KIND)."""
    return _KINDS[type(settings)]


def written(settings: LinkSettings) -> list[bytes]:
    """Write the attributes of IFLA_INFO_DATA; a dummy and an ifb have none, and a tap is not made by a message (see `tun`)."""
    match settings:
        case Macvlan(mode, length):
            queue = [u32(_IFLA_MACVLAN_BC_QUEUE_LEN, length)] if length else []
            return [u32(_IFLA_MACVLAN_MODE, _MACVLAN_MODES[mode]), *queue]
        case Ipvlan(mode, flag):
            flags = u16(_IFLA_IPVLAN_FLAGS, _IPVLAN_FLAGS[flag])
            return [u16(_IFLA_IPVLAN_MODE, _IPVLAN_MODES[mode]), flags]
        case Vlan(number):
            return [u16(_IFLA_VLAN_ID, number)]
        case Vrf(table):
            return [u32(_IFLA_VRF_TABLE, table)]
        case Dummy() | Ifb() | Tap():
            return []
        case other:
            assert_never(other)


def read(kind: str, data: bytes) -> LinkSettings | None:
    """Read IFLA_INFO_DATA of a link of `kind`; None for what is not made here."""
    reader = _READERS.get(kind)
    return reader(attributes(data)) if reader is not None else None


def _macvlan(said: dict[int, bytes]) -> Macvlan | None:
    mode = _MACVLAN_MODE_OF.get(_number(_U32, said.get(_IFLA_MACVLAN_MODE)))
    length = _number(_U32, said.get(_IFLA_MACVLAN_BC_QUEUE_LEN))
    return Macvlan(mode, 0 if length == _MACVLAN_BC_QUEUE_LEN else length) if mode is not None else None


def _ipvlan(said: dict[int, bytes]) -> Ipvlan | None:
    mode = _IPVLAN_MODE_OF.get(_number(_U16, said.get(_IFLA_IPVLAN_MODE)))
    flag = _IPVLAN_FLAG_OF.get(_number(_U16, said.get(_IFLA_IPVLAN_FLAGS)))
    return Ipvlan(mode, flag) if mode is not None and flag is not None else None


def _tap(said: dict[int, bytes]) -> Tap | None:
    if said.get(_IFLA_TUN_TYPE) != _TYPE_TAP:
        return None
    return Tap(
        multi_queue=any(said.get(_IFLA_TUN_MULTI_QUEUE, b"")),
        owner=_number(_U32, said[_IFLA_TUN_OWNER]) if _IFLA_TUN_OWNER in said else None,
        group=_number(_U32, said[_IFLA_TUN_GROUP]) if _IFLA_TUN_GROUP in said else None,
    )


_READERS: dict[str, Callable[[dict[int, bytes]], LinkSettings | None]] = {
    "macvlan": _macvlan,
    "ipvlan": _ipvlan,
    "vlan": lambda said: Vlan(_number(_U16, said.get(_IFLA_VLAN_ID))),
    "dummy": lambda _: Dummy(),
    "ifb": lambda _: Ifb(),
    "vrf": lambda said: Vrf(_number(_U32, said.get(_IFLA_VRF_TABLE))),
    "tun": _tap,
}


def _number(form: Struct, data: bytes | None) -> int:
    return int(form.unpack_from(data)[0]) if data is not None and len(data) >= form.size else 0
