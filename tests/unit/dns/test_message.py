"""Names, pointers and cut answers; the whole codec is beside dnspython's in tests/property."""

from __future__ import annotations

import pytest

from dovetail.dns import message
from dovetail.dns.message import MalformedError, Message, Question, Record
from dovetail.errors import InvalidArgument

HEAD = b"\0\0\0\0\0\1\0\0\0\0\0\0"
WEB = message.name_from_text("web.front")


def test_a_name_is_text_with_or_without_its_dot() -> None:
    assert message.name_from_text("Web.front.") == message.name_from_text("Web.front") == b"\3Web\5front"
    assert message.name_to_text(b"\3Web\5front") == "Web.front."
    assert message.name_to_text(b"") == "."
    assert message.name_to_text(b"\4a.\0b") == "a\\046\\000b."


@pytest.mark.parametrize("text", ["", ".", "a..b", "x" * 64, "größe", ".".join(["x" * 62] * 4) + ".yyyyy"])
def test_text_that_no_question_asks_for_is_no_name(text: str) -> None:
    with pytest.raises(InvalidArgument, match="is no DNS name"):
        message.name_from_text(text)


def test_a_pointer_is_followed_back() -> None:
    data = HEAD + b"\3web\0" + b"\2db\xc0\x0c"

    assert message.read_name(data, 17) == (b"\2db\3web", 22)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\xc0\x0c", "lead back"),  # at itself
        (b"\xc0\x0e\xc0\x0c", "lead back"),  # in a ring
        (b"\1a\xc0\x0c", "lead back"),  # at its own start
        (b"\xc0", "middle of a pointer"),
        (b"\3we", "beyond the message"),
        (b"\3web", "beyond the message"),
        (b"\x40abc\0", "unknown kind 1"),
        (b"\x80abc\0", "unknown kind 2"),
        ((b"\x3f" + b"x" * 63) * 4 + b"\0", "longer than 255"),
    ],
)
def test_a_name_that_does_not_end_is_malformed(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        message.read_name(HEAD + data, 12)


def test_a_chain_of_bare_pointers_is_given_up() -> None:
    """Each leads back, as it must, so that the chain ends; but reading many names over it would take minutes."""
    chain = b"\0\0" + b"".join((0xC000 | 12 + 2 * step).to_bytes(2, "big") for step in range(200))

    with pytest.raises(MalformedError, match="too often"):
        message.read_name(HEAD + chain, len(HEAD + chain) - 2)
    assert message.read_name(HEAD + chain, 12 + 2 * 100)[0] == b""


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\0\0\1\0", "ends in a question"),
        (b"\0\0\1\0\1x", "1 bytes follow"),
    ],
)
def test_a_message_is_its_parts_and_nothing_more(tail: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        message.decode(HEAD + tail)


def test_a_message_is_longer_than_its_header() -> None:
    with pytest.raises(MalformedError, match="11 bytes"):
        message.decode(bytes(11))


@pytest.mark.parametrize(
    ("record", "reason"), [(b"\0\0\1\0\1", "ends in a record"), (b"\0" + bytes(9) + b"\1", "beyond")]
)
def test_a_record_is_whole(record: bytes, reason: str) -> None:
    with pytest.raises(MalformedError, match=reason):
        message.decode(b"\0\0\0\0\0\0\0\1\0\0\0\0" + record)


def test_owners_names_point_to_the_question() -> None:
    records = (Record(WEB.lower(), 1, 9, b"\n\0\0\1"), Record(b"\2db" + WEB, 1, 9, b"\n\0\0\2"))

    data = message.encode(Message(7, 0x8180, (Question(WEB, 1),), records))

    assert data.count(b"front") == 1
    assert message.decode(data).answers == records


def answer(count: int, *, opt: bool) -> bytes:
    records = tuple(Record(WEB, 1, 9, bytes((10, 0, 0, each))) for each in range(count))
    more = (Record(b"", message.OPT, 0, b"", 1232),) if opt else ()
    return message.encode(Message(7, 0x8180, (Question(WEB, 1),), records, additional=more))


def test_a_cut_answer_has_what_fits_and_says_so() -> None:
    data = answer(40, opt=True)

    cut = message.cut(data, 200, b"\0\0\x29\4\xd0\0\0\0\0\0\0")

    read = message.decode(cut)
    assert len(cut) <= 200
    assert len(read.answers) == (200 - 27 - 11) // 16
    assert read.answers == message.decode(data).answers[: len(read.answers)]
    assert [record.kind for record in read.additional] == [message.OPT]
    assert read.flags == 0x8180 | 0x0200


@pytest.mark.parametrize("missing", [1, 5, 14])
def test_a_broken_answer_is_cut_to_what_is_whole(missing: int) -> None:
    data = answer(4, opt=False)

    read = message.decode(message.cut(data[:-missing], 512))

    assert read == message.decode(data)._replace(flags=0x8380, answers=message.decode(data).answers[:3])


def test_what_has_no_question_is_cut_to_its_header() -> None:
    assert message.cut(b"\1\2\0\0\0\0\0\0\0\0\0\0rest", 512) == b"\1\2\2\0\0\0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEAD,
        HEAD + b"\3web",
        HEAD + b"\xc0\x0c\0\1\0\1",
        HEAD + b"\3web\0\0\1\0",
        b"\0\0\0\0\0\2" + HEAD[6:] + b"\0\0\1\0\1",
    ],
)
def test_a_question_that_is_not_there_has_no_end(data: bytes) -> None:
    assert message.question_end(data) == 0


def test_a_question_ends_behind_its_class() -> None:
    assert message.question_end(HEAD + b"\3web\0\0\1\0\1more") == 12 + 9
