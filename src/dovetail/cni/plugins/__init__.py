"""The plugins by the name runtimes know them by; each is imported when it is called."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from dovetail.cni.plugins.call import Call, Plugin

__all__ = ["PLUGINS", "Call", "Plugin", "plugin_type"]

PLUGINS: dict[str, str] = {
    "bandwidth": "bandwidth:BandwidthPlugin",
    "bridge": "bridge:BridgePlugin",
    "dhcp": "dhcp:DhcpPlugin",
    "dovetail": "dovetail:DovetailPlugin",
    "dummy": "dummy:DummyPlugin",
    "firewall": "firewall:FirewallPlugin",
    "flannel": "flannel:FlannelPlugin",
    "host-device": "host_device:HostDevicePlugin",
    "host-local": "host_local:HostLocalPlugin",
    "ipvlan": "ipvlan:IpvlanPlugin",
    "loopback": "loopback:LoopbackPlugin",
    "macvlan": "macvlan:MacvlanPlugin",
    "portmap": "portmap:PortmapPlugin",
    "ptp": "ptp:PtpPlugin",
    "static": "static:StaticPlugin",
    "sbr": "sbr:SbrPlugin",
    "tap": "tap:TapPlugin",
    "tuning": "tuning:TuningPlugin",
    "vlan": "vlan:VlanPlugin",
    "vrf": "vrf:VrfPlugin",
}
"""Type, and where it is in this package."""


def plugin_type(name: str) -> type[Plugin] | None:
    """Import the plugin of that type; None where dovetail has none."""
    return _import(PLUGINS[name]) if name in PLUGINS else None


@cache
def _import(place: str) -> type[Plugin]:
    module, _, kind = place.partition(":")
    found: type[Plugin] = getattr(import_module(f"dovetail.cni.plugins.{module}"), kind)
    return found
