"""DHCP's datagrams as the IP packets that they travel in, for an interface that has no address yet.

Source: RFC 791, RFC 768, RFC 1071 (checksum).
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address

from dovetail.ipam.dhcp.values import MalformedError

__all__ = ["CLIENT_PORT", "SERVER_PORT", "unwrap", "wrap"]

CLIENT_PORT, SERVER_PORT = 68, 67  # RFC 2131 §4.1

_IP = struct.Struct(">BBHHHBBH4s4s")
_UDP = struct.Struct(">HHHH")
_UDP_PROTOCOL = 17  # IPPROTO_UDP, include/uapi/linux/in.h
_TTL = 64
_MORE_OR_OFFSET = 0x3FFF  # IP_MF | IP_OFFSET, include/net/ip.h
_DONT_FRAGMENT = 0x4000
_LOW_DELAY = 0x10  # IPTOS_LOWDELAY, include/uapi/linux/ip.h


def wrap(payload: bytes, source: IPv4Address, destination: IPv4Address) -> bytes:
    """Put a client's message into UDP and IP."""
    length = _UDP.size + len(payload)
    pseudo = _pseudo(source.packed, destination.packed, length)
    # a sum of zero is sent as its complement: zero says that there is none
    total = _checksum(pseudo + _UDP.pack(CLIENT_PORT, SERVER_PORT, length, 0) + payload) or 0xFFFF
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, length, total) + payload

    def header(total: int) -> bytes:
        return _IP.pack(
            0x45, _LOW_DELAY, _IP.size + length, 0, _DONT_FRAGMENT, _TTL, _UDP_PROTOCOL, total,
            source.packed, destination.packed,
        )  # fmt: skip

    return header(_checksum(header(0))) + udp


def unwrap(packet: bytes, *, summed: bool = True) -> tuple[bytes, IPv4Address, IPv4Address]:
    """Take a server's message out of its packet: message, source, destination. Raises MalformedError.

    summed False: the packet was made on this machine and its UDP checksum is left to a NIC that it never meets.
    """
    if len(packet) < _IP.size:
        raise MalformedError("a packet is shorter than its header")
    first, _, total, _, fragment, _, protocol, _, source, destination = _IP.unpack_from(packet)
    header = (first & 0xF) * 4
    if first >> 4 != 4 or header < _IP.size or not header + _UDP.size <= total <= len(packet):
        raise MalformedError("a packet is no IPv4 packet, or not whole")
    if protocol != _UDP_PROTOCOL or fragment & _MORE_OR_OFFSET:
        raise MalformedError("a packet is not UDP, or a fragment")
    if _checksum(packet[:header]):
        raise MalformedError("a packet's header has a wrong checksum")
    udp = packet[header:total]
    sender, receiver, length, checksum = _UDP.unpack_from(udp)
    if (sender, receiver) != (SERVER_PORT, CLIENT_PORT) or not _UDP.size <= length <= len(udp):
        raise MalformedError("a packet is not from a DHCP server, or not whole")
    udp = udp[:length]
    if summed and checksum and _checksum(_pseudo(source, destination, length) + udp):
        raise MalformedError("a packet has a wrong checksum")
    return udp[_UDP.size :], IPv4Address(source), IPv4Address(destination)


def _pseudo(source: bytes, destination: bytes, length: int) -> bytes:
    return source + destination + struct.pack(">xBH", _UDP_PROTOCOL, length)


def _checksum(data: bytes) -> int:
    """Sum in ones' complement; over data with its right sum in it, 0."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
