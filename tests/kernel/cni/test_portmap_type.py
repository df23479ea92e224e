"""Type ``portmap``: transfers to published ports, from wherever they may come."""

from __future__ import annotations

import socket
import subprocess
from typing import Any

import pytest

pytestmark = pytest.mark.root

either_way = pytest.mark.parametrize("site", ["daemon", "alone"], indirect=True)
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def chain(node: Any, *, bridge: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    return dict(node.chain(node.bridge(hairpinMode=True, ipMasq=True, **(bridge or {})), {**PORTMAP, **keys}))


def mapping(outer: int, inner: int, protocol: str = "tcp", host_ip: str = "") -> dict[str, Any]:
    given = {"hostPort": outer, "containerPort": inner, "protocol": protocol}
    return {**given, "hostIP": host_ip} if host_ip else given


def has_sctp() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132).close()
    except OSError:
        return False
    return True


@either_way
@pytest.mark.parametrize("protocol", ["tcp", "udp", "sctp"])
@pytest.mark.cni(51)
def test_a_port_is_reached_from_outside_the_host_and_its_containers(node: Any, protocol: str) -> None:
    if protocol == "sctp" and not has_sctp():
        pytest.skip("the kernel has no SCTP sockets")
    outside = node.outside()
    conflist = chain(node)
    node.add(conflist, "c1", portMappings=[mapping(8080, 80, protocol.upper())])
    node.add(conflist, "c2")
    own, own6 = (a.partition("/")[0] for a in node.addresses("c1"))

    with node.serving(node.inside("c1"), 80, protocol, name="c1"):
        assert node.ask("192.0.2.1", 8080, protocol, where=outside) == "c1 192.0.2.2"
        assert node.ask("2001:db8::1", 8080, protocol, where=outside) == "c1 2001:db8::2"
        assert node.ask("192.0.2.1", 8080, protocol).startswith("c1 ")
        assert node.ask("127.0.0.1", 8080, protocol).startswith("c1 ")
        assert node.ask("10.50.0.1", 8080, protocol, where=node.inside("c2")).startswith("c1 ")
        assert node.ask("192.0.2.1", 8080, protocol, where=node.inside("c2")).startswith("c1 ")
        assert node.ask("2001:db8::1", 8080, protocol, where=node.inside("c2")).startswith("c1 ")
        assert node.ask("192.0.2.1", 8080, protocol, where=node.inside("c1")).startswith("c1 ")  # hairpin
        assert node.ask("2001:db8::1", 8080, protocol, where=node.inside("c1")).startswith("c1 ")
        assert node.ask(own, 80, protocol).startswith("c1 ")
        assert node.ask(own6, 80, protocol).startswith("c1 ")
        node.check(conflist, "c1")
        node.delete(conflist, "c1")
        assert node.ask("192.0.2.1", 8080, protocol, where=outside, patience_s=0.5) == ""


def test_each_protocol_has_its_own_ports(node: Any) -> None:
    conflist = chain(node)
    node.add(conflist, "c1", portMappings=[mapping(8080, 80, "tcp")])
    node.add(conflist, "c2", portMappings=[mapping(8080, 80, "udp")])

    with (
        node.serving(node.inside("c1"), 80, "tcp", name="c1"),
        node.serving(node.inside("c2"), 80, "udp", name="c2"),
    ):
        assert node.ask("127.0.0.1", 8080, "tcp").startswith("c1 ")
        assert node.ask("127.0.0.1", 8080, "udp").startswith("c2 ")


@pytest.mark.parametrize(
    ("host_ip", "reached"),
    [
        ("", {"192.0.2.1", "192.0.2.9", "127.0.0.1", "2001:db8::1"}),
        ("0.0.0.0", {"192.0.2.1", "192.0.2.9", "127.0.0.1"}),
        ("::", {"2001:db8::1"}),
        ("192.0.2.9", {"192.0.2.9"}),
        ("127.0.0.1", {"127.0.0.1"}),
        ("2001:db8::1", {"2001:db8::1"}),
    ],
)
def test_a_port_of_one_address_of_the_host(node: Any, host_ip: str, reached: set[str]) -> None:
    node.outside()
    node.host.run("ip", "addr", "add", "192.0.2.9/24", "dev", "wan")
    conflist = chain(node)
    node.add(conflist, portMappings=[mapping(8080, 80, "tcp", host_ip)])

    with node.serving(node.inside("c1"), 80, name="c1"):
        everywhere = ("192.0.2.1", "192.0.2.9", "127.0.0.1", "2001:db8::1")
        found = {a for a in everywhere if node.ask(a, 8080, patience_s=3 if a in reached else 0.5)}
    assert found == reached
    node.check(conflist)


def test_containers_share_a_port_by_addresses_of_the_host(node: Any) -> None:
    node.outside()
    node.host.run("ip", "addr", "add", "192.0.2.9/24", "dev", "wan")
    conflist = chain(node)
    node.add(conflist, "c1", portMappings=[mapping(8080, 80, "tcp", "192.0.2.1")])
    node.add(conflist, "c2", portMappings=[mapping(8080, 80, "tcp", "192.0.2.9")])

    with node.serving(node.inside("c1"), 80, name="c1"), node.serving(node.inside("c2"), 80, name="c2"):
        assert node.ask("192.0.2.1", 8080).startswith("c1 ")
        assert node.ask("192.0.2.9", 8080).startswith("c2 ")
    clash = node.refused(lambda: node.add(conflist, "c3", portMappings=[mapping(8080, 80)]))
    assert clash.code == 103


