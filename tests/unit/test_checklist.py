"""Each line of the checklist for Docker plugins has a test that says it proves it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
LINES = (TESTS / "data" / "plugin-checklist.txt").read_text().splitlines()[1:]


def test_every_line_has_a_test() -> None:
    marked = {
        int(number)
        for path in TESTS.rglob("test_*.py")
        for numbers in re.findall(r"@pytest\.mark\.cnm\(([\d, ]+)\)\n", path.read_text())
        for number in numbers.split(",")
    }
    asked = {int(line.partition(" ")[0]): line for line in LINES}

    assert marked <= set(asked)
    assert [line for number, line in asked.items() if number not in marked] == []
