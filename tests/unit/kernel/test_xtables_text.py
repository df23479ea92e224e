from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dovetail.kernel.xtables_text import WORD_MAX, line_of, words_of

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF)).filter(str.isprintable)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("-A", "X", "-j", "ACCEPT"), "-A X -j ACCEPT"),
        (("--comment", "two words"), '--comment "two words"'),
        (("--comment", ""), '--comment ""'),
        (("--comment", 'name: "n" id: "c"'), '--comment "name: \\"n\\" id: \\"c\\""'),
        (("--comment", "it's"), '--comment "it\\\'s"'),
        (("--comment", "a\\b"), '--comment "a\\\\b"'),
        (("#", "!"), '"#" !'),
    ],
)
def test_words_are_written_as_iptables_writes_them(words: tuple[str, ...], line: str) -> None:
    assert line_of(words) == line
    assert words_of(line) == words


@given(st.lists(PRINTABLE))
def test_what_is_written_is_read_back(words: list[str]) -> None:
    assert words_of(line_of(words)) == tuple(words)


@pytest.mark.parametrize("word", ["a\nCOMMIT", "a\0b", "\x1b[0m", "a\u2028b", "x" * (WORD_MAX + 1)])
def test_a_word_that_would_end_the_rule_is_not_written(word: str) -> None:
    with pytest.raises(ValueError):
        line_of(("--comment", word))
