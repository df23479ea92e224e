"""Questions that are sent on: to whom, in which order, and which answers are believed."""

from __future__ import annotations

import socket
import time
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from dovetail.dns.upstream import Forwarding, Server
from dovetail.dns.zone import View
from dovetail.errors import NamespaceGone

EMPTY = View()


def says(text: str, **options: object):
    """Answer with an address."""

    def script(query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query, **options)
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", text))
        return answer

    return script


def code(value: dns.rcode.Rcode):
    """Answer with a code alone."""

    def script(query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.set_rcode(value)
        return answer

    return script


def silence(query: dns.message.Message) -> None:
    return None


def address(message: dns.message.Message) -> str:
    return str(message.answer[0][0])


QUERY = dns.message.make_query("Elsewhere.Test", "A", use_edns=0, payload=1400)


def test_what_nobody_here_has_is_asked_of_the_server(bench, patient) -> None:
    upstream = bench.upstream(says("192.0.2.1"))
    resolver = bench.resolver(limits=patient)
    asker = bench.serve(resolver, EMPTY, Forwarding([upstream.server]))

    read = asker.ask(QUERY)

    assert address(read) == "192.0.2.1"
    assert read.question[0].name.labels == QUERY.question[0].name.labels
    ((transport, heard, _),) = upstream.heard
    assert transport == "udp"
    assert heard.question[0].name.labels == QUERY.question[0].name.labels
    assert heard.payload == 1400
    assert resolver.counters.forwarded == 1
    assert resolver.counters.in_flight == 0


def test_each_question_goes_with_its_own_id_from_its_own_port(bench, patient) -> None:
    upstream = bench.upstream(says("192.0.2.1"))
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, Forwarding([upstream.server]))

    for _ in range(20):
        asker.ask(QUERY)

    assert len({heard.id for _, heard, _ in upstream.heard}) > 15
    assert len({port for _, _, port in upstream.heard}) > 15


def test_a_question_over_tcp_is_sent_on_over_tcp(bench, patient) -> None:
    upstream = bench.upstream(says("192.0.2.1"))
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, Forwarding([upstream.server]))

    assert address(asker.ask(QUERY, tcp=True)) == "192.0.2.1"
    assert [transport for transport, *_ in upstream.heard] == ["tcp"]


@pytest.mark.parametrize(
    "value", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR, dns.rcode.FORMERR, dns.rcode.NOTIMP]
)
def test_a_servers_word_is_passed_on(bench, patient, value) -> None:
    first, second = bench.upstream(code(value)), bench.upstream(says("192.0.2.2"))
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, Forwarding([first.server, second.server]))

    assert asker.ask(QUERY).rcode() == value
    assert not second.heard


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("value", [dns.rcode.SERVFAIL, dns.rcode.REFUSED])
def test_the_next_is_asked_at_once_when_a_server_gives_up(bench, patient, value, tcp) -> None:
    first, second = bench.upstream(code(value)), bench.upstream(says("192.0.2.2"))
    resolver = bench.resolver(limits=patient)
    asker = bench.serve(resolver, EMPTY, Forwarding([first.server, second.server]))

    assert address(asker.ask(QUERY, tcp=tcp)) == "192.0.2.2"
    assert resolver.counters.upstream_failed == 1


def closed_port() -> Server:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        return Server(ip_address("127.0.0.1"), gone.getsockname()[1])


@pytest.mark.parametrize("tcp", [False, True])
def test_the_next_is_asked_at_once_when_nobody_is_there(bench, patient, tcp) -> None:
    upstream = bench.upstream(says("192.0.2.2"))
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, Forwarding([closed_port(), upstream.server]))

    assert address(asker.ask(QUERY, tcp=tcp)) == "192.0.2.2"


@pytest.mark.parametrize("tcp", [False, True])
def test_with_every_server_gone_the_answer_is_a_failure_at_once(bench, patient, tcp) -> None:
    first = bench.upstream(code(dns.rcode.SERVFAIL))
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, Forwarding([first.server, closed_port()]))

    assert asker.ask(QUERY, tcp=tcp).rcode() == dns.rcode.SERVFAIL


