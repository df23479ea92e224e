"""Sysctls, the host's other firewall, connection tracking and ports through `LinuxKernel`."""

from __future__ import annotations

import ipaddress
import shutil
import socket
from typing import Any

import pytest

from dovetail.errors import InvalidArgument, KernelError, NotFound
from dovetail.kernel import conntrack
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.netlink import Message
from dovetail.kernel.protocol import Netns

pytestmark = pytest.mark.root


# -- sysctl ---------------------------------------------------------------------------------------


def test_a_sysctl_is_of_the_handles_namespace(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.set_sysctl("net/ipv4/ip_forward", "0")
    with kernel.inside(box) as inner:
        inner.set_sysctl("net/ipv4/ip_forward", "1")
        assert inner.sysctl("net/ipv4/ip_forward") == "1"
    assert kernel.sysctl("net/ipv4/ip_forward") == "0"
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "0"
    assert host.run("nsenter", f"--net={box.path}", "sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"


def test_an_interface_may_have_dots_in_its_name(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0.10")

    kernel.set_sysctl("net/ipv4/conf/br0.10/forwarding", "1")

    assert host.run("sysctl", "-n", "net/ipv4/conf/br0.10/forwarding").strip() == "1"


def test_a_sysctl_that_is_missing_reads_as_none_and_cannot_be_written(kernel: LinuxKernel) -> None:
    assert kernel.sysctl("net/ipv4/conf/missing/forwarding") is None
    with pytest.raises(NotFound, match="net/ipv4/conf/missing/forwarding"):
        kernel.set_sysctl("net/ipv4/conf/missing/forwarding", "1")


@pytest.mark.parametrize(
    "key", ["kernel/hostname", "net/../kernel/hostname", "net//x", "net.ipv4.ip_forward"]
)
def test_a_key_outside_of_net_is_refused(kernel: LinuxKernel, key: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a sysctl"):
        kernel.sysctl(key)
    with pytest.raises(InvalidArgument, match="is not a sysctl"):
        kernel.set_sysctl(key, "1")


def test_a_value_that_the_kernel_refuses_is_named(kernel: LinuxKernel) -> None:
    with pytest.raises(KernelError, match="sysctl net/ipv4/ip_forward cannot be set to 'maybe'"):
        kernel.set_sysctl("net/ipv4/ip_forward", "maybe")


# -- the host's other firewall --------------------------------------------------------------------


def test_forward_policies_are_those_of_iptables(host: Any, kernel: LinuxKernel) -> None:
    assert kernel.forward_policies() == {}

    host.run("iptables", "-P", "FORWARD", "DROP")
    host.run("ip6tables", "-A", "FORWARD", "-j", "ACCEPT")

    assert kernel.forward_policies() == {"iptables": True, "ip6tables": False}


def test_a_forward_chain_without_a_policy_is_left_out(host: Any, kernel: LinuxKernel) -> None:
    host.run("nft", "add table ip filter; add chain ip filter FORWARD")

    assert kernel.forward_policies() == {}


def test_iptables_says_whether_it_succeeded(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    assert kernel.iptables("iptables", "-N", "DOVETAIL") is True
    assert kernel.iptables("iptables", "-S", "DOVETAIL") is True
    assert kernel.iptables("iptables", "-S", "MISSING") is False
    assert kernel.iptables("iptables-that-is-not-installed", "-S") is False
    with kernel.inside(box) as inner:
        assert inner.iptables("iptables", "-S", "DOVETAIL") is False


def test_iptables_rules_are_those_of_the_filter_table_here(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    host.run("iptables", "-N", "X")
    host.run("iptables", "-A", "X", "!", "-i", "a0", "-o", "a0", "-j", "DROP")
    host.run("iptables", "-t", "nat", "-N", "Y")

    rules = kernel.iptables_rules("iptables")

    assert [rule for rule in rules if not rule.startswith("-P")] == ["-N X", "-A X ! -i a0 -o a0 -j DROP"]
    assert kernel.iptables_rules("iptables-that-is-not-installed") == []
    with kernel.inside(box) as inner:
        assert not any("X" in rule for rule in inner.iptables_rules("iptables"))


# -- connection tracking --------------------------------------------------------------------------


def track(host: Any, protocol: str, source: str, target: str, port: int, reply_source: str) -> None:
    state = ("--state", "ESTABLISHED") if protocol == "tcp" else ()
    reply = ("--reply-src", reply_source, "--reply-dst", source)
    ports = (
        "--sport",
        "1111",
        "--dport",
        str(port),
        "--reply-port-src",
        str(port),
        "--reply-port-dst",
        "1111",
    )
    pair = ("-s", source, "-d", target)
    host.run("conntrack", "-I", "-p", protocol, *pair, *reply, *ports, "-t", "100", *state)


def tracked(host: Any) -> set[tuple[str, str]]:
    rows = host.run("conntrack", "-L", "-f", "ipv4", check=False) + host.run(
        "conntrack", "-L", "-f", "ipv6", check=False
    )
    found = set()
    for row in rows.splitlines():
        words = row.split()
        fields = [word.split("=")[1] for word in words if word.startswith("dport=")]
        replies = [word.split("=")[1] for word in words if word.startswith("src=")]
        found.add((f"{words[0]}/{fields[0]}", replies[1]))
    return found


@pytest.fixture(params=["by filter", "entry by entry"])
def flows(
    request: Any, host: Any, kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> set[tuple[str, str]]:
    """Flows to forget; ``entry by entry`` is what kernels before 6.11 need."""
    if shutil.which("conntrack") is None:
        pytest.skip("needs conntrack-tools")
    if request.param == "entry by entry":
        monkeypatch.setattr(conntrack, "delete_flows", lambda *_: Message(1 << 8 | 99, 0, b"\2\1\0\0"))
    track(host, "udp", "10.0.0.1", "10.0.0.9", 53, "10.88.0.2")
    track(host, "udp", "10.0.0.1", "10.0.0.9", 54, "10.88.0.2")
    track(host, "udp", "10.0.0.1", "10.0.0.9", 55, "10.88.0.3")
    track(host, "tcp", "10.0.0.1", "10.0.0.9", 53, "10.88.0.2")
    track(host, "udp", "fd00::1", "fd00::9", 53, "fd88::2")
    track(host, "udp", "fd00::1", "fd00::9", 56, "fd88::2")
    track(host, "udp", "fd00::1", "fd00::9", 57, "fd88::3")
    return tracked(host)


def test_flows_to_a_port_are_forgotten_in_both_families(
    host: Any, kernel: LinuxKernel, flows: set[tuple[str, str]]
) -> None:
    assert len(flows) == 7

    kernel.flush_conntrack("udp", port=53)

    assert flows - tracked(host) == {("udp/53", "10.88.0.2"), ("udp/53", "fd88::2")}


def test_flows_of_an_endpoint_are_forgotten(
    host: Any, kernel: LinuxKernel, flows: set[tuple[str, str]]
) -> None:
    kernel.flush_conntrack("udp", address=ipaddress.ip_address("10.88.0.2"))

    assert flows - tracked(host) == {("udp/53", "10.88.0.2"), ("udp/54", "10.88.0.2")}

    kernel.flush_conntrack("udp", address=ipaddress.ip_address("fd88::3"))

    assert flows - tracked(host) == {
        ("udp/53", "10.88.0.2"),
        ("udp/54", "10.88.0.2"),
        ("udp/57", "fd88::3"),
    }


def test_flows_to_a_port_of_an_endpoint_are_forgotten(
    host: Any, kernel: LinuxKernel, flows: set[tuple[str, str]]
) -> None:
    kernel.flush_conntrack("udp", port=56, address=ipaddress.ip_address("fd88::2"))
    kernel.flush_conntrack("udp", port=54, address=ipaddress.ip_address("10.88.0.3"))
    kernel.flush_conntrack("sctp", port=53)

    assert flows - tracked(host) == {("udp/56", "fd88::2")}


# -- ports ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::", "::1"])
def test_a_bound_port_is_not_free(host: Any, kernel: LinuxKernel, protocol: str, bound: str) -> None:
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        server.bind((bound, 0))
        if protocol == "tcp":
            server.listen()
        port = server.getsockname()[1]

        assert kernel.port_is_free(protocol, None, port) is False
        assert kernel.port_is_free(protocol, ipaddress.ip_address(bound), port) is False
        other = "127.0.0.1" if ":" in bound else "::1"
        assert kernel.port_is_free(protocol, ipaddress.ip_address(other), port) is True
        assert kernel.port_is_free("udp" if protocol == "tcp" else "tcp", None, port) is True

    assert kernel.port_is_free(protocol, None, port) is True


def test_a_port_is_asked_for_in_the_handles_namespace(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with kernel.inside(box) as inner:
            assert inner.port_is_free("tcp", None, port) is True
        assert kernel.port_is_free("tcp", None, port) is False


def test_connections_that_linger_are_in_nobodys_way(host: Any, kernel: LinuxKernel) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server does
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            server.accept()[0].close()
            assert client.recv(1) == b""
    assert "TIME-WAIT" in host.run("ss", "-Htan")

    assert kernel.port_is_free("tcp", None, port) is True


def test_an_address_the_host_lacks_and_a_protocol_without_sockets_are_free(kernel: LinuxKernel) -> None:
    assert kernel.port_is_free("tcp", ipaddress.ip_address("203.0.113.7"), 80) is True
    assert kernel.port_is_free("udp", ipaddress.ip_address("2001:db8::7"), 80) is True
    assert kernel.port_is_free("sctp", None, 80) is True
