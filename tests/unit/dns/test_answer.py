"""Answers out of memory, read by dnspython."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import pytest

from dovetail.dns import answer
from dovetail.dns.answer import Answers, Ask
from dovetail.dns.zone import Host, Service, View, Zone

WEB = Host(
    "1", ("web",), (IPv4Address("10.0.0.4"), IPv6Address("fd00::4")), (Service("http", "tcp", 80, 1, 2),)
)
DB = Host("2", ("db",), (IPv4Address("10.0.0.5"),))
SIX = Host("3", ("six",), (IPv6Address("fd00::6"),))
MANY = [Host(str(n), (f"m{n}", "many"), (IPv4Address(0x0A010000 + n),)) for n in range(10, 110)]
VIEW = View([Zone("front", [WEB, DB, SIX, *MANY])])


def ask(
    answers: Answers, name: str, kind: str = "A", *, stream: bool = False, **options: object
) -> dns.message.Message:
    query = dns.message.make_query(name, kind, **options)
    given = answers.answer(query.to_wire(), stream=stream)
    assert isinstance(given, bytes), given
    read = dns.message.from_wire(given)
    assert query.is_response(read)
    return read


def texts(message: dns.message.Message) -> list[str]:
    return [str(rdata) for rrset in message.answer for rdata in rrset]


@pytest.fixture
def answers() -> Answers:
    return Answers(VIEW)


def test_a_name_has_its_address(answers: Answers) -> None:
    read = ask(answers, "web")

    assert texts(read) == ["10.0.0.4"]
    assert read.answer[0].ttl == 600
    assert read.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA
    assert texts(ask(answers, "web.front.", "AAAA")) == ["fd00::4"]


def test_the_time_to_live_is_the_callers() -> None:
    assert ask(Answers(VIEW, ttl_s=5).with_view(VIEW), "web").answer[0].ttl == 5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("db", "AAAA"),
        ("six", "A"),
        ("db", "MX"),
        ("db", "TXT"),
        ("db", "HTTPS"),
        ("db", "PTR"),
        ("5.0.0.10.in-addr.arpa", "A"),
    ],
)
def test_what_a_known_name_does_not_have_is_empty_and_no_error(
    answers: Answers, name: str, kind: str
) -> None:
    read = ask(answers, name, kind)

    assert read.rcode() == dns.rcode.NOERROR
    assert not read.answer
    assert not read.authority  # no SOA: not to be kept (RFC 2308 §5)


def test_an_address_has_a_name(answers: Answers) -> None:
    assert texts(ask(answers, "4.0.0.10.in-addr.arpa", "PTR")) == ["web.front."]
    assert texts(ask(answers, IPv6Address("fd00::6").reverse_pointer, "PTR")) == ["six.front."]


def test_a_service_has_its_place_and_its_addresses(answers: Answers) -> None:
    read = ask(answers, "_http._tcp.web", "SRV")

    assert texts(read) == ["1 2 80 web.front."]
    assert [(str(rrset.name), str(rrset[0])) for rrset in read.additional] == [
        ("web.front.", "10.0.0.4"),
        ("web.front.", "fd00::4"),
    ]


def test_a_service_that_a_known_host_lacks_is_not_asked_for_elsewhere(answers: Answers) -> None:
    assert ask(answers, "_ftp._tcp.web", "SRV").rcode() == dns.rcode.NXDOMAIN
    assert ask(answers, "_http._tcp.web", "A").rcode() == dns.rcode.NOERROR


def test_any_is_all_addresses(answers: Answers) -> None:
    assert texts(ask(answers, "web", "ANY")) == ["10.0.0.4", "fd00::4"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("elsewhere.test", "A"),
        ("9.9.9.9.in-addr.arpa", "PTR"),
        ("_http._tcp.nobody", "SRV"),
        (".", "NS"),
        ("nobody", "ANY"),
    ],
)
def test_others_are_asked_for_what_nobody_here_has(answers: Answers, name: str, kind: str) -> None:
    query = dns.message.make_query(name, kind, use_edns=0, payload=1400).to_wire()

    asked = answers.answer(query)

    assert isinstance(asked, Ask)
    assert (asked.query, asked.limit) == (query, 1400)
    assert asked.end == len(query) - 11


def test_the_questions_case_is_kept(answers: Answers) -> None:
    for name in ("WEB", "wEb.FRONT", "web"):
        query = dns.message.make_query(name, "A").to_wire()
        given = answers.answer(query)
        assert isinstance(given, bytes)
        assert query[12:] in given


def test_the_id_is_the_askers_each_time(answers: Answers) -> None:
    query = dns.message.make_query("web", "A").to_wire()

    for number in (b"\0\0", b"\1\2", b"\xff\xff"):
        given = answers.answer(number + query[2:])
        assert isinstance(given, bytes)
        assert given[:2] == number


def test_each_of_several_answers_comes_first_in_turn(answers: Answers) -> None:
    turns = [texts(ask(answers, "many", stream=True)) for _ in range(200)]

    assert {len(turn) for turn in turns} == {100}
    assert sorted(turn[0] for turn in turns) == sorted([*turns[0], *turns[0]])


def test_a_datagram_holds_what_its_asker_takes(answers: Answers) -> None:
    plain, wide = ask(answers, "many"), ask(answers, "many", use_edns=0, payload=4096)

    assert plain.flags & dns.flags.TC
    assert len(plain.to_wire()) <= 512
    assert len(texts(plain)) == (512 - 12 - 10) // 16
    assert not wide.flags & dns.flags.TC
    assert len(texts(wide)) == 100
    assert len(ask(answers, "many", use_edns=0, payload=100).answer[0]) == (512 - 22 - 11) // 16
    assert not ask(answers, "many", stream=True).flags & dns.flags.TC


def test_addresses_that_do_not_fit_beside_a_service_do_not_truncate_it() -> None:
    services = tuple(Service("http", "tcp", port) for port in range(14))
    view = View([Zone("front", [Host("1", ("web",), tuple(IPv4Address(n) for n in range(1, 20)), services)])])

    read = ask(Answers(view), "_http._tcp.web", "SRV")

    assert not read.flags & dns.flags.TC
    assert len(texts(read)) == 14


def test_edns_is_answered_with_edns(answers: Answers) -> None:
    read = ask(answers, "web", use_edns=0, payload=4096, want_dnssec=True)

    assert (read.edns, read.payload) == (0, 1232)
    assert read.ednsflags == dns.flags.DO
    assert ask(answers, "web").edns == -1


def test_edns_of_another_version_is_told_ours(answers: Answers) -> None:
    read = ask(answers, "web", use_edns=1)

    assert read.rcode() == dns.rcode.BADVERS
    assert read.edns == 0


def test_another_class_is_refused_and_any_class_is_ours(answers: Answers) -> None:
    assert ask(answers, "version.bind", "TXT", rdclass="CH").rcode() == dns.rcode.REFUSED
    query = dns.message.make_query("web", "A", rdclass="ANY").to_wire()
    given = answers.answer(query)
    assert isinstance(given, bytes)
    assert texts(dns.message.from_wire(given)) == ["10.0.0.4"]


def test_another_operation_is_not_implemented(answers: Answers) -> None:
    query = dns.message.make_query("web", "A", use_edns=0)
    query.set_opcode(dns.opcode.NOTIFY)

    given = answers.answer(query.to_wire())

    assert isinstance(given, bytes)
    read = dns.message.from_wire(given)
    assert (read.rcode(), read.opcode(), read.edns) == (dns.rcode.NOTIMP, dns.opcode.NOTIFY, 0)


HEAD = b"\1\2\1\0\0\1\0\0\0\0\0\0"
QUESTION = b"\3web\0\0\1\0\1"
OPT = b"\0\0\x29\2\0\0\0\0\0\0\0"


@pytest.mark.parametrize(
    "query",
    [
        b"\1\2\1\0\0\0\0\0\0\0\0\0",  # no question
        b"\1\2\1\0\0\2\0\0\0\0\0\0" + QUESTION * 2,  # two (RFC 9619)
        HEAD + QUESTION[:-1],
        HEAD + b"\xc0\x0c\0\1\0\1",
        HEAD + QUESTION + b"more",
        HEAD[:-1] + b"\2" + QUESTION + OPT * 2,  # RFC 6891 §6.1.1
        HEAD[:-1] + b"\1" + QUESTION + b"\1x" + OPT,  # its name is the root's
        HEAD[:-1] + b"\1" + QUESTION + OPT[:-1],
        HEAD[:7]
        + b"\x09\0\0\0\0"
        + QUESTION
        + (b"\xc0\x0c\0\1\0\1" + bytes(6)) * 9,  # more records than any has
        HEAD[:-1] + b"\1" + QUESTION + OPT[:-2] + b"\x13\x88" + bytes(5000),  # longer than any question
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_no_question_is_a_format_error(answers: Answers, query: bytes, stream: bool) -> None:
    given = answers.answer(query, stream=stream)

    assert isinstance(given, bytes)
    read = dns.message.from_wire(given)
    assert (given[:2], read.rcode(), read.answer) == (query[:2], dns.rcode.FORMERR, [])


@pytest.mark.parametrize("query", [b"", b"\1\2\1\0", HEAD[:11], b"\1\2\x81" + HEAD[3:] + QUESTION])
def test_less_than_a_header_and_answers_get_silence(answers: Answers, query: bytes) -> None:
    assert answers.answer(query) is None


@pytest.mark.parametrize("name", ["web", "many"])
def test_memory_for_answers_is_bounded(answers: Answers, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(answer, "_KEPT_BYTES", 30_000)
    query = dns.message.make_query(name, "A", use_edns=0).to_wire()

    for number in range(200):
        option = dns.edns.GenericOption(10, number.to_bytes(8, "big"))
        query = dns.message.make_query(name, "A", use_edns=0, options=[option]).to_wire()
        assert isinstance(answers.answer(query, stream=bool(number % 2)), bytes)
        kept = [key for each in answers._kept for key in each]
        assert query[2:] in kept

    assert 0 < len(kept) < 70


def test_an_answer_that_is_too_long_is_not_kept(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "_KEPT_BYTES", 3000)

    assert len(texts(ask(answers, "many", stream=True))) == 100
    assert answers._kept == ({}, {})


def test_a_refusal_has_the_question_and_edns() -> None:
    query = dns.message.make_query("Elsewhere.test", "A", use_edns=0, flags=dns.flags.RD | dns.flags.CD)

    read = dns.message.from_wire(answer.refusal(query.to_wire(), answer.SERVFAIL))

    assert query.is_response(read)
    assert (read.rcode(), read.edns) == (dns.rcode.SERVFAIL, 0)
    assert read.flags & ~0xF == dns.flags.QR | dns.flags.RD | dns.flags.RA | dns.flags.CD
