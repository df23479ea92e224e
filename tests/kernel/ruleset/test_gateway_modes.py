"""Who reaches whom in each gateway mode, from the host, from outside, from another network and from a neighbour.

Every container, and the machine outside, answers on port 80 and 81 with the address that it was asked from. Port 80
of the container in question is published as port 8080 of the host, port 81 is not. A table says for each asker, by
what it asks, who the container thinks it is; both IP versions, over TCP and over UDP, are asked at once.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from dovetail.model.port import PortMapping

pytestmark = pytest.mark.root

OUTSIDE = {4: "192.0.2.2", 6: "fd00:2::2"}
HOST = {4: "192.0.2.1", 6: "fd00:2::1"}


def at(number: int, last: int) -> dict[int, str]:
    return {4: f"10.88.{number}.{last}", 6: f"fd88:{number}::{last:x}"}


GATEWAY, CONTAINER, NEIGHBOUR, OTHER = at(1, 1), at(1, 2), at(1, 3), at(2, 2)
NOBODY = {4: "", 6: ""}
PORTS = tuple(
    PortMapping(container_port=80, host_port=8080, protocol=kind)  # type: ignore[arg-type]
    for kind in ("tcp", "udp")
)
ASKED = {"host port": (HOST, 8080), "published": (CONTAINER, 80), "unpublished": (CONTAINER, 81)}
EVERYBODY = {"outside", "other", "host", "neighbour"}
by_either_driver = pytest.mark.parametrize("driver", ["bridge", "ptp"], indirect=True)


class Scene:
    """Network 1 with the options in question and two containers, network 2 with the default options and one."""

    def __init__(self, lab: Any, *, internal: bool = False, **options: str) -> None:
        self.lab = lab
        network = lab.network(internal=internal, **options)
        self.inside, self.neighbour = lab.container(network, 2, *PORTS), lab.container(network, 3)
        self.other = lab.container(lab.network(2), 2)
        self.askers = {
            "outside": lab.outside,
            "host": lab.here,
            "other": self.other,
            "neighbour": self.neighbour,
        }
        for space in (self.inside, self.neighbour, lab.outside):
            lab.serve(space, 80, 81)

    def check(
        self,
        wanted: dict[str, dict[str, dict[int, str]]],
        *,
        leaves_as: dict[int, str],
        versions: tuple[int, ...] = (4, 6),
    ) -> None:
        """Compare who asks with `wanted`. leaves_as: who the machine outside thinks the container is."""
        table = {
            f"{who} → {what}, {kind} over IPv{version}": (
                (self.askers[who], ASKED[what][0][version], ASKED[what][1], kind),
                seen[version],
            )
            for who, row in wanted.items()
            for what, seen in row.items()
            for version in versions
            for kind in ("tcp", "udp")
        }
        table |= {
            f"inside → outside, {kind} over IPv{version}": (
                (self.inside, OUTSIDE[version], 80, kind),
                leaves_as[version],
            )
            for version in versions
            for kind in ("tcp", "udp")
        }
        expected = {name: seen for name, (_, seen) in table.items()}
        answers = self.lab.probe_all([probe for probe, _ in table.values()], list(expected.values()))
        assert dict(zip(table, answers, strict=True)) == expected

    def pings(self) -> set[str]:
        """Give who gets an answer from the container to an echo request, the same over both IP versions."""
        four, six = (
            {
                who
                for who, space in self.askers.items()
                if self.lab.pings(space, CONTAINER[version], wait_s=0.3)
            }
            for version in (4, 6)
        )
        assert four == six
        return four


def modes(mode: str) -> dict[str, str]:
    return {"gateway_mode_ipv4": mode, "gateway_mode_ipv6": mode}


@by_either_driver
def test_nat_is_entered_by_published_ports_of_the_host(lab: Any) -> None:
    scene = Scene(lab)

    scene.check(
        {
            "outside": {"host port": OUTSIDE, "published": NOBODY, "unpublished": NOBODY},
            "other": {"host port": OTHER, "published": NOBODY, "unpublished": NOBODY},
            "host": {"host port": HOST, "published": GATEWAY, "unpublished": GATEWAY},
            "neighbour": {"host port": GATEWAY, "published": NEIGHBOUR, "unpublished": NEIGHBOUR},
        },
        leaves_as=HOST,
    )
    assert scene.pings() == {"host", "neighbour"}


def test_nat_unprotected_is_entered_by_every_port_as_well(lab: Any) -> None:
    scene = Scene(lab, **modes("nat-unprotected"))

    scene.check(
        {
            "outside": {"host port": OUTSIDE, "published": OUTSIDE, "unpublished": OUTSIDE},
            "other": {"host port": OTHER, "published": OTHER, "unpublished": OTHER},
        },
        leaves_as=HOST,
    )
    assert scene.pings() == EVERYBODY


@by_either_driver
def test_routed_is_entered_by_published_ports_of_the_containers_own_address(lab: Any) -> None:
    scene = Scene(lab, **modes("routed"))

    scene.check(
        {
            "outside": {"host port": NOBODY, "published": OUTSIDE, "unpublished": NOBODY},
            "other": {"host port": NOBODY, "published": OTHER, "unpublished": NOBODY},
            "host": {"host port": NOBODY, "published": GATEWAY, "unpublished": GATEWAY},
            "neighbour": {"host port": NOBODY, "published": NEIGHBOUR, "unpublished": NEIGHBOUR},
        },
        leaves_as=CONTAINER,
    )
    assert scene.pings() == EVERYBODY


def test_isolated_is_entered_by_nobody_and_not_by_the_host(lab: Any) -> None:
    scene = Scene(lab, internal=True, **modes("isolated"))
    link = "dv-010101010101"
    # who shows the host the way there gets no answer: it has no address that could be asked back at
    lab.sh(f"ip route add 10.88.1.0/24 dev {link}")

    scene.check(
        {
            "outside": {"published": NOBODY, "unpublished": NOBODY},
            "other": {"published": NOBODY, "unpublished": NOBODY},
            "host": {"published": NOBODY, "unpublished": NOBODY},
            "neighbour": {"published": NEIGHBOUR, "unpublished": NEIGHBOUR},
        },
        leaves_as=NOBODY,
    )
    assert scene.pings() == {"neighbour"}
    assert lab.host.ip("addr", "show", "dev", link)[0]["addr_info"] == []


def test_each_family_goes_by_its_own_mode(lab: Any) -> None:
    scene = Scene(lab, gateway_mode_ipv6="routed")

    scene.check({"outside": {"host port": OUTSIDE, "published": NOBODY}}, leaves_as=HOST, versions=(4,))
    scene.check({"outside": {"host port": NOBODY, "published": OUTSIDE}}, leaves_as=CONTAINER, versions=(6,))


@by_either_driver
def test_a_trusted_link_leads_to_published_ports_of_the_containers_own_address(lab: Any) -> None:
    scene = Scene(lab, trusted_host_interfaces="up7:up0")

    scene.check(
        {
            "outside": {"host port": OUTSIDE, "published": OUTSIDE, "unpublished": NOBODY},
            "other": {"published": NOBODY, "unpublished": NOBODY},
        },
        leaves_as=HOST,
    )
    assert scene.pings() == {"host", "neighbour"}


def test_without_masquerade_the_container_is_seen_as_it_is_and_is_closed_all_the_same(lab: Any) -> None:
    scene = Scene(lab, masquerade="false")

    scene.check(
        {"outside": {"host port": OUTSIDE, "published": NOBODY, "unpublished": NOBODY}}, leaves_as=CONTAINER
    )


def test_what_leaves_takes_the_address_of_the_host_that_it_was_given(lab: Any) -> None:
    lab.sh("ip addr add 192.0.2.9/24 dev up0; ip addr add fd00:2::9/64 dev up0 nodad")
    given = {4: "192.0.2.9", 6: "fd00:2::9"}
    scene = Scene(lab, host_ipv4=given[4], host_ipv6=given[6])

    scene.check(
        {
            "outside": {"host port": OUTSIDE, "published": NOBODY},
            "other": {"host port": OTHER},
            "neighbour": {"host port": GATEWAY},
        },
        leaves_as=given,
    )


def test_with_another_machine_as_gateway_the_host_is_none(lab: Any) -> None:
    """``inhibit_ipv4``: the neighbour has the gateway's address, and the way out."""
    scene = Scene(lab, inhibit_ipv4="true")
    lab.sh("ip addr add 10.88.1.1/24 dev eth0; ip addr add 192.0.2.2/32 dev lo", scene.neighbour)

    assert lab.probe(scene.inside, OUTSIDE[4], 80) == CONTAINER[4], "the neighbour plays what is outside"
    assert lab.probe(scene.inside, OUTSIDE[6], 80) == HOST[6], "IPv6 goes by the host"
    assert not lab.pings(lab.here, CONTAINER[4], wait_s=0.5), "the host has no address there"


@pytest.mark.parametrize("version", [4, 6])
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
        intruder.sendto(b"directly", (CONTAINER[version], 4444))
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

    assert lab.probe(lab.here, "127.0.0.1", 8080) == GATEWAY[4]
    assert lab.probe(lab.here, OTHER[4], 80) == at(2, 1)[4]
    asked = [(lab.outside, address, 80, "tcp") for address in (CONTAINER[4], OTHER[4])]
    assert lab.probe_all(asked, ["", ""]) == ["", ""]
    lab.sh(
        """
        ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.1 via 192.0.2.1
        sysctl -q -w net/ipv4/conf/eth0/route_localnet=1
        """,
        lab.outside,
    )
    lab.sh("sysctl -q -w net/ipv4/conf/up0/route_localnet=1")
    with lab.impatient():
        assert not lab.probe(lab.outside, "127.0.0.1", 8080)
