"""DNS's codec beside dnspython's: what it writes is read equally, what we write it reads, and no bytes raise anything else."""

from __future__ import annotations

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import hypothesis.strategies as st
from hypothesis import given

from dovetail.dns import message
from dovetail.dns.message import MalformedError, Message, Question, Record

LABELS = st.one_of(
    st.from_regex(rb"[a-z0-9_]([A-Za-z0-9-]{0,8}[a-z0-9])?", fullmatch=True),
    st.binary(min_size=1, max_size=63),
)
NAMES = (
    st.lists(LABELS, max_size=8).filter(lambda labels: sum(map(len, labels)) + len(labels) < 255).map(tuple)
)
# names that share their ends are written with pointers
RELATED = st.one_of(
    NAMES, st.sampled_from([(b"web", b"net"), (b"db", b"web", b"net"), (b"WEB", b"Net"), (b"net",)])
)
U16 = st.integers(0, 0xFFFF)
U32 = st.integers(0, 2**31 - 1)


def wire(labels: tuple[bytes, ...]) -> bytes:
    return b"".join(bytes((len(label),)) + label for label in labels)


def theirs(labels: tuple[bytes, ...]) -> dns.name.Name:
    return dns.name.Name((*labels, b""))


RECORDS = st.builds(
    Record,
    name=RELATED.map(wire),
    kind=st.integers(256, 60000).filter(
        lambda kind: kind not in dns.rdatatype.RdataType.__members__.values()
    ),
    ttl=U32,
    data=st.binary(max_size=40),
    klass=st.just(message.IN),
)
MESSAGES = st.builds(
    Message,
    id=U16,
    flags=U16,
    questions=st.lists(st.builds(Question, name=RELATED.map(wire), kind=U16, klass=U16), max_size=2).map(
        tuple
    ),
    answers=st.lists(RECORDS, max_size=5).map(tuple),
    authority=st.lists(RECORDS, max_size=2).map(tuple),
    additional=st.lists(RECORDS, max_size=2).map(tuple),
)

ASKING = MESSAGES.map(
    lambda one: one._replace(
        flags=one.flags & ~0x7800, questions=one.questions[:1] or (Question(wire((b"web",)), message.A),)
    )
)
"""Standard queries of one question, and their answers."""


@given(MESSAGES)
def test_a_message_is_read_as_it_was_written(one: Message) -> None:
    read = message.decode(message.encode(one))

    def folded(each: Message) -> Message:  # a pointer leads to the name in the case in which it stands there
        sections = (tuple(r._replace(name=r.name.lower()) for r in section) for section in each[3:])
        return Message(each.id, each.flags, each.questions, *sections)

    assert folded(read) == folded(one)


@given(ASKING)
def test_dnspython_reads_what_we_write(one: Message) -> None:
    read = dns.message.from_wire(message.encode(one), one_rr_per_rrset=True)

    assert read.id == one.id
    assert int(read.flags) == one.flags
    assert [(n.name.to_wire()[:-1], int(n.rdtype), int(n.rdclass)) for n in read.question] == list(
        one.questions
    )
    for section, ours in (
        (read.answer, one.answers),
        (read.authority, one.authority),
        (read.additional, one.additional),
    ):
        got = [
            (rrset.name.to_wire()[:-1].lower(), int(rrset.rdtype), rrset.ttl, rrset[0].to_wire())
            for rrset in section
        ]
        assert got == [(record.name.lower(), record.kind, record.ttl, record.data) for record in ours]


