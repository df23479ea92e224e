"""What two runs of a case differ in, and which differences are meant."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from differential.case import Case

_ABSENT = "(absent)"
_THERE = "(there)"
_LINK = re.compile(r"^(?P<place>[^/]+)/link (?P<name>[^/]+)/mtu$")
_ROW = re.compile(r"^\| (?P<plugin>[^|]+) \| (?P<what>`[^|]*`) \| (?P<why>[^|]+) \|$")


@dataclass(frozen=True)
class Difference:
    """A path that has one value with Go's plugins and another with ours."""

    path: str  # STEP/WHERE/FACT
    go: Any
    ours: Any

    def __str__(self) -> str:
        """Write it on a line."""
        return f"{self.path}: go {_shown(self.go)}, ours {_shown(self.ours)}"


@dataclass(frozen=True)
class Allowed:
    """A row of the table of differences; `plugins` has types and cases, with ! those it is not about.

    `patterns` are of the shell's kind, for a path or for ``PATH go VALUE ours VALUE``.
    """

    plugins: frozenset[str]
    patterns: tuple[str, ...]
    why: str

    def concerns(self, case: Case) -> bool:
        """Say whether it is about this case, or about its plugin."""

        def among(patterns: Iterable[str]) -> bool:
            return any(fnmatchcase(name, one) for name in (case.plugin, str(case)) for one in patterns)

        excluded = [one[1:] for one in self.plugins if one.startswith("!")]
        return among(self.plugins) and not among(excluded)

    def covers(self, case: Case, difference: Difference) -> bool:
        """Say whether it explains this difference."""
        values = f"{difference.path} go {_shown(difference.go)} ours {_shown(difference.ours)}"
        return self.concerns(case) and any(
            fnmatchcase(text, one) for text in (difference.path, values) for one in self.patterns
        )


def compare(
    case: Case, go: Any, ours: Any, allowed: Iterable[Allowed]
) -> tuple[list[Difference], set[Allowed]]:
    """Give the differences of two runs that nobody explains, and the rows that explained the others.

    `go` and `ours` are what `host_process` answers: for each step its name and its table.
    """
    unexplained, used = [], set()
    for difference in _differences(go, ours):
        rows = [row for row in allowed if row.covers(case, difference)]
        used.update(rows)
        if not rows:
            unexplained.append(difference)
    return unexplained, used


def _differences(go: Any, ours: Any) -> Iterable[Difference]:
    for (step, left), (_, right) in zip(go, ours, strict=True):
        mine, theirs = _links(right), _links(left)
        for place, name in sorted(mine ^ theirs):
            there = [_THERE if (place, name) in links else _ABSENT for links in (theirs, mine)]
            yield Difference(f"{step}/{place}/link {name}", *there)
        apart = left["failed"] != right["failed"]  # then one has a result alone, which says nothing more
        for path in sorted(left.keys() | right.keys()):
            if apart and path.startswith("result/"):
                continue
            one, other = left.get(path, _ABSENT), right.get(path, _ABSENT)
            if one != other and not any(_is_of(path, place, name) for place, name in mine ^ theirs):
                yield Difference(f"{step}/{path}", one, other)


def _links(table: dict[str, Any]) -> set[tuple[str, str]]:
    """Give the links that a table has: their places and names."""
    found = (_LINK.match(path) for path in table)
    return {(link["place"], link["name"]) for link in found if link}


def _is_of(path: str, place: str, name: str) -> bool:
    """Say whether a fact goes with a link: what is said of a link that one side has alone is no other difference."""
    here, _, fact = path.partition("/")
    return (
        here == place
        and re.search(rf"(^(link|address|qdisc|filter) |/|dev ){re.escape(name)}(/| |$)", fact) is not None
    )


def _shown(value: Any) -> str:
    return value if value in (_ABSENT, _THERE) else json.dumps(value)


def read_allowed(page: Path) -> list[Allowed]:
    """Read the rows of the page's table: plugins, patterns in backquotes, the reason."""
    rows = []
    for line in page.read_text(encoding="utf-8").splitlines():
        found = _ROW.match(line)
        if found is None:
            continue
        plugins = frozenset(word.strip(" `") for word in found["plugin"].split(","))
        patterns = tuple(re.findall(r"`([^`]+)`", found["what"]))
        rows.append(Allowed(plugins, patterns, found["why"].strip()))
    return rows
