"""What a text of nftables makes of ``table inet dovetail``, as far as telling it from another takes.

This reads text of the form that our own has: one rule a line, the braces of sets, maps and chains at line ends.
"""

from __future__ import annotations

import re
from collections import Counter

from dovetail.kernel.protocol import TableState

__all__ = ["names_table", "sets_of", "table_state"]

_NAMED = re.compile(r"\btable inet dovetail(?!\w)")
_TABLE = re.compile(r"^\s*table inet dovetail\s*\{", re.MULTILINE)
_COMMENT = re.compile(r'^\s*comment "([^"]*)"', re.MULTILINE)
_SET = re.compile(r"^\s*(?:set|map)\s+(\w+)\s*\{", re.MULTILINE)
_CHAIN = re.compile(r"^\s*chain\s+(\w+)\s*\{(.*?)^\s*\}", re.MULTILINE | re.DOTALL)
_HOOK = re.compile(r"type \w+ hook ")


def table_state(ruleset: str) -> TableState | None:
    """Say what the table would be once `ruleset` is applied; None where it makes none."""
    if _TABLE.search(ruleset) is None:
        return None
    comment = _COMMENT.search(ruleset)
    rules: Counter[str] = Counter()
    for name, body in _CHAIN.findall(ruleset):
        lines = [line.strip() for line in body.splitlines()]
        rules[name] += sum(bool(line) and line[0] != "#" and not _HOOK.match(line) for line in lines)
    return TableState(comment[1] if comment else "", dict(+rules))


def names_table(ruleset: str) -> bool:
    """Say whether `ruleset` makes or deletes the table."""
    return _NAMED.search(ruleset) is not None


def sets_of(ruleset: str) -> frozenset[str]:
    """Name the sets and maps that `ruleset` declares."""
    return frozenset(_SET.findall(ruleset))
