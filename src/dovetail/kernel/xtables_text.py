"""Rules as ``iptables -S`` writes and ``iptables-restore`` reads them: words, quoted where they must be.

Both know one kind of quoting: text in double quotes is one word, and a backslash in it takes the next character as
it is. A line is a rule, so no word may hold a line break. Source: add_param_to_argv, iptables/xshared.c;
xtables_save_string, libxtables/xtables.c.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["WORD_MAX", "line_of", "words_of"]

WORD_MAX = 1000
"""Bytes of the longest word: iptables-restore has room for 1023, and legacy ones for less where it is quoted."""

_QUOTED = frozenset(" \t\"'\\")


def line_of(words: Iterable[str]) -> str:
    """Write words as a line; raises ValueError for one that cannot be written, before it becomes another rule."""
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    if not word.isprintable() or len(word.encode()) > WORD_MAX:
        raise ValueError(word)
    if word and not _QUOTED.intersection(word) and word[0] != "#":
        return word
    escaped = "".join(f"\\{character}" if character in "\"'\\" else character for character in word)
    return f'"{escaped}"'


def words_of(line: str) -> tuple[str, ...]:
    """Read a line back."""
    words: list[str] = []
    word = ""
    begun = quoted = escaped = False
    for character in line:
        if escaped:
            word, escaped = word + character, False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted, begun = not quoted, True
        elif not quoted and character in " \t":
            words += [word] if begun or word else []
            word, begun = "", False
        else:
            word += character
    return (*words, *([word] if begun or word else []))
