r"""DNS messages: what a resolver of names and addresses reads and writes of them.

Reading is strict, as anything in a sandbox may send: whatever the bytes are, the outcome is a value or MalformedError.
A name is its labels as they stand on the wire, each after its length, without the root's empty label at the end:
``b"\x03web\x03net"``. As a length is 63 at most, and so below every letter, `bytes.lower` folds a whole name.

Source: RFC 1035 §4.1 (messages), §4.1.4 (compression), §2.3.4 (sizes); RFC 6891 §6.1 (OPT); RFC 4343 (case).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import NamedTuple

from dovetail.errors import InvalidArgument

__all__ = [
    "AAAA",
    "ANY",
    "HEADER_BYTES",
    "IN",
    "OPT",
    "PTR",
    "SRV",
    "A",
    "MalformedError",
    "Message",
    "Question",
    "Record",
    "cut",
    "decode",
    "encode",
    "name_from_text",
    "name_to_text",
    "question_end",
    "read_name",
    "suffixes",
    "write_name",
    "write_records",
]

A, PTR, AAAA, SRV, OPT, ANY = 1, 12, 28, 33, 41, 255  # RFC 1035 §3.2, RFC 3596, RFC 2782, RFC 6891
IN = 1  # RFC 1035 §3.2.4; 255 as a class is any of them
HEADER_BYTES = 12

_HEADER = Struct(">HHHHHH")
_KIND = Struct(">HH")  # of a question: type and class
_FIXED = Struct(">HHIH")  # of a record, behind its name: type, class, TTL, length of the data
_LABEL_BYTES, _NAME_BYTES = 63, 255  # RFC 1035 §2.3.4
_POINTER = 0xC0  # the two high bits of a length
_POINTED_BYTES = 0x4000  # a pointer has 14 bits
_POINTERS = (
    127  # a name has no more labels; chains of bare pointers would make reading cost the square of the bytes
)
_TC = 0x0200  # truncated


class MalformedError(Exception):
    """The bytes are no DNS message; says what is wrong with them."""


class Question(NamedTuple):
    """What is asked. name: as it was asked, upper case included. kind: the type."""

    name: bytes
    kind: int
    klass: int = IN


class Record(NamedTuple):
    """A resource record. data: as on the wire; a name in it may point into the message that it was read from.

    Of an OPT record `klass` is the sender's UDP size, `ttl` extended code, version and flags (RFC 6891 §6.1.3).
    """

    name: bytes
    kind: int
    ttl: int
    data: bytes
    klass: int = IN


class Message(NamedTuple):
    """A whole message. flags: the second word of the header, with opcode and response code."""

    id: int
    flags: int
    questions: tuple[Question, ...] = ()
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    additional: tuple[Record, ...] = ()


def name_from_text(text: str) -> bytes:
    """Write ``web.net``, with or without a dot at the end, as a name; in the case that it has.

    Raises:
        InvalidArgument: no DNS question can ask for it: an empty or long label, a long name, a letter outside ASCII.
    """
    try:
        labels = text.removesuffix(".").encode("ascii").split(b".")
    except UnicodeEncodeError as exc:
        raise InvalidArgument(f"{text!r} is no DNS name: it is not ASCII") from exc
    if not all(0 < len(label) <= _LABEL_BYTES for label in labels):
        raise InvalidArgument(f"{text!r} is no DNS name: a label has 1 to {_LABEL_BYTES} characters")
    name = b"".join(bytes((len(label),)) + label for label in labels)
    if len(name) >= _NAME_BYTES:
        raise InvalidArgument(f"{text!r} is no DNS name: it is longer than {_NAME_BYTES} bytes")
    return name


def name_to_text(name: bytes) -> str:
    r"""Write a name for people, with a dot at the end; bytes that are no plain character as ``\255`` (RFC 1035 §5.1)."""
    text, at = [], 0
    while at < len(name):
        label = name[at + 1 : at + 1 + name[at]]
        at += 1 + len(label)
        text += [
            chr(byte) if 0x21 <= byte <= 0x7E and byte not in b'."\\' else f"\\{byte:03}" for byte in label
        ]
        text.append(".")
    return "".join(text) or "."


def read_name(data: bytes, at: int) -> tuple[bytes, int]:
    """Read the name at `at`, and give it with the place behind it.

    A pointer must lead before all that was read of the name, so that no chain of pointers comes round (RFC 1035
    §4.1.4: "a prior occurrence"). Raises MalformedError.
    """
    labels: list[bytes] = []
    size, behind, bound, pointers = 1, 0, at, 0
    while True:
        if at >= len(data):
            raise MalformedError("a name goes beyond the message")
        length = data[at]
        if length >= _POINTER:
            if at + 2 > len(data):
                raise MalformedError("a name ends in the middle of a pointer")
            behind = behind or at + 2
            at = (length - _POINTER) << 8 | data[at + 1]
            pointers += 1
            if at >= bound or pointers > _POINTERS:
                raise MalformedError(
                    "a name's pointer does not lead back, or one leads to the next too often"
                )
            bound = at
            continue
        if length > _LABEL_BYTES:
            raise MalformedError(f"a label is of the unknown kind {length >> 6}")
        at += 1 + length
        if length == 0:
            return b"".join(labels), behind or at
        size += 1 + length
        if size > _NAME_BYTES:
            raise MalformedError(f"a name is longer than {_NAME_BYTES} bytes")
        if at > len(data):
            raise MalformedError("a label goes beyond the message")
        labels.append(data[at - 1 - length : at])


def question_end(data: bytes) -> int:
    """Give the place behind the only question of a message; 0 where it has not exactly one whose name is in full.

    A first name has nothing before it to point to.
    """
    if len(data) < HEADER_BYTES or data[4:6] != b"\0\1":
        return 0
    at = HEADER_BYTES
    while at < len(data) and 0 < data[at] <= _LABEL_BYTES:
        at += 1 + data[at]
    end = at + 1 + _KIND.size
    return end if end <= len(data) and data[at] == 0 and at - HEADER_BYTES < _NAME_BYTES else 0


def decode(data: bytes) -> Message:
    """Read a message; raises MalformedError and nothing else. What follows it is an error too."""
    if len(data) < HEADER_BYTES:
        raise MalformedError(f"{len(data)} bytes are no DNS message, which has {HEADER_BYTES} at least")
    number, flags, *counts = _HEADER.unpack_from(data)
    at = HEADER_BYTES
    questions = []
    for _ in range(counts[0]):
        name, at = read_name(data, at)
        if at + _KIND.size > len(data):
            raise MalformedError("the message ends in a question")
        questions.append(Question(name, *_KIND.unpack_from(data, at)))
        at += _KIND.size
    sections = []
    for count in counts[1:]:
        records = []
        for _ in range(count):
            record, at = _read_record(data, at)
            records.append(record)
        sections.append(tuple(records))
    if at != len(data):
        raise MalformedError(f"{len(data) - at} bytes follow the message")
    return Message(number, flags, tuple(questions), *sections)


def _read_record(data: bytes, at: int) -> tuple[Record, int]:
    """Read one record, and give the place behind it."""
    name, at = read_name(data, at)
    if at + _FIXED.size > len(data):
        raise MalformedError("the message ends in a record")
    kind, klass, ttl, length = _FIXED.unpack_from(data, at)
    at += _FIXED.size
    if at + length > len(data):
        raise MalformedError("a record's data goes beyond the message")
    return Record(name, kind, ttl, data[at : at + length], klass), at + length


def suffixes(name: bytes, at: int = HEADER_BYTES) -> dict[bytes, int]:
    """Give the places of a name and of its parents, lower case, where it stands in full at `at`: what can be pointed to."""
    found, start = {}, 0
    while start < len(name) and at + start < _POINTED_BYTES:
        found[name[start:].lower()] = at + start
        start += 1 + name[start]
    return found


def write_name(name: bytes, known: Mapping[bytes, int]) -> bytes:
    """Write a name with a pointer to the longest end of it that is `known` (RFC 1035 §4.1.4)."""
    start = 0
    while start < len(name):
        place = known.get(name[start:].lower())
        if place is not None:
            return name[:start] + (_POINTER << 8 | place).to_bytes(2, "big")
        start += 1 + name[start]
    return name + b"\0"


def write_records(records: Iterable[Record], known: Mapping[bytes, int]) -> list[bytes]:
    """Write records, each by itself, whose owners' names may point to what is `known`."""
    owners: dict[bytes, bytes] = {}  # mostly one
    pieces = []
    for record in records:
        owner = owners.get(record.name)
        if owner is None:
            owner = owners[record.name] = write_name(record.name, known)
        fixed = _FIXED.pack(record.kind, record.klass, record.ttl, len(record.data))
        pieces.append(owner + fixed + record.data)
    return pieces


