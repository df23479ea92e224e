"""Tracked flows forgotten over ctnetlink, so that a UDP sender does not talk on to a container that is gone.

Numbers are from include/uapi/linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import socket
import struct

from dovetail.kernel.netlink import Failure, Message, NetlinkSocket, attributes, nested
from dovetail.model.addresses import IPAddress

__all__ = ["flush"]

_SUBSYS = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_GET, _DELETE = _SUBSYS | 1, _SUBSYS | 2
_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_V4_SRC, _IP_V6_SRC = 1, 3
_PROTO_NUM, _PROTO_DST_PORT = 1, 3
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}


def flush(netlink: NetlinkSocket, protocol: str, *, port: int, address: IPAddress | None) -> None:
    """Delete the flows of `protocol` whose original destination port is `port` or whose reply comes from `address`."""
    for family in (socket.AF_INET, socket.AF_INET6):
        header = struct.pack("=BBH", family, 0, 0)
        flows = netlink.dump(_GET, header)
        if isinstance(flows, Failure):
            continue  # a kernel without connection tracking has nothing to forget
        doomed = [
            Message(_DELETE, 0, header + nested(_TUPLE_ORIG, attributes(flow, 4)[_TUPLE_ORIG]))
            for flow in flows
            if _matches(attributes(flow, 4), _PROTOCOLS[protocol], port, address)
        ]
        if doomed:
            netlink.transact(doomed)


def _matches(flow: dict[int, bytes], protocol: int, port: int, address: IPAddress | None) -> bool:
    proto = attributes(attributes(flow.get(_TUPLE_ORIG, b"")).get(_TUPLE_PROTO, b""))
    if proto.get(_PROTO_NUM, b"") != bytes([protocol]):
        return False
    if port and proto.get(_PROTO_DST_PORT) == port.to_bytes(2, "big"):
        return True
    reply = attributes(attributes(flow.get(_TUPLE_REPLY, b"")).get(_TUPLE_IP, b""))
    return address is not None and address.packed in {reply.get(_IP_V4_SRC), reply.get(_IP_V6_SRC)}
