"""From the bytes of a question to the bytes of its answer, or to the word that others must be asked.

An answer depends on the question's bytes and on the view alone. So it is kept under them (all but the id, which is the asker's own):
the next one costs a look-up in a dictionary and a join, and it has the question's case and the asker's options because
they are part of the key. A new view comes with new answers.

What is answered: A, AAAA, PTR and SRV; another type of a name that is known has an empty answer, so that a question
for it (AAAA of what has IPv4 only) never leaves the host and is never told NXDOMAIN (RFC 2308 §2.2). Without an SOA
record it is not to be kept either, as the host may get such an address in a moment. Of several answers each
comes first in turn.

Source: RFC 1035 §4.1.1, RFC 6891 (EDNS), RFC 2782 (SRV), RFC 8482 (ANY), RFC 9619 (one question).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from dovetail.dns.message import (
    AAAA,
    ANY,
    HEADER_BYTES,
    IN,
    OPT,
    PTR,
    SRV,
    A,
    MalformedError,
    Message,
    Question,
    Record,
    decode,
    encode,
    question_end,
    suffixes,
    write_records,
)
from dovetail.dns.zone import Target, View
from dovetail.model.addresses import IPAddress

__all__ = [
    "FORMERR",
    "NOERROR",
    "NOTIMP",
    "NXDOMAIN",
    "QUERY_BYTES",
    "REFUSED",
    "SERVFAIL",
    "TTL_S",
    "Answers",
    "Ask",
    "Verdict",
    "refusal",
]

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5  # RFC 1035 §4.1.1
TTL_S = 600
"""How long an answer may be kept; libnetwork's."""
QUERY_BYTES = 4096
"""A longer question is malformed: none of one name comes near it."""

_QR, _AA, _RD, _RA, _CD = 0x8000, 0x0400, 0x0100, 0x0080, 0x0010  # RFC 1035 §4.1.1, RFC 4035 §3.1.6
_OPCODE, _RCODE = 0x7800, 0x000F
_DO = 0x8000  # RFC 3225 §3: copied from the question
_BADVERS = 1 << 24  # extended response code 16, RFC 6891 §6.1.3: its upper 8 bits
_UDP_BYTES = 512  # RFC 1035 §4.2.1: without EDNS
_OUR_UDP_BYTES = 1232  # what we take; no link cuts it (RFC 9715 §3.1)
_MOST_UDP_BYTES = (
    4096  # what we send at most: it crosses a namespace's loopback, which does not cut it either
)
_STREAM_BYTES = 65535  # RFC 1035 §4.2.2
_KEPT_BYTES = (
    1 << 20
)  # of answers; an asker with random bits in its questions (RFC 7873) has no more of our memory
_ENTRY_BYTES, _PIECE_BYTES = 400, 80  # what Python takes for them besides
_ANY_CLASS = 255
_RECORDS = 8  # beside a question: EDNS and a signature; names of hundreds cost milliseconds, which are the others' too


class Ask(NamedTuple):
    """The question is not ours to answer: what to send on, and what its answer must be like.

    end: where the question in it ends. limit: the bytes that the asker takes. opt: our OPT record for a cut answer.
    """

    query: bytes
    end: int
    limit: int
    opt: bytes


Verdict: TypeAlias = bytes | Ask | None
"""An answer, a question for others, or silence."""


class _Edns(NamedTuple):
    """What a question's OPT record says: the answer's size, and version and DO as `ttl` has them."""

    size: int
    ttl: int


