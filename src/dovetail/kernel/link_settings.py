"""What a kind of link keeps for itself: IFLA_INFO_DATA of macvlan, ipvlan and vlan, written and read.

Source: include/uapi/linux/if_link.h (IFLA_MACVLAN_…, IFLA_IPVLAN_…, IFLA_VLAN_…).
"""

from __future__ import annotations

from struct import Struct
from typing import assert_never

from dovetail.kernel.attributes import attributes, u16, u32
from dovetail.kernel.protocol import (
    Dummy,
    Ipvlan,
    IpvlanFlag,
    IpvlanMode,
    LinkSettings,
    Macvlan,
    MacvlanMode,
    Vlan,
)

__all__ = ["kind_of", "read", "written"]

_U16 = Struct("=H")
_U32 = Struct("=I")

_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE = 1
_IFLA_IPVLAN_FLAGS = 2
_IFLA_VLAN_ID = 1

_MACVLAN_MODES: dict[MacvlanMode, int] = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_IPVLAN_MODES: dict[IpvlanMode, int] = {"l2": 0, "l3": 1, "l3s": 2}
_IPVLAN_FLAGS: dict[IpvlanFlag, int] = {"bridge": 0, "private": 1, "vepa": 2}
_MACVLAN_MODE_OF = {number: mode for mode, number in _MACVLAN_MODES.items()}
_IPVLAN_MODE_OF = {number: mode for mode, number in _IPVLAN_MODES.items()}
_IPVLAN_FLAG_OF = {number: flag for flag, number in _IPVLAN_FLAGS.items()}


def kind_of(settings: LinkSettings) -> str:
    """Give the name of its kind (IFLA_INFO_KIND)."""
    match settings:
        case Macvlan():
            return "macvlan"
        case Ipvlan():
            return "ipvlan"
        case Vlan():
            return "vlan"
        case Dummy():
            return "dummy"
        case other:
            assert_never(other)


def written(settings: LinkSettings) -> list[bytes]:
    """Write the attributes of IFLA_INFO_DATA; a dummy has none."""
    match settings:
        case Macvlan(mode):
            return [u32(_IFLA_MACVLAN_MODE, _MACVLAN_MODES[mode])]
        case Ipvlan(mode, flag):
            flags = u16(_IFLA_IPVLAN_FLAGS, _IPVLAN_FLAGS[flag])
            return [u16(_IFLA_IPVLAN_MODE, _IPVLAN_MODES[mode]), flags]
        case Vlan(number):
            return [u16(_IFLA_VLAN_ID, number)]
        case Dummy():
            return []
        case other:
            assert_never(other)


def read(kind: str, data: bytes) -> LinkSettings | None:
    """Read IFLA_INFO_DATA of a link of `kind`; None for what `written` does not write."""
    match kind:
        case "macvlan":
            mode = _MACVLAN_MODE_OF.get(_number(_U32, attributes(data).get(_IFLA_MACVLAN_MODE)))
            return Macvlan(mode) if mode is not None else None
        case "ipvlan":
            said = attributes(data)
            layer = _IPVLAN_MODE_OF.get(_number(_U16, said.get(_IFLA_IPVLAN_MODE)))
            flag = _IPVLAN_FLAG_OF.get(_number(_U16, said.get(_IFLA_IPVLAN_FLAGS)))
            return Ipvlan(layer, flag) if layer is not None and flag is not None else None
        case "vlan":
            return Vlan(_number(_U16, attributes(data).get(_IFLA_VLAN_ID)))
        case "dummy":
            return Dummy()
        case _:
            return None


def _number(form: Struct, data: bytes | None) -> int:
    return int(form.unpack_from(data)[0]) if data is not None and len(data) >= form.size else 0
