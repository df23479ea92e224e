"""Messages of rtnetlink for routes and rules: what we write as pyroute2 reads it, and what it writes as we read it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from dovetail.kernel import rtnl_routes, rtnl_rules
from dovetail.kernel.netlink import Message
from dovetail.kernel.protocol import Rule
from dovetail.kernel.rtnl_routes import RouteRow
from dovetail.model.attachment import Route

CREATE = 0x600  # NLM_F_CREATE | NLM_F_EXCL


def decoded(kind: type, message: Message) -> Any:
    """Read a message of ours with pyroute2: (fields, attributes by name)."""
    frame = struct.pack("=IHHII", 16 + len(message.body), message.kind, message.flags, 1, 0) + message.body
    read = kind(frame)
    read.decode()
    return read


def named(read: Any) -> dict[str, Any]:
    """Give the attributes by name, nested ones likewise."""
    return {a[0]: named(a[1]) if isinstance(a[1], dict) and "attrs" in a[1] else a[1] for a in read["attrs"]}


def encoded(read: Any) -> bytes:
    """Write a message with pyroute2 and give what follows the header."""
    read.encode()
    return bytes(read.data[16:])


# -- routes ---------------------------------------------------------------------------------------


def new_route(destination: str, gateway: str = "", **more: Any) -> Any:
    via = ipaddress.ip_address(gateway) if gateway else None
    message = rtnl_routes.new_route(
        12, Route(destination=ipaddress.ip_network(destination), gateway=via, **more)
    )
    assert (message.kind, message.flags) == (24, CREATE)
    return decoded(rtmsg, message)


def test_a_default_route_has_no_destination() -> None:
    read = new_route("0.0.0.0/0", "10.0.0.1")

    fields = {name: read[name] for name in ("family", "dst_len", "table", "proto", "scope", "type")}
    assert fields == {"family": 2, "dst_len": 0, "table": 254, "proto": 3, "scope": 0, "type": 1}
    assert named(read) == {"RTA_GATEWAY": "10.0.0.1", "RTA_OIF": 12, "RTA_TABLE": 254}


@pytest.mark.parametrize(
    ("destination", "scope", "expected"),
    [("10.9.0.0/16", None, 253), ("10.9.0.0/16", 0, 0), ("fd09::/64", None, 0)],
)
def test_a_route_without_gateway_has_the_links_scope(
    destination: str, scope: int | None, expected: int
) -> None:
    read = new_route(destination, scope=scope)

    assert read["scope"] == expected
    assert named(read)["RTA_DST"] == destination.split("/", maxsplit=1)[0]


def test_a_route_carries_metrics_priority_and_a_table_beyond_a_byte() -> None:
    read = new_route("10.9.0.0/16", "10.0.0.1", mtu=1300, advmss=1200, priority=7, table=1000)

    assert read["table"] == 0
    assert named(read) == {
        "RTA_DST": "10.9.0.0",
        "RTA_GATEWAY": "10.0.0.1",
        "RTA_OIF": 12,
        "RTA_PRIORITY": 7,
        "RTA_TABLE": 1000,
        "RTA_METRICS": {"RTAX_MTU": 1300, "RTAX_ADVMSS": 1200},
    }


def test_an_ipv4_route_may_lead_over_an_ipv6_gateway() -> None:
    assert named(new_route("10.9.0.0/16", "fd00::1"))["RTA_VIA"] == {
        "family": socket.AF_INET6,
        "addr": "fd00::1",
    }


@pytest.mark.parametrize("destination", ["10.9.0.0/16", "fd09::/64"])
def test_an_unreachable_destination_has_no_link_and_our_protocol(destination: str) -> None:
    network = ipaddress.ip_network(destination)

    added = rtnl_routes.new_unreachable(network)
    removed = rtnl_routes.remove_unreachable(network)

    read = decoded(rtmsg, added)
    fields = {name: read[name] for name in ("dst_len", "table", "proto", "scope", "type")}
    assert fields == {"dst_len": network.prefixlen, "table": 254, "proto": 208, "scope": 0, "type": 7}
    assert named(read) == {"RTA_DST": str(network.network_address)}
    assert (added.kind, added.flags, removed.kind, removed.flags) == (24, CREATE, 25, 0)
    assert rtnl_routes.parse_unreachable(added.body) == network
    assert rtnl_routes.parse_unreachable(kernel_route([("RTA_DST", "10.9.0.0")])) is None


def kernel_route(attributes: list[Any], **fields: int) -> bytes:
    message = rtmsg()
    values = {"family": socket.AF_INET, "dst_len": 16, "table": 254, "type": 1, **fields}
    for name, value in values.items():
        message[name] = value
    message["attrs"] = attributes
    return encoded(message)


def test_a_route_is_read_from_what_pyroute2_writes() -> None:
    body = kernel_route(
        [("RTA_TABLE", 254), ("RTA_DST", "10.9.0.0"), ("RTA_GATEWAY", "10.0.0.1"), ("RTA_OIF", 3)]
    )

    assert rtnl_routes.parse_routes(body) == [
        RouteRow(ipaddress.ip_network("10.9.0.0/16"), ipaddress.ip_address("10.0.0.1"), 3)
    ]


def test_default_routes_of_both_families_are_read() -> None:
    four = kernel_route([("RTA_OIF", 3)], dst_len=0)
    six = kernel_route([("RTA_OIF", 3), ("RTA_GATEWAY", "fd00::1")], dst_len=0, family=socket.AF_INET6)

    assert rtnl_routes.parse_routes(four) == [RouteRow(ipaddress.ip_network("0.0.0.0/0"), None, 3)]
    assert rtnl_routes.parse_routes(six) == [
        RouteRow(ipaddress.ip_network("::/0"), ipaddress.ip_address("fd00::1"), 3)
    ]


def test_every_next_hop_is_a_row() -> None:
    hops = [
        {"oif": 3, "attrs": [("RTA_GATEWAY", "10.0.0.2")]},
        {"oif": 4, "attrs": [("RTA_GATEWAY", "10.0.1.2")]},
    ]

    rows = rtnl_routes.parse_routes(kernel_route([("RTA_DST", "10.9.0.0"), ("RTA_MULTIPATH", hops)]))

    assert [(str(row.gateway), row.ifindex) for row in rows] == [("10.0.0.2", 3), ("10.0.1.2", 4)]


@pytest.mark.parametrize(
    "other", [{"type": 6}, {"table": 255}, {"flags": 0x200}, {"family": socket.AF_PACKET}], ids=str
)
def test_routes_that_are_not_main_and_unicast_are_passed_over(other: dict[str, int]) -> None:
    assert rtnl_routes.parse_routes(kernel_route([("RTA_OIF", 3)], **{"dst_len": 0, **other})) == []


def test_a_route_is_appended_without_asking_that_it_be_the_first() -> None:
    route = Route(destination=ipaddress.ip_network("10.9.0.0/16"))

    message = rtnl_routes.new_route(12, route, append=True, source=ipaddress.ip_address("10.0.0.2"))

    assert (message.kind, message.flags) == (24, 0xC00)  # NLM_F_CREATE | NLM_F_APPEND
    assert named(decoded(rtmsg, message))["RTA_PREFSRC"] == "10.0.0.2"


def test_a_route_is_deleted_whoever_added_it_and_whatever_its_metrics() -> None:
    destination, gateway = ipaddress.ip_network("10.9.0.0/16"), ipaddress.ip_address("10.0.0.1")

    message = rtnl_routes.remove_route(
        12, Route(destination=destination, gateway=gateway, mtu=1300, priority=7, table=1000)
    )

    read = decoded(rtmsg, message)
    assert (message.kind, message.flags) == (25, 0)
    fields = {name: read[name] for name in ("dst_len", "table", "proto", "scope", "type")}
    assert fields == {"dst_len": 16, "table": 0, "proto": 0, "scope": 255, "type": 0}
    assert named(read) == {
        "RTA_DST": "10.9.0.0",
        "RTA_GATEWAY": "10.0.0.1",
        "RTA_OIF": 12,
        "RTA_PRIORITY": 7,
        "RTA_TABLE": 1000,
    }


def test_a_route_of_a_known_scope_is_deleted_by_it() -> None:
    route = Route(destination=ipaddress.ip_network("10.9.0.0/16"), scope=253)

    assert decoded(rtmsg, rtnl_routes.remove_route(12, route))["scope"] == 253


@pytest.mark.parametrize(
    ("table", "byte", "attributes"), [(0, 0, {}), (254, 254, {}), (1000, 0, {"RTA_TABLE": 1000})]
)
def test_a_list_is_of_one_table_or_of_all(table: int, byte: int, attributes: dict[str, int]) -> None:
    read = decoded(rtmsg, rtnl_routes.dump_routes(6, table))

    assert (read["family"], read["table"], read["type"]) == (socket.AF_INET6, byte, 1)
    assert named(read) == attributes


def test_a_route_of_another_table_is_read_with_all_it_says() -> None:
    body = kernel_route(
        [
            ("RTA_TABLE", 1000),
            ("RTA_DST", "10.9.0.0"),
            ("RTA_OIF", 3),
            ("RTA_PRIORITY", 7),
            ("RTA_PREFSRC", "10.0.0.2"),
            ("RTA_METRICS", {"attrs": [("RTAX_MTU", 1300), ("RTAX_ADVMSS", 1200)]}),
        ],
        table=252,  # RT_TABLE_COMPAT
        scope=253,
        proto=2,
    )
    expected = RouteRow(
        *(ipaddress.ip_network("10.9.0.0/16"), None, 3),
        source=ipaddress.ip_address("10.0.0.2"),
        priority=7,
        table=1000,
        scope=253,
        mtu=1300,
        advmss=1200,
        protocol=2,
    )

    assert rtnl_routes.parse_routes(body, 1000) == rtnl_routes.parse_routes(body, 0) == [expected]
    assert rtnl_routes.parse_routes(body) == rtnl_routes.parse_routes(body, 999) == []


# -- rules ----------------------------------------------------------------------------------------

RULES: list[tuple[Rule, dict[str, int], dict[str, Any]]] = [
    (
        Rule(4, source=ipaddress.ip_network("10.0.0.2/32"), table=100),
        {"family": 2, "src_len": 32, "dst_len": 0, "table": 100},
        {"FRA_SRC": "10.0.0.2", "FRA_TABLE": 100},
    ),
    (
        Rule(6, destination=ipaddress.ip_network("fd00::/64"), iif="lo", table=1000, priority=77),
        {"family": 10, "src_len": 0, "dst_len": 64, "table": 0},
        {"FRA_DST": "fd00::", "FRA_IIFNAME": "lo", "FRA_PRIORITY": 77, "FRA_TABLE": 1000},
    ),
]


@pytest.mark.parametrize(("rule", "fields", "attributes"), RULES)
def test_a_rule_is_one_message_to_add_and_the_same_to_delete(
    rule: Rule, fields: dict[str, int], attributes: dict[str, Any]
) -> None:
    added, removed = rtnl_rules.new_rule(rule), rtnl_rules.remove_rule(rule)

    read = decoded(fibmsg, added)
    assert (added.kind, added.flags, removed.kind, removed.flags) == (32, CREATE, 33, 0)
    assert {name: read[name] for name in fields} == fields
    assert read["action"] == 1
    assert named(read) == attributes
    assert removed.body == added.body


@pytest.mark.parametrize(("rule", "fields", "attributes"), RULES)
def test_a_rule_is_read_from_what_pyroute2_writes(
    rule: Rule, fields: dict[str, int], attributes: dict[str, Any]
) -> None:
    body = kernel_rule(list({"FRA_PRIORITY": 77, **attributes}.items()), **fields)

    assert rtnl_rules.parse_rule(body) == rule._replace(priority=77)


def kernel_rule(attributes: list[Any], **fields: int) -> bytes:
    message = fibmsg()
    for name, value in {"family": socket.AF_INET, "action": 1, **fields}.items():
        message[name] = value
    message["attrs"] = attributes
    return encoded(message)


@pytest.mark.parametrize(
    ("attributes", "fields"),
    [
        ([("FRA_TABLE", 100), ("FRA_FWMARK", 1)], {}),
        ([("FRA_TABLE", 100), ("FRA_OIFNAME", "eth0")], {}),
        ([("FRA_L3MDEV", 1)], {}),
        ([("FRA_TABLE", 100)], {"flags": 2}),
        ([("FRA_TABLE", 100)], {"tos": 4}),
        ([], {"action": 6}),
        ([("FRA_TABLE", 100)], {"family": 129}),  # RTNL_FAMILY_IPMR
    ],
)
def test_a_rule_that_looks_at_more_is_passed_over(attributes: list[Any], fields: dict[str, int]) -> None:
    assert rtnl_rules.parse_rule(kernel_rule(attributes, **fields)) is None
