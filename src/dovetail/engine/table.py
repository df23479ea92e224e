"""The table that the firewall's elements are in: what text it must be made of, whether it is, and its replacement.

Its comment holds a digest of the text and one of the user's part, so a table of an older dovetail, or of rules
that the user has changed since, is known; and rules that somebody took out of it are missed when they are counted.
A table that is not right is replaced whole, with all its elements, in one transaction. That alone lets packets by:
the kernel asks the chains of both for a while, and one that is asked before its rules count and one that is asked
when they count no more translate and drop nothing (of 210,000 flows that began during 150 replacements, 236 left with
the container's own address). So a second table with the same content stands in meanwhile, and none of them did.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence

from dovetail.engine.core import Core
from dovetail.errors import KernelError
from dovetail.features.protocol import RulesFile
from dovetail.kernel.commands import element_lines
from dovetail.kernel.nft_text import table_state
from dovetail.kernel.protocol import TableState
from dovetail.model.element import Element

__all__ = ["Table"]

_OURS, _STAND_IN = "table inet dovetail", "table inet dovetail_stand_in"
_USER = "user"
_PLACE = re.compile(r"(\d+):\S*\s*(?:Error: )?(.*)", re.DOTALL)


class Table:
    """``table inet dovetail``."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._judged: dict[RulesFile, str] = {}

    def exists(self) -> bool:
        """Say whether there is one, right or wrong."""
        return self._core.kernel.nft_has_table()

    def ensure(self, elements: Callable[[], Collection[Element]]) -> str:
        """Make it, or replace it, with `elements`; says in a sentence what was wrong, nothing where it is right.

        A file of the user's that nft refuses is left out, where the table has to be made anyway. Where only the
        user's rules differ, those in force stay until the file is corrected.
        """
        if self._core.kernel.nft_has_table(_STAND_IN.rpartition(" ")[2]):
            self._core.kernel.nft_apply(
                f"delete {_STAND_IN}\n"
            )  # a crash in the midst of a replacement left it
        files = self._core.user_rules()
        fault = self._fault(files)
        if not fault:
            return ""
        good = [file for file in files if not self.problem(file)]
        if len(good) < len(files):
            fault = self._fault(good)
            if not fault or fault == _USERS_RULES_DIFFER:
                return ""
        text, content = self._core.ruleset(_text(good)), sorted(elements(), key=str)
        try:
            self._apply(text, content)
        except KernelError:
            if not good:
                raise
            self._apply(self._core.ruleset(""), content)  # each file was right, but not all together
        return fault

    def _apply(self, text: str, elements: Collection[Element]) -> None:
        kernel = self._core.kernel
        if not self.exists():
            kernel.nft_apply(text, elements)
            return
        lines = "\n".join(element_lines("add", elements)).replace("inet dovetail ", "inet dovetail_stand_in ")
        kernel.nft_apply(f"{text.replace(_OURS, _STAND_IN)}{lines}\n")
        try:
            kernel.nft_apply(text, elements)
        finally:
            kernel.nft_apply(f"delete {_STAND_IN}\n")

    def delete(self) -> None:
        """Take it away with all that is in it."""
        self._core.kernel.nft_apply(f"delete {_OURS}\n")

    def fault(self) -> str:
        """Say what is wrong with it in a sentence; nothing where it is right."""
        files = self._core.user_rules()
        return self._fault(files) and self._fault([file for file in files if not self.problem(file)])

    def problems(self) -> list[str]:
        """Say which files of the user's cannot be used, and why, a sentence each; runs ``nft`` for those it has not seen."""
        return [
            f"the rules of {file.path} are not in force: {why}"
            for file in self._core.user_rules()
            if (why := self.problem(file))
        ]

    def problem(self, file: RulesFile) -> str:
        """Say why `file` cannot be used; nothing where it can."""
        if file.problem or not file.text.strip():
            return file.problem
        if file not in self._judged:
            self._judged = {known: why for known, why in self._judged.items() if known.path != file.path}
            self._judged[file] = self._judge(file)
        return self._judged[file]

    def _judge(self, file: RulesFile) -> str:
        text = self._core.ruleset(_text([file]))
        said = self._core.kernel.nft_check(text)
        place = _PLACE.match(said)
        if place is None:
            return said
        before = text[: text.index(_text([file]))].count("\n") + 1
        line = int(place[1]) - before
        inside = 0 < line <= file.text.count("\n") + 1
        return f"line {line}: {place[2]}" if inside else place[2]

    def _fault(self, files: Sequence[RulesFile]) -> str:
        there, wanted = self._core.kernel.nft_table(), table_state(self._core.ruleset(_text(files)))
        if there is None or wanted is None:
            return "the nftables table is missing"
        (ours, users), (our_wish, users_wish) = _digests(there), _digests(wanted)
        if ours != our_wish:
            return "the nftables table is of another version of dovetail"
        if _own_rules(there) != _own_rules(wanted):
            return "rules of the nftables table were changed"
        return "" if users == users_wish else _USERS_RULES_DIFFER


_USERS_RULES_DIFFER = "the user's rules have changed"


def _text(files: Sequence[RulesFile]) -> str:
    return "\n".join(f"# {os.path.basename(file.path)!r}\n{file.text.rstrip()}" for file in files)


def _digests(state: TableState) -> tuple[str, str]:
    ours, _, users = state.comment.partition(" ")
    return ours, users


def _own_rules(state: TableState) -> dict[str, int]:
    return {chain: count for chain, count in state.rules.items() if chain != _USER}
