"""An interface that is held to a rate, as CNI's type ``bandwidth`` has it."""

from __future__ import annotations

import msgspec

from dovetail.model.bandwidth import Bandwidth
from dovetail.model.mac import Mac

__all__ = ["Shaped"]


class Shaped(msgspec.Struct, frozen=True, kw_only=True):
    """A veth pair, and what goes through it.

    candidates: interfaces of the host, one of which is its end: `host_link`, once that is known. ifb, with its MAC and MTU:
    where what the sandbox sends is held; empty where that is not.
    """

    bandwidth: Bandwidth
    candidates: tuple[str, ...] = ()
    host_link: str = ""
    ifb: str = ""
    mac: Mac | None = None
    mtu: int = 0
