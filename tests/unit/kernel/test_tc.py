"""Messages of traffic control: byte for byte the reference plugin's, as pyroute2 reads them, and as we read pyroute2's."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from dovetail.kernel import tc
from dovetail.kernel.netlink import Message
from dovetail.kernel.protocol import Tbf

CREATE = 0x600  # NLM_F_CREATE | NLM_F_EXCL
TBF = Tbf(rate=1_000_000, burst=100_000, limit=125_000)

# what /usr/lib/cni/bandwidth 1.1.1 sends for a rate of 8000000 and a burst of 800000 bits (strace), without the header
REFERENCE_TBF = (
    "00000000 02000000 00000100 ffffffff 00000000 08000100 74626600 2c000200 28000100"
    "0000000000000000 40420f00 0000000000000000 00000000 48e80100 84d71700 00000000"
)
REFERENCE_INGRESS = "00000000 02000000 0000ffff f1ffffff 00000000 0c000100 696e677265737300 04000200"
REFERENCE_SELECTOR = f"24000500 01000100 {'00' * 28}"
REFERENCE_ACTION = (
    "34000100 0b000100 6d69727265640000 24000200 20000200"
    "0000000000000000 04000000 0000000000000000 01000000 03000000"
)


def decoded(message: Message) -> Any:
    """Read a message of ours with pyroute2."""
    frame = struct.pack("=IHHII", 16 + len(message.body), message.kind, message.flags, 1, 0) + message.body
    read = tcmsg(frame)
    read.decode()
    return read


def named(read: Any) -> dict[str, Any]:
    """Give the attributes by name, nested ones likewise."""
    return {a[0]: named(a[1]) if isinstance(a[1], dict) and "attrs" in a[1] else a[1] for a in read["attrs"]}


def encoded(**fields: Any) -> bytes:
    """Write a message with pyroute2 and give what follows the header."""
    message = tcmsg()
    for name, value in fields.items():
        message[name] = value
    message.encode()
    return bytes(message.data[16:])


# -- the token bucket -----------------------------------------------------------------------------


def test_a_tbf_has_the_bytes_of_the_reference_plugin_and_may_be_there() -> None:
    message = tc.replace_tbf(2, TBF)

    assert message == Message(36, 0x500, bytes.fromhex(REFERENCE_TBF))  # NLM_F_CREATE | NLM_F_REPLACE


def test_a_tbf_is_read_by_pyroute2_as_it_was_meant() -> None:
    read = decoded(tc.replace_tbf(2, TBF))

    assert (read["index"], read["handle"], read["parent"]) == (2, 0x10000, 0xFFFFFFFF)
    parameters = named(read)["TCA_OPTIONS"]["TCA_TBF_PARMS"]
    assert {name: parameters[name] for name in ("rate", "limit", "buffer", "peak", "mtu")} == {
        "rate": 1_000_000,
        "limit": 125_000,
        "buffer": 1_562_500,
        "peak": 0,
        "mtu": 0,
    }


@pytest.mark.parametrize(("rate", "low"), [(2**32 - 1, 2**32 - 1), (2**32, 2**32 - 1), (10**11, 2**32 - 1)])
def test_a_rate_of_more_than_32_bits_has_an_attribute_of_its_own(rate: int, low: int) -> None:
    body = tc.replace_tbf(2, Tbf(rate, 10**7, 10**9)).body

    assert struct.pack("=I", low) in body
    assert body.endswith(struct.pack("=HHQ", 12, 4, rate)) == (rate > low)


def test_a_tbf_is_read_from_what_pyroute2_writes() -> None:
    parameters = {"rate": 1_000_000, "limit": 125_000, "buffer": 1_562_500}
    options = {"attrs": [("TCA_TBF_PARMS", parameters)]}
    attrs = [("TCA_KIND", "tbf"), ("TCA_OPTIONS", options)]

    assert tc.parse_qdisc(encoded(index=7, parent=0xFFFFFFFF, attrs=attrs)) == tc.QdiscRow(7, "tbf", TBF)
    assert tc.parse_qdisc(encoded(index=7, parent=0x10001, attrs=attrs)) == tc.QdiscRow(7, "tbf", None)


def test_the_large_rate_counts_where_there_is_one() -> None:
    tbf = Tbf(10**11, 10**9, 2**32 - 1)

    assert tc.parse_qdisc(tc.replace_tbf(7, tbf).body).tbf == tbf


@pytest.mark.parametrize("kind", ["ingress", "noqueue", "htb"])
def test_another_qdisc_has_no_tbf(kind: str) -> None:
    body = encoded(index=7, parent=0xFFFFFFFF, attrs=[("TCA_KIND", kind)])

    assert tc.parse_qdisc(body) == tc.QdiscRow(7, kind)


def test_a_tbf_that_is_cut_off_is_none() -> None:
    body = tc.replace_tbf(2, TBF).body

    for end in range(20, len(body)):
        assert tc.parse_qdisc(body[:end]).tbf is None


def test_a_deletion_names_kind_and_handle_so_that_nothing_else_goes() -> None:
    tbf, ingress = tc.delete_tbf(2), tc.delete_ingress(2)

    assert (tbf.kind, tbf.flags, ingress.kind, ingress.flags) == (37, 0, 37, 0)
    assert (decoded(tbf)["handle"], decoded(tbf)["parent"]) == (0x10000, 0xFFFFFFFF)
    assert (decoded(ingress)["handle"], decoded(ingress)["parent"]) == (0xFFFF0000, 0xFFFFFFF1)
    assert (named(decoded(tbf)), named(decoded(ingress))) == ({"TCA_KIND": "tbf"}, {"TCA_KIND": "ingress"})


# -- the numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tbf", "burst"),
    [
        (TBF, 100_000),
        (Tbf(1, 1, 1), 1),
        (Tbf(999_999, 1_543_209, 1_568_208), 1_543_208),  # whole microseconds, whole ticks
        (Tbf(10**9, 77_777, 25_077_777), 76_992),
    ],
)
def test_a_burst_is_kept_as_the_time_that_it_takes(tbf: Tbf, burst: int) -> None:
    assert tc.kept(tbf) == tc.kept(tbf, wraps=True) == tbf._replace(burst=burst)
    assert tc.parse_qdisc(tc.replace_tbf(2, tbf).body).tbf == tc.kept(tbf)


def test_what_has_too_many_bits_is_cut_down_to_the_most_there_is() -> None:
    slow, large = Tbf(1_250_000, 536_870_911, 536_902_161), Tbf(125 * 10**9, 2**32 - 2, 2**32 + 10**9)

    assert tc.kept(slow).burst == 343_597_384  # 275 s of the rate
    assert tc.kept(slow, wraps=True).burst == 193_273_526  # what `tc` shows of the reference plugin's
    assert tc.kept(large).limit == 2**32 - 1
    assert tc.kept(large, wraps=True).limit == 10**9


# -- what comes in --------------------------------------------------------------------------------


def test_an_ingress_qdisc_has_the_bytes_of_the_reference_plugin() -> None:
    assert tc.new_ingress(2) == Message(36, CREATE, bytes.fromhex(REFERENCE_INGRESS))


def test_a_redirect_has_the_bytes_of_the_reference_plugin_with_one_action() -> None:
    message = tc.new_redirect(2, 3)

    head = struct.pack("=BxxxiIII", 0, 2, 0, 0xFFFF0000, 66304)
    kind = struct.pack("=HH4s", 8, 1, b"u32")
    options = bytes.fromhex(f"{REFERENCE_SELECTOR} 08000100 01000100 38000700 {REFERENCE_ACTION}")
    assert message == Message(44, CREATE, head + kind + struct.pack("=HH", 4 + len(options), 2) + options)


def test_a_redirect_is_read_by_pyroute2_as_it_was_meant() -> None:
    read = named(decoded(tc.new_redirect(2, 3)))

    options = read["TCA_OPTIONS"]
    assert (read["TCA_KIND"], options["TCA_U32_CLASSID"]) == ("u32", 0x10001)
    [key] = options["TCA_U32_SEL"]["keys"]
    assert (key["key_mask"], key["key_val"]) == (0, 0)
    action = options["TCA_U32_ACT"]["TCA_ACT_PRIO_1"]
    parameters = action["TCA_ACT_OPTIONS"]["TCA_MIRRED_PARMS"]
    assert action["TCA_ACT_KIND"] == "mirred"
    assert (parameters["eaction"], parameters["ifindex"], parameters["action"]) == (1, 3, 4)


def pyroute2_filter(*, keys: str = "0x0/0x0+0", protocol: int = 0x0300, **mirred: int) -> bytes:
    parameters = {"eaction": 1, "ifindex": 3, "action": 4, **mirred}
    action = {
        "attrs": [
            ("TCA_ACT_KIND", "mirred"),
            ("TCA_ACT_OPTIONS", {"attrs": [("TCA_MIRRED_PARMS", parameters)]}),
        ]
    }
    options = {
        "attrs": [
            ("TCA_U32_ACT", {"attrs": [("TCA_ACT_PRIO_1", action)]}),
            ("TCA_U32_SEL", {"keys": [keys]}),
        ]
    }
    attrs = [("TCA_KIND", "u32"), ("TCA_OPTIONS", options)]
    return encoded(index=2, info=1 << 16 | protocol, attrs=attrs)


def test_a_redirect_is_read_from_what_pyroute2_writes() -> None:
    assert tc.parse_redirect(pyroute2_filter()) == 3
    assert tc.parse_redirect(pyroute2_filter(ifindex=0)) == 0  # the link has gone
    assert tc.parse_redirect(tc.new_redirect(2, 9).body) == 9


@pytest.mark.parametrize(
    "other", [{"keys": "0x1/0xff+9"}, {"protocol": 0x0008}, {"eaction": 2}, {"eaction": 3}]
)
def test_a_filter_of_some_frames_or_that_mirrors_is_no_redirect(other: dict[str, Any]) -> None:
    assert tc.parse_redirect(pyroute2_filter(**other)) is None


def test_a_filter_that_is_cut_off_is_no_redirect() -> None:
    body = tc.new_redirect(2, 3).body

    for end in range(20, len(body)):
        assert tc.parse_redirect(body[:end]) is None


def test_lists_are_asked_for_by_link_where_the_kernel_can() -> None:
    root, filters = tc.get_root(7), tc.dump_filters(7)

    assert (root.kind, root.flags) == (38, 8)  # NLM_F_ECHO
    assert (decoded(root)["index"], decoded(root)["parent"]) == (7, 0xFFFFFFFF)
    assert (filters.kind, decoded(filters)["index"], decoded(filters)["parent"]) == (46, 7, 0xFFFF0000)
    assert tc.dump_qdiscs() == Message(38, 0, bytes(20))


def test_the_clock_is_the_kernels() -> None:
    assert tc.clock() == 15.625
