"""A node goes from one directory of plugins to the other while its containers run, and nothing of them notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from long_form import LONG
from node import Node

pytestmark = [pytest.mark.root, pytest.mark.interop]

RANGES = [[{"subnet": "10.86.0.0/24"}], [{"subnet": "fd86::/64"}]]
IPAM = {"type": "host-local", "ranges": RANGES, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}
BRIDGE = {"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": IPAM}
META = [
    {"type": "portmap", "capabilities": {"portMappings": True}},
    {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000},
    {"type": "firewall", "ingressPolicy": "same-bridge"},
    {"type": "tuning", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}},
]
CHAINS: dict[str, list[dict[str, Any]]] = {
    "bridge": [BRIDGE],
    "bridge and the rest": [BRIDGE, *META],
    "ptp and ports": [{"type": "ptp", "ipMasq": True, "ipam": IPAM}, META[0]],
    "macvlan": [{"type": "macvlan", "master": "wan", "ipam": IPAM}],
}
# go to go proves the test itself
ALL_WAYS = [
    (one, other) for ours in ("ours", "ours with a daemon") for one, other in (("go", ours), (ours, "go"))
] + [("go", "go")]
WAYS = ALL_WAYS if LONG else [("go", "ours with a daemon"), ("ours", "go")]


def collect(*, made_by: Any, deleted_by: Any) -> None:
    """Let dovetail remove what Go's DEL left: it knows nothing of elements in nftables sets and maps."""
    if made_by.name != "go" and deleted_by.name == "go":
        made_by.dovetail.cli("gc", "--yes")


@pytest.mark.parametrize("chain", CHAINS if LONG else ["bridge and the rest", "ptp and ports"])
@pytest.mark.parametrize(("before", "after"), WAYS, ids=map(" to ".join, WAYS))
def test_a_node_changes_its_plugins_under_running_containers(
    private_host: Any, make_directory: Callable[..., Any], before: str, after: str, chain: str
) -> None:
    plugins = CHAINS[chain]
    types = {plugin["type"] for plugin in plugins} | {"host-local"}
    one, other = (make_directory(name, types) for name in (before, after))
    node = Node(private_host, plugins)
    node.runtime.switch(str(one.path))
    for name in ("c1", "c2", "c3"):
        node.attach(name)

    with node.talking("c1", node.addresses["c2"]):
        node.runtime.switch(str(other.path))
        node.attach("c4")
        assert len(set(node.addresses.values())) == 4
        assert private_host.pings(node.addresses["c1"], netns="/run/netns/c4")
        if after != "go":  # whose CHECK of portmap and firewall fails on what it made itself
            node.check("c3")
        node.detach("c3")
        collect(made_by=one, deleted_by=other)
        assert node.traces("c3") == []
        node.runtime.switch(str(one.path))
        node.detach("c4")
        collect(made_by=other, deleted_by=one)
        assert node.traces("c4") == []

    for name in ("c1", "c2"):
        assert private_host.inet(f"/run/netns/{name}") == {node.addresses[name]}
        node.runtime.switch(str(other.path))
        node.detach(name)
    collect(made_by=one, deleted_by=other)
    assert one.left() + other.left() == []
    assert {link for link in private_host.links() if link not in {"lo", "wan", "br0"}} == set()
