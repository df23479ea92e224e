"""The cases, a module a plugin or a few that are alike."""

from __future__ import annotations

from differential.case import Case
from differential.cases import (
    bandwidth,
    bridge,
    firewall,
    host_device,
    host_local,
    loopback,
    on_parent,
    portmap,
    ptp,
    sbr,
    static,
    tuning,
    vrf,
)

CASES: list[Case] = [
    case
    for module in (
        bridge,
        ptp,
        on_parent,
        loopback,
        host_local,
        static,
        portmap,
        bandwidth,
        firewall,
        tuning,
        sbr,
        host_device,
        vrf,
    )
    for case in module.CASES
]
# Every key of each plugin, of Debian's version and newer.
KEYS: dict[str, list[str]] = {
    "bridge": bridge.KEYS,
    "ptp": ptp.KEYS,
    "macvlan": on_parent.MACVLAN_KEYS,
    "ipvlan": on_parent.IPVLAN_KEYS,
    "vlan": on_parent.VLAN_KEYS,
    "loopback": loopback.KEYS,
    "host-local": host_local.KEYS,
    "static": static.KEYS,
    "portmap": portmap.KEYS,
    "bandwidth": bandwidth.KEYS,
    "firewall": firewall.KEYS,
    "tuning": tuning.KEYS,
    "sbr": sbr.KEYS,
    "host-device": host_device.KEYS,
    "vrf": vrf.KEYS,
}
