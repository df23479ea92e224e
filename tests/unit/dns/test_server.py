"""Sockets: datagrams, connections, many sandboxes, and their ends."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address

import dns.message
import dns.rcode
import pytest

from dovetail.dns import server
from dovetail.dns.loop import Loop
from dovetail.dns.metrics import Counters
from dovetail.dns.upstream import Forwarding
from dovetail.dns.zone import Host, View, Zone

WEB = Host("1", ("web",), (IPv4Address("10.0.0.4"),))
FRONT = Zone("front", [WEB])
VIEW = View([FRONT])
QUERY = dns.message.make_query("web", "A")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def frame(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def read(asker: socket.socket) -> dns.message.Message:
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        more = asker.recv(2 - len(data) if len(data) < 2 else 2 + int.from_bytes(data[:2], "big") - len(data))
        assert more
        data += more
    return dns.message.from_wire(data[2:])


def refused(asker) -> bool:
    try:
        asker.stream().close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("tcp", [False, True])
def test_a_sandbox_is_answered_out_of_memory(bench, tcp) -> None:
    resolver = bench.resolver(ttl_s=7)
    asker = bench.serve(resolver, VIEW)

    answer = asker.ask(QUERY, tcp=tcp)

    assert str(answer.answer[0][0]) == "10.0.0.4"
    assert answer.answer[0].ttl == 7
    assert resolver.counters.received == [not tcp, tcp]
    assert resolver.counters.answered[0] == resolver.counters.from_memory == 1


def test_a_sandbox_sees_its_own_view_and_the_next_one_at_once(bench) -> None:
    resolver = bench.resolver(ttl_s=7)
    one, other = bench.serve(resolver, VIEW), bench.serve(resolver, View())

    assert other.ask(QUERY).rcode() == dns.rcode.SERVFAIL
    other.sandbox.update(VIEW)
    one.sandbox.update(View([FRONT.without("1")]))

    assert one.ask(QUERY).rcode() == dns.rcode.SERVFAIL
    assert other.ask(QUERY).answer[0].ttl == 7


def test_a_sandbox_may_get_other_servers(bench, patient) -> None:
    def nothing(query: dns.message.Message) -> dns.message.Message:
        return dns.message.make_response(query)

    asker = bench.serve(bench.resolver(limits=patient), View())
    asker.sandbox.update(View(), Forwarding([bench.upstream(nothing).server]))

    assert asker.ask(QUERY).rcode() == dns.rcode.NOERROR


def test_bytes_of_anybody_end_nothing(bench) -> None:
    resolver = bench.resolver()
    asker = bench.serve(resolver, VIEW)

    with asker.datagram() as one:
        for data in (b"", b"\0", bytes(11), os.urandom(600), bytes(5000), QUERY.to_wire()[:-1]):
            one.send(data)
        until(lambda: sum(resolver.counters.received) == 6)
    with asker.stream() as one:
        one.sendall(frame(b"") + frame(bytes(5)))
        assert one.recv(100) == b""

    assert asker.ask(QUERY).answer
    assert resolver.counters.dropped >= 3
    assert resolver.counters.faults == 0


def test_a_question_may_come_in_pieces_and_several_in_one(bench) -> None:
    asker = bench.serve(bench.resolver(), VIEW)
    data = frame(QUERY.to_wire())

    with asker.stream() as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in data:
            one.sendall(bytes((byte,)))
        assert read(one).answer
        one.sendall(data * 20 + data[:5])
        for _ in range(20):
            assert QUERY.is_response(read(one))
        one.sendall(data[5:])
        assert read(one).answer


def test_an_asker_that_has_said_all_is_answered_and_hung_up(bench, patient) -> None:
    def nothing(query: dns.message.Message) -> dns.message.Message:
        return dns.message.make_response(query)

    resolver = bench.resolver(limits=patient)
    asker = bench.serve(resolver, VIEW, Forwarding([bench.upstream(nothing).server]))

    with asker.stream() as one:
        one.sendall(frame(dns.message.make_query("elsewhere.test", "A").to_wire()) + frame(QUERY.to_wire()))
        one.shutdown(socket.SHUT_WR)
        assert {read(one).rcode(), read(one).rcode()} == {dns.rcode.NOERROR}
        assert one.recv(1) == b""

    until(lambda: resolver.counters.connections == 0)


def test_an_asker_that_goes_is_forgotten(bench, patient) -> None:
    resolver = bench.resolver(limits=patient)
    upstream = bench.upstream(lambda query: None)
    asker = bench.serve(resolver, VIEW, Forwarding([upstream.server]))

    one = asker.stream()
    one.sendall(frame(dns.message.make_query("elsewhere.test", "A").to_wire()))
    until(lambda: upstream.heard)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()  # a reset

    until(lambda: resolver.counters.connections == 0)
    assert asker.ask(QUERY, tcp=True).answer


def test_an_asker_that_reads_nothing_is_hung_up(bench) -> None:
    resolver = bench.resolver()
    many = [Host(str(n), ("many",), (IPv4Address(0x0A010000 + n),)) for n in range(3000)]
    asker = bench.serve(resolver, View([Zone("front", many)]))
    data = frame(dns.message.make_query("many", "A").to_wire())

    with asker.stream() as one, pytest.raises(OSError, match=r".*"):
        one.settimeout(5)
        for _ in range(10_000):
            one.sendall(data * 100)

    until(lambda: resolver.counters.connections == 0)


def test_an_idle_connection_is_closed(bench, monkeypatch) -> None:
    monkeypatch.setattr(server, "_IDLE_S", 0.05)
    resolver = bench.resolver()
    asker = bench.serve(resolver, VIEW)

    with asker.stream() as silent, asker.stream() as one:
        one.sendall(frame(QUERY.to_wire()))
        assert read(one).answer
        assert silent.recv(1) == one.recv(1) == b""

    until(lambda: resolver.counters.connections == 0)


def test_connections_of_a_sandbox_are_bounded(bench, monkeypatch) -> None:
    monkeypatch.setattr(server, "_CONNECTIONS", 2)
    resolver = bench.resolver()
    asker = bench.serve(resolver, VIEW)

    with asker.stream(), asker.stream(), asker.stream() as third:
        assert third.recv(1) == b""
        assert resolver.counters.connections == 2


def test_a_sandbox_that_ends_takes_its_sockets_and_questions_along(bench, patient) -> None:
    resolver = bench.resolver(limits=patient)
    upstream = bench.upstream(lambda query: None)
    asker = bench.serve(resolver, VIEW, Forwarding([upstream.server]))
    other = bench.serve(resolver, VIEW)

    with asker.stream() as one, asker.datagram() as two:
        two.send(dns.message.make_query("elsewhere.test", "A").to_wire())
        until(lambda: resolver.counters.in_flight == 1)
        asker.sandbox.close()
        asker.sandbox.close()
        assert one.recv(1) == b""

    until(lambda: resolver.counters.in_flight == resolver.counters.connections == 0)
    until(lambda: refused(asker))
    assert other.ask(QUERY).answer


def test_a_resolver_ends_with_all_and_leaves_no_descriptor(bench, patient) -> None:
    upstream = bench.upstream(lambda query: None)
    before = set(os.listdir("/proc/self/fd"))
    resolver = server.Resolver(limits=patient)
    asker = bench.serve(resolver, VIEW, Forwarding([upstream.server]))
    with asker.stream(), asker.datagram() as two:
        two.send(dns.message.make_query("elsewhere.test", "A").to_wire())
        until(lambda: resolver.counters.in_flight == 1)
        resolver.close()
        resolver.close()
    assert refused(bench.serve(resolver, VIEW))

    assert set(os.listdir("/proc/self/fd")) == before
    assert not [thread for thread in threading.enumerate() if thread.name == "dns"]


def test_udp_alone_will_do(bench) -> None:
    resolver = bench.resolver()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asker:
        bound = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        bound.bind(("::1", 0))
        asker.settimeout(10)
        asker.connect(bound.getsockname())
        resolver.serve(bound, None, VIEW)
        asker.send(QUERY.to_wire())
        assert QUERY.is_response(dns.message.from_wire(asker.recv(4096)))


def test_a_fault_is_counted_and_ends_nothing(bench, caplog) -> None:
    counters = Counters()
    loop = Loop(counters)
    thread = threading.Thread(target=loop.run)
    thread.start()
    done = threading.Event()

    loop.call(lambda: 1 // 0)
    loop.call(lambda: loop.later(0, done.set) and None)

    assert done.wait(10)
    loop.stop()
    thread.join(10)
    loop.call(done.clear)
    assert done.is_set()
    assert counters.faults == 1
    assert "dns.fault" in caplog.text


def test_a_cancelled_timer_does_nothing() -> None:
    loop = Loop(Counters())
    fired = []
    loop.later(0, lambda: fired.append("cancelled")).cancel()
    loop.later(0, lambda: fired.append("kept"))
    loop.later(0.01, loop.stop)

    loop.run()

    assert fired == ["kept"]


def test_numbers_are_given_with_their_names(bench) -> None:
    resolver = bench.resolver()
    asker = bench.serve(resolver, VIEW)
    asker.ask(QUERY)
    asker.ask(dns.message.make_query("elsewhere.test", "A"), tcp=True)

    samples = {
        (each.name, dict(each.labels).get("rcode") or dict(each.labels).get("transport")): each
        for each in resolver.counters.samples()
    }

    assert samples["dovetail_dns_queries", "udp"].value == 1
    assert samples["dovetail_dns_queries", "tcp"].value == 1
    assert samples["dovetail_dns_answers", "NOERROR"].value == 1
    assert samples["dovetail_dns_answers", "SERVFAIL"].value == 1
    assert samples["dovetail_dns_answers_from_memory", None].value == 1
    assert samples["dovetail_dns_in_flight", None].kind == "gauge"


def test_an_asker_that_has_said_all_and_does_not_read_is_waited_for_without_a_stir(
    bench, monkeypatch
) -> None:
    """The end of its speaking stays readable, so a poll for that would come back at once, for ever."""
    rounds = []
    real = Loop._round

    def counted(loop: Loop) -> None:
        rounds.append(loop)
        real(loop)

    monkeypatch.setattr(Loop, "_round", counted)
    resolver = bench.resolver()
    many = [Host(str(n), ("many",), (IPv4Address(0x0A010000 + n),)) for n in range(3000)]
    asker = bench.serve(resolver, View([Zone("front", many)]))
    query = dns.message.make_query("many", "A")

    def answered(count: int) -> bool:
        return resolver.counters.from_memory == count

    def still() -> bool:
        before = len(rounds)
        time.sleep(0.05)
        return len(rounds) == before

    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(10)
        one.connect(asker.address)
        one.sendall(frame(query.to_wire()))
        until(lambda: resolver.counters.from_memory == 1)
        (connection,) = next(iter(resolver._sandboxes))._connections
        asked = 1
        while len(connection._stream._out) < 100_000:  # until the kernel takes no more of it
            asked += 1
            one.sendall(frame(query.to_wire()))
            until(partial(answered, asked))
        one.shutdown(socket.SHUT_WR)
        until(lambda: connection._ended)
        until(still)
        assert not connection._stream.closed
        assert len(read(one).answer[0]) == 3000

    until(lambda: resolver.counters.connections == 0)
