"""Messages of rtnetlink: what we write as pyroute2 reads it, and what pyroute2 writes as we read it."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ifinfmsg.plugins.ipvlan import ipvlan

from dovetail.kernel import rtnl
from dovetail.kernel.netlink import Message
from dovetail.kernel.protocol import Dummy, Ifb, Ipvlan, Link, LinkSettings, LinkSpec, Macvlan, Tap, Vlan, Vrf
from dovetail.kernel.rtnl import AddressRow
from dovetail.model.mac import Mac

# pyroute2 has not heard of the flags (include/uapi/linux/if_link.h)
ipvlan.nla_map = (*ipvlan.nla_map, ("IFLA_IPVLAN_FLAGS", "uint16"))

macvx = ifinfmsg.ifinfo.macvlan_data
macvx.nla_map = (*macvx.nla_map, ("IFLA_MACVLAN_BC_QUEUE_LEN", "uint32"))

MAC, PEER_MAC = Mac("02:00:5e:10:00:01"), Mac("02:00:5e:10:00:02")
CREATE = 0x600  # NLM_F_CREATE | NLM_F_EXCL


class OpenNetns:
    """A namespace in name only."""

    path = "/run/netns/box"
    inode = 7

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None: ...

    def __enter__(self) -> OpenNetns:
        return self

    def __exit__(self, *exc: object) -> None: ...


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


# -- links ----------------------------------------------------------------------------------------


ONE_QUEUE = {"IFLA_NUM_TX_QUEUES": 1, "IFLA_NUM_RX_QUEUES": 1}


def test_a_pair_is_one_message_with_the_peers_half_nested() -> None:
    end = LinkSpec("v0", MAC, 1400, master="br0", hairpin=True, alias="left out here", up=True)
    peer = LinkSpec("eth0", PEER_MAC, 1300, netns=OpenNetns(9))

    message = rtnl.new_veth(end, peer, master=5)

    read = decoded(ifinfmsg, message)
    assert (message.kind, message.flags) == (16, CREATE)
    assert (read["index"], read["flags"], read["change"]) == (0, 1, 1)
    assert named(read) == {
        "IFLA_IFNAME": "v0",
        **ONE_QUEUE,
        "IFLA_ADDRESS": MAC,
        "IFLA_MTU": 1400,
        "IFLA_MASTER": 5,
        "IFLA_LINKINFO": {
            "IFLA_INFO_KIND": "veth",
            "IFLA_INFO_DATA": {
                "VETH_INFO_PEER": {
                    "IFLA_IFNAME": "eth0",
                    **ONE_QUEUE,
                    "IFLA_ADDRESS": PEER_MAC,
                    "IFLA_MTU": 1300,
                    "IFLA_NET_NS_FD": 9,
                }
            },
        },
    }


def test_a_plain_pair_leaves_everything_to_the_kernel() -> None:
    read = decoded(ifinfmsg, rtnl.new_veth(LinkSpec("a"), LinkSpec("b")))

    assert (read["flags"], read["change"]) == (0, 0)
    data = named(read)["IFLA_LINKINFO"]["IFLA_INFO_DATA"]
    assert data == {"VETH_INFO_PEER": {"IFLA_IFNAME": "b", **ONE_QUEUE}}


def test_a_bridge_has_its_mac_from_the_start() -> None:
    message = rtnl.new_bridge("br0", mac=MAC)

    assert (message.kind, message.flags) == (16, CREATE)
    assert named(decoded(ifinfmsg, message)) == {
        "IFLA_IFNAME": "br0",
        "IFLA_ADDRESS": MAC,
        "IFLA_LINKINFO": {"IFLA_INFO_KIND": "bridge"},
    }


KINDS: list[tuple[LinkSettings, str, dict[str, Any]]] = [
    (Macvlan("private"), "macvlan", {"IFLA_MACVLAN_MODE": "private"}),
    (Macvlan("vepa"), "macvlan", {"IFLA_MACVLAN_MODE": "vepa"}),
    (Macvlan("bridge"), "macvlan", {"IFLA_MACVLAN_MODE": "bridge"}),
    (Macvlan("passthru"), "macvlan", {"IFLA_MACVLAN_MODE": "passthru"}),
    (Ipvlan("l2", "bridge"), "ipvlan", {"IFLA_IPVLAN_MODE": 0, "IFLA_IPVLAN_FLAGS": 0}),
    (Ipvlan("l3", "private"), "ipvlan", {"IFLA_IPVLAN_MODE": 1, "IFLA_IPVLAN_FLAGS": 1}),
    (Ipvlan("l3s", "vepa"), "ipvlan", {"IFLA_IPVLAN_MODE": 2, "IFLA_IPVLAN_FLAGS": 2}),
    (Vlan(4094), "vlan", {"IFLA_VLAN_ID": 4094}),
    (Dummy(), "dummy", {}),
    (Ifb(), "ifb", {}),
    (Macvlan("bridge", 500), "macvlan", {"IFLA_MACVLAN_MODE": "bridge", "IFLA_MACVLAN_BC_QUEUE_LEN": 500}),
    (Vrf(1000), "vrf", {"IFLA_VRF_TABLE": 1000}),
]


def link_info(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    """Give IFLA_LINKINFO as pyroute2 takes it."""
    return {"attrs": [("IFLA_INFO_KIND", kind), ("IFLA_INFO_DATA", {"attrs": list(data.items())})]}


@pytest.mark.parametrize(("settings", "kind", "data"), KINDS)
def test_a_link_on_a_parent_is_one_message(settings: LinkSettings, kind: str, data: dict[str, Any]) -> None:
    spec = LinkSpec("eth0", MAC, 1400, netns=OpenNetns(9), alias="left out here", up=True)

    message = rtnl.new_link(spec, settings, parent=7)

    read = decoded(ifinfmsg, message)
    assert (message.kind, message.flags) == (16, CREATE)
    assert (read["index"], read["flags"], read["change"]) == (0, 1, 1)
    assert named(read) == {
        "IFLA_IFNAME": "eth0",
        "IFLA_ADDRESS": MAC,
        "IFLA_MTU": 1400,
        "IFLA_NET_NS_FD": 9,
        "IFLA_LINK": 7,
        "IFLA_LINKINFO": {"IFLA_INFO_KIND": kind, **({"IFLA_INFO_DATA": data} if data else {})},
    }


@pytest.mark.parametrize(("settings", "kind", "data"), KINDS)
def test_the_settings_of_a_link_are_written_byte_for_byte_as_pyroute2_does(
    settings: LinkSettings, kind: str, data: dict[str, Any]
) -> None:
    theirs = ifinfmsg()
    info = link_info(kind, data) if data else {"attrs": [("IFLA_INFO_KIND", kind)]}
    theirs["attrs"] = [("IFLA_IFNAME", "x"), ("IFLA_LINK", 7), ("IFLA_LINKINFO", info)]

    ours = rtnl.new_link(LinkSpec("x"), settings, parent=7).body

    assert without_nested_flags(ours) == without_nested_flags(encoded(theirs))


def without_nested_flags(body: bytes) -> bytes:
    """Clear NLA_F_NESTED of IFLA_LINKINFO and IFLA_INFO_DATA, which pyroute2 leaves out."""
    return body.replace(struct.pack("=H", 0x8000 | 18), struct.pack("=H", 18)).replace(
        struct.pack("=H", 0x8000 | 2), struct.pack("=H", 2)
    )


def test_a_link_that_sits_on_none_and_belongs_to_a_bridge_says_so() -> None:
    assert named(decoded(ifinfmsg, rtnl.new_link(LinkSpec("d"), Dummy(), master=5))) == {
        "IFLA_IFNAME": "d",
        "IFLA_MASTER": 5,
        "IFLA_LINKINFO": {"IFLA_INFO_KIND": "dummy"},
    }


@pytest.mark.parametrize(("settings", "kind", "data"), KINDS)
def test_a_link_is_read_with_its_settings_and_its_parent(
    settings: LinkSettings, kind: str, data: dict[str, Any]
) -> None:
    message = ifinfmsg()
    message["index"] = 12
    info = link_info(kind, data) if data else {"attrs": [("IFLA_INFO_KIND", kind)]}
    message["attrs"] = [("IFLA_IFNAME", "x"), ("IFLA_LINK", 7), ("IFLA_LINKINFO", info)]

    assert rtnl.parse_link(encoded(message)) == Link("x", 12, kind, parent_ifindex=7, settings=settings)


def test_the_kernels_own_length_of_a_macvlans_queue_is_none_that_was_asked_for() -> None:
    message = ifinfmsg()
    info = link_info("macvlan", {"IFLA_MACVLAN_MODE": 4, "IFLA_MACVLAN_BC_QUEUE_LEN": 1000})
    message["attrs"] = [("IFLA_LINKINFO", info)]

    assert rtnl.parse_link(encoded(message)).settings == Macvlan("bridge")


@pytest.mark.parametrize(
    ("data", "settings"),
    [
        ({"IFLA_TUN_TYPE": 2}, Tap()),
        (
            {"IFLA_TUN_OWNER": 0, "IFLA_TUN_GROUP": 1000, "IFLA_TUN_TYPE": 2, "IFLA_TUN_MULTI_QUEUE": 1},
            Tap(multi_queue=True, owner=0, group=1000),
        ),
        ({"IFLA_TUN_TYPE": 1}, None),
    ],
)
def test_a_tap_is_read_with_whose_it_is(data: dict[str, int], settings: Tap | None) -> None:
    message = ifinfmsg()
    message["attrs"] = [("IFLA_LINKINFO", link_info("tun", data))]

    assert rtnl.parse_link(encoded(message)).settings == settings


def test_a_parent_in_another_namespace_is_counted_there() -> None:
    message = ifinfmsg()
    message["index"] = 12
    info = link_info("macvlan", {"IFLA_MACVLAN_MODE": 4})
    message["attrs"] = [
        ("IFLA_IFNAME", "x"),
        ("IFLA_LINK", 7),
        ("IFLA_LINKINFO", info),
        ("IFLA_LINK_NETNSID", 0),
    ]

    read = rtnl.parse_link(encoded(message))

    assert (read.parent_ifindex, read.parent_abroad) == (7, True)


def test_a_mode_that_is_never_made_is_read_as_no_settings() -> None:
    message = ifinfmsg()
    message["attrs"] = [("IFLA_LINKINFO", link_info("macvlan", {"IFLA_MACVLAN_MODE": 16}))]

    assert rtnl.parse_link(encoded(message)).settings is None


@pytest.mark.parametrize(
    ("change", "flags", "attributes"),
    [
        ({}, (0, 0), {}),
        ({"up": True}, (1, 1), {}),
        ({"up": False}, (0, 1), {}),
        ({"mtu": 1400, "mac": MAC}, (0, 0), {"IFLA_MTU": 1400, "IFLA_ADDRESS": MAC}),
        ({"master": 5}, (0, 0), {"IFLA_MASTER": 5}),
        ({"master": 0}, (0, 0), {"IFLA_MASTER": 0}),
        ({"alias": "of whom"}, (0, 0), {"IFLA_IFALIAS": "of whom"}),
        ({"group": 1 << 30}, (0, 0), {"IFLA_GROUP": 1 << 30}),
        ({"promisc": True, "allmulti": False}, (0x100, 0x300), {}),
        ({"up": True, "allmulti": True}, (0x201, 0x201), {}),
        ({"txqueuelen": 0}, (0, 0), {"IFLA_TXQLEN": 0}),
    ],
)
def test_setting_a_link_carries_what_changes(
    change: dict[str, Any], flags: tuple[int, int], attributes: dict[str, Any]
) -> None:
    message = rtnl.set_link("v0", **change)

    read = decoded(ifinfmsg, message)
    assert (message.kind, message.flags) == (19, 0)
    assert (read["flags"], read["change"]) == flags
    assert named(read) == {"IFLA_IFNAME": "v0", **attributes}


def test_an_empty_alias_is_an_empty_attribute_which_removes_it() -> None:
    assert rtnl.set_link("v0", alias="").body.endswith(struct.pack("=HH", 4, 20))


def test_port_flags_are_the_slaves_data_of_a_newlink_without_create() -> None:
    message = rtnl.set_link("v0", alias="x", hairpin=True, isolated=False)

    assert (message.kind, message.flags) == (16, 0)
    assert named(decoded(ifinfmsg, message)) == {
        "IFLA_IFNAME": "v0",
        "IFLA_IFALIAS": "x",
        "IFLA_LINKINFO": {
            "IFLA_INFO_SLAVE_KIND": "bridge",
            "IFLA_INFO_SLAVE_DATA": {"IFLA_BRPORT_MODE": 1, "IFLA_BRPORT_ISOLATED": 0},
        },
    }


@pytest.mark.parametrize(
    ("where", "attributes"),
    [
        ({}, {}),
        ({"netns": OpenNetns(9)}, {"IFLA_NET_NS_FD": 9}),
        ({"netns": OpenNetns(9), "alias": "old"}, {"IFLA_NET_NS_FD": 9, "IFLA_IFALIAS": "old"}),
    ],
)
def test_a_link_moves_and_gets_its_name_by_one_message(
    where: dict[str, Any], attributes: dict[str, Any]
) -> None:
    message = rtnl.move_link(12, "eth0", **where)

    read = decoded(ifinfmsg, message)
    assert (message.kind, message.flags, read["index"], read["change"]) == (19, 0, 12, 0)
    assert named(read) == {"IFLA_IFNAME": "eth0", **attributes}


def test_what_a_link_was_told_and_how_it_is_are_read() -> None:
    message = ifinfmsg()
    message["index"], message["flags"] = 2, 0x300
    message["attrs"] = [
        ("IFLA_IFNAME", "ens3"),
        ("IFLA_TXQLEN", 77),
        ("IFLA_OPERSTATE", "LOWERLAYERDOWN"),
        ("IFLA_LINK_NETNSID", 3),
    ]

    assert rtnl.parse_link(encoded(message)) == Link(
        "ens3", 2, promisc=True, allmulti=True, txqueuelen=77, operstate="lowerlayerdown", netnsid=3
    )


def test_links_are_deleted_by_name_or_by_group_and_never_by_nothing() -> None:
    by_name, by_group = rtnl.delete_link("v0"), rtnl.delete_group(1 << 30)

    assert (by_name.kind, by_group.kind) == (17, 17)
    assert named(decoded(ifinfmsg, by_name)) == {"IFLA_IFNAME": "v0"}
    assert named(decoded(ifinfmsg, by_group)) == {"IFLA_GROUP": 1 << 30}


def test_statistics_are_not_asked_for() -> None:
    assert named(decoded(ifinfmsg, rtnl.get_link("v0"))) == {"IFLA_IFNAME": "v0", "IFLA_EXT_MASK": 8}
    assert named(decoded(ifinfmsg, rtnl.dump_links())) == {"IFLA_EXT_MASK": 8}


def test_a_link_is_read_from_what_pyroute2_writes() -> None:
    message = ifinfmsg()
    message["index"], message["flags"] = 12, 0x1003
    message["attrs"] = [
        ("IFLA_IFNAME", "v0"),
        ("IFLA_MTU", 1400),
        ("IFLA_LINK", 7),
        ("IFLA_MASTER", 5),
        ("IFLA_ADDRESS", str(MAC)),
        ("IFLA_IFALIAS", "of whom"),
        ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth")]}),
    ]

    link = rtnl.parse_link(encoded(message))

    assert link == Link("v0", 12, "veth", MAC, 1400, up=True, master=5, alias="of whom", peer_ifindex=7)


def test_a_network_card_has_no_kind_and_no_peer() -> None:
    message = ifinfmsg()
    message["index"] = 2
    message["attrs"] = [("IFLA_IFNAME", "ens3"), ("IFLA_LINK", 9)]

    assert rtnl.parse_link(encoded(message)) == Link("ens3", 2)


# -- addresses ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "dad", "flags"), [("10.0.0.2/24", False, 0), ("fd00::2/64", False, 2), ("fd00::2/64", True, 0)]
)
def test_an_address_is_local_and_whole_and_ipv6_skips_detection(text: str, dad: bool, flags: int) -> None:
    address = ipaddress.ip_interface(text)

    message = rtnl.new_address(12, address, dad=dad)

    read = decoded(ifaddrmsg, message)
    assert (message.kind, message.flags) == (20, CREATE)
    assert read["family"] == (socket.AF_INET if address.version == 4 else socket.AF_INET6)
    assert (read["prefixlen"], read["flags"], read["scope"], read["index"]) == (
        address.network.prefixlen,
        flags,
        0,
        12,
    )
    assert named(read) == {"IFA_LOCAL": str(address.ip), "IFA_ADDRESS": str(address.ip)}


@pytest.mark.parametrize(
    ("text", "dad", "flags"), [("10.0.0.2/24", False, 0x200), ("fd00::2/64", False, 0x202)]
)
def test_an_address_without_its_prefix_on_the_link_says_so_in_the_wider_flags(
    text: str, dad: bool, flags: int
) -> None:
    message = rtnl.new_address(12, ipaddress.ip_interface(text), dad=dad, prefix_route=False)

    assert named(decoded(ifaddrmsg, message))["IFA_FLAGS"] == flags


def test_removing_an_address_is_addressed_the_same_way() -> None:
    message = rtnl.remove_address(12, ipaddress.ip_interface("fd00::2/64"))

    read = decoded(ifaddrmsg, message)
    assert (message.kind, message.flags, read["index"], read["prefixlen"]) == (21, 0, 12, 64)


def test_an_address_with_a_peer_is_read_as_the_local_one() -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET, 24, 3
    message["attrs"] = [("IFA_ADDRESS", "10.0.0.9"), ("IFA_LOCAL", "10.0.0.2")]

    assert rtnl.parse_address(encoded(message)) == AddressRow(3, ipaddress.ip_interface("10.0.0.2/24"))


def test_an_ipv6_address_has_no_local_attribute() -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET6, 64, 3
    message["attrs"] = [("IFA_ADDRESS", "fd00::2")]

    assert rtnl.parse_address(encoded(message)) == AddressRow(3, ipaddress.ip_interface("fd00::2/64"))


@pytest.mark.parametrize(
    ("flags", "tentative", "duplicate"),
    [
        (0x40, True, False),  # IFA_F_TENTATIVE
        (0x44, False, False),  # and IFA_F_OPTIMISTIC
        (0x48, False, True),  # and IFA_F_DADFAILED
        (0x80, False, False),  # IFA_F_PERMANENT
    ],
)
def test_an_address_says_whether_another_owner_is_looked_for(
    flags: int, tentative: bool, duplicate: bool
) -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET6, 64, 3
    for wide in (False, True):
        message["flags"] = 0 if wide else flags
        message["attrs"] = [("IFA_ADDRESS", "fd00::2"), *([("IFA_FLAGS", flags | 0x200)] if wide else [])]

        row = rtnl.parse_address(encoded(message))

        assert row is not None
        assert (row.tentative, row.duplicate) == (tentative, duplicate)


def test_addresses_of_other_families_are_passed_over() -> None:
    message = ifaddrmsg()
    message["family"] = socket.AF_PACKET

    assert rtnl.parse_address(encoded(message)) is None
