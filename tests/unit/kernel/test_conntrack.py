"""Messages of connection tracking, read with pyroute2."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from dovetail.kernel import conntrack
from dovetail.kernel.conntrack import Flows
from dovetail.kernel.netlink import Message

IP_SRC, PROTO_NUM, PROTO_DST_PORT = 1 << 0, 1 << 3, 1 << 5


def decoded(message: Message) -> Any:
    frame = struct.pack("=IHHII", 16 + len(message.body), message.kind, message.flags, 1, 0) + message.body
    read = nfct_msg(frame)
    read.decode()
    return read


def named(read: Any) -> dict[str, Any]:
    return {a[0]: named(a[1]) if isinstance(a[1], dict) and "attrs" in a[1] else a[1] for a in read["attrs"]}


def test_flows_are_deleted_by_protocol_port_and_reply_source() -> None:
    flows = Flows("udp", 53, ipaddress.ip_address("10.0.0.2"))

    message = conntrack.delete_flows(4, flows)

    read = decoded(message)
    assert message.kind == 1 << 8 | 2
    assert (read["nfgen_family"], read["version"]) == (socket.AF_INET, 1)
    found = named(read)
    assert found["CTA_TUPLE_ORIG"] == {"CTA_TUPLE_PROTO": {"CTA_PROTO_NUM": 17, "CTA_PROTO_DST_PORT": 53}}
    assert found["CTA_TUPLE_REPLY"] == {"CTA_TUPLE_IP": {"CTA_IP_V4_SRC": "10.0.0.2"}}
    assert found["CTA_FILTER"] == {
        "CTA_FILTER_ORIG_FLAGS": PROTO_NUM | PROTO_DST_PORT,
        "CTA_FILTER_REPLY_FLAGS": IP_SRC,
    }


def test_a_filter_is_never_empty_as_that_would_delete_everything() -> None:
    found = named(decoded(conntrack.delete_flows(6, Flows("tcp"))))

    assert found["CTA_TUPLE_ORIG"] == {"CTA_TUPLE_PROTO": {"CTA_PROTO_NUM": 6}}
    assert found["CTA_FILTER"]["CTA_FILTER_ORIG_FLAGS"] == PROTO_NUM


def row(protocol: int, port: int, reply_source: str) -> bytes:
    version = ipaddress.ip_address(reply_source).version
    message = nfct_msg()
    message["nfgen_family"] = socket.AF_INET if version == 4 else socket.AF_INET6
    proto = {"attrs": [("CTA_PROTO_NUM", protocol), ("CTA_PROTO_DST_PORT", port)]}
    reply = {"attrs": [(f"CTA_IP_V{version}_SRC", reply_source)]}
    message["attrs"] = [
        ("CTA_TUPLE_ORIG", {"attrs": [("CTA_TUPLE_PROTO", proto)]}),
        ("CTA_TUPLE_REPLY", {"attrs": [("CTA_TUPLE_IP", reply)]}),
        ("CTA_ID", 0x1234),
    ]
    message.encode()
    return bytes(message.data[16:])


@pytest.mark.parametrize(
    ("flows", "expected"),
    [
        (Flows("udp"), True),
        (Flows("tcp"), False),
        (Flows("udp", 53), True),
        (Flows("udp", 54), False),
        (Flows("udp", 53, ipaddress.ip_address("fd00::2")), True),
        (Flows("udp", 53, ipaddress.ip_address("fd00::3")), False),
        (Flows("udp", 54, ipaddress.ip_address("fd00::2")), False),
        (Flows("udp", 0, ipaddress.ip_address("10.0.0.2")), False),
    ],
)
def test_a_row_is_compared_field_by_field(flows: Flows, expected: bool) -> None:
    assert conntrack.matches(row(17, 53, "fd00::2"), flows) is expected


def test_a_single_flow_is_deleted_with_its_id() -> None:
    found = decoded(conntrack.delete_flow(row(17, 53, "10.0.0.2")))

    assert found["nfgen_family"] == socket.AF_INET
    assert set(named(found)) == {"CTA_TUPLE_ORIG", "CTA_ID"}
