"""The kinds of parts, one a CNI plugin type that keeps any: the composition root's list of them.

Each is imported when it is asked for, as a plugin that runs without a daemon needs one or two of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import cast

from dovetail.engine.part_kind import AnyPartKind

__all__ = ["PartKinds"]

_PLACES = {
    "bandwidth": "features.bandwidth_parts:BandwidthParts",
    "bridge": "drivers.bridge_port:BridgePorts",
    "dhcp": "ipam.dhcp_parts:DhcpParts",
    "dummy": "drivers.lone_link:DummyLinks",
    "firewall": "features.admitted:AdmittedParts",
    "host-device": "drivers.host_device:HostDevices",
    "host-local": "ipam.host_local_parts:HostLocalParts",
    "iptables-masquerade": "features.reference_parts:IptablesMasquerades",
    "ipvlan": "drivers.carried_link:IpvlanLinks",
    "macspoofchk": "features.reference_parts:SpoofChecks",
    "macvlan": "drivers.carried_link:MacvlanLinks",
    "portmap": "features.published:PublishedParts",
    "ptp": "drivers.ptp_pair:PtpPairs",
    "sbr": "features.source_routing:SourceRoutings",
    "tap": "drivers.lone_link:TapLinks",
    "tuning": "features.tuning:Tunings",
    "vlan": "drivers.carried_link:VlanLinks",
    "vrf": "features.vrf_port:VrfPorts",
}


class PartKinds(Mapping[str, AnyPartKind]):
    """Kinds by name; reading one imports it."""

    def __init__(self) -> None:
        self._loaded: dict[str, AnyPartKind] = {}

    def __getitem__(self, name: str) -> AnyPartKind:
        if name not in self._loaded:
            module, _, kind = _PLACES[name].partition(":")
            self._loaded[name] = cast("AnyPartKind", getattr(import_module(f"dovetail.{module}"), kind)())
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)
