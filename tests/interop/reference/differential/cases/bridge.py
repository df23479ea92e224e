"""Cases of ``bridge``."""

from __future__ import annotations

from differential.case import Case, in_all_versions

IPAM4 = {"type": "host-local", "subnet": "10.50.0.0/24"}
IPAM6 = {"type": "host-local", "ranges": [[{"subnet": "fd50::/64"}]]}
DUAL = {"type": "host-local", "ranges": [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]}


def _bridge(name, ipam=IPAM4, keys=None, **settings):
    plugin = {"type": "bridge", "bridge": "br0", **(keys or {})}
    if ipam:
        plugin["ipam"] = ipam
    return Case("bridge", name, (plugin,), **settings)


CASES = [
    *in_all_versions("0.1.0", _bridge("v4-gateway", keys={"isGateway": True})),
    _bridge("dual", DUAL, {"isGateway": True, "isDefaultGateway": True}),
    _bridge("masq", DUAL, {"isGateway": True, "ipMasq": True}),
]
