"""Who reaches whom in each gateway mode, from the host, from outside, from another network and from a neighbour.

Every container, and the machine outside, answers on port 80 and 81 with the address that it was asked from. Port 80
of the container in question is published as port 8080 of the host, port 81 is not.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from dovetail.model.port import PortMapping

pytestmark = pytest.mark.root

OUTSIDE = {4: "192.0.2.2", 6: "fd00:2::2"}
HOST = {4: "192.0.2.1", 6: "fd00:2::1"}
PORTS = tuple(
    PortMapping(container_port=80, host_port=8080, protocol=kind)  # type: ignore[arg-type]
    for kind in ("tcp", "udp")
)
NO = ""
both = pytest.mark.parametrize("version", [4, 6])


def at(number: int, last: int, version: int) -> str:
    return f"10.88.{number}.{last}" if version == 4 else f"fd88:{number}::{last:x}"


class Scene:
    """Network 1 with the options in question and two containers, network 2 with the default options and one."""

    def __init__(self, lab: Any, *, internal: bool = False, **options: str) -> None:
        self.lab = lab
        network = lab.network(internal=internal, **options)
        self.inside, self.neighbour = lab.container(network, 2, *PORTS), lab.container(network, 3)
        self.other = lab.container(lab.network(2), 2)
        for space in (self.inside, self.neighbour, lab.outside):
            lab.serve(space, 80, 81)

    def check(self, version: int, wanted: dict[str, dict[str, str]], *, leaves_as: str) -> None:
        """Compare who the container thinks has asked it (`NO`: nobody) with `wanted`, over TCP and over UDP.

        wanted: for each asker, by what it asks: a port of the host, a published and an unpublished port of the
        container's own address. leaves_as: who the machine outside thinks the container is.
        """
        lab, own = self.lab, at(1, 2, version)
        askers = {"outside": lab.outside, "host": lab.here, "other": self.other, "neighbour": self.neighbour}
        asked = {"host port": (HOST[version], 8080), "published": (own, 80), "unpublished": (own, 81)}
        table = [
            (f"{who} → {what}, {kind}", (askers[who], *asked[what], kind), want)
            for who, row in wanted.items()
            for what, want in row.items()
            for kind in ("tcp", "udp")
        ]
        table += [
            (f"inside → outside, {kind}", (self.inside, OUTSIDE[version], 80, kind), leaves_as)
            for kind in ("tcp", "udp")
        ]
        names, probes, expected = zip(*table, strict=True)
        seen = lab.probe_all(probes, expected)
        assert dict(zip(names, seen, strict=True)) == dict(zip(names, expected, strict=True))

    def pings(self, version: int) -> set[str]:
        """Give who gets an answer from the container to an echo request."""
        lab, own = self.lab, at(1, 2, version)
        askers = {"outside": lab.outside, "host": lab.here, "other": self.other, "neighbour": self.neighbour}
        return {who for who, space in askers.items() if lab.pings(space, own, wait_s=0.5)}


def modes(mode: str) -> dict[str, str]:
    return {"gateway_mode_ipv4": mode, "gateway_mode_ipv6": mode}


@both
def test_nat_is_entered_by_published_ports_of_the_host(lab: Any, version: int) -> None:
    scene = Scene(lab)
    gateway, other, neighbour = at(1, 1, version), at(2, 2, version), at(1, 3, version)

    scene.check(
        version,
        {
            "outside": {"host port": OUTSIDE[version], "published": NO, "unpublished": NO},
            "other": {"host port": other, "published": NO, "unpublished": NO},
            "host": {"host port": HOST[version], "published": gateway, "unpublished": gateway},
            "neighbour": {"host port": gateway, "published": neighbour, "unpublished": neighbour},
        },
        leaves_as=HOST[version],
    )
    assert scene.pings(version) == {"host", "neighbour"}


@both
def test_nat_unprotected_is_entered_by_every_port_as_well(lab: Any, version: int) -> None:
    scene = Scene(lab, **modes("nat-unprotected"))
    outside, other = OUTSIDE[version], at(2, 2, version)

    scene.check(
        version,
        {
            "outside": {"host port": outside, "published": outside, "unpublished": outside},
            "other": {"host port": other, "published": other, "unpublished": other},
        },
        leaves_as=HOST[version],
    )
    assert scene.pings(version) == {"outside", "other", "host", "neighbour"}


@both
def test_routed_is_entered_by_published_ports_of_the_containers_own_address(lab: Any, version: int) -> None:
    scene = Scene(lab, **modes("routed"))
    gateway, other, neighbour = at(1, 1, version), at(2, 2, version), at(1, 3, version)

    scene.check(
        version,
        {
            "outside": {"host port": NO, "published": OUTSIDE[version], "unpublished": NO},
            "other": {"host port": NO, "published": other, "unpublished": NO},
            "host": {"host port": NO, "published": gateway, "unpublished": gateway},
            "neighbour": {"host port": NO, "published": neighbour, "unpublished": neighbour},
        },
        leaves_as=at(1, 2, version),
    )
    assert scene.pings(version) == {"outside", "other", "host", "neighbour"}


@both
def test_isolated_is_entered_by_nobody_and_not_by_the_host(lab: Any, version: int) -> None:
    scene = Scene(lab, internal=True, **modes("isolated"))
    neighbour = at(1, 3, version)
    link = "dv-010101010101"
    if (
        version == 4
    ):  # who shows the host the way there gets no answer: it has no address that could be asked back
        lab.sh(f"ip route add 10.88.1.0/24 dev {link}")

    scene.check(
        version,
        {
            "outside": {"published": NO, "unpublished": NO},
            "other": {"published": NO, "unpublished": NO},
            "host": {"published": NO, "unpublished": NO},
            "neighbour": {"published": neighbour, "unpublished": neighbour},
        },
        leaves_as=NO,
    )
    assert scene.pings(version) == {"neighbour"}
    assert lab.host.ip("addr", "show", "dev", link)[0]["addr_info"] == []


def test_each_family_goes_by_its_own_mode(lab: Any) -> None:
    scene = Scene(lab, gateway_mode_ipv6="routed")

    scene.check(4, {"outside": {"host port": OUTSIDE[4], "published": NO}}, leaves_as=HOST[4])
    scene.check(6, {"outside": {"host port": NO, "published": OUTSIDE[6]}}, leaves_as=at(1, 2, 6))


@both
def test_a_trusted_link_leads_to_published_ports_of_the_containers_own_address(
    lab: Any, version: int
) -> None:
    scene = Scene(lab, trusted_host_interfaces="up7:up0")

    scene.check(
        version,
        {
            "outside": {"host port": OUTSIDE[version], "published": OUTSIDE[version], "unpublished": NO},
            "other": {"published": NO, "unpublished": NO},
        },
        leaves_as=HOST[version],
    )
    assert scene.pings(version) == {"host", "neighbour"}


@both
def test_without_masquerade_the_container_is_seen_as_it_is_and_is_closed_all_the_same(
    lab: Any, version: int
) -> None:
    scene = Scene(lab, masquerade="false")

    scene.check(
        version,
        {"outside": {"host port": OUTSIDE[version], "published": NO, "unpublished": NO}},
        leaves_as=at(1, 2, version),
    )


@both
def test_what_leaves_takes_the_address_of_the_host_that_it_was_given(lab: Any, version: int) -> None:
    lab.sh("ip addr add 192.0.2.9/24 dev up0; ip addr add fd00:2::9/64 dev up0 nodad")
    given = {4: "192.0.2.9", 6: "fd00:2::9"}
    scene = Scene(lab, host_ipv4=given[4], host_ipv6=given[6])
    gateway, other = at(1, 1, version), at(2, 2, version)

    scene.check(
        version,
        {
            "outside": {"host port": OUTSIDE[version], "published": NO},
            "other": {"host port": other},
            "neighbour": {"host port": gateway},
        },
        leaves_as=given[version],
    )


def test_with_another_machine_as_gateway_the_host_is_none(lab: Any) -> None:
    """``inhibit_ipv4``: the neighbour has the gateway's address, and the way out."""
    scene = Scene(lab, inhibit_ipv4="true")
    lab.sh("ip addr add 10.88.1.1/24 dev eth0; ip addr add 192.0.2.2/32 dev lo", scene.neighbour)
    assert lab.probe(scene.inside, OUTSIDE[4], 80) == at(1, 2, 4), "the neighbour plays what is outside"
    assert lab.probe(scene.inside, OUTSIDE[6], 80) == HOST[6], "IPv6 goes by the host"
    assert not lab.pings(lab.here, at(1, 2, 4), wait_s=0.5), "the host has no address there"