def test_the_next_is_asked_when_a_namespace_cannot_be_entered(bench, patient) -> None:
    upstream = bench.upstream(says("192.0.2.2"))

    def dial(server: Server, kind: int) -> socket.socket:
        if server.host:
            raise NamespaceGone("it has gone")
        return socket.socket(socket.AF_INET, kind)

    forwarding = Forwarding([upstream.server._replace(host=True), upstream.server], dial)
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, forwarding)

    assert address(asker.ask(QUERY)) == "192.0.2.2"


def test_a_silent_server_costs_a_moment_once(bench, quick) -> None:
    first, second = bench.upstream(silence), bench.upstream(says("192.0.2.2"))
    resolver = bench.resolver(limits=quick)
    asker = bench.serve(resolver, EMPTY, Forwarding([first.server, second.server]))

    for _ in range(5):
        assert address(asker.ask(QUERY)) == "192.0.2.2"

    assert len(first.heard) == 1
    assert resolver.counters.upstream_silent == 1


def test_a_server_that_was_silent_is_asked_first_again_after_a_while() -> None:
    first, second = Server(ip_address("192.0.2.1")), Server(ip_address("192.0.2.2"))
    forwarding = Forwarding([first, second])

    forwarding.was_silent(first, 60)
    assert forwarding.in_order() == [second, first]
    forwarding.was_silent(first, -1)
    assert forwarding.in_order() == [first, second]
    forwarding.was_silent(first, 60)
    forwarding.answered(first)
    assert forwarding.in_order() == [first, second]


def test_a_late_answer_is_taken_while_the_next_is_asked(bench, quick) -> None:
    asked = []

    def late(query: dns.message.Message) -> dns.message.Message | None:
        asked.append(query)
        deadline = time.monotonic() + 10
        while not second.heard and time.monotonic() < deadline:
            time.sleep(0.001)
        return says("192.0.2.1")(query)

    second = bench.upstream(silence)
    first = bench.upstream(late)
    asker = bench.serve(bench.resolver(limits=quick), EMPTY, Forwarding([first.server, second.server]))

    assert address(asker.ask(QUERY)) == "192.0.2.1"
    assert second.heard


def test_a_lost_datagram_is_sent_again(bench, quick) -> None:
    seen = []

    def second_time(query: dns.message.Message) -> dns.message.Message | None:
        seen.append(query.id)
        return says("192.0.2.1")(query) if len(seen) > 1 else None

    asker = bench.serve(bench.resolver(limits=quick), EMPTY, Forwarding([bench.upstream(second_time).server]))

    assert address(asker.ask(QUERY)) == "192.0.2.1"


@pytest.mark.parametrize("tcp", [False, True])
def test_a_question_that_nobody_answers_fails_before_its_asker_gives_up(bench, quick, tcp) -> None:
    resolver = bench.resolver(limits=quick._replace(deadline_s=0.3))
    asker = bench.serve(resolver, EMPTY, Forwarding([bench.upstream(silence).server]))

    assert asker.ask(QUERY, tcp=tcp).rcode() == dns.rcode.SERVFAIL
    assert resolver.counters.in_flight == 0


def test_what_answers_another_question_is_not_believed(bench, quick) -> None:
    forged = [
        lambda query, wire: bytes((wire[0] ^ 1,)) + wire[1:],  # another id
        lambda query, wire: wire[:2] + bytes((wire[2] & 0x7F,)) + wire[3:],  # a question
        lambda query, wire: wire[:13] + bytes((wire[13] ^ 1,)) + wire[14:],  # another name
        lambda query, wire: wire[:29] + b"\x61" + wire[30:],  # another type
        lambda query, wire: wire[:11],
        lambda query, wire: b"",
    ]
    tried = []

    def script(query: dns.message.Message) -> bytes:
        wire = says("192.0.2.66")(query).to_wire()
        forge = forged[len(tried)] if len(tried) < len(forged) else lambda query, wire: wire
        tried.append(forge)
        return forge(query, wire)

    resolver = bench.resolver(limits=quick._replace(deadline_s=30, patience_s=0.02))
    servers = [bench.upstream(script).server for _ in range(4)]
    asker = bench.serve(resolver, EMPTY, Forwarding(servers))

    asker.ask(QUERY)

    assert len(tried) == len(forged) + 1
    assert resolver.counters.spoofed == len(forged)


