"""What is special of a network without a bridge: each container has a link to itself, and the host is its only neighbour.

What it has in common with one that has a bridge is in the other modules, whose tests run on both.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

pytestmark = pytest.mark.root

OUTSIDE = {4: "192.0.2.2", 6: "fd00:2::2"}
GATEWAY = {4: "10.88.1.1", 6: "fd88:1::1"}
both = pytest.mark.parametrize("version", [4, 6])


@pytest.fixture
def driver() -> str:
    return "ptp"


def at(number: int, last: int, version: int) -> str:
    return f"10.88.{number}.{last}" if version == 4 else f"fd88:{number}::{last:x}"


def ping(version: int) -> str:
    return f"ping -{version} -c1 -W5"


@both
def test_neighbours_are_reached_by_the_host_only(lab: Any, version: int) -> None:
    network = lab.network()
    one, other = lab.container(network, 2), lab.container(network, 3)

    lab.sh(f"{ping(version)} {at(1, 3, version)}", one)

    known = lab.sh(f"ip -{version} neigh show dev eth0 | cut -d' ' -f1", one).split()
    assert [address for address in known if not address.startswith("fe80:")] == [GATEWAY[version]]
    assert lab.ask(other, at(1, 2, version), 80, one) == at(1, 3, version), "seen as it is"


def hears(lab: Any, listener: Any, address: str, speaker: Any, source: str) -> bool:
    """Say whether a datagram that `speaker` sends from `source` arrives; an answer would go to somebody else."""
    version = ip_address(address).version
    with listener.socket(version, "udp") as ear, speaker.socket(version, "udp") as mouth:
        ear.bind((address, 80))
        ear.settimeout(0.5)
        mouth.bind((source, 0))
        mouth.sendto(b"hello", (address, 80))
        try:
            return bool(ear.recv(16))
        except TimeoutError:
            return False


@both
def test_nobody_speaks_with_an_address_that_is_not_its_own(lab: Any, version: int) -> None:
    network, shut = lab.network(), lab.network(2, internal=True)
    liar, victim, jailed = lab.container(network, 2), lab.container(network, 3), lab.container(shut, 2)
    lab.sh(f"ip -{version} route add default via {at(2, 1, version)}", jailed)
    assert hears(lab, victim, at(1, 3, version), liar, at(1, 2, version))

    length = "32" if version == 4 else "128 nodad"
    for source in (at(1, 99, version), at(2, 2, version), OUTSIDE[version]):
        lab.sh(f"ip addr add {source}/{length} dev eth0", liar)
        assert not hears(lab, victim, at(1, 3, version), liar, source), source
    for source in (at(1, 3, version), at(1, 99, version)):
        lab.sh(f"ip addr add {source}/{length} dev eth0", jailed)
        assert not hears(lab, lab.outside, OUTSIDE[version], jailed, source), "of a network that may leave"


@both
def test_what_no_container_has_is_unreachable_and_does_not_leave_the_host(lab: Any, version: int) -> None:
    network = lab.network(masquerade="false")
    one = lab.container(network, 2)
    lab.sh(f"ip -{version} route add default via {OUTSIDE[version]} dev up0")

    said = lab.sh(f"{ping(version)} {at(1, 77, version)} || true", one)
    from_outside = lab.sh(f"{ping(version)} {at(1, 77, version)} || true", lab.outside)

    assert "nreachable" in said, said
    assert at(1, 1, version) in said, "the host says so"
    assert "nreachable" in from_outside or "filtered" in from_outside, from_outside


@both
def test_networks_with_and_without_a_bridge_are_apart_and_reach_published_ports(
    lab: Any, version: int
) -> None:
    mine, other = lab.container(lab.network(), 2), lab.container(lab.network(2), 2)
    lab.driver = "bridge"
    bridged = lab.container(lab.network(3), 2)
    opened = lab.container(lab.network(4, protected="false"), 2)

    assert lab.refused(mine, at(2, 2, version), 80, other)
    assert lab.refused(mine, at(3, 2, version), 80, bridged)
    assert lab.refused(bridged, at(1, 2, version), 80, mine)
    assert lab.ask(mine, at(4, 2, version), 80, opened) == at(1, 2, version)


@both
def test_a_container_that_comes_back_is_reached_again(lab: Any, version: int) -> None:
    network = lab.network()
    neighbour = lab.container(network, 3)
    for _ in range(2):
        one = lab.container(network, 2)
        assert lab.pings(neighbour, at(1, 2, version))
        lab.leave(one)
    assert not lab.pings(neighbour, at(1, 2, version), wait_s=0.5)
