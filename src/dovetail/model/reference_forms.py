"""What can be made in the CNI reference plugins' own form of firewall rules."""

from __future__ import annotations

import msgspec

from dovetail.model.addresses import IPInterface
from dovetail.model.mac import Mac

__all__ = ["IptablesMasquerade", "SpoofCheck"]


class IptablesMasquerade(msgspec.Struct, frozen=True, kw_only=True):
    """What `addresses` send out of their subnets takes the host's address, by chains of iptables."""

    addresses: tuple[IPInterface, ...] = ()


class SpoofCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What comes from the bridge port `port` must have the source address `mac`; None where that is not known."""

    port: str = ""
    mac: Mac | None = None
