"""Bridges, their ports and the VLANs of those: what the kernel has, and the verbs on it, a part of `Kernel`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple, Protocol, TypeAlias

__all__ = ["BridgePort", "BridgeSettings", "Bridging", "PortState", "VlanRange"]

PortState: TypeAlias = Literal["disabled", "listening", "learning", "forwarding", "blocking"]


class BridgeSettings(NamedTuple):
    """What a bridge does with VLANs.

    vlan_filtering: a frame goes to the ports of its VLAN alone. default_pvid: the VLAN that a new port gets for
    frames without a tag, 0: none. Both are off for good where the kernel cannot filter.
    """

    vlan_filtering: bool = False
    default_pvid: int = 0


class BridgePort(NamedTuple):
    """A link as a port of `bridge`: what it forwards (IFLA_BRPORT_STATE) and its flags."""

    bridge: str
    state: PortState
    hairpin: bool = False
    isolated: bool = False


class VlanRange(NamedTuple):
    """VLANs `first` to `last` of a port, 1 to 4094; `last` 0 is `first` alone.

    pvid: frames that come without a tag are of this VLAN (one a port, no range). untagged: frames of these leave
    without a tag.
    """

    first: int
    last: int = 0
    pvid: bool = False
    untagged: bool = False


class Bridging(Protocol):
    """Verbs on the bridges of one namespace."""

    def set_bridge(
        self, name: str, *, vlan_filtering: bool | None = None, default_pvid: int | None = None
    ) -> None:
        """``ip link set dev NAME type bridge vlan_filtering 1 vlan_default_pvid N``; a default of 0 is none.

        A new default replaces the old one on the ports that have it. Raises Unsupported where this kernel cannot
        filter VLANs, InvalidArgument where `name` is no bridge.
        """
        ...

    def bridge_settings(self, name: str) -> BridgeSettings | None:
        """Say what a bridge does with VLANs; None where there is no bridge of that name."""
        ...

    def set_bridge_port(
        self, name: str, *, hairpin: bool | None = None, isolated: bool | None = None
    ) -> None:
        """``bridge link set dev NAME hairpin on isolated on``."""
        ...

    def bridge_port(self, name: str) -> BridgePort | None:
        """Say how a link is as a port; None where it is none, or not there."""
        ...

    def add_port_vlans(self, name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> None:
        """``bridge vlan add dev NAME vid FIRST-LAST pvid untagged``, all of them at once.

        on_bridge: `name` is the bridge, and the host takes part in its VLANs (``self``). What is there already gets
        the flags. Raises Unsupported where this kernel cannot filter VLANs, InvalidArgument where `name` is no port.
        """
        ...

    def delete_port_vlans(self, name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> None:
        """``bridge vlan del dev NAME vid FIRST-LAST``; flags do not count, and missing VLANs are no error."""
        ...

    def port_vlans(self) -> dict[str, list[VlanRange]]:
        """``bridge vlan show``: list the VLANs of each port and bridge that has some, in order."""
        ...
