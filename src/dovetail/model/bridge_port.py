"""A port of a bridge that many networks may share, as CNI's type ``bridge`` has it."""

from __future__ import annotations

import msgspec

from dovetail.model.addresses import IPInterface
from dovetail.model.attachment import Attachment

__all__ = ["BridgePort"]


class BridgePort(msgspec.Struct, frozen=True, kw_only=True):
    """A veth pair between a bridge and a sandbox.

    bridge: its name. port: the host's end. attachment: of the sandbox's end, its default routes among its routes.
    gateways: what the bridge is to have of addresses. force_address: in place of what it has. forwards: the host
    is a router for it. mtu 0: the kernel's default. hairpin,
    isolated: flags of the port. promiscuous: of the bridge. up: bring the sandbox's interface up. dad: let the kernel
    look for duplicates of IPv6 addresses, and wait. masquerade: what the sandbox sends out of its subnets takes the
    host's address. vlan: what the port sends and receives without a tag is of this one; 0 for none. trunk: VLANs that
    it sends and receives with their tags, as first and last. keep_default_vlan: VLAN 1, which the kernel gives every port, stays
    beside them. remove_bridge: a bridge that dovetail made goes with the last attachment.
    """

    bridge: str
    port: str
    attachment: Attachment
    gateways: tuple[IPInterface, ...] = ()
    force_address: bool = False
    forwards: bool = False
    mtu: int = 0
    hairpin: bool = False
    isolated: bool = False
    promiscuous: bool = False
    up: bool = True
    dad: bool = False
    masquerade: bool = False
    vlan: int = 0
    trunk: tuple[tuple[int, int], ...] = ()
    keep_default_vlan: bool = False
    remove_bridge: bool = False

    @property
    def gateway_link(self) -> str:
        """Name the host's interface that has the gateway addresses: the bridge, or one in the VLAN."""
        return f"{self.bridge}.{self.vlan}" if self.vlan else self.bridge
