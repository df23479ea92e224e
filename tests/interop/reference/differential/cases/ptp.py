"""Cases of ``ptp``."""

from __future__ import annotations

from differential.case import Case, in_all_versions

IPAM4 = {"type": "host-local", "subnet": "10.51.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
DUAL = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.51.0.0/24"}], [{"subnet": "fd51::/64"}]],
    "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.168.0.0/16", "gw": "10.51.0.1"}],
}


def _ptp(name, ipam=IPAM4, keys=None, **settings):
    return Case("ptp", name, ({"type": "ptp", "ipam": ipam, **(keys or {})},), **settings)


CASES = [
    *in_all_versions("0.1.0", _ptp("v4")),
    _ptp("dual", DUAL, {"mtu": 1400}),
    _ptp("masq", DUAL, {"ipMasq": True, "dns": {"nameservers": ["10.51.0.1"], "search": ["example.org"]}}),
    _ptp("no-ipam", {}, steps=("ADD c1",)),
    _ptp("two-containers", steps=("ADD c1", "ADD c2", "DEL c1", "CHECK c2", "DEL c2")),
]
