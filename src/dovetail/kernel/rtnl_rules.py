"""Messages of rtnetlink for routing policy rules: written and read, never sent.

Source: include/uapi/linux/fib_rules.h; net/core/fib_rules.c.
"""

from __future__ import annotations

import ipaddress
from struct import Struct

from dovetail.kernel.attributes import attribute, attributes, nul, number, text, u32
from dovetail.kernel.families import FAMILIES, VERSIONS
from dovetail.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message
from dovetail.kernel.protocol_routing import Rule
from dovetail.model.addresses import IPNetwork

__all__ = ["dump_rules", "new_rule", "parse_rule", "remove_rule"]

_NEWRULE, _DELRULE, _GETRULE = 32, 33, 34  # RTM_…, include/uapi/linux/rtnetlink.h
_HEADER = Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, two reserved, action, flags
_FRA_DST = 1
_FRA_SRC = 2
_FRA_IIFNAME = 3
_FRA_PRIORITY = 6
_FRA_FWMARK = 10
_FRA_TABLE = 15
_FRA_OIFNAME = 17
_FRA_L3MDEV = 19
_FRA_UID_RANGE = 20
_FRA_IP_PROTO = 22
_FRA_SPORT_RANGE = 23
_FRA_DPORT_RANGE = 24
_FR_ACT_TO_TBL = 1
_FIB_RULE_INVERT = 0x2
_OTHERS = frozenset(
    {
        _FRA_FWMARK,
        _FRA_OIFNAME,
        _FRA_UID_RANGE,
        _FRA_IP_PROTO,
        _FRA_SPORT_RANGE,
        _FRA_DPORT_RANGE,
    }
)
_BYTES = {4: 4, 6: 16}


def new_rule(rule: Rule) -> Message:
    """Add a rule as ``ip rule add``; one that is there with the same priority is refused (EEXIST)."""
    return Message(_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _body(rule))


def remove_rule(rule: Rule) -> Message:
    """Delete the first rule that fits, whoever added it, as ``ip rule del``: what is left open fits any."""
    return Message(_DELRULE, 0, _body(rule))


def _body(rule: Rule) -> bytes:
    source, destination = rule.source, rule.destination
    byte = rule.table if rule.table < 256 else 0
    lengths = destination.prefixlen if destination else 0, source.prefixlen if source else 0
    action = _FR_ACT_TO_TBL if rule.table else 0
    parts = [_HEADER.pack(FAMILIES[rule.version], *lengths, 0, byte, 0, 0, action, 0)]
    for kind, network in ((_FRA_DST, destination), (_FRA_SRC, source)):
        if network is not None and network.prefixlen:
            parts.append(attribute(kind, network.network_address.packed))
    if rule.iif:
        parts.append(nul(_FRA_IIFNAME, rule.iif))
    if rule.priority is not None:
        parts.append(u32(_FRA_PRIORITY, rule.priority))
    if rule.table:
        parts.append(u32(_FRA_TABLE, rule.table))
    return b"".join(parts)


def dump_rules(version: int) -> Message:
    """List the rules of one family."""
    return Message(_GETRULE, 0, _HEADER.pack(FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0))


def parse_rule(body: bytes) -> Rule | None:
    """Read one row of the list; None for what looks up no table of its own, or depends on more than a `Rule` says."""
    family, to_length, from_length, tos, byte, _, _, action, flags = _HEADER.unpack_from(body)
    said = attributes(body, _HEADER.size)
    if family not in VERSIONS or action != _FR_ACT_TO_TBL or tos or flags & _FIB_RULE_INVERT:
        return None
    if any(said.get(_FRA_L3MDEV, b"")) or _OTHERS & said.keys():
        return None
    version = VERSIONS[family]
    return Rule(
        version=version,
        source=_network(said.get(_FRA_SRC), from_length, version),
        destination=_network(said.get(_FRA_DST), to_length, version),
        iif=text(said.get(_FRA_IIFNAME, b"")),
        table=number(said.get(_FRA_TABLE)) or byte,
        priority=number(said.get(_FRA_PRIORITY)),
    )


def _network(packed: bytes | None, prefix: int, version: int) -> IPNetwork | None:
    return ipaddress.ip_network((packed or bytes(_BYTES[version]), prefix)) if prefix else None
