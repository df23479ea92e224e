"""A clock that the test sets, an interface that keeps what is sent, and servers that answer by hand."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from dovetail.ipam.dhcp import options as o
from dovetail.ipam.dhcp.client import Client
from dovetail.ipam.dhcp.client6 import Client6
from dovetail.ipam.dhcp.lease import Lease, LeaseRequest
from dovetail.ipam.dhcp.machine import Clock, Datagram
from dovetail.ipam.dhcp.message import ACK, BOOTREPLY, NAK, OFFER, Message, decode, encode
from dovetail.ipam.dhcp.message6 import (
    REPLY,
    IaAddress,
    IaNa,
    Message6,
    decode6,
    encode6,
    ia_na,
    option,
    read_ia_na,
)

MAC = bytes.fromhex("02005e100001")
SERVER_MAC = bytes.fromhex("02005e1000fe")
START = 1_000_000.0


class Time:
    """Both clocks, set by hand; a restart of the machine sets `now` back and leaves `wall` alone."""

    def __init__(self) -> None:
        self.at = START
        self.epoch = 1_700_000_000.0

    def clock(self) -> Clock:
        return Clock(now=lambda: self.at, wall=lambda: self.at + self.epoch)

    def go(self, seconds: float) -> None:
        self.at += seconds


class Wire:
    """An interface: `sent` is what a client has sent; it can be down."""

    mac = MAC
    mtu = 1500

    def __init__(self) -> None:
        self.sent: list[Datagram] = []
        self.down = False

    def send(self, datagram: Datagram) -> bool:
        if not self.down:
            self.sent.append(datagram)
        return not self.down

    @property
    def messages(self) -> list[Message]:
        return [decode(datagram.payload) for datagram in self.sent]

    @property
    def kinds(self) -> list[int]:
        return [message.kind for message in self.messages]

    @property
    def last(self) -> Message:
        return self.messages[-1]

    @property
    def last6(self) -> Message6:
        return decode6(self.sent[-1].payload)

    @property
    def kinds6(self) -> list[int]:
        return [decode6(datagram.payload).kind for datagram in self.sent]


class Server:
    """A DHCPv4 server that makes an answer to a message; `options` are those of a lease of an hour."""

    def __init__(self, address: str = "10.0.0.1", given: str = "10.0.0.50") -> None:
        self.address, self.given = IPv4Address(address), IPv4Address(given)
        self.options = {
            o.SERVER_ID: self.address.packed,
            o.LEASE_TIME: (3600).to_bytes(4, "big"),
            o.SUBNET_MASK: bytes((255, 255, 255, 0)),
            o.ROUTERS: self.address.packed,
        }

    def answer(self, request: Message, kind: int, **changes: Any) -> Datagram:
        options = {o.MESSAGE_TYPE: bytes((kind,)), **self.options, **changes.pop("options", {})}
        options = {code: value for code, value in options.items() if value is not None}
        message = Message(
            op=BOOTREPLY,
            xid=request.xid,
            chaddr=request.chaddr,
            yiaddr=self.given if kind != NAK else IPv4Address(0),
            options=options,
        )._replace(**changes)
        return Datagram(encode(message), self.address, self.given, SERVER_MAC)

    def offer(self, request: Message, **changes: Any) -> Datagram:
        return self.answer(request, OFFER, **changes)

    def ack(self, request: Message, **changes: Any) -> Datagram:
        return self.answer(request, ACK, **changes)

    def nak(self, request: Message, **changes: Any) -> Datagram:
        return self.answer(request, NAK, **changes)


class Server6:
    """A DHCPv6 server that makes an answer to a message."""

    def __init__(self, duid: bytes = b"\0\3\0\1server", given: str = "fd00::50") -> None:
        self.duid, self.given = duid, IPv6Address(given)

    def answer(
        self,
        request: Message6,
        kind: int = REPLY,
        *,
        more: tuple[tuple[int, bytes], ...] = (),
        valid: int = 3600,
        preferred: int = 3600,
        t1: int = 0,
        t2: int = 0,
        status: bytes = b"",
        **changes: Any,
    ) -> Datagram:
        asked = option(request.options, 3)
        assert asked is not None
        iaid = read_ia_na(asked).iaid
        association = ia_na(IaNa(iaid, t1, t2, (IaAddress(self.given, preferred, valid),)))
        if status:
            association = (
                ia_na(IaNa(iaid)) + (13).to_bytes(2, "big") + len(status).to_bytes(2, "big") + status
            )
        client = option(request.options, 1)
        assert client is not None
        options = ((1, client), (2, self.duid), (3, association), *more)
        return Datagram(
            encode6(Message6(kind, request.xid, options)._replace(**changes)), IPv6Address("fe80::1")
        )


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def server6() -> Server6:
    return Server6()


@pytest.fixture
def make_server() -> type[Server]:
    return Server


@pytest.fixture
def make_server6() -> type[Server6]:
    return Server6


def request(**changes: Any) -> LeaseRequest:
    return LeaseRequest(**{"container": "c1", "network": "net", "ifname": "eth0", **changes})


def _random() -> Callable[[], float]:
    numbers = iter(n / 1000 for n in range(1, 1000))  # never the same transaction twice
    return lambda: next(numbers)


@pytest.fixture
def make_client(time: Time) -> Callable[..., Client]:
    def make(lease: Lease | None = None, **changes: Any) -> Client:
        return Client(request(**changes), clock=time.clock(), random=_random(), lease=lease)

    return make


@pytest.fixture
def make_client6(time: Time) -> Callable[..., Client6]:
    def make(lease: Lease | None = None, **changes: Any) -> Client6:
        return Client6(request(ipv6=True, **changes), clock=time.clock(), random=_random(), lease=lease)

    return make


@pytest.fixture
def make_request() -> Callable[..., LeaseRequest]:
    return request
