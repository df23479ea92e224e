"""The ruleset and the bridge driver on the real kernel, with real packets.

The driver and the features run on `LinuxKernel`; some tests run on a `RecordingKernel` as well, whose
commands are carried out: so they say that a command equals the verb. Host, containers and a client
outside are namespaces::

    outside (192.0.2.2, fd00:2::2) ── up0 host ── dv-… ── containers (10.88.N.x, fd88:N::x)
"""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest

from dovetail.features.ruleset import RULESET, ruleset
from dovetail.model.port import PortMapping

pytestmark = pytest.mark.root


def published(port: int = 8080, to: int = 80, *, protocol: str = "tcp", host_ip: str = "") -> PortMapping:
    return PortMapping(
        container_port=to,
        host_port=port,
        protocol=protocol,  # type: ignore[arg-type]
        host_ip=ip_address(host_ip) if host_ip else None,
    )


def wait_for(condition: Callable[[], object], *, timeout_s: float = 10.0, what: str = "") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


OUTSIDE = {4: "192.0.2.2", 6: "fd00:2::2"}
HOST = {4: "192.0.2.1", 6: "fd00:2::1"}
GATEWAY = {4: "10.88.1.1", 6: "fd88:1::1"}


def at(number: int, last: int, version: int) -> str:
    return f"10.88.{number}.{last}" if version == 4 else f"fd88:{number}::{last:x}"


both = pytest.mark.parametrize("version", [4, 6])
kinds = pytest.mark.parametrize("kind", ["tcp", "udp"])
by_either_driver = pytest.mark.parametrize("driver", ["bridge", "ptp"], indirect=True)
by_commands_too = pytest.mark.parametrize("lab", ["linux", "commands"], indirect=True)


@by_either_driver
@both
@kinds
def test_who_leaves_a_network_takes_the_hosts_address(lab: Any, version: int, kind: str) -> None:
    inside = lab.container(lab.network(), 2)

    assert lab.ask(inside, OUTSIDE[version], 80, lab.outside, kind=kind) == HOST[version]


@by_commands_too
@both
def test_without_masquerade_the_container_is_seen_as_it_is(lab: Any, version: int) -> None:
    inside = lab.container(lab.network(masquerade="false"), 2)

    assert lab.ask(inside, OUTSIDE[version], 80, lab.outside) == at(1, 2, version)


@both
@pytest.mark.parametrize("frames_to_firewall", [False, True])
def test_what_a_neighbour_routes_on_has_not_left_and_is_seen_as_it_is(
    lab: Any, version: int, frames_to_firewall: bool
) -> None:
    lab.hand_frames_to_firewall(on=frames_to_firewall)
    network = lab.network()
    inside, router = lab.container(network, 2), lab.container(network, 3)
    beyond, length = ("198.51.100.1", 32) if version == 4 else ("2001:db8::1", 128)
    lab.sh(f"ip addr add {beyond}/{length} dev lo", router)
    lab.sh(f"ip route add {beyond}/{length} via {at(1, 3, version)}", inside)

    assert lab.ask(inside, beyond, 80, router) == at(1, 2, version)


@by_commands_too
def test_a_protected_network_is_reached_by_published_ports_only(lab: Any) -> None:
    inside = lab.container(lab.network(), 2, published())

    assert lab.refused(lab.outside, at(1, 2, 4), 80, inside)
    assert lab.ask(lab.outside, HOST[4], 8080, inside) == OUTSIDE[4]


@by_either_driver
@both
@kinds
@pytest.mark.parametrize("frames_to_firewall", [False, True])
def test_a_published_port_is_reached_from_everywhere(
    lab: Any, version: int, kind: str, frames_to_firewall: bool
) -> None:
    lab.hand_frames_to_firewall(on=frames_to_firewall)
    network = lab.network()
    inside = lab.container(network, 2, published(protocol=kind))
    neighbour = lab.container(network, 3)

    assert lab.ask(lab.outside, HOST[version], 8080, inside, kind=kind) == OUTSIDE[version]
    assert lab.ask(lab.here, HOST[version], 8080, inside, kind=kind) == HOST[version]
    assert lab.ask(neighbour, HOST[version], 8080, inside, kind=kind) == GATEWAY[version]
    assert lab.ask(neighbour, GATEWAY[version], 8080, inside, kind=kind) == GATEWAY[version]
    assert lab.ask(inside, HOST[version], 8080, inside, kind=kind) == GATEWAY[version], "hairpin"


