"""Committed text that results are compared with; ``DOVETAIL_UPDATE_GOLDEN=1`` writes it anew."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

_UPDATE = os.environ.get("DOVETAIL_UPDATE_GOLDEN") == "1"


def _compare(path: Path, results: Iterable[tuple[str, str, object]]) -> None:
    """Compare each (section, text, what it is of) with the file's section; every section must be there and be used."""
    golden = {} if _UPDATE else dict(_sections(path.read_text(encoding="utf-8")))
    seen: set[str] = set()
    for title, text, of in results:
        seen.add(title)
        if _UPDATE:
            golden.setdefault(title, text)
        assert text == golden.get(title), f"{of} in {path.name}, section {title!r}"
    assert seen == golden.keys(), "a section that nothing gives"
    if _UPDATE:
        blocks = (f"# {title}\n{text}".rstrip() for title, text in golden.items())
        path.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for block in text.rstrip("\n").split("\n\n"):
        title, _, lines = block.partition("\n")
        yield title.removeprefix("# "), lines


@pytest.fixture
def compare() -> Callable[[Path, Iterable[tuple[str, str, object]]], None]:
    """Give what compares results with a golden file."""
    return _compare