def test_a_family_that_the_container_has_not_is_left_out(node: Any) -> None:
    conflist = node.chain(node.bridge("10.50.0.0/24"), PORTMAP)
    node.add(conflist, portMappings=[mapping(8080, 80, "tcp", "::"), mapping(8081, 80)])

    assert not [one for one in node.elements() if one.startswith("publish6")]
    with node.serving(node.inside("c1"), 80, name="c1"):
        assert node.ask("127.0.0.1", 8081).startswith("c1 ")
    node.check(conflist)


@pytest.mark.parametrize("count", [1, 15, 16, 200])
def test_any_number_of_ports(node: Any, count: int) -> None:
    conflist = chain(node)
    node.add(conflist, portMappings=[mapping(20000 + n, 80) for n in range(count)])

    with node.serving(node.inside("c1"), 80, name="c1"):
        assert node.ask("127.0.0.1", 20000 + count - 1).startswith("c1 ")
    node.check(conflist)


def test_the_same_port_twice_is_one_and_two_ends_of_one_are_refused(node: Any) -> None:
    conflist = chain(node)
    node.add(conflist, "c1", portMappings=[mapping(8080, 80), mapping(8080, 80)])
    node.check(conflist, "c1")

    error = node.refused(
        lambda: node.add(conflist, "c2", portMappings=[mapping(9090, 80), mapping(9090, 81)])
    )
    assert error.code == 103


def test_without_snat_neighbours_ask_for_themselves(node: Any) -> None:
    conflist = chain(node, snat=False)
    node.outside()
    node.add(conflist, "c1", portMappings=[mapping(8080, 80)])

    assert not [one for one in node.elements() if one.startswith("reached")]
    assert node.host.run("sysctl", "-n", "net.ipv4.conf.br0.route_localnet").strip() == "0"
    with node.serving(node.inside("c1"), 80, name="c1"):
        assert node.ask("192.0.2.1", 8080, where=node.inside("outside")) == "c1 192.0.2.2"


def test_with_masq_all_everybody_is_seen_as_the_host(node: Any) -> None:
    outside = node.outside()
    node.add(chain(node, masqAll=True), portMappings=[mapping(8080, 80)])

    with node.serving(node.inside("c1"), 80, name="c1"):
        assert node.ask("192.0.2.1", 8080, where=outside) == "c1 10.50.0.1"
        assert node.ask("2001:db8::1", 8080, where=outside) == "c1 fd50::1"


def test_loopback_leads_by_the_bridge_while_somebody_is_there(node: Any) -> None:
    conflist = chain(node)
    key = "net.ipv4.conf.br0.route_localnet"
    node.add(conflist, "c1", portMappings=[mapping(8080, 80)])
    node.add(conflist, "c2", portMappings=[mapping(8081, 80)])
    node.delete(conflist, "c1")
    assert node.host.run("sysctl", "-n", key).strip() == "1"

    node.delete(conflist, "c2")

    assert node.host.run("sysctl", "-n", key).strip() == "0"


@pytest.mark.cni(51)
def test_a_flow_of_udp_follows_the_port(node: Any) -> None:
    """Conntrack would send what a client goes on sending to the container that had the port, or to nobody."""
    outside = node.outside()
    conflist = chain(node)
    assert (
        node.ask("192.0.2.1", 8053, "udp", where=outside, source=4444, patience_s=0.2) == ""
    )  # a flow to the host
    node.add(conflist, "c1", portMappings=[mapping(8053, 53, "udp")])
    with node.serving(node.inside("c1"), 53, "udp", name="c1"):
        assert node.ask("192.0.2.1", 8053, "udp", where=outside, source=4444).startswith("c1 ")

    node.delete(conflist, "c1")

    flows = subprocess.run(
        ["conntrack", "-L", "-p", "udp"], capture_output=True, text=True, check=False
    ).stdout
    assert "dport=8053" not in flows
    node.add(conflist, "c2", portMappings=[mapping(8053, 53, "udp")])
    with node.serving(node.inside("c2"), 53, "udp", name="c2"):
        assert node.ask("192.0.2.1", 8053, "udp", where=outside, source=4444).startswith("c2 ")


@pytest.mark.parametrize(
    "wrong",
    [
        {"hostPort": -1, "containerPort": 80},
        {"hostPort": 70000, "containerPort": 80},
        {"hostPort": 8080},
        {"hostPort": 8080, "containerPort": 0},
        {"hostPort": 8080, "containerPort": 80, "protocol": "icmp"},
        {"hostPort": 8080, "containerPort": 80, "hostIP": "x"},
        {"hostPort": "8080", "containerPort": 80},
        {"hostPort": 8080.5, "containerPort": 80},
        "8080:80",
        None,
    ],
)
def test_a_mapping_that_cannot_be_is_refused(node: Any, wrong: Any) -> None:
    before = node.state("c1")

    error = node.refused(lambda: node.add(chain(node), portMappings=[mapping(8081, 81), wrong]))

    assert (error.plugin, error.code) == ("portmap", 7)
    node.delete(chain(node))
    assert node.state("c1")["elements"] == before["elements"] == set()


def test_a_bit_and_a_chain_of_ones_own_do_not_go_together(node: Any) -> None:
    conflist = chain(node, backend="iptables", markMasqBit=5, externalSetMarkChain="KUBE-MARK-MASQ")

    error = node.refused(lambda: node.add(conflist, portMappings=[mapping(8081, 81)]))

    assert (error.plugin, error.code, "externalSetMarkChain" in error.message) == ("portmap", 7, True)
    assert "markMasqBit" in error.message


def test_no_mappings_are_no_part(node: Any) -> None:
    result = node.add(chain(node), portMappings=[{"hostPort": 0, "containerPort": 80}])

    assert len(result["ips"]) == 2
    assert not [row for row in node.rows() if row.startswith("portmap")]
    node.check(chain(node))