@by_either_driver
@kinds
def test_a_published_port_is_reached_on_the_hosts_loopback(lab: Any, kind: str) -> None:
    inside = lab.container(lab.network(), 2, published(protocol=kind))

    assert lab.ask(lab.here, "127.0.0.1", 8080, inside, kind=kind) == GATEWAY[4]


@by_commands_too
def test_a_port_of_one_address_goes_before_one_of_all_and_is_not_on_others(lab: Any) -> None:
    network = lab.network()
    general = lab.container(network, 2, published(8080))
    special = lab.container(network, 3, published(8080, host_ip=HOST[4]), published(9090, host_ip=HOST[6]))
    local = lab.container(network, 4, published(7070, host_ip="127.0.0.1"))

    assert lab.ask(lab.outside, HOST[4], 8080, special) == OUTSIDE[4]
    assert lab.ask(lab.here, "127.0.0.1", 8080, general)
    assert lab.ask(lab.outside, HOST[6], 8080, general) == OUTSIDE[6]
    assert lab.ask(lab.outside, HOST[6], 9090, special) == OUTSIDE[6]
    assert lab.ask(lab.here, "127.0.0.1", 7070, local)
    assert lab.refused(lab.outside, HOST[4], 7070, local)
    assert lab.refused(lab.outside, HOST[4], 9090, special)


@by_commands_too
def test_a_port_that_is_withdrawn_leads_nowhere(lab: Any) -> None:
    network = lab.network()
    first = lab.container(network, 2, published())
    assert lab.ask(lab.outside, HOST[4], 8080, first)

    lab.leave(first)
    second = lab.container(network, 3, published())

    assert lab.ask(lab.outside, HOST[4], 8080, second) == OUTSIDE[4]
    lab.leave(second)
    assert not [e for e in lab.host.nft("list", "map", "inet", "dovetail", "publish4") if "elem" in str(e)]


@by_either_driver
@both
def test_an_internal_network_is_entered_and_left_by_nobody_but_the_host(lab: Any, version: int) -> None:
    closed = lab.network(internal=True)
    inside, neighbour = lab.container(closed, 2), lab.container(closed, 3)
    other = lab.container(lab.network(2, protected="false"), 2)
    assert "default" not in lab.sh("ip route; ip -6 route", inside)
    lab.sh(f"ip route add default via {GATEWAY[version]}", inside)

    assert lab.refused(inside, OUTSIDE[version], 80, lab.outside)
    assert lab.refused(lab.outside, at(1, 2, version), 80, inside)
    assert lab.refused(inside, at(2, 2, version), 80, other)
    assert lab.refused(other, at(1, 2, version), 80, inside)
    assert lab.ask(inside, at(1, 3, version), 80, neighbour) == at(1, 2, version)
    assert lab.ask(lab.here, at(1, 2, version), 80, inside) == GATEWAY[version]


@by_either_driver
@both
def test_without_icc_neighbours_reach_published_ports_only(lab: Any, version: int) -> None:
    lab.hand_frames_to_firewall(on=False)
    network = lab.network(icc="false")
    one, other = lab.container(network, 2), lab.container(network, 3, published())
    target = at(1, 3, version)
    assert not lab.pings(one, target, wait_s=0.5), "the bridge carried it"

    length = 32 if version == 4 else 128
    lab.sh(f"ip route add {target}/{length} via {GATEWAY[version]}", one)

    assert not lab.pings(one, target, wait_s=0.5), "the host carried it"
    assert lab.refused(one, target, 80, other)
    assert lab.ask(one, HOST[version], 8080, other) == GATEWAY[version]
    assert lab.ask(one, OUTSIDE[version], 80, lab.outside) == HOST[version]


@both
def test_without_icc_frames_stay_apart_where_the_bridge_hands_them_to_the_firewall(
    lab: Any, version: int
) -> None:
    lab.hand_frames_to_firewall(on=True)
    network = lab.network(icc="false")
    one, other = lab.container(network, 2), lab.container(network, 3, published())

    assert not lab.pings(one, at(1, 3, version), wait_s=0.5)
    assert lab.refused(one, at(1, 3, version), 80, other)
    assert lab.ask(lab.outside, HOST[version], 8080, other) == OUTSIDE[version]


def test_hairpin_does_not_make_duplicate_addresses(lab: Any) -> None:
    inside = lab.container(lab.network(), 2)

    wait_for(lambda: "tentative" not in lab.sh("ip -6 addr show dev eth0", inside), what="DAD ends")

    assert "dadfailed" not in lab.sh("ip -6 addr show dev eth0", inside)


