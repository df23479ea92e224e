"""A port of a VRF, as CNI's type ``vrf`` has it."""

from __future__ import annotations

import msgspec

__all__ = ["VrfPort"]


class VrfPort(msgspec.Struct, frozen=True, kw_only=True):
    """The sandbox's interface `ifname` in the VRF `vrf` of the same namespace.

    table: the VRF's; 0 is any, the first free one where the VRF has yet to be made.
    """

    ifname: str
    vrf: str
    table: int = 0
