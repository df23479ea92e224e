"""DHCPv4 messages: what is read from where, and what pyroute2 reads of what we write."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from pyroute2.dhcp.dhcp4msg import dhcp4msg

from dovetail.ipam.dhcp.message import BOOTREPLY, BOOTREQUEST, Message, decode, encode
from dovetail.ipam.dhcp.values import MalformedError

MAC = bytes.fromhex("02005e100001")
COOKIE = bytes((99, 130, 83, 99))


def packet(options: bytes, *, file: bytes = b"", sname: bytes = b"", **changes: object) -> bytes:
    """Write a message by hand."""
    head = bytes((changes.get("op", 2), changes.get("htype", 1), changes.get("hlen", 6), 0))
    body = head + bytes(4) + bytes(4) + bytes(16) + MAC.ljust(16, b"\0")
    return body + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + changes.get("cookie", COOKIE) + options


def test_pyroute2_reads_what_we_write() -> None:
    ours = Message(
        op=BOOTREQUEST,
        xid=0x01020304,
        chaddr=MAC,
        options={55: bytes((1, 3)), 53: b"\1", 61: b"\0abc", 12: b"web", 50: bytes((10, 0, 0, 9))},
        secs=7,
        broadcast=True,
        ciaddr=IPv4Address("10.0.0.2"),
    )

    theirs = dhcp4msg(buf=encode(ours)).decode()

    assert (theirs["op"], theirs["htype"], theirs["hlen"]) == (1, 1, 6)
    assert theirs["xid"] == 0x01020304
    assert theirs["chaddr"] == MAC.hex(":")
    assert theirs["ciaddr"] == "10.0.0.2"
    assert theirs["options"]["message_type"] == 1
    assert theirs["options"]["client_id"] == {"type": 0, "key": b"abc"}
    assert theirs["options"]["host_name"] == "web"
    assert theirs["options"]["parameter_list"] == [1, 3]
    assert theirs["options"]["requested_ip"] == "10.0.0.9"


def test_we_read_what_pyroute2_writes() -> None:
    theirs = dhcp4msg(
        {
            "op": 2,
            "xid": 7,
            "chaddr": MAC.hex(":"),
            "yiaddr": "10.0.0.9",
            "options": {"message_type": 5, "subnet_mask": "255.255.255.0", "lease_time": 3600},
        }
    )

    ours = decode(bytes(theirs.encode().buf))

    assert (ours.op, ours.xid, ours.chaddr, str(ours.yiaddr), ours.kind) == (2, 7, MAC, "10.0.0.9", 5)
    assert ours.options[1] == bytes((255, 255, 255, 0))
    assert int.from_bytes(ours.options[51], "big") == 3600


def test_a_message_is_padded_to_what_relays_take_and_its_type_comes_first() -> None:
    data = encode(Message(op=1, xid=1, chaddr=MAC, options={12: b"web", 53: b"\1"}))

    assert len(data) == 300
    assert data[240:243] == bytes((53, 1, 1))


def test_options_overflow_into_file_and_sname() -> None:
    data = packet(b"\x35\1\5\x34\1\3\xff", file=b"\x0c\3abc\xff", sname=b"\x0f\2de\xff")

    assert decode(data).options == {53: b"\5", 12: b"abc", 15: b"de"}


def test_file_and_sname_are_not_read_where_the_overload_does_not_say_so() -> None:
    data = packet(b"\x35\1\5\x34\1\1\xff", file=b"\x0c\3abc\xff", sname=b"\x0f\2de\xff")

    assert decode(data).options == {53: b"\5", 12: b"abc"}


def test_pieces_of_an_option_are_one_in_the_order_options_file_sname() -> None:
    data = packet(b"\x77\1a\x34\1\3\x77\1b\xff", sname=b"\x77\1d\xff", file=b"\x77\1c\xff")

    assert decode(data).options[119] == b"abcd"


def test_an_overload_within_an_overload_is_passed_over() -> None:
    data = packet(b"\x34\1\1\xff", file=b"\x34\1\2\xff", sname=b"\x0c\1x\xff")

    assert decode(data).options == {}


@pytest.mark.parametrize("length", [255, 256, 510, 600])
def test_a_long_option_is_cut_and_joined(length) -> None:
    message = Message(op=BOOTREPLY, xid=1, chaddr=MAC, options={121: bytes(range(256)) * 3})
    message = message._replace(options={121: message.options[121][:length]})

    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "0 bytes are no DHCP message"),
        (packet(b"")[:239], "239 bytes"),
        (packet(b"\xff", cookie=b"abcd"), "magic cookie"),
        (packet(b"\xff", op=3), "operation is 3"),
        (packet(b"\xff", htype=32), "hardware type is 32"),
        (packet(b"\xff", hlen=17), "an address of 17 bytes"),
        (packet(b"\x35"), "end in the middle of option 53"),
        (packet(b"\x35\5\1"), "end in the middle of option 53"),
        (packet(b"\x34\1\4\xff"), "overload option is 04"),
        (packet(b"\x34\2\1\1\xff"), "overload option is 0101"),
        (packet(b"\x34\1\1\xff", file=b"\x0c\x80"), "the options in file end in the middle"),
    ],
)
def test_what_is_no_message_says_why(data, sentence) -> None:
    with pytest.raises(MalformedError, match=sentence):
        decode(data)


def test_a_full_field_needs_no_end_and_what_follows_an_end_is_padding() -> None:
    assert decode(packet(b"\x35\1\5")).options == {53: b"\5"}
    assert decode(packet(b"\0\x35\1\5\xff\x0c\x80")).options == {53: b"\5"}
