"""Forgetting tracked connections, as ``conntrack -D``.

Linux 6.11 deletes by a filter, in one message a family. Before it, and for IPv6 addresses, the list is
read and what matches is deleted entry by entry: the kernel's comparison of IPv6 addresses is the wrong
way round (seen on 6.18: a filter for fd88::2 deletes every flow but that address's).

Source: include/uapi/linux/netfilter/nfnetlink_conntrack.h; ctnetlink_del_conntrack,
net/netfilter/nf_conntrack_netlink.c.
"""

from __future__ import annotations

import errno
import socket
from struct import Struct
from typing import NamedTuple

from dovetail.kernel.attributes import attribute, attributes, be16, nest, u8, u32
from dovetail.kernel.netlink import Message, NetlinkSocket, Refusal, RefusedError
from dovetail.kernel.nfnetlink import HEADER, header
from dovetail.model.addresses import IPAddress

__all__ = ["Flows", "delete_flow", "delete_flows", "dump_flows", "flush", "matches"]

_SUBSYS_CTNETLINK = 1
_GET, _DELETE = 1, 2  # IPCTNL_MSG_CT_…
_CTA_TUPLE_ORIG = 1
_CTA_TUPLE_REPLY = 2
_CTA_ID = 12
_CTA_ZONE = 18
_CTA_FILTER = 25
_CTA_TUPLE_IP = 1
_CTA_TUPLE_PROTO = 2
_V6 = 6
_CTA_IP_SRC = {4: 1, 6: 3}  # CTA_IP_V4_SRC, CTA_IP_V6_SRC
_CTA_PROTO_NUM = 1
_CTA_PROTO_DST_PORT = 3
_CTA_FILTER_ORIG_FLAGS = 1
_CTA_FILTER_REPLY_FLAGS = 2
_F_IP_SRC, _F_PROTO_NUM, _F_PROTO_DST_PORT = 1 << 0, 1 << 3, 1 << 5  # CTA_FILTER_F_…, nf_internals.h
_NFNETLINK_V1 = 1  # with version 0 the kernel takes no notice of the family
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_NO_FILTER = frozenset({errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT})
_PORT = Struct(">H")


class Flows(NamedTuple):
    """Which flows: of `protocol`, with this original destination port and this reply source, where given."""

    protocol: str
    port: int = 0
    address: IPAddress | None = None

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions to look at."""
        return (4, 6) if self.address is None else (self.address.version,)


def flush(netlink: NetlinkSocket, flows: Flows) -> Refusal | None:
    """Forget `flows` in the socket's namespace; gives why the kernel would not."""
    if flows.address is not None and flows.address.version == _V6:
        return _delete_one_by_one(netlink, flows)
    refusals = netlink.execute([delete_flows(version, flows) for version in flows.versions])
    refused = [refusal for refusal in refusals if refusal is not None]
    if not refused:
        return None
    if refused[0].errno not in _NO_FILTER:
        return refused[0]
    return _delete_one_by_one(netlink, flows)


def _delete_one_by_one(netlink: NetlinkSocket, flows: Flows) -> Refusal | None:
    for version in flows.versions:
        try:
            rows = netlink.dump(dump_flows(version))
        except RefusedError as exc:
            return exc.refusal
        doomed = [delete_flow(row) for row in rows if matches(row, flows)]
        for refusal in netlink.execute(doomed):
            if refusal is not None and refusal.errno != errno.ENOENT:  # it may have ended by itself
                return refusal
    return None


def delete_flows(version: int, flows: Flows) -> Message:
    """Delete by filter; a kernel before 6.11 takes the half tuple for a malformed whole one (EINVAL)."""
    protocol = u8(_CTA_PROTO_NUM, _PROTOCOLS[flows.protocol])
    original, original_flags = [protocol], _F_PROTO_NUM
    if flows.port:
        original.append(be16(_CTA_PROTO_DST_PORT, flows.port))
        original_flags |= _F_PROTO_DST_PORT
    parts = [nest(_CTA_TUPLE_ORIG, nest(_CTA_TUPLE_PROTO, *original))]
    reply_flags = 0
    if flows.address is not None:
        source = attribute(_CTA_IP_SRC[version], flows.address.packed)
        parts.append(nest(_CTA_TUPLE_REPLY, nest(_CTA_TUPLE_IP, source)))
        reply_flags = _F_IP_SRC
    masks = u32(_CTA_FILTER_ORIG_FLAGS, original_flags) + u32(_CTA_FILTER_REPLY_FLAGS, reply_flags)
    return _message(_DELETE, version, b"".join([*parts, nest(_CTA_FILTER, masks)]))


def dump_flows(version: int) -> Message:
    """List the flows of one family."""
    return _message(_GET, version, b"")


def delete_flow(row: bytes) -> Message:
    """Delete the flow that a row of the list tells of, and not one that took its place (CTA_ID)."""
    said = attributes(row, HEADER.size)
    kept = [(nest if kind == _CTA_TUPLE_ORIG else attribute)(kind, said[kind])
            for kind in (_CTA_TUPLE_ORIG, _CTA_ZONE, _CTA_ID) if kind in said]  # fmt: skip
    family = HEADER.unpack_from(row)[0]
    return Message(_SUBSYS_CTNETLINK << 8 | _DELETE, 0, header(family) + b"".join(kept))


def matches(row: bytes, flows: Flows) -> bool:
    """Say whether a row of the list is one of `flows`."""
    said = attributes(row, HEADER.size)
    original = attributes(said.get(_CTA_TUPLE_ORIG, b""))
    protocol = attributes(original.get(_CTA_TUPLE_PROTO, b""))
    if protocol.get(_CTA_PROTO_NUM, b"\0")[0] != _PROTOCOLS[flows.protocol]:
        return False
    if flows.port and protocol.get(_CTA_PROTO_DST_PORT) != _PORT.pack(flows.port):
        return False
    if flows.address is None:
        return True
    reply = attributes(attributes(said.get(_CTA_TUPLE_REPLY, b"")).get(_CTA_TUPLE_IP, b""))
    return reply.get(_CTA_IP_SRC[flows.address.version]) == flows.address.packed


def _message(command: int, version: int, body: bytes) -> Message:
    head = header(_FAMILIES[version], version=_NFNETLINK_V1)
    return Message(_SUBSYS_CTNETLINK << 8 | command, 0, head + body)
