"""Elements as nfnetlink messages: what we write as pyroute2 reads it, and back."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg, nft_set_msg

from dovetail.errors import InvalidArgument
from dovetail.kernel import nft_elements
from dovetail.kernel.netlink import Message
from dovetail.kernel.nfnetlink import transaction
from dovetail.kernel.nft_elements import Shape
from dovetail.model.element import Element

INET = 1
four, six = ipaddress.IPv4Address, ipaddress.IPv6Address
net4, net6 = ipaddress.IPv4Network, ipaddress.IPv6Network
PUBLISH = Shape("publish4", ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service"))
SUBNETS = Shape("subnets4", ("ipv4_addr",), interval=True)
HAIRPIN = Shape("hairpin4", ("ipv4_addr", "ipv4_addr"), interval=True)
NAMES = Shape("bridges", ("ifname",))


def decoded(message: Message) -> Any:
    frame = struct.pack("=IHHII", 16 + len(message.body), message.kind, message.flags, 1, 0) + message.body
    read = nft_set_elem_list_msg(frame)
    read.decode()
    return read


def items(message: Message) -> list[dict[str, Any]]:
    """Read the elements of a message of ours with pyroute2: values as hex, flags as they are."""
    found = []
    for item in decoded(message).get_attr("NFTA_SET_ELEM_LIST_ELEMENTS"):
        row: dict[str, Any] = {}
        for name, value in (attribute[:2] for attribute in item["attrs"]):
            short = name.removeprefix("NFTA_SET_ELEM_")
            row[short] = value if short == "FLAGS" else value.get_attr("NFTA_DATA_VALUE").hex()
        found.append(row)
    return found


def add(shape: Shape, *elements: Element) -> Message:
    return nft_elements.add_elements(INET, "dovetail", shape, elements)


def test_a_message_names_table_and_set_and_asks_to_create() -> None:
    message = add(NAMES, Element("bridges", ("dv-a",)))

    read = decoded(message)
    assert (message.kind, message.flags) == (10 << 8 | 12, 0x400)
    assert read["nfgen_family"] == INET
    assert read.get_attr("NFTA_SET_ELEM_LIST_TABLE") == "dovetail"
    assert read.get_attr("NFTA_SET_ELEM_LIST_SET") == "bridges"


def test_an_interface_name_is_16_bytes_with_trailing_zeros() -> None:
    assert items(add(NAMES, Element("bridges", ("dv-a",)))) == [{"KEY": b"dv-a".hex().ljust(32, "0")}]


def test_fields_of_a_concatenation_are_padded_to_four_bytes_and_ports_in_network_order() -> None:
    message = add(PUBLISH, Element("publish4", ("tcp", 8080), (four("10.0.0.2"), 80)))

    assert items(message) == [{"KEY": "06000000" + "1f900000", "DATA": "0a000002" + "00500000"}]


def test_an_interval_of_one_field_is_a_beginning_and_an_end() -> None:
    assert items(add(SUBNETS, Element("subnets4", (net4("10.0.0.0/24"),)))) == [
        {"KEY": "0a000000"},
        {"KEY": "0a000100", "FLAGS": frozenset({1})},
    ]


def test_an_interval_up_to_the_last_address_has_no_end() -> None:
    assert items(add(SUBNETS, Element("subnets4", (net4("240.0.0.0/4"),)))) == [{"KEY": "f0000000"}]


def test_an_interval_in_a_concatenation_is_one_element_with_two_keys() -> None:
    element = Element("hairpin4", (net4("10.1.0.0/24"), net4("10.2.0.0/16")))

    assert items(add(HAIRPIN, element)) == [{"KEY": "0a0100000a020000", "KEY_END": "0a0100ff0a02ffff"}]


def test_a_map_is_deleted_by_key_alone() -> None:
    element = Element("publish4", ("udp", 53), (four("10.0.0.2"), 53))

    for command in (14, nft_elements.DESTROY):
        message = nft_elements.delete_elements(INET, "dovetail", PUBLISH, [element], command=command)
        assert message.kind == 10 << 8 | command
        assert items(message) == [{"KEY": "1100000000350000"}]


def test_an_element_is_asked_for_by_key_alone() -> None:
    element = Element("publish4", ("udp", 53), (four("10.0.0.2"), 53))

    message = nft_elements.get_element(INET, "dovetail", PUBLISH, element)

    assert (message.kind, message.flags) == (10 << 8 | 13, 0)
    assert items(message) == [{"KEY": "1100000000350000"}]


@pytest.mark.parametrize("wanted", [0, 1, 2])
def test_the_kernels_offset_leads_to_the_element(wanted: int) -> None:
    subnets = [net4(f"10.0.{2 * n}.0/24") for n in range(3)]
    elements = [Element("subnets4", (subnet,)) for subnet in subnets]
    message = add(SUBNETS, *elements)
    headers = 12  # of the list's item, of its key and of the value
    offset = 16 + message.body.index(subnets[wanted].network_address.packed) - headers

    assert nft_elements.blamed("dovetail", SUBNETS, elements, offset) == elements[wanted]
    assert nft_elements.blamed("dovetail", SUBNETS, elements, 0) is None


ROUND_TRIPS = [
    (NAMES, Element("bridges", ("fifteen-letters",))),
    (Shape("pairs", ("ifname", "ifname")), Element("pairs", ("a", "b"))),
    (PUBLISH, Element("publish4", ("sctp", 65535), (four("10.0.0.2"), 1))),
    (
        Shape("publish6_at", ("ipv6_addr", "inet_proto", "inet_service"), ("ipv6_addr", "inet_service")),
        Element("publish6_at", (six("::1"), "tcp", 443), (six("fd00::2"), 8443)),
    ),
    (SUBNETS, Element("subnets4", (net4("10.0.0.0/24"),))),
    (SUBNETS, Element("subnets4", (net4("0.0.0.0/0"),))),
    (SUBNETS, Element("subnets4", (net4("255.255.255.255/32"),))),
    (Shape("subnets6", ("ipv6_addr",), interval=True), Element("subnets6", (net6("fd00::/64"),))),
    (HAIRPIN, Element("hairpin4", (net4("10.1.0.0/24"), net4("10.2.3.4/32")))),
    (Shape("protos", ("inet_proto",)), Element("protos", ("udp",))),
    (
        Shape("where", ("ipv4_addr",), ("ipv4_addr",), interval=True),
        Element("where", (net4("10.0.0.0/8"),), (four("10.0.0.1"),)),
    ),
]


@pytest.mark.parametrize(("shape", "element"), ROUND_TRIPS, ids=lambda value: getattr(value, "name", ""))
def test_what_was_written_is_read(shape: Shape, element: Element) -> None:
    assert list(nft_elements.parse_elements(shape, [add(shape, element).body])) == [element]


def test_neighbouring_intervals_are_told_apart_in_any_order() -> None:
    elements = [Element("subnets4", (net4(f"10.0.{n}.0/24"),)) for n in range(4)]

    bodies = [add(SUBNETS, element).body for element in reversed(elements)]

    assert list(nft_elements.parse_elements(SUBNETS, bodies)) == elements


def test_a_range_that_is_no_network_is_read_as_the_networks_it_is_made_of() -> None:
    beginning = add(Shape("subnets4", ("ipv4_addr",)), Element("subnets4", (four("255.255.255.253"),))).body

    found = list(nft_elements.parse_elements(SUBNETS, [beginning]))

    assert [element.key for element in found] == [
        (net4("255.255.255.253/32"),),
        (net4("255.255.255.254/31"),),
    ]


@pytest.mark.parametrize(
    ("shape", "element"),
    [
        (NAMES, Element("bridges", (80,))),
        (NAMES, Element("bridges", ("a-name-of-17-chars",))),
        (NAMES, Element("bridges", ())),
        (NAMES, Element("bridges", ("a",), ("b",))),
        (SUBNETS, Element("subnets4", (net6("fd00::/64"),))),
        (PUBLISH, Element("publish4", ("tcp", 80))),
        (PUBLISH, Element("publish4", ("tcp", 65536), (four("10.0.0.2"), 80))),
        (PUBLISH, Element("publish4", ("no-protocol", 80), (four("10.0.0.2"), 80))),
    ],
)
def test_a_value_that_does_not_fit_is_refused(shape: Shape, element: Element) -> None:
    with pytest.raises(InvalidArgument):
        add(shape, element)


# -- sets -----------------------------------------------------------------------------------------


def set_body(name: str, flags: set[str], key_type: int, data_type: int = 0) -> bytes:
    message = nft_set_msg()
    message["nfgen_family"] = INET
    attributes: list[Any] = [
        ("NFTA_SET_NAME", name),
        ("NFTA_SET_FLAGS", flags),
        ("NFTA_SET_KEY_TYPE", key_type),
    ]
    if data_type:
        attributes.append(("NFTA_SET_DATA_TYPE", data_type))
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data[16:])


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (set_body("bridges", set(), 41), NAMES),
        (set_body("subnets4", {"NFT_SET_INTERVAL"}, 7), SUBNETS),
        (set_body("hairpin4", {"NFT_SET_INTERVAL", "NFT_SET_CONCAT"}, 7 << 6 | 7), HAIRPIN),
        (set_body("publish4", {"NFT_SET_MAP", "NFT_SET_CONCAT"}, 12 << 6 | 13, 7 << 6 | 13), PUBLISH),
        (set_body("__set0", {"NFT_SET_ANONYMOUS", "NFT_SET_CONSTANT"}, 12), None),
        (set_body("marks", set(), 19), None),
        (set_body("vmap", {"NFT_SET_MAP"}, 12, 0xFFFFFF00), None),
    ],
)
def test_a_sets_types_are_learnt(body: bytes, shape: Shape | None) -> None:
    assert nft_elements.parse_set(body) == shape


def test_a_transaction_is_framed_for_nftables() -> None:
    begin, _, end = transaction([add(NAMES, Element("bridges", ("a",)))])

    assert (begin.kind, end.kind) == (0x10, 0x11)
    assert begin.body == end.body == b"\0\0\0\x0a"
