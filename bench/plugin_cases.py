"""What `bench/plugins.py` measures: each plugin type that dovetail and Debian's Go have, and a chain of four.

The same configurations go to everybody. Each place (a namespace that plays a container) has a port of its own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from subjects import GO, VERSION

from dovetail.cni.plugins import PLUGINS

__all__ = ["BASE", "CHAIN", "PARENT", "PLACES", "Case", "all_cases", "base"]

BASE = "base0"  # the interface that the plugins of the second kind get, one at each place
PARENT = "parent0"
CHAIN = "chain of four"
PLACES = 16
_FIRST_PORT = 20_000
_PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


class Case(NamedTuple):
    """A list of plugins under a network name of its own.

    based: it does something to an interface that is there. fresh: to one made anew, as its DEL does not undo all.
    unchecked: types whose CHECK is left out, as Go's fails.
    """

    name: str
    plugins: tuple[dict[str, Any], ...]
    ifname: str = "eth0"
    based: bool = False
    fresh: bool = False
    unchecked: tuple[str, ...] = ()

    @property
    def verbs(self) -> tuple[str, ...]:
        """Give the verbs that do anything."""
        checked = any(plugin["type"] not in self.unchecked for plugin in self.plugins)
        return ("ADD", "CHECK", "DEL") if checked else ("ADD", "DEL")

    def conf(self, index: int, place: int) -> dict[str, Any]:
        """Give the configuration of one plugin of the list, as it is before a previous result is put in."""
        conf = {"cniVersion": VERSION, "name": self.network, **self.plugins[index]}
        if "capabilities" in conf:
            conf["runtimeConfig"] = self.capability_args(place)
        return conf

    @property
    def network(self) -> str:
        """Name the list."""
        return BASE if self.based else self.name.replace(",", "").replace(" ", "-")

    @staticmethod
    def capability_args(place: int) -> dict[str, Any]:
        """Give what the runtime has for plugins that declare the capability."""
        return {"portMappings": [{"hostPort": _FIRST_PORT + place, "containerPort": 80, "protocol": "tcp"}]}


def all_cases(directory: Path) -> list[Case]:
    """Give those that both can; the files of host-local are to be below `directory`."""
    ipam = _Addresses(directory)
    chain = (
        _bridge("chain0", ipam, ip_masq=True),
        _PORTMAP,
        {"type": "firewall"},
        {"type": "tuning"},
    )
    tuned = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}, "mtu": 1400}
    rates = dict.fromkeys(("ingressRate", "ingressBurst", "egressRate", "egressBurst"), 8000000)
    static = {"type": "static", "addresses": [{"address": "10.199.0.5/24", "gateway": "10.199.0.1"}]}
    cases = [
        Case("bridge", (_bridge("bridge0", ipam),)),
        Case("bridge, ipMasq", (_bridge("masq0", ipam, ip_masq=True),)),
        Case("ptp", ({"type": "ptp", "ipMasq": True, "ipam": ipam.next()},)),
        Case("macvlan", ({"type": "macvlan", "master": PARENT, "mode": "bridge", "ipam": ipam.next()},)),
        Case("loopback", ({"type": "loopback"},), ifname="lo"),
        Case("host-local", ({"type": "host-local", "ipam": ipam.next()},)),
        Case("static", ({"type": "static", "ipam": static},)),
        Case("portmap", (_PORTMAP,), ifname=BASE, based=True, unchecked=("portmap",)),
        Case("bandwidth", ({"type": "bandwidth", **rates},), ifname=BASE, based=True, fresh=True),
        Case("firewall", ({"type": "firewall"},), ifname=BASE, based=True),
        Case("tuning", (tuned,), ifname=BASE, based=True),
        Case("sbr", ({"type": "sbr"},), ifname=BASE, based=True, fresh=True),
        Case(CHAIN, chain, unchecked=("portmap",)),
    ]
    return [case for case in cases if all(_both_have(plugin["type"]) for plugin in case.plugins)]


def base(directory: Path) -> Case:
    """Give the list that makes the interface for cases that are based on one."""
    return Case(BASE, (_bridge("base", _Addresses(directory, octet=250)),), ifname=BASE)


class _Addresses:
    """Subnets, one a configuration."""

    def __init__(self, directory: Path, octet: int = 200) -> None:
        self._data_dir = str(directory / "host-local")
        self._octet = octet

    def next(self) -> dict[str, Any]:
        """Give the ``ipam`` of one more."""
        self._octet += 1
        return {
            "type": "host-local",
            "dataDir": self._data_dir,
            "ranges": [[{"subnet": f"10.{self._octet}.0.0/16"}]],
        }


def _bridge(name: str, ipam: _Addresses, *, ip_masq: bool = False) -> dict[str, Any]:
    return {
        "type": "bridge", "bridge": name, "isGateway": True, "isDefaultGateway": True, "hairpinMode": True,
        "ipMasq": ip_masq, "ipam": ipam.next(),
    }  # fmt: skip


def _both_have(kind: str) -> bool:
    return kind in PLUGINS and os.path.exists(f"{GO}/{kind}")