def encode(message: Message) -> bytes:
    """Write a message. Names of owners point to ends of the first question's name, the only place that never moves."""
    sections = (message.answers, message.authority, message.additional)
    counts = (len(message.questions), *map(len, sections))
    known = suffixes(message.questions[0].name) if message.questions else {}
    pieces = [_HEADER.pack(message.id, message.flags, *counts)]
    for question in message.questions:
        pieces.append(question.name + b"\0" + _KIND.pack(question.kind, question.klass))
    for records in sections:
        pieces += write_records(records, known)
    return b"".join(pieces)


def cut(data: bytes, limit: int, opt: bytes = b"") -> bytes:
    """Shorten an answer to `limit` bytes: the answers that fit, the record `opt`, and the bit TC (RFC 2181 §9).

    Some clients take what is there instead of asking again over TCP, so as much as fits is left to them. The OPT record
    is the asker's and ours, not that of who made the answer (RFC 6891 §6.1.1). Costs no more than `limit`, whatever
    the rest is.
    """
    end = question_end(data)
    at, answers = end or HEADER_BYTES, 0
    number, flags, _, count, *_ = _HEADER.unpack_from(data)
    while end and answers < count:
        behind = _record_end(data, at)
        if not behind or behind + len(opt) > limit:
            break
        at, answers = behind, answers + 1
    header = _HEADER.pack(number, flags | _TC, 1 if end else 0, answers, 0, 1 if opt else 0)
    return header + data[HEADER_BYTES:at] + opt


def _record_end(data: bytes, at: int) -> int:
    """Give the place behind the record at `at`, without following its name; 0 where it is not whole."""
    while at < len(data) and 0 < data[at] <= _LABEL_BYTES:
        at += 1 + data[at]
    at += 2 if at < len(data) and data[at] else 1
    end = at + _FIXED.size
    if end > len(data):
        return 0
    end += int.from_bytes(data[end - 2 : end], "big")
    return end if end <= len(data) else 0
