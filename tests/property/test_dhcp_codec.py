"""DHCP's codecs: what is written is read again, and bytes of anybody raise nothing but the one error."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from dovetail.ipam.dhcp import message, message6, values
from dovetail.ipam.dhcp.client import Client
from dovetail.ipam.dhcp.client6 import Client6
from dovetail.ipam.dhcp.datagram import unwrap, wrap
from dovetail.ipam.dhcp.lease import LeaseRequest
from dovetail.ipam.dhcp.machine import Clock, Datagram, Machine
from dovetail.ipam.dhcp.values import MalformedError
from dovetail.model.codec import decode, encode

ADDRESS4 = st.integers(0, 2**32 - 1).map(IPv4Address)
ADDRESS6 = st.integers(0, 2**128 - 1).map(IPv6Address)
U32 = st.integers(0, 2**32 - 1)
CODES = st.integers(1, 254).filter(lambda code: code != 52)
MESSAGES = st.builds(
    message.Message,
    op=st.sampled_from((1, 2)),
    xid=U32,
    chaddr=st.binary(max_size=16),
    options=st.dictionaries(CODES, st.binary(max_size=700), max_size=12),
    secs=st.integers(0, 0xFFFF),
    broadcast=st.booleans(),
    ciaddr=ADDRESS4,
    yiaddr=ADDRESS4,
    siaddr=ADDRESS4,
    giaddr=ADDRESS4,
)
MESSAGES6 = st.builds(
    message6.Message6,
    kind=st.integers(1, 255).filter(lambda kind: kind not in (12, 13)),
    xid=st.integers(0, 2**24 - 1),
    options=st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=300)), max_size=12).map(tuple),
)
NO_STATUS = st.just(message6.Status())  # a client writes none
ASSOCIATIONS = st.builds(
    message6.IaNa,
    iaid=U32,
    t1=U32,
    t2=U32,
    addresses=st.lists(
        st.builds(message6.IaAddress, address=ADDRESS6, preferred=U32, valid=U32, status=NO_STATUS),
        max_size=4,
    ).map(tuple),
    status=NO_STATUS,
)
# bytes that begin as the real thing does get further than bytes that do not
HEAD = bytes((2, 1, 6, 0)) + bytes(232) + bytes((99, 130, 83, 99))
FUZZ4 = st.one_of(st.binary(max_size=700), st.binary(max_size=400).map(lambda tail: HEAD + tail))


@given(MESSAGES)
def test_a_message_is_read_as_it_was_written(one: message.Message) -> None:
    assert message.decode(message.encode(one)) == one


@given(MESSAGES6)
def test_a_message_of_dhcpv6_is_read_as_it_was_written(one: message6.Message6) -> None:
    assert message6.decode6(message6.encode6(one)) == one


@given(ASSOCIATIONS)
def test_an_identity_association_is_read_as_it_was_written(one: message6.IaNa) -> None:
    assert message6.read_ia_na(message6.ia_na(one)) == one


@given(st.binary(max_size=1500), ADDRESS4, ADDRESS4)
def test_a_packet_has_right_checksums_and_turned_round_is_read(payload: bytes, source, destination) -> None:
    packet = bytearray(wrap(payload, source, destination))
    packet[20:24] = packet[22:24] + packet[20:22]  # from a server: the sum of the words stays the same

    assert unwrap(bytes(packet)) == (payload, source, destination)


@given(st.binary(min_size=1, max_size=400), st.data())
def test_a_packet_with_one_bit_changed_is_refused_or_says_the_same(payload: bytes, data) -> None:
    packet = bytearray(wrap(payload, IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")))
    packet[20:24] = packet[22:24] + packet[20:22]
    at = data.draw(st.integers(0, len(packet) * 8 - 1))
    packet[at // 8] ^= 1 << at % 8

    with suppress(MalformedError):
        assert unwrap(bytes(packet))[0] == payload


READERS: list[Callable[[bytes], Any]] = [
    message6.decode6,
    message6.read_ia_na,
    unwrap,
    lambda data: unwrap(data, summed=False),
    values.netmask,
    lambda data: values.classless_routes(data, 0),
    lambda data: values.static_routes(data, 0),
    lambda data: values.addresses4(data, "it"),
    lambda data: values.addresses6(data, "it"),
    lambda data: values.domain_list(data, compressed=True),
    lambda data: values.domain_list(data, compressed=False),
    values.domain,
]


@pytest.mark.parametrize("reader", READERS)
@given(data=st.binary(max_size=300))
def test_no_bytes_raise_anything_but_the_one_error(reader: Callable[[bytes], Any], data: bytes) -> None:
    with suppress(MalformedError):
        reader(data)


@given(FUZZ4)
def test_no_message_raises_anything_but_the_one_error(data: bytes) -> None:
    with suppress(MalformedError):
        message.decode(data)


@given(st.binary(max_size=300))
def test_no_packet_with_a_right_header_raises_anything_but_the_one_error(tail: bytes) -> None:
    header = struct.pack(">BBHHHBBH8x", 0x45, 0, 20 + len(tail), 0, 0, 64, 17, 0)
    with suppress(MalformedError):
        unwrap(header + tail, summed=False)


class _Wire:
    mac = bytes(6)
    mtu = 1500

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, datagram: Datagram) -> bool:
        self.sent.append(datagram.payload)
        return True


def _still(machine: type[Machine]) -> tuple[Any, _Wire]:
    request = LeaseRequest(container="c", network="n", ifname="e", ipv6=True)
    wire = _Wire()
    client = machine(request, clock=Clock(lambda: 0.0, lambda: 0.0), random=lambda: 0.5)
    client.advance(wire)
    return client, wire


VALUES = st.one_of(
    st.binary(max_size=16), st.sampled_from([b"\2", b"\5", b"\6", b"\xff\xff\xff\0", b"\n\0\0\1"])
)
REPLIES = st.dictionaries(
    st.sampled_from([1, 3, 6, 15, 26, 33, 51, 53, 54, 56, 58, 59, 119, 121]), VALUES, max_size=14
)


@given(st.lists(st.tuples(REPLIES, ADDRESS4), max_size=4))
def test_no_reply_makes_the_client_raise_and_what_it_believes_can_be_stored(replies) -> None:
    client, wire = _still(Client)

    for options, address in replies:
        xid = message.decode(wire.sent[-1]).xid
        reply = message.Message(op=2, xid=xid, chaddr=wire.mac, options=options, yiaddr=address)
        client.receive(wire, Datagram(message.encode(reply), address, mac=wire.mac))

    if client.lease is not None:
        assert decode(encode(client.lease), type(client.lease)) == client.lease


@given(
    st.lists(
        st.tuples(
            st.sampled_from([2, 7, 10]),
            st.lists(st.tuples(st.sampled_from([2, 7, 13, 14, 23, 24, 82]), VALUES), max_size=5),
            ASSOCIATIONS,
            st.binary(max_size=40),
        ),
        max_size=4,
    )
)
def test_no_reply_makes_the_dhcpv6_client_raise(replies) -> None:
    client, wire = _still(Client6)

    for kind, more, association, junk in replies:
        ours = message6.decode6(wire.sent[-1])
        mine = message6.option(ours.options, 1)
        iaid = message6.read_ia_na(message6.option(ours.options, 3)).iaid
        inner = message6.ia_na(association._replace(iaid=iaid)) + junk
        options = ((1, mine), (2, b"server"), (3, inner), *more)
        payload = message6.encode6(message6.Message6(kind, ours.xid, options))
        client.receive(wire, Datagram(payload, IPv6Address("fe80::1")))

    if client.lease is not None:
        assert decode(encode(client.lease), type(client.lease)) == client.lease
