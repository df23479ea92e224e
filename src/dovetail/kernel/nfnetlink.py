"""Messages of nfnetlink: the frame that nftables and connection tracking share, and nftables' objects.

Numbers are in network order. Source: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from dovetail.kernel.attributes import attributes, nul
from dovetail.kernel.netlink import Message

__all__ = [
    "HEADER",
    "NFPROTO_INET",
    "NFPROTO_IPV4",
    "NFPROTO_IPV6",
    "comment",
    "drops",
    "generation",
    "get_chain",
    "get_generation",
    "get_rules",
    "get_table",
    "header",
    "nft",
    "rule_chain",
    "transaction",
]

HEADER = Struct(">BBH")  # struct nfgenmsg: family, version, resource id
NFPROTO_INET = 1  # include/uapi/linux/netfilter.h
NFPROTO_IPV4 = 2
NFPROTO_IPV6 = 10
_SUBSYS_NFTABLES = 10
_BATCH_BEGIN = 0x10
_BATCH_END = 0x11
_GETTABLE = 1  # NFT_MSG_…
_GETCHAIN = 4
_GETRULE = 7
_NFTA_TABLE_NAME = 1
_NFTA_TABLE_USERDATA = 6
_UDATA_COMMENT = 0  # NFTNL_UDATA_TABLE_COMMENT, libnftnl's include/libnftnl/udata.h
_NFTA_RULE_TABLE = 1
_NFTA_RULE_CHAIN = 2
_NFTA_CHAIN_TABLE = 1
_NFTA_CHAIN_NAME = 3
_NFTA_CHAIN_POLICY = 5
_GETGEN = 16
_NFTA_GEN_ID = 1
_NF_DROP = 0


def header(family: int, *, version: int = 0, resource: int = 0) -> bytes:
    """Write struct nfgenmsg."""
    return HEADER.pack(family, version, resource)


def nft(command: int, family: int, body: bytes, flags: int = 0) -> Message:
    """Write a message of nftables; `command` is NFT_MSG_…."""
    return Message(_SUBSYS_NFTABLES << 8 | command, flags, header(family) + body)


def transaction(messages: Sequence[Message]) -> list[Message]:
    """Frame `messages` so that nftables does all of them or none."""
    frame = header(0, resource=_SUBSYS_NFTABLES)
    return [Message(_BATCH_BEGIN, 0, frame), *messages, Message(_BATCH_END, 0, frame)]


def get_table(name: str, family: int) -> Message:
    """Ask for a table."""
    return nft(_GETTABLE, family, nul(_NFTA_TABLE_NAME, name))


def comment(body: bytes) -> str:
    """Read the comment of a table, as NFT_MSG_GETTABLE answers it; empty without one (or before Linux 5.10).

    User data is a row of values that nft keeps there: a byte says what, a byte how long, and text ends with 0.
    """
    data = attributes(body, HEADER.size).get(_NFTA_TABLE_USERDATA, b"")
    while len(data) > 2:
        kind, length = data[0], data[1]
        if kind == _UDATA_COMMENT:
            return data[2 : 2 + length].rstrip(b"\0").decode(errors="replace")
        data = data[2 + length :]
    return ""


def get_rules(table: str, family: int) -> Message:
    """List the rules of a table."""
    return nft(_GETRULE, family, nul(_NFTA_RULE_TABLE, table))


def rule_chain(body: bytes) -> str:
    """Read the chain of a rule, as NFT_MSG_GETRULE answers it."""
    return attributes(body, HEADER.size).get(_NFTA_RULE_CHAIN, b"").split(b"\0")[0].decode()


def get_chain(family: int, table: str, chain: str) -> Message:
    """Ask for a chain."""
    return nft(_GETCHAIN, family, nul(_NFTA_CHAIN_TABLE, table) + nul(_NFTA_CHAIN_NAME, chain))


def get_generation() -> Message:
    """Ask for the number of the ruleset, which every transaction raises."""
    return nft(_GETGEN, 0, b"")


def generation(body: bytes) -> bytes:
    """Read the answer to `get_generation`."""
    return attributes(body, HEADER.size).get(_NFTA_GEN_ID, b"")


def drops(body: bytes) -> bool | None:
    """Say whether the policy of a base chain, as NFT_MSG_GETCHAIN answers it, is DROP; None without a policy."""
    policy = attributes(body, HEADER.size).get(_NFTA_CHAIN_POLICY)
    return None if policy is None else int.from_bytes(policy) == _NF_DROP
