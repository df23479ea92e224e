"""Chains and rules of nftables that others made: finding them by name and comment, and deleting them.

Rules are read as far as `NftRule` says. Numbers are in network order.
Source: include/uapi/linux/netfilter/nf_tables.h; libnftnl's include/libnftnl/udata.h.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from struct import Struct

from dovetail.errors import DovetailError, InUse, NotFound
from dovetail.kernel.attributes import attribute, attributes, each, nul
from dovetail.kernel.netlink import Message, Refusal, RefusedError, SocketPool
from dovetail.kernel.nfnetlink import (
    HEADER,
    NFPROTO_INET,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    get_chain,
    nft,
    transaction,
)
from dovetail.kernel.packet_filter import NftChain, NftFamily, NftRule
from dovetail.kernel.refusals import ABSENT, explain

__all__ = ["NftTables", "chain_text", "delete_chain", "delete_rule", "parse_rule", "rules_of"]

_NFPROTO_BRIDGE = 7  # include/uapi/linux/netfilter.h
_FAMILIES: dict[NftFamily, int] = {
    "inet": NFPROTO_INET,
    "ip": NFPROTO_IPV4,
    "ip6": NFPROTO_IPV6,
    "bridge": _NFPROTO_BRIDGE,
}
_DELCHAIN = 5  # NFT_MSG_…
_GETRULE = 7
_DELRULE = 8
_NFTA_CHAIN_TABLE = 1
_NFTA_CHAIN_NAME = 3
_NFTA_RULE_TABLE = 1
_NFTA_RULE_CHAIN = 2
_NFTA_RULE_HANDLE = 3
_NFTA_RULE_EXPRESSIONS = 4
_NFTA_RULE_USERDATA = 7
_NFTA_LIST_ELEM = 1
_NFTA_EXPR_NAME = 1
_NFTA_EXPR_DATA = 2
_NFTA_CMP_DATA = 3
_NFTA_IMMEDIATE_DATA = 2
_NFTA_DATA_VALUE = 1
_NFTA_DATA_VERDICT = 2
_NFTA_VERDICT_CODE = 1
_NFTA_VERDICT_CHAIN = 2
_NF_ACCEPT = bytes([0, 0, 0, 1])
_NFTA_MATCH_NAME = 1  # include/uapi/linux/netfilter/nf_tables_compat.h
_NFTA_MATCH_INFO = 3
_UDATA_COMMENT = 0  # NFTNL_UDATA_RULE_COMMENT
_HANDLE = Struct(">Q")


class NftTables:
    """The tables of one namespace; safe from any thread."""

    def __init__(self, sockets: SocketPool) -> None:
        self._sockets = sockets

    def has_chains(self, chains: Sequence[NftChain]) -> list[bool]:
        """Ask for all of them in one send."""
        messages = [get_chain(_FAMILIES[family], table, name) for family, table, name in chains]
        with self._sockets.borrow() as netlink:
            refusals = netlink.execute(messages)
        for chain, refusal in zip(chains, refusals, strict=True):
            if refusal is not None and refusal.errno not in ABSENT:
                raise explain(refusal, f"nft list chain {chain_text(chain)}")
        return [refusal is None for refusal in refusals]

    def rules(self, chain: NftChain) -> list[NftRule]:
        """List what `chain` says; where it is missing there are none."""
        with self._sockets.borrow() as netlink:
            try:
                rows = netlink.dump(rules_of(chain))
            except RefusedError as exc:
                if exc.refusal.errno in ABSENT:
                    return []
                raise explain(exc.refusal, f"nft list chain {chain_text(chain)}") from exc
        rules = [parse_rule(chain.family, row) for row in rows]
        return [rule for rule in rules if chain.name in ("", rule.chain.name)]

    def delete(self, rules: Sequence[NftRule], chains: Sequence[NftChain]) -> None:
        """Delete both in one transaction."""
        if not rules and not chains:
            return
        messages = [
            *(delete_rule(rule.chain, rule.handle) for rule in rules),
            *map(delete_rule, chains),
            *map(delete_chain, chains),
        ]
        with self._sockets.borrow() as netlink:
            refusals = netlink.transact(transaction(messages))
        of = [*(rule.chain for rule in rules), *chains, *chains]
        for chain, refusal in zip([of[0], *of], refusals, strict=False):
            if refusal is not None:
                raise _error(chain, refusal)


def chain_text(chain: NftChain) -> str:
    """Write a chain's full name."""
    return " ".join(part for part in chain if part)


