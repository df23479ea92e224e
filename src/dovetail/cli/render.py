"""Text for people: aligned tables, indented facts, trees. In colour on a terminal, plain anywhere else."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

__all__ = ["Branch", "clock", "facts", "headline", "interface", "known", "moment", "table", "tree"]

_GAP = "  "


class Branch(NamedTuple):
    """A line of a tree and what hangs below it."""

    text: str
    children: Sequence[Branch] = ()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Align `rows` under `header`; the last column keeps its length."""
    cells = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [
        _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    return "\n".join([headline(lines[0]), *lines[1:]])


def facts(pairs: Mapping[str, str], *, indent: int = 0) -> str:
    """Write ``key   value`` lines, without those that have no value."""
    told = {key: value for key, value in pairs.items() if value}
    width = max((len(key) for key in told), default=0)
    return "\n".join(f"{' ' * indent}{key.ljust(width)}{_GAP}{value}" for key, value in told.items())


def tree(branch: Branch) -> str:
    """Draw a tree with lines, or with ASCII where the output cannot show them."""
    return "\n".join([headline(branch.text), *_limbs(branch.children, "", _strokes())])


def _limbs(children: Sequence[Branch], before: str, strokes: tuple[str, str, str]) -> Iterator[str]:
    between, end, down = strokes
    for index, child in enumerate(children):
        last = index == len(children) - 1
        yield f"{before}{end if last else between}{child.text}"
        yield from _limbs(child.children, before + ("   " if last else down), strokes)


def _strokes() -> tuple[str, str, str]:
    try:
        "├└│─".encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return "|- ", "`- ", "|  "
    return "├─ ", "└─ ", "│  "


def interface(ifname: str, face: str) -> str:
    """Write an interface's name; Docker is told a beginning only and numbers it itself, so ``eth`` becomes ``eth*``."""
    if face == "docker" and ifname and not ifname[-1].isdigit():
        return f"{ifname}*"
    return ifname or "-"


def known(name: str, known_as: Sequence[str]) -> str:
    """Write a network's name with those by which faces know it: ``docker-0123456789ab (shop)``."""
    return f"{name} ({', '.join(known_as)})" if known_as else name


def clock(seconds: float) -> str:
    """Write a time of today to the millisecond, in local time."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S.%f")[:-3]


def moment(seconds: float) -> str:
    """Write a time in ISO 8601, to the second, in local time; nothing for 0."""
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds") if seconds else ""


def headline(text: str) -> str:
    """Set off a headline in bold, on a terminal only; rich knows what the terminal can do."""
    if not sys.stdout.isatty():
        return text
    from rich.console import Console
    from rich.text import Text

    console = Console(width=10_000, highlight=False)
    with console.capture() as capture:
        console.print(Text(text, style="bold"), end="")
    return capture.get()
