"""Messages about the chains and rules of others, as pyroute2 reads and writes them."""

from __future__ import annotations

import struct
from typing import Any

from pyroute2.netlink.nfnetlink.nftsocket import nft_chain_msg, nft_rule_msg

from dovetail.kernel.netlink import Message
from dovetail.kernel.nft_rules import delete_chain, delete_rule, parse_rule, rules_of
from dovetail.kernel.packet_filter import NftChain, NftRule

CHAIN = NftChain("ip6", "nat", "CNI-5145007e2a8415ce07579739")


def read(message: Message, kind: Any) -> Any:
    frame = struct.pack("=IHHII", 16 + len(message.body), message.kind, message.flags, 1, 0) + message.body
    decoded = kind(frame)
    decoded.decode()
    return decoded


def test_a_rule_is_deleted_by_its_handle() -> None:
    message = delete_rule(CHAIN, 1 << 40 | 7)

    decoded = read(message, nft_rule_msg)
    assert (message.kind & 0xFF, decoded["nfgen_family"]) == (8, 10)
    assert dict(decoded["attrs"]) == {
        "NFTA_RULE_TABLE": "nat",
        "NFTA_RULE_CHAIN": CHAIN.name,
        "NFTA_RULE_HANDLE": 1 << 40 | 7,
    }


def test_without_a_handle_all_rules_of_the_chain_are() -> None:
    assert dict(read(delete_rule(CHAIN), nft_rule_msg)["attrs"]) == {
        "NFTA_RULE_TABLE": "nat",
        "NFTA_RULE_CHAIN": CHAIN.name,
    }


def test_a_chain_is_deleted_by_its_name() -> None:
    message = delete_chain(CHAIN._replace(family="bridge"))

    decoded = read(message, nft_chain_msg)
    assert (message.kind & 0xFF, decoded["nfgen_family"]) == (5, 7)
    assert dict(decoded["attrs"]) == {"NFTA_CHAIN_TABLE": "nat", "NFTA_CHAIN_NAME": CHAIN.name}


def test_rules_are_asked_for_by_chain_or_by_table() -> None:
    assert dict(read(rules_of(CHAIN), nft_rule_msg)["attrs"]) == {
        "NFTA_RULE_TABLE": "nat",
        "NFTA_RULE_CHAIN": CHAIN.name,
    }
    assert dict(read(rules_of(CHAIN._replace(name="")), nft_rule_msg)["attrs"]) == {"NFTA_RULE_TABLE": "nat"}


def test_what_is_cut_short_or_nonsense_is_read_as_nothing() -> None:
    nothing = NftRule(NftChain("ip", "", ""), 0)

    assert parse_rule("ip", b"") == nothing
    assert parse_rule("ip", bytes(4) + b"\xff" * 40) == nothing
    for length in range(60):
        parse_rule("ip", bytes(4) + bytes(range(length)))