def test_the_askers_case_comes_back_from_a_server_that_changes_it(bench, patient) -> None:
    def lower(query: dns.message.Message) -> bytes:
        wire = says("192.0.2.1")(query).to_wire()
        return wire[:12] + wire[12:28].lower() + wire[28:]

    asker = bench.serve(bench.resolver(limits=patient), EMPTY, Forwarding([bench.upstream(lower).server]))

    assert asker.ask(QUERY).question[0].name.labels == QUERY.question[0].name.labels


def test_an_answer_that_is_too_long_for_its_asker_is_cut(bench, patient) -> None:
    def long(query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        texts = [f"10.0.1.{n}" for n in range(200)]
        answer.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", *texts))
        return answer

    resolver = bench.resolver(limits=patient)
    asker = bench.serve(resolver, EMPTY, Forwarding([bench.upstream(long).server]))

    cut, whole = asker.ask(QUERY), asker.ask(QUERY, tcp=True)

    assert cut.flags & dns.flags.TC
    assert len(cut.to_wire()) <= 1400
    assert 50 < len(cut.answer[0]) < 200
    assert len(whole.answer[0]) == 200
    assert resolver.counters.truncated == 1


def test_too_many_questions_at_once_are_refused(bench, patient) -> None:
    upstream = bench.upstream(silence)
    resolver = bench.resolver(limits=patient._replace(sandbox=2))
    asker = bench.serve(resolver, EMPTY, Forwarding([upstream.server]))
    other = bench.serve(resolver, EMPTY, Forwarding([bench.upstream(says("192.0.2.1")).server]))

    with asker.datagram() as one:
        for _ in range(3):
            one.send(QUERY.to_wire())
        read = dns.message.from_wire(one.recv(4096))

    assert read.rcode() == dns.rcode.REFUSED
    assert resolver.counters.busy == 1
    assert resolver.counters.in_flight == 2
    assert address(other.ask(QUERY)) == "192.0.2.1"


def test_too_many_questions_of_all_sandboxes_are_refused(bench, patient) -> None:
    resolver = bench.resolver(limits=patient._replace(total=1))
    silent = Forwarding([bench.upstream(silence).server])
    asker, other = (
        bench.serve(resolver, EMPTY, silent),
        bench.serve(resolver, EMPTY, Forwarding(silent.servers)),
    )

    with asker.datagram() as one:
        one.send(QUERY.to_wire())
        deadline = time.monotonic() + 10
        while not resolver.counters.in_flight and time.monotonic() < deadline:
            time.sleep(0.001)
        assert other.ask(QUERY).rcode() == dns.rcode.REFUSED


@pytest.mark.parametrize("tcp", [False, True])
def test_an_internal_network_asks_nobody_from_the_host(bench, patient, tcp) -> None:
    upstream = bench.upstream(says("192.0.2.1"))
    forwarding = Forwarding([upstream.server._replace(host=True)], internal=True)
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, forwarding)

    assert asker.ask(QUERY, tcp=tcp).rcode() == dns.rcode.SERVFAIL
    assert not upstream.heard


def test_an_internal_network_may_have_a_server_of_its_own(bench, patient) -> None:
    inside = bench.upstream(says("192.0.2.1"))
    forwarding = Forwarding([Server(ip_address("192.0.2.53"), host=True), inside.server], internal=True)
    asker = bench.serve(bench.resolver(limits=patient), EMPTY, forwarding)

    assert address(asker.ask(QUERY)) == "192.0.2.1"


def test_without_servers_the_answer_is_a_failure(bench, patient) -> None:
    asker = bench.serve(bench.resolver(limits=patient), EMPTY)

    assert asker.ask(QUERY).rcode() == dns.rcode.SERVFAIL
