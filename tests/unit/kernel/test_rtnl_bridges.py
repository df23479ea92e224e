"""Messages of rtnetlink for bridges, ports and VLANs: what we write as pyroute2 reads it, and the other way round."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from dovetail.errors import InvalidArgument
from dovetail.kernel import rtnl_bridges
from dovetail.kernel.netlink import Message
from dovetail.kernel.protocol import BridgePort, BridgeSettings, VlanRange

AF_BRIDGE = 7
BEGIN, END, PVID, UNTAGGED = 0x8, 0x10, 0x2, 0x4  # BRIDGE_VLAN_INFO_…


def decoded(message: Message) -> Any:
    """Read a message of ours with pyroute2: (fields, attributes by name)."""
    frame = struct.pack("=IHHII", 16 + len(message.body), message.kind, message.flags, 1, 0) + message.body
    read = ifinfmsg(frame)
    read.decode()
    return read


def named(read: Any) -> dict[str, Any]:
    """Give the attributes by name, nested ones likewise."""
    return {a[0]: named(a[1]) if isinstance(a[1], dict) and "attrs" in a[1] else a[1] for a in read["attrs"]}


def encoded(attributes: list[Any], **fields: int) -> bytes:
    """Write a link with pyroute2 and give what follows the header."""
    message = ifinfmsg()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data[16:])


def link_info(**nested: Any) -> tuple[str, Any]:
    return "IFLA_LINKINFO", {"attrs": [(f"IFLA_INFO_{name}", value) for name, value in nested.items()]}


def entries(message: Message) -> list[tuple[str, Any]]:
    """Give what IFLA_AF_SPEC has, in order."""
    read = decoded(message)
    assert read["family"] == AF_BRIDGE
    ((name, spec),) = read["attrs"]
    assert name == "IFLA_AF_SPEC"
    return [
        (a[0], {k: a[1][k] for k in ("flags", "vid")} if isinstance(a[1], dict) else a[1])
        for a in spec["attrs"]
    ]


# -- bridges and ports ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "data"),
    [
        ({"vlan_filtering": True}, {"IFLA_BR_VLAN_FILTERING": 1}),
        ({"vlan_filtering": False}, {"IFLA_BR_VLAN_FILTERING": 0}),
        ({"default_pvid": 0}, {"IFLA_BR_VLAN_DEFAULT_PVID": 0}),
        (
            {"vlan_filtering": True, "default_pvid": 4094},
            {"IFLA_BR_VLAN_FILTERING": 1, "IFLA_BR_VLAN_DEFAULT_PVID": 4094},
        ),
    ],
)
def test_a_bridge_is_changed_by_a_newlink_without_create(
    change: dict[str, Any], data: dict[str, int]
) -> None:
    message = rtnl_bridges.set_bridge("br0", **change)

    assert (message.kind, message.flags) == (16, 0)
    assert named(decoded(message)) == {
        "IFLA_IFNAME": "br0",
        "IFLA_LINKINFO": {"IFLA_INFO_KIND": "bridge", "IFLA_INFO_DATA": data},
    }


def test_a_bridges_settings_are_read_and_other_links_have_none() -> None:
    data = {"attrs": [("IFLA_BR_VLAN_FILTERING", 1), ("IFLA_BR_VLAN_DEFAULT_PVID", 10)]}
    old = {"attrs": [("IFLA_BR_STP_STATE", 0)]}

    assert rtnl_bridges.parse_settings(encoded([link_info(KIND="bridge", DATA=data)])) == BridgeSettings(
        vlan_filtering=True, default_pvid=10
    )
    assert rtnl_bridges.parse_settings(encoded([link_info(KIND="bridge", DATA=old)])) == BridgeSettings()
    assert rtnl_bridges.parse_settings(encoded([link_info(KIND="veth")])) is None
    assert rtnl_bridges.parse_settings(encoded([])) is None


@pytest.mark.parametrize(
    ("data", "port"),
    [
        ({"IFLA_BRPORT_STATE": 3}, BridgePort("", "forwarding")),
        ({"IFLA_BRPORT_STATE": 0, "IFLA_BRPORT_MODE": 1}, BridgePort("", "disabled", hairpin=True)),
        ({"IFLA_BRPORT_STATE": 4, "IFLA_BRPORT_ISOLATED": 1}, BridgePort("", "blocking", isolated=True)),
    ],
)
def test_a_port_is_read_with_its_bridges_index(data: dict[str, int], port: BridgePort) -> None:
    info = link_info(KIND="veth", SLAVE_KIND="bridge", SLAVE_DATA={"attrs": list(data.items())})

    assert rtnl_bridges.parse_port(encoded([("IFLA_MASTER", 5), info])) == (5, port)


def test_a_link_with_another_master_is_no_port() -> None:
    info = link_info(KIND="veth", SLAVE_KIND="vrf")

    assert rtnl_bridges.parse_port(encoded([("IFLA_MASTER", 5), info])) is None
    assert rtnl_bridges.parse_port(encoded([link_info(KIND="veth")])) is None


# -- VLANs ----------------------------------------------------------------------------------------

VLANS = [
    VlanRange(10, pvid=True, untagged=True),
    VlanRange(20, 30),
    VlanRange(40, 41, untagged=True),
    VlanRange(50, 50),
]
ENTRIES = [
    (10, PVID | UNTAGGED),
    (20, BEGIN),
    (30, END),
    (40, BEGIN | UNTAGGED),
    (41, END | UNTAGGED),
    (50, 0),
]


def test_vlans_are_added_by_one_message_and_a_range_is_two_entries() -> None:
    message = rtnl_bridges.add_vlans(12, VLANS)

    assert (message.kind, message.flags, decoded(message)["index"]) == (19, 0, 12)
    assert entries(message) == [
        ("IFLA_BRIDGE_VLAN_INFO", {"flags": flags, "vid": number}) for number, flags in ENTRIES
    ]


def test_vlans_are_deleted_without_their_flags() -> None:
    message = rtnl_bridges.delete_vlans(12, VLANS[:2])

    assert (message.kind, message.flags) == (17, 0)
    assert [(e[1]["vid"], e[1]["flags"]) for e in entries(message)] == [(10, 0), (20, BEGIN), (30, END)]


def test_the_bridge_itself_is_asked_by_a_flag() -> None:
    for write in (rtnl_bridges.add_vlans, rtnl_bridges.delete_vlans):
        assert entries(write(5, [VlanRange(10)], on_bridge=True)) == [
            ("IFLA_BRIDGE_VLAN_FLAGS", 2),  # pyroute2's name for IFLA_BRIDGE_FLAGS; BRIDGE_FLAGS_SELF
            ("IFLA_BRIDGE_VLAN_INFO", {"flags": 0, "vid": 10}),
        ]


def test_vlans_are_written_byte_for_byte_as_pyroute2_does() -> None:
    theirs = ifinfmsg()
    theirs["family"], theirs["index"] = AF_BRIDGE, 12
    spec = {"attrs": [("IFLA_BRIDGE_VLAN_INFO", {"vid": vid, "flags": flags}) for vid, flags in ENTRIES]}
    theirs["attrs"] = [("IFLA_AF_SPEC", spec)]
    theirs.encode()

    ours = rtnl_bridges.add_vlans(12, VLANS).body

    nested = struct.pack("=H", 0x8000 | 26)  # NLA_F_NESTED of IFLA_AF_SPEC, which pyroute2 leaves out
    assert ours.replace(nested, struct.pack("=H", 26)) == bytes(theirs.data[16:])


@pytest.mark.parametrize(
    "vlan",
    [VlanRange(0), VlanRange(4095), VlanRange(10, 9), VlanRange(10, 4095), VlanRange(10, 20, pvid=True)],
)
def test_what_is_no_vlan_is_not_written(vlan: VlanRange) -> None:
    with pytest.raises(InvalidArgument, match="VLAN"):
        rtnl_bridges.add_vlans(12, [vlan])


@pytest.mark.parametrize("number", [-1, 4095, 70000])
def test_a_default_that_is_no_vlan_is_not_written(number: int) -> None:
    with pytest.raises(InvalidArgument, match=f"{number} is no VLAN"):
        rtnl_bridges.set_bridge("br0", default_pvid=number)


def test_the_list_is_asked_for_as_ranges() -> None:
    read = decoded(rtnl_bridges.dump_vlans())

    assert (read["family"], named(read)) == (AF_BRIDGE, {"IFLA_EXT_MASK": 4})


def test_vlans_are_read_with_their_links_name() -> None:
    spec = {"attrs": [("IFLA_BRIDGE_VLAN_INFO", {"vid": vid, "flags": flags}) for vid, flags in ENTRIES]}

    name, vlans = rtnl_bridges.parse_vlans(
        encoded([("IFLA_IFNAME", "v0"), ("IFLA_AF_SPEC", spec)], family=AF_BRIDGE, index=12)
    )

    assert (name, vlans) == ("v0", [*VLANS[:3], VlanRange(50)])


def test_a_port_of_a_kernel_that_cannot_filter_has_none() -> None:
    assert rtnl_bridges.parse_vlans(encoded([("IFLA_IFNAME", "v0")], family=AF_BRIDGE)) == ("v0", [])
    assert socket.AF_BRIDGE == AF_BRIDGE
