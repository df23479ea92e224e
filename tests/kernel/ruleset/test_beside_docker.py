"""Beside Docker Engine 29, with either of its back ends: what is ours passes, and each side keeps its own closed.

That Engine does not run here, so its rulesets are loaded as it made them (``docker-29.nft``, ``docker-29.iptables``),
over a bridge and a container that play its network ``brA``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dovetail.features.coexistence import accept_forwarding
from dovetail.model.port import PortMapping

pytestmark = pytest.mark.root

HERE = Path(__file__).parent
OUTSIDE = {4: "192.0.2.2", 6: "fd00:2::2"}
HOST = {4: "192.0.2.1", 6: "fd00:2::1"}
THEIRS = {4: "10.60.0.2", 6: "fd60::2"}
OURS = {4: "10.88.1.2", 6: "fd88:1::2"}


def load_nftables(lab: Any) -> None:
    lab.sh(f"nft -f {HERE / 'docker-29.nft'}")


def load_iptables(lab: Any) -> None:
    for program in ("iptables", "ip6tables"):
        lab.sh(f"{program}-restore < {HERE / f'docker-29.{program}'}")


class Beside:
    """Our network with a container that publishes 8081, and Docker's with one that publishes 8080."""

    def __init__(self, lab: Any, load: Any, *, load_first: bool) -> None:
        self.lab = lab
        if load_first:
            load(lab)
        network = lab.network()
        self.ours = lab.container(network, 2, PortMapping(container_port=80, host_port=8081))
        self.theirs = self._docker_container()
        if not load_first:
            load(lab)
        accept_forwarding(lab.kernel, [network.link])
        for space in (self.ours, self.theirs, lab.outside):
            lab.serve(space, 80, 81)

    def _docker_container(self) -> Any:
        space = self.lab.space()
        self.lab.sh(
            f"""
            ip link add brA type bridge; ip addr add 10.60.0.1/24 dev brA; ip addr add fd60::1/64 dev brA nodad
            ip link add vethA type veth peer name eth0 netns {space.path}
            ip link set vethA master brA up; ip link set brA up
            """
        )
        self.lab.sh(
            """
            ip addr add 10.60.0.2/24 dev eth0; ip addr add fd60::2/64 dev eth0 nodad; ip link set eth0 up
            ip link set lo up; ip route add default via 10.60.0.1; ip route add default via fd60::1
            """,
            space,
        )
        return space


@pytest.fixture(params=["ours first", "Docker first"])
def load_first(request: pytest.FixtureRequest) -> bool:
    """Say whether Docker's ruleset is there before ours."""
    return bool(request.param == "Docker first")


@pytest.mark.parametrize("load", [load_nftables, load_iptables], ids=["nftables", "iptables"])
def test_both_sides_publish_and_go_out_and_keep_the_rest_closed(
    lab: Any, load: Any, load_first: bool
) -> None:
    beside = Beside(lab, load, load_first=load_first)
    clients = {"outside": lab.outside, "host": lab.here, "ours": beside.ours, "theirs": beside.theirs}
    ways = {
        "outside → our port": (lab.outside, HOST, 8081),
        "host → our port": (lab.here, HOST, 8081),
        "theirs → our port": (beside.theirs, HOST, 8081),
        "outside → their port": (lab.outside, HOST, 8080),
        "ours → their port": (beside.ours, HOST, 8080),
        "ours → outside": (beside.ours, OUTSIDE, 80),
        "theirs → outside": (beside.theirs, OUTSIDE, 80),
        "host → ours": (lab.here, OURS, 81),
        "host → theirs": (lab.here, THEIRS, 81),
    }
    open_ = {f"{way}, IPv{v}": (c, a[v], port) for way, (c, a, port) in ways.items() for v in (4, 6)}
    closed = {
        f"{who} → {address[v]}:{port}": (clients[who], address[v], port)
        for who, address in (("ours", THEIRS), ("theirs", OURS), ("outside", OURS), ("outside", THEIRS))
        for port in (80, 81)
        for v in (4, 6)
    }

    probes = [*open_.values(), *closed.values()]
    seen = lab.probe_all([(*probe, "tcp") for probe in probes], [*open_, *[""] * len(closed)])

    answered = {name for name, answer in zip((*open_, *closed), seen, strict=True) if answer}
    assert answered == set(open_)
    assert lab.probe(beside.ours, OUTSIDE[4], 80) == HOST[4]
    assert lab.probe(beside.theirs, OUTSIDE[6], 80) == HOST[6]
