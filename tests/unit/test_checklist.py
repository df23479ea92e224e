"""Each line of a checklist has a test that says, by a marker, that it proves it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# Lines that nothing proves yet, to be exact: a line that gets its test leaves this set.
MISSING: dict[str, set[int]] = {"cnm": set(), "cni": set()}
LISTS = {"cnm": "plugin-checklist.txt", "cni": "cni-checklist.txt"}


@pytest.mark.parametrize("marker", LISTS)
def test_every_line_has_a_test(marker: str) -> None:
    lines = (TESTS / "data" / LISTS[marker]).read_text().splitlines()[1:]
    marked = {
        int(number)
        for path in TESTS.rglob("test_*.py")
        for numbers in re.findall(rf"@pytest\.mark\.{marker}\(([\d, ]+)\)\n", path.read_text())
        for number in numbers.split(",")
    }
    asked = {int(line.partition(" ")[0]): line for line in lines}

    assert list(asked) == list(range(1, len(lines) + 1))
    assert marked <= set(asked)
    assert {number: line for number, line in asked.items() if number not in marked | MISSING[marker]} == {}
    assert MISSING[marker] & marked == set(), "these have a test now"
