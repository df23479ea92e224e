"""The bridges of `RecordingKernel`, their ports and VLANs."""

from __future__ import annotations

from collections.abc import Iterable

from dovetail.errors import InvalidArgument
from dovetail.kernel.protocol_bridges import BridgePort, BridgeSettings, VlanRange
from dovetail.kernel.recorded import Recorder

__all__ = ["RecordingBridges"]

_DEFAULT_PVID = 1  # br_vlan_init, net/bridge/br_vlan.c


class RecordingBridges(Recorder):
    """Those verbs, recorded; the host that is made up can filter VLANs."""

    def set_bridge(
        self, name: str, *, vlan_filtering: bool | None = None, default_pvid: int | None = None
    ) -> None:
        """Record ``ip link set type bridge``."""
        self._present(name)
        settings = self.bridge_settings(name)
        if settings is None:
            raise InvalidArgument(f"{name!r} is no bridge, so it has no VLANs")
        if vlan_filtering is None and default_pvid is None:
            return
        self._record("set_bridge", name, vlan_filtering=vlan_filtering, default_pvid=default_pvid)
        self._space.bridges[name] = BridgeSettings(
            settings.vlan_filtering if vlan_filtering is None else vlan_filtering,
            settings.default_pvid if default_pvid is None else default_pvid,
        )

    def bridge_settings(self, name: str) -> BridgeSettings | None:
        """Say what was recorded, then what the base has, then a new bridge's."""
        link = self.link(name)
        if link is None or link.kind != "bridge":
            return None
        if name in self._space.bridges:
            return self._space.bridges[name]
        base = self._base.bridge_settings(name) if self._base is not None else None
        return base or BridgeSettings(default_pvid=_DEFAULT_PVID)

    def set_bridge_port(
        self, name: str, *, hairpin: bool | None = None, isolated: bool | None = None
    ) -> None:
        """Record ``bridge link set``."""
        self._present(name)
        self._record("set_bridge_port", name, hairpin=hairpin, isolated=isolated)
        before = self._flags(name)
        self._space.ports[name] = (
            before[0] if hairpin is None else hairpin,
            before[1] if isolated is None else isolated,
        )

    def bridge_port(self, name: str) -> BridgePort | None:
        """Say how a recorded port is, or the base's."""
        link = self.link(name)
        if link is None or not link.master:
            return None
        names = {one.ifindex: one.name for one in self.links() if one.kind == "bridge"}
        if link.master not in names:
            return None
        hairpin, isolated = self._flags(name)
        return BridgePort(names[link.master], "forwarding" if link.up else "disabled", hairpin, isolated)

    def _flags(self, name: str) -> tuple[bool, bool]:
        if name in self._space.ports:
            return self._space.ports[name]
        base = self._base.bridge_port(name) if self._base is not None else None
        return (base.hairpin, base.isolated) if base is not None else (False, False)

    # -- VLANs ------------------------------------------------------------------------------------

    def add_port_vlans(self, name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> None:
        """Record ``bridge vlan add``."""
        added = tuple(vlans)
        there = self._vlans_of(name, on_bridge=on_bridge)
        if not added:
            return
        self._record("add_port_vlans", name, added, on_bridge=on_bridge)
        for vlan in added:
            if vlan.pvid:  # there is one
                there = {number: (False, untagged) for number, (_, untagged) in there.items()}
            there |= dict.fromkeys(_numbers(vlan), (vlan.pvid, vlan.untagged))
        self._space.vlans[name] = there

    def delete_port_vlans(self, name: str, vlans: Iterable[VlanRange], *, on_bridge: bool = False) -> None:
        """Record ``bridge vlan del`` for those that are there."""
        there = self._vlans_of(name, on_bridge=on_bridge)
        gone = tuple(vlan for vlan in vlans if there.keys() & set(_numbers(vlan)))
        if not gone:
            return
        self._record("delete_port_vlans", name, gone, on_bridge=on_bridge)
        numbers = {number for vlan in gone for number in _numbers(vlan)}
        self._space.vlans[name] = {number: flags for number, flags in there.items() if number not in numbers}

    def port_vlans(self) -> dict[str, list[VlanRange]]:
        """List recorded ones, the base's, and the VLAN that every recorded port and bridge begins with."""
        bridges = {link.ifindex for link in self.links() if link.kind == "bridge"}
        members = [link for link in self.links() if link.kind == "bridge" or link.master in bridges]
        found = {link.name: _ranges(self._vlans_of(link.name, on_bridge=not link.master)) for link in members}
        return {name: vlans for name, vlans in found.items() if vlans}

    def _vlans_of(self, name: str, *, on_bridge: bool) -> dict[int, tuple[bool, bool]]:
        self._present(name)
        port = self.bridge_port(name)
        bridge = name if on_bridge else port.bridge if port is not None else ""
        settings = self.bridge_settings(bridge)
        if settings is None:
            what = "bridge" if on_bridge else "port of a bridge"
            raise InvalidArgument(f"{name!r} is no {what}, so it has no VLANs")
        if name in self._space.vlans:
            return dict(self._space.vlans[name])
        if self._base is not None and self._base.link(name) is not None:
            base = self._base.port_vlans().get(name, [])
            return {number: (vlan.pvid, vlan.untagged) for vlan in base for number in _numbers(vlan)}
        return {settings.default_pvid: (True, True)} if settings.default_pvid else {}


def _numbers(vlan: VlanRange) -> range:
    return range(vlan.first, (vlan.last or vlan.first) + 1)


def _ranges(vlans: dict[int, tuple[bool, bool]]) -> list[VlanRange]:
    """Join neighbours of the same flags, as the kernel does; the PVID stands alone."""
    found: list[VlanRange] = []
    for number, (pvid, untagged) in sorted(vlans.items()):
        last = found[-1] if found else VlanRange(0)
        end = last.last or last.first
        if end == number - 1 and last[2:] == (pvid, untagged) and not pvid and found:
            found[-1] = last._replace(last=number)
        else:
            found.append(VlanRange(number, pvid=pvid, untagged=untagged))
    return found
