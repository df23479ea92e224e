"""What the verbs on bridges, ports and VLANs equal as command lines of ``ip`` and ``bridge``; see `commands`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dovetail.kernel.command_line import shell_line
from dovetail.kernel.protocol_bridges import VlanRange

__all__ = ["BRIDGING"]


def _set_bridge(
    name: str, *, vlan_filtering: bool | None = None, default_pvid: int | None = None
) -> list[str]:
    words: list[object] = ["vlan_filtering", int(vlan_filtering)] if vlan_filtering is not None else []
    words += ["vlan_default_pvid", default_pvid] if default_pvid is not None else []
    return [shell_line("ip", "link", "set", "dev", name, "type", "bridge", *words)] if words else []


def _set_bridge_port(name: str, *, hairpin: bool | None = None, isolated: bool | None = None) -> list[str]:
    words: list[str] = []
    for flag, value in (("hairpin", hairpin), ("isolated", isolated)):
        if value is not None:
            words += [flag, "on" if value else "off"]
    return [shell_line("bridge", "link", "set", "dev", name, *words)] if words else []


def _add_port_vlans(name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> list[str]:
    return [_vlan("add", name, vlan, on_bridge=on_bridge) for vlan in vlans]


def _delete_port_vlans(name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> list[str]:
    return [_vlan("del", name, VlanRange(vlan.first, vlan.last), on_bridge=on_bridge) for vlan in vlans]


def _vlan(action: str, name: str, vlan: VlanRange, *, on_bridge: bool) -> str:
    vid = f"{vlan.first}-{vlan.last}" if vlan.last not in (0, vlan.first) else vlan.first
    flags = (("pvid", vlan.pvid), ("untagged", vlan.untagged), ("self", on_bridge))
    return shell_line("bridge", "vlan", action, "dev", name, "vid", vid, *(word for word, on in flags if on))


BRIDGING: dict[str, Callable[..., list[str]]] = {
    "set_bridge": _set_bridge,
    "set_bridge_port": _set_bridge_port,
    "add_port_vlans": _add_port_vlans,
    "delete_port_vlans": _delete_port_vlans,
}
"""The writers by verb."""