@given(
    RELATED,
    st.lists(
        st.tuples(RELATED, st.sampled_from(["A", "AAAA", "PTR", "SRV"]), st.integers(0, 2**31 - 1)),
        max_size=6,
    ),
    st.booleans(),
)
def test_we_read_what_dnspython_writes(asked, records, edns) -> None:
    data = {"A": "10.0.0.1", "AAAA": "fd00::1", "PTR": "web.net.", "SRV": "1 2 80 web.net."}
    query = dns.message.make_query(theirs(asked), "A", use_edns=0 if edns else -1, payload=1400)
    written = dns.message.make_response(query)
    for owner, kind, ttl in records:
        rdata = dns.rdata.from_text("IN", kind, data[kind])
        written.answer.append(dns.rrset.from_rdata(theirs(owner), ttl, rdata))

    read = message.decode(written.to_wire(max_size=65535))

    assert read.id == written.id
    assert read.questions == (Question(wire(asked), message.A),)
    got = [(record.name.lower(), record.kind, record.ttl) for record in read.answers]
    kinds = {"A": message.A, "AAAA": message.AAAA, "PTR": message.PTR, "SRV": message.SRV}
    assert got == [(wire(owner).lower(), kinds[kind], ttl) for owner, kind, ttl in records]
    assert [record.kind for record in read.additional] == ([message.OPT] if edns else [])


@given(NAMES)
def test_a_name_is_written_for_people_as_dnspython_writes_it(labels) -> None:
    text = message.name_to_text(wire(labels))

    assert dns.name.from_text(text) == theirs(labels)


@given(st.text(alphabet="ab.-_Z", max_size=80))
def test_text_is_a_name_where_dnspython_says_so(text: str) -> None:
    try:
        expected = dns.name.from_text(text).to_wire()[:-1] if text.strip(".") else None
    except dns.exception.DNSException:
        expected = None

    try:
        ours = message.name_from_text(text)
    except message.InvalidArgument:
        ours = None

    assert ours == expected


HEADS = MESSAGES.map(message.encode)
BROKEN = st.one_of(
    st.binary(max_size=200),
    st.tuples(HEADS, st.integers(0, 400)).map(lambda pair: pair[0][: pair[1]]),
    st.tuples(HEADS, st.integers(0, 400), st.integers(0, 255)).map(
        lambda three: three[0][: three[1]] + bytes((three[2],)) + three[0][three[1] + 1 :]
    ),
    st.tuples(
        st.binary(min_size=4, max_size=4),
        st.lists(st.integers(0, 3), min_size=4, max_size=4),
        st.binary(max_size=99),
    ).map(lambda three: three[0] + b"".join(bytes((0, count)) for count in three[1]) + three[2]),
)


@given(BROKEN)
def test_bytes_of_anybody_are_read_or_malformed(data: bytes) -> None:
    try:
        read = message.decode(data)
    except MalformedError:
        return

    # what is read once is read the same after it is written
    assert message.decode(message.encode(read)).questions == read.questions


@given(BROKEN, st.integers(0, 600))
def test_what_can_be_read_dnspython_reads_too(data: bytes, limit: int) -> None:
    """Where it can at all: it looks into the data of records, which is not ours to judge."""
    try:
        read = dns.message.from_wire(data, one_rr_per_rrset=True)
    except (dns.exception.DNSException, ValueError):
        return
    if any(section for section in read.sections[1:]) or read.opt or read.tsig:
        return

    assert len(message.decode(data).questions) == len(read.question)


@given(BROKEN.filter(lambda data: len(data) >= 12), st.integers(12, 600))
def test_any_bytes_can_be_cut(data: bytes, limit: int) -> None:
    cut = message.cut(data, limit)

    assert cut[:2] == data[:2]
    assert cut[2] & 2
    assert len(cut) <= max(limit, message.question_end(data), 12)


@given(ASKING, st.integers(12, 600))
def test_a_cut_answer_keeps_the_records_that_fit(one: Message, limit: int) -> None:
    data = message.encode(one)

    read = message.decode(message.cut(data, limit))

    assert read.questions == one.questions
    whole = message.decode(data)
    assert read.answers == whole.answers[: len(read.answers)]
    assert read.authority == ()


@given(st.binary(max_size=300), st.integers(0, 310))
def test_a_question_that_ends_is_one_that_can_be_read(data: bytes, at: int) -> None:
    whole = b"\0\0\0\0\0\1\0\0\0\0\0\0" + data
    end = message.question_end(whole)

    if end:
        assert len(message.decode(whole[:end]).questions) == 1
