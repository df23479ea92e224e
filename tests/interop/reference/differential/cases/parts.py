"""Parts of chains that the cases of several plugins have."""

from __future__ import annotations

from typing import Any

HOST_LOCAL_4 = {"type": "host-local", "subnet": "10.50.0.0/24"}
HOST_LOCAL_6 = {"type": "host-local", "ranges": [[{"subnet": "fd50::/64"}]]}
HOST_LOCAL_DUAL = {"type": "host-local", "ranges": [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]}
DEFAULT_4 = {"dst": "0.0.0.0/0"}
DEFAULT_6 = {"dst": "::/0"}
DNS = {
    "nameservers": ["192.0.2.53"],
    "domain": "example.org",
    "search": ["example.org"],
    "options": ["ndots:2"],
}
TWO = ("ADD c1", "ADD c2", "CHECK c1", "CHECK c2", "DEL c1", "CHECK c2", "DEL c2")  # two containers
TWICE = ("ADD c1", "ADD c1 eth1", "CHECK c1", "CHECK c1 eth1", "DEL c1", "CHECK c1 eth1", "DEL c1 eth1")
AGAIN = ("ADD c1", "DEL c1", "ADD c1", "DEL c1")
GONE = ("ADD c1", "lose c1", "DEL c1", "DEL c1")  # the namespace went before the DEL
NOWHERE = ("ADD c1", "DEL c1 netns=", "DEL c1 netns=")  # and the runtime has forgotten where it was
FORGOTTEN = ("ADD c1", "DEL c1 prevResult=", "DEL c1")


def bridge(ipam: Any = HOST_LOCAL_4, /, **keys: Any) -> dict[str, Any]:
    """Give a ``bridge`` plugin on br0, a gateway unless told otherwise; without addresses where `ipam` is None."""
    plugin = {"type": "bridge", "bridge": "br0", "isGateway": ipam is not None, **keys}
    return plugin if ipam is None else {**plugin, "ipam": ipam}


def static(*addresses: str, **keys: Any) -> dict[str, Any]:
    """Give a ``static`` address manager: ADDRESS/LENGTH or ADDRESS/LENGTH GATEWAY."""
    rows = [dict(zip(("address", "gateway"), text.split(), strict=False)) for text in addresses]
    return {"type": "static", "addresses": rows, **keys}