def rules_of(chain: NftChain) -> Message:
    """Ask for the rules of a chain or of a table; before Linux 4.15 the chain does not count."""
    body = nul(_NFTA_RULE_TABLE, chain.table)
    body += nul(_NFTA_RULE_CHAIN, chain.name) if chain.name else b""
    return nft(_GETRULE, _FAMILIES[chain.family], body)


def delete_rule(chain: NftChain, handle: int = 0) -> Message:
    """Delete the rule with this handle, or all rules of the chain."""
    body = nul(_NFTA_RULE_TABLE, chain.table) + nul(_NFTA_RULE_CHAIN, chain.name)
    body += attribute(_NFTA_RULE_HANDLE, _HANDLE.pack(handle)) if handle else b""
    return nft(_DELRULE, _FAMILIES[chain.family], body)


def delete_chain(chain: NftChain) -> Message:
    """Delete a chain that nothing leads to."""
    body = nul(_NFTA_CHAIN_TABLE, chain.table) + nul(_NFTA_CHAIN_NAME, chain.name)
    return nft(_DELCHAIN, _FAMILIES[chain.family], body)


def parse_rule(family: NftFamily, body: bytes) -> NftRule:
    """Read a rule as NFT_MSG_GETRULE answers it."""
    said = attributes(body, HEADER.size)
    chain = NftChain(family, _text(said.get(_NFTA_RULE_TABLE, b"")), _text(said.get(_NFTA_RULE_CHAIN, b"")))
    comment = _comment(said.get(_NFTA_RULE_USERDATA, b""))
    jump, accepts = "", False
    values: list[bytes] = []
    for name, data in _expressions(said.get(_NFTA_RULE_EXPRESSIONS, b"")):
        match name:
            case "cmp":
                values.append(attributes(data.get(_NFTA_CMP_DATA, b"")).get(_NFTA_DATA_VALUE, b""))
            case "immediate":
                value = attributes(data.get(_NFTA_IMMEDIATE_DATA, b""))
                verdict = attributes(value.get(_NFTA_DATA_VERDICT, b""))
                jump = _text(verdict.get(_NFTA_VERDICT_CHAIN, b"")) or jump
                accepts |= verdict.get(_NFTA_VERDICT_CODE) == _NF_ACCEPT
                values += [value[_NFTA_DATA_VALUE]] if _NFTA_DATA_VALUE in value else []
            case "match" if _text(data.get(_NFTA_MATCH_NAME, b"")) == "comment":
                comment = comment or _text(data.get(_NFTA_MATCH_INFO, b""))  # struct xt_comment_info
            case _:
                continue
    handle = said.get(_NFTA_RULE_HANDLE, b"")
    return NftRule(chain, int.from_bytes(handle), comment, jump, tuple(values), accepts)


def _expressions(data: bytes) -> Iterator[tuple[str, dict[int, bytes]]]:
    for kind, expression in each(data):
        if kind == _NFTA_LIST_ELEM:
            parts = attributes(expression)
            yield _text(parts.get(_NFTA_EXPR_NAME, b"")), attributes(parts.get(_NFTA_EXPR_DATA, b""))


def _comment(data: bytes) -> str:
    """Read user data as `nfnetlink.comment` says."""
    while len(data) > 2:
        kind, length = data[0], data[1]
        if kind == _UDATA_COMMENT:
            return _text(data[2 : 2 + length])
        data = data[2 + length :]
    return ""


def _text(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="replace")


def _error(chain: NftChain, refusal: Refusal) -> DovetailError:
    where = chain_text(chain)
    if refusal.errno == errno.ENOENT:
        return NotFound("nftables rule or chain", where)
    if refusal.errno == errno.EBUSY:
        return InUse("nftables chain", where, ["a rule that leads there"])
    return explain(refusal, f"nft delete chain {where}")