@both
def test_with_icc_neighbours_reach_each_other(lab: Any, version: int) -> None:
    network = lab.network()
    one, other = lab.container(network, 2), lab.container(network, 3)

    assert lab.pings(one, at(1, 3, version))
    assert lab.ask(one, at(1, 3, version), 80, other) == at(1, 2, version)


@both
def test_icmp_and_its_errors_pass(lab: Any, version: int) -> None:
    inside = lab.container(lab.network(), 2)

    assert lab.pings(inside, OUTSIDE[version])
    with inside.socket(version, "udp") as asking:
        asking.settimeout(lab.patience_s)
        asking.connect((OUTSIDE[version], 7))
        asking.send(b"nobody listens")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(1)


@by_either_driver
def test_nobody_on_a_network_reaches_or_imitates_the_hosts_loopback(lab: Any) -> None:
    inside = lab.container(lab.network(), 2)
    lab.sh(
        """
        ip link set lo down; ip addr del 127.0.0.1/8 dev lo
        sysctl -q -w net/ipv4/conf/eth0/route_localnet=1; ip route add 127.0.0.1 via 10.88.1.1
        """,
        inside,
    )

    assert lab.refused(inside, "127.0.0.1", 5432, lab.here, listen=5432, bind="127.0.0.1")
    lab.sh("nft flush chain inet dovetail guard")
    assert lab.ask(inside, "127.0.0.1", 5432, lab.here, listen=5432, bind="127.0.0.1"), (
        "the guard was not needed"
    )


@by_commands_too
def test_applying_the_ruleset_again_replaces_it(lab: Any) -> None:
    lab.network()
    lab.kernel.nft_apply(RULESET)
    lab.carry_out()

    tables = [entry for entry in lab.host.nft("list", "ruleset") if "table" in entry]
    assert len(tables) == 1
    assert not [e for e in lab.host.nft("list", "set", "inet", "dovetail", "bridges") if "elem" in str(e)]


@both
def test_the_users_rules_come_first_and_a_drop_of_theirs_is_final(lab: Any, version: int) -> None:
    inside = lab.container(lab.network(), 2, published(), published(protocol="udp"))
    closed = lab.container(lab.network(2, internal=True), 2)
    for space in (inside, closed):
        lab.serve(space, 80, 81)
    lab.serve(lab.outside, 80)
    ask = lab.probe
    for kind in ("tcp", "udp"):
        assert ask(lab.outside, HOST[version], 8080, kind) == OUTSIDE[version]
    lab.kernel.flush_conntrack("udp")

    ip = "ip" if version == 4 else "ip6"
    rules = f"""
        {ip} saddr {OUTSIDE[version]} tcp dport 80 drop
        # a port that is not published, for those who have a route to it
        {ip} saddr {OUTSIDE[version]} tcp dport 81 accept
        iifname @internal {ip} daddr {OUTSIDE[version]} accept
        meta l4proto udp ct original proto-dst 8080 drop
    """
    lab.kernel.nft_apply(ruleset(rules), lab.kernel.nft_elements())
    assert ask(lab.outside, at(1, 2, version), 81) == OUTSIDE[version], "early accept"
    with lab.impatient():
        assert not ask(lab.outside, HOST[version], 8080), "drop, by the port behind the translation"
        assert not ask(lab.outside, HOST[version], 8080, "udp"), "by the one before it"
        assert not ask(lab.outside, at(1, 2, version), 80)
    lab.sh(f"ip route add default via {at(2, 1, version)}", closed)
    assert ask(closed, OUTSIDE[version], 80) == at(2, 2, version), "out of an internal network"


@by_commands_too
def test_sctp_ports_fit_the_maps(lab: Any) -> None:
    lab.container(lab.network(), 2, published(protocol="sctp"))

    assert "sctp . 8080 : 10.88.1.2 . 80" in lab.host.run(
        "nft", "list", "map", "inet", "dovetail", "publish4"
    )


@both
def test_frames_that_the_bridge_hands_to_the_firewall_pass_within_a_network(lab: Any, version: int) -> None:
    lab.hand_frames_to_firewall(on=True)
    network = lab.network()
    one, other = lab.container(network, 2, published()), lab.container(network, 3)

    assert lab.ask(one, at(1, 3, version), 80, other) == at(1, 2, version)
    assert lab.ask(other, HOST[version], 8080, one) == GATEWAY[version]
