"""The sockets of the DHCP clients: what they hear, and what they refuse."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Any

import pytest

from dovetail.errors import NotFound, Unsupported
from dovetail.ipam.dhcp.datagram import wrap
from dovetail.ipam.dhcp.machine import Datagram
from dovetail.ipam.dhcp.transport import LinuxPorts, OpenPort
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Netns

pytestmark = pytest.mark.root


class Server:
    """Sends whole IP packets to a container's interface, from the other end of its veth."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)

    def send(self, packet: bytes) -> None:
        self._socket.sendto(packet, ("far", 0x0800, 0, 0, b"\xff" * 6))

    def close(self) -> None:
        self._socket.close()


def answer(payload: bytes, *, port: int = 68) -> bytes:
    """Write a server's packet, its checksum left out."""
    packet = bytearray(wrap(payload, IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")))
    packet[20:24] = (67).to_bytes(2, "big") + port.to_bytes(2, "big")
    packet[26:28] = b"\0\0"
    return bytes(packet)


@pytest.fixture
def wire(host: Any, kernel: LinuxKernel, box: Netns) -> Iterator[Server]:
    host.run("ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0")
    host.run("ip", "link", "set", "eth0", "netns", box.path)
    host.run("ip", "link", "set", "far", "up")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def port(wire: Server, box: Netns) -> Iterator[OpenPort]:
    opened = LinuxPorts().open(box, "eth0", version=4, up=True)
    yield opened
    opened.close()


def heard(wire: Server, port: OpenPort, *packets: bytes) -> list[Datagram]:
    """Send `packets` until something is heard: a veth that has just come up drops what is sent at once."""
    found: list[Datagram] = []
    deadline = time.monotonic() + 10
    while not found and time.monotonic() < deadline:
        for packet in packets:
            wire.send(packet)
        found += port.receive()
    return found


def test_the_interface_is_brought_up(host: Any, box: Netns, port: OpenPort) -> None:
    assert "UP" in host.links(box.path)["eth0"]["flags"]
    assert port.mac.hex(":") == host.links(box.path)["eth0"]["address"]
    assert port.mtu == 1500


def test_answers_of_servers_are_heard_with_where_they_came_from(
    wire: Server, port: OpenPort, host: Any
) -> None:
    found = heard(wire, port, answer(b"hello"))

    assert (found[0].payload, str(found[0].source)) == (b"hello", "10.0.0.1")
    assert found[0].mac.hex(":") == host.links()["far"]["address"]


def test_what_is_no_answer_never_leaves_the_kernel(wire: Server, port: OpenPort) -> None:
    tcp, fragment = bytearray(answer(b"tcp")), bytearray(answer(b"fragment"))
    tcp[9], fragment[7] = 6, 1
    heard(wire, port, answer(b"it is up"))
    with socket.socket(fileno=os.dup(port.fileno())) as through:
        for packet in (answer(b"port 69", port=69), bytes(tcp), bytes(fragment), b"\x45", answer(b"last")):
            wire.send(packet)

        through.settimeout(10)
        came = [through.recv(2000)]
        while came[-1] != answer(b"last"):
            came.append(through.recv(2000))

    assert set(came) <= {answer(b"it is up"), answer(b"last")}


def test_a_wrong_checksum_is_passed_over(wire: Server, port: OpenPort) -> None:
    broken = bytearray(answer(b"broken"))
    broken[26:28] = b"\x12\x34"
    found = heard(wire, port, bytes(broken), answer(b"last"))

    assert {datagram.payload for datagram in found} == {b"last"}


def test_a_socket_stays_in_its_namespace(host: Any, box: Netns, port: OpenPort) -> None:
    assert port.send(Datagram(b"x", IPv4Address(0))) in (True, False)
    assert "eth0" not in host.links()


def test_an_interface_that_went_down_cannot_send_for_now(host: Any, box: Netns, port: OpenPort) -> None:
    host.run("ip", "link", "set", "eth0", "down", check=False)
    host.run("nsenter", f"--net={box.path}", "ip", "link", "set", "eth0", "down")

    assert not port.send(Datagram(b"x", IPv4Address(0)))
    assert list(port.receive()) == []


@pytest.mark.parametrize("version", [4, 6])
def test_a_missing_interface_is_named(wire: Server, box: Netns, version: int) -> None:
    with pytest.raises(NotFound, match="no such link: 'eth7'"):
        LinuxPorts().open(box, "eth7", version=version, up=True)
    with pytest.raises(NotFound, match="no such link: 'eth7'"):
        LinuxPorts().open(box, "eth7", version=version, up=False)


def test_an_interface_without_a_hardware_address_is_refused(host: Any, box: Netns) -> None:
    host.run("nsenter", f"--net={box.path}", "ip", "tuntap", "add", "tun0", "mode", "tun")

    with pytest.raises(Unsupported, match="DHCP needs an Ethernet interface"):
        LinuxPorts().open(box, "tun0", version=4, up=True)