@both
def test_packets_for_a_container_that_come_from_outside_are_no_answers_of_anybodys(
    lab: Any, version: int
) -> None:
    """A flow that the container began goes by the host's address; who guesses it and asks directly is new."""
    scene = Scene(lab)
    with scene.inside.socket(version, "udp") as asking, lab.outside.socket(version, "udp") as intruder:
        intruder.bind(("", 5353))
        asking.settimeout(0.5)
        asking.bind(("", 4444))
        asking.connect((OUTSIDE[version], 5353))
        asking.send(b"question")
        question, peer = intruder.recvfrom(16)
        intruder.sendto(b"directly", (at(1, 2, version), 4444))
        with pytest.raises(TimeoutError):
            asking.recv(16)
        intruder.sendto(b"answer", peer)
        asking.settimeout(lab.patience_s)
        assert (question, asking.recv(16)) == (b"question", b"answer")


def test_ports_that_are_the_hosts_own_are_opened_to_nobody_else(lab: Any) -> None:
    local = PortMapping(container_port=80, host_port=8080, host_ip=ip_address("127.0.0.1"))
    translated = lab.container(lab.network(1, trusted_host_interfaces="up0"), 2, local)
    routed = lab.container(lab.network(2, gateway_mode_ipv4="routed"), 2, local)
    for space in (translated, routed):
        lab.serve(space, 80)

    assert lab.probe(lab.here, "127.0.0.1", 8080) == at(1, 1, 4)
    assert lab.probe(lab.here, at(2, 2, 4), 80) == at(2, 1, 4)
    with lab.impatient():
        assert not lab.probe(lab.outside, at(1, 2, 4), 80)
        assert not lab.probe(lab.outside, at(2, 2, 4), 80)
    lab.sh(
        "ip route add 127.0.0.1 via 192.0.2.1; sysctl -q -w net/ipv4/conf/eth0/route_localnet=1", lab.outside
    )
    lab.sh("ip addr del 127.0.0.1/8 dev lo", lab.outside)
    lab.sh("sysctl -q -w net/ipv4/conf/up0/route_localnet=1")
    with lab.impatient():
        assert not lab.probe(lab.outside, "127.0.0.1", 8080)
