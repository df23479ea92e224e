"""Links of a sandbox that another link, their master, carries: CNI's types ``macvlan``, ``ipvlan`` and ``vlan``."""

from __future__ import annotations

from typing import Literal

import msgspec

from dovetail.model.attachment import Attachment

__all__ = ["CarriedLink", "IpvlanLink", "MacvlanLink", "VlanLink"]


class CarriedLink(msgspec.Struct, frozen=True, kw_only=True):
    """What they have in common.

    master: a link of the host, or with `in_container` of the sandbox. mtu 0: the master's, and follows it.
    """

    master: str
    attachment: Attachment
    in_container: bool = False
    mtu: int = 0


class MacvlanLink(CarriedLink, frozen=True, kw_only=True):
    """A MAC of its own on the master's wire. bc_queue_len 0: the kernel's default."""

    mode: Literal["private", "vepa", "bridge", "passthru"] = "bridge"
    bc_queue_len: int = 0


class IpvlanLink(CarriedLink, frozen=True, kw_only=True):
    """Addresses of its own behind the master's MAC."""

    mode: Literal["l2", "l3", "l3s"] = "l2"


class VlanLink(CarriedLink, frozen=True, kw_only=True):
    """The frames of the master that carry the tag `id`."""

    id: int = 0
