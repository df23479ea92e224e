"""An address that IPAM gave, with the gateway that belongs to it."""

from __future__ import annotations

import msgspec

from dovetail.model.addresses import IPAddress, IPInterface

__all__ = ["Allocated"]


class Allocated(msgspec.Struct, frozen=True, kw_only=True):
    """One of the ``ips`` of an IPAM plugin's result (CNI SPEC 1.1.0 "Delegated plugins"); several may have gateways."""

    address: IPInterface
    gateway: IPAddress | None = None