class _Kept:
    """An answer without its id, to be given in turns: `first` + the pieces from the next one round + `last`."""

    __slots__ = ("_count", "_first", "_last", "_pieces", "_turn", "_whole", "cost")

    def __init__(self, first: bytes, pieces: list[bytes], last: bytes, fit: int) -> None:
        self._first, self._last, self._count = first, last, fit
        self._pieces = pieces * 2  # any turn is one slice
        self._turn = 0
        self._whole = first + b"".join(pieces) + last if len(pieces) < 2 else b""
        self.cost = len(first) + len(last) + sum(map(len, pieces)) + _ENTRY_BYTES + _PIECE_BYTES * len(pieces)

    def take(self) -> bytes:
        if self._whole:
            return self._whole
        turn = self._turn
        self._turn = (turn + 1) % (len(self._pieces) // 2)
        return self._first + b"".join(self._pieces[turn : turn + self._count]) + self._last


class Answers:
    """Answers out of one view's memory. Not for several threads at once."""

    def __init__(self, view: View, *, ttl_s: int = TTL_S) -> None:
        self.view = view
        self._ttl_s = ttl_s
        self._kept: tuple[dict[bytes, _Kept], dict[bytes, _Kept]] = ({}, {})
        self._spent = 0

    def answer(self, query: bytes, *, stream: bool = False) -> Verdict:
        """Answer a message that came as a datagram, or over a `stream`; never raises.

        Silence is for what is shorter than a header and for answers, which would be answered in turn without end.
        """
        kept = self._kept[stream].get(query[2:])
        if kept is not None:
            return query[:2] + kept.take()
        if len(query) < HEADER_BYTES or query[2] & 0x80:
            return None
        if query[2] & 0x78:
            return refusal(query, NOTIMP)
        return self._answer_anew(query, stream=stream)

    def with_view(self, view: View) -> Answers:
        """Answer as this one does, from another view."""
        return Answers(view, ttl_s=self._ttl_s)

    def _answer_anew(self, query: bytes, *, stream: bool) -> bytes | Ask:
        """Answer what has not been answered before."""
        end = question_end(query)
        if not end or not _short(query):
            return refusal(query, FORMERR)
        try:
            message = decode(query)
            edns = _edns(message)
        except MalformedError:
            return refusal(query, FORMERR)
        if edns is not None and edns.ttl & 0x00FF0000:
            return _bad_version(message)
        limit = _STREAM_BYTES if stream else min(edns.size, _MOST_UDP_BYTES) if edns else _UDP_BYTES
        made = self._make(message, query[HEADER_BYTES:end], edns, limit)
        if made is None:
            return Ask(query, end, limit, _opt_for(edns))
        self._keep(query[2:], made, stream=stream)
        return query[:2] + made.take()

    def _keep(self, key: bytes, made: _Kept, *, stream: bool) -> None:
        """Keep an answer, and begin anew where that is too much."""
        cost = len(key) + made.cost
        if self._spent + cost > _KEPT_BYTES:
            self._spent = 0
            for each in self._kept:
                each.clear()
        if cost <= _KEPT_BYTES:
            self._spent += cost
            self._kept[stream][key] = made

    def _make(self, message: Message, asked: bytes, edns: _Edns | None, limit: int) -> _Kept | None:
        """Make the answer to a question that is well-formed; None where others must be asked."""
        question = message.questions[0]
        opt = _opt_for(edns)
        records: list[Record] = []
        additional: list[Record] = []
        code = REFUSED
        if question.klass in (IN, _ANY_CLASS):
            found = self._records(question)
            if found is None:
                return None
            code, records, additional = found
        known = suffixes(question.name)
        pieces = write_records(records, known)
        more = write_records(additional, known)
        room = limit - HEADER_BYTES - len(asked) - len(opt)
        fit = _fitting(pieces, room)
        room -= sum(map(len, pieces))
        # without them the answer is whole, so that TC is not for them (RFC 2181 §9)
        more = more[: _fitting(more, room)] if fit == len(pieces) else []
        flags = _QR | (_AA if code in (NOERROR, NXDOMAIN) else 0) | message.flags & (_RD | _CD) | _RA | code
        flags |= 0x0200 if fit < len(pieces) else 0
        counts = (1, fit, 0, len(more) + bool(opt))
        first = b"".join(value.to_bytes(2, "big") for value in (flags, *counts)) + asked
        return _Kept(first, pieces, b"".join((*more, opt)), fit)

    def _records(self, question: Question) -> tuple[int, list[Record], list[Record]] | None:
        """Give the response code, the answers and what goes with them; None where nobody here has the name."""
        key = question.name.lower()
        view, ttl_s = self.view, self._ttl_s
        if question.kind in (A, AAAA, ANY):
            version = {A: 4, AAAA: 6}.get(question.kind, 0)
            addresses = view.addresses(key, version)
            if addresses is not None:
                return NOERROR, _address_records(question.name, addresses, ttl_s), []
        targets = view.services(key)
        if targets is not None:
            code = NOERROR if targets else NXDOMAIN
            if question.kind not in (SRV, ANY):
                return code, [], []
            return code, *_service_records(question.name, targets, ttl_s)
        if question.kind in (PTR, ANY):
            names = view.names(key)
            if names:
                return NOERROR, [Record(question.name, PTR, ttl_s, name + b"\0") for name in names], []
        return (NOERROR, [], []) if view.knows(key) else None


def refusal(query: bytes, code: int) -> bytes:
    """Answer a message of at least a header with a response code alone, and with its question where that can be read.

    An OPT record goes with it where one came (RFC 6891 §7).
    """
    end = question_end(query)
    flags = int.from_bytes(query[2:4], "big")
    flags = _QR | flags & (_OPCODE | _RD | _CD) | _RA | code
    opt = b""
    if end and code != FORMERR and _short(query):
        try:
            edns = _edns(decode(query))
        except MalformedError:
            edns = None
        opt = _opt_for(edns)
    counts = bytes((0, 1 if end else 0, 0, 0, 0, 0, 0, 1 if opt else 0))
    return query[:2] + flags.to_bytes(2, "big") + counts + query[HEADER_BYTES : end or HEADER_BYTES] + opt


def _short(query: bytes) -> bool:
    """Say whether a question may be read: how long that takes must not be its sender's choice."""
    counts = (int.from_bytes(query[at : at + 2], "big") for at in (6, 8, 10))
    return len(query) <= QUERY_BYTES and sum(counts) <= _RECORDS


def _edns(message: Message) -> _Edns | None:
    """Read the OPT record of a question; two, or one with a name, are malformed (RFC 6891 §6.1.1)."""
    opts = [record for record in message.additional if record.kind == OPT]
    if len(opts) > 1 or any(record.name for record in opts):
        raise MalformedError("an OPT record has a name, or there are two")
    # RFC 6891 §6.2.3: less than 512 is 512
    return _Edns(max(opts[0].klass, _UDP_BYTES), opts[0].ttl) if opts else None


def _our_opt(ttl: int) -> Record:
    return Record(b"", OPT, ttl, b"", _OUR_UDP_BYTES)


def _opt_for(edns: _Edns | None) -> bytes:
    """Write the OPT record that answers one, or none."""
    return b"" if edns is None else write_records([_our_opt(edns.ttl & _DO)], {})[0]


def _bad_version(message: Message) -> bytes:
    """Answer EDNS of a version that we do not know with our own, 0 (RFC 6891 §6.1.3)."""
    flags = _QR | message.flags & (_RD | _CD) | _RA
    return encode(Message(message.id, flags, message.questions, additional=(_our_opt(_BADVERS),)))


def _fitting(pieces: list[bytes], room: int) -> int:
    """Count how many pieces fit, in any turn: by the largest where not all do."""
    if sum(map(len, pieces)) <= room:
        return len(pieces)
    return max(room, 0) // max(map(len, pieces))


def _address_records(name: bytes, addresses: Iterable[IPAddress], ttl_s: int) -> list[Record]:
    kinds = {4: A, 6: AAAA}
    return [Record(name, kinds[address.version], ttl_s, address.packed) for address in addresses]


def _service_records(name: bytes, targets: Iterable[Target], ttl_s: int) -> tuple[list[Record], list[Record]]:
    """Give SRV records and the addresses of their targets, whose names are never pointers (RFC 2782)."""
    answers, additional = [], {}
    for target in targets:
        service = target.service
        numbers = (service.priority, service.weight, service.port)
        data = b"".join(number.to_bytes(2, "big") for number in numbers) + target.name + b"\0"
        answers.append(Record(name, SRV, ttl_s, data))
        additional[target.name.lower()] = _address_records(target.name, target.addresses, ttl_s)
    return answers, [record for records in additional.values() for record in records]
