"""A pair of interfaces between the host and a sandbox alone, as CNI's type ``ptp`` has it."""

from __future__ import annotations

import msgspec

from dovetail.model.addresses import IPAddress
from dovetail.model.attachment import Attachment

__all__ = ["PtpPair"]


class PtpPair(msgspec.Struct, frozen=True, kw_only=True):
    """A veth pair whose host's end is the gateway.

    port: the host's end. attachment: of the sandbox's end, its routes those that were asked for. gateways: one for each
    of its addresses, in their order; the host's end has them all. mtu 0: the kernel's default. masquerade: what the
    sandbox sends out of its subnets takes the host's address.
    """

    port: str
    attachment: Attachment
    gateways: tuple[IPAddress, ...] = ()
    mtu: int = 0
    masquerade: bool = False
