"""Questions that others must answer: sent on, with the next server asked when one does not answer.

What failed users of such resolvers was waiting: a server that is gone costs its whole time-out at every question, and
the asker (glibc: 5 s) has given up before the second one is asked. Here the next server is asked after a moment while
the first may still answer, what tells of an error at once (SERVFAIL, REFUSED, an unreachable port) moves on at once,
and a server that was silent is asked last for a while.

Each attempt has an id of its own and a socket of its own, whose port the kernel chooses at random
(`udp_lib_get_port`, net/ipv4/udp.c): an answer must have both, come from the server's address (the socket is
connected) and repeat the question (RFC 5452 §9). The question's case goes on as it came.

Source: RFC 5452 (resilience against forged answers), RFC 1035 §4.2.1 (retransmission), RFC 5625 §4 and §6 (proxies).
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol, TypeAlias

from dovetail.dns.answer import REFUSED, SERVFAIL, Ask, refusal
from dovetail.dns.loop import Loop, Timer
from dovetail.dns.message import HEADER_BYTES, cut, question_end
from dovetail.dns.metrics import Counters
from dovetail.dns.stream import Stream
from dovetail.errors import DovetailError
from dovetail.model.addresses import IPAddress

__all__ = ["Dial", "Forwarder", "Forwarding", "Limits", "Reply", "Server", "plain_dial"]

_LARGEST = 65535
_KIND_BYTES = 4  # type and class, at the end of a question
_AT_ONCE = 8  # datagrams of one attempt in one go


class Server(NamedTuple):
    """A server that is asked. host: from the host's namespace; else from the sandbox's own."""

    address: IPAddress
    port: int = 53
    host: bool = False


Dial: TypeAlias = Callable[[Server, int], socket.socket]
"""Opens a socket of a kind (SOCK_DGRAM, SOCK_STREAM) in the namespace that the server is asked from; connects nothing.

Called on the resolver's thread, so it must not wait. May raise OSError or DovetailError.
"""
Reply: TypeAlias = Callable[[bytes], None]


def plain_dial(server: Server, kind: int) -> socket.socket:
    """Open a socket where the process is."""
    return socket.socket(socket.AF_INET if server.address.version == 4 else socket.AF_INET6, kind)


class Limits(NamedTuple):
    """How long and how much.

    patience_s: until the next server is asked too. deadline_s: until SERVFAIL, before glibc's 5 s (resolv.conf(5)).
    slow_s: how long a server that was silent is asked last. sandbox, total: questions under way, libnetwork's number for a sandbox;
    each has a descriptor, or several.
    """

    patience_s: float = 0.8
    deadline_s: float = 4.5
    slow_s: float = 10.0
    sandbox: int = 1024
    total: int = 4096


class Forwarding:
    """Where one sandbox's questions go, and what is known of these servers.

    internal: its networks are all internal. Nothing is asked from the host's namespace then: that would be a way out.
    A server that is asked from the sandbox's own is reached as far as the network reaches. With no server left, the answer is SERVFAIL.
    """

    def __init__(
        self, servers: Iterable[Server] = (), dial: Dial = plain_dial, *, internal: bool = False
    ) -> None:
        self.servers = tuple(server for server in servers if not (internal and server.host))
        self.dial = dial
        self.in_flight = 0
        self._slow: dict[Server, float] = {}

    def in_order(self) -> list[Server]:
        """Give the servers, those that were silent of late last."""
        if not self._slow:
            return list(self.servers)
        now = time.monotonic()
        return sorted(self.servers, key=lambda server: self._slow.get(server, now) > now)

    def was_silent(self, server: Server, slow_s: float) -> None:
        """Ask it last for a while."""
        self._slow[server] = time.monotonic() + slow_s

    def answered(self, server: Server) -> None:
        """Trust it again."""
        self._slow.pop(server, None)


class Forwarder:
    """Sends questions on, for all sandboxes; on the loop's thread."""

    def __init__(self, loop: Loop, counters: Counters, limits: Limits) -> None:
        self.loop, self.counters, self.limits = loop, counters, limits
        self._open: set[_Exchange] = set()

    def forward(self, ask: Ask, forwarding: Forwarding, reply: Reply, *, stream: bool) -> None:
        """Have `ask` answered: `reply` is called once, now or later, unless all ends before."""
        if not forwarding.servers:
            reply(refusal(ask.query, SERVFAIL))
            return
        if forwarding.in_flight >= self.limits.sandbox or len(self._open) >= self.limits.total:
            self.counters.busy += 1
            reply(refusal(ask.query, REFUSED))
            return
        exchange = _Exchange(self, ask, forwarding, reply, stream=stream)
        self._open.add(exchange)
        forwarding.in_flight += 1
        self.counters.forwarded += 1
        self.counters.in_flight = len(self._open)
        exchange.begin()

    def ended(self, exchange: _Exchange) -> None:
        """Count an exchange that has ended."""
        self._open.discard(exchange)
        self.counters.in_flight = len(self._open)

    def end(self, forwarding: Forwarding | None = None) -> None:
        """Drop what is under way, of one sandbox or of all, without an answer."""
        for exchange in [each for each in self._open if forwarding in (None, each.forwarding)]:
            exchange.end()


class _Exchange:
    """One question that was sent on, until its answer."""

    def __init__(
        self, forwarder: Forwarder, ask: Ask, forwarding: Forwarding, reply: Reply, *, stream: bool
    ) -> None:
        self.ask, self.forwarding = ask, forwarding
        self._forwarder, self.loop = forwarder, forwarder.loop
        self._reply, self._kind = reply, _stream_attempt if stream else _DatagramAttempt
        servers = forwarding.in_order()
        # a datagram may be lost; a connection cares for itself
        self._left = servers if stream else servers * 2
        self._attempts: dict[Server, list[_Attempt]] = {}
        self._timers: list[Timer] = []
        self._over = False

    def begin(self) -> None:
        """Ask the first server."""
        self._timers.append(self.loop.later(self._forwarder.limits.deadline_s, self._late))
        self._next()

    def _next(self) -> None:
        """Ask the next server; where none is left, the last word is the deadline's, or SERVFAIL if nothing can come."""
        limits, counters = self._forwarder.limits, self._forwarder.counters
        while self._left and not self._over:
            server = self._left.pop(0)
            try:
                attempt = self._kind(self, server)
            except (OSError, DovetailError):
                counters.upstream_failed += 1
                continue
            self._attempts.setdefault(server, []).append(attempt)
            patience = self.loop.later(limits.patience_s, partial(self._silent, server))
            self._timers[1:] = [patience]
            return
        if not self._over and not self._attempts:
            self._finish(refusal(self.ask.query, SERVFAIL))

    def _silent(self, server: Server) -> None:
        self._forwarder.counters.upstream_silent += 1
        self.forwarding.was_silent(server, self._forwarder.limits.slow_s)
        self._next()

    def _late(self) -> None:
        self._finish(refusal(self.ask.query, SERVFAIL))

    def heard(self, server: Server, data: bytes, number: bytes) -> None:
        """Take what a server sent to one attempt; what does not answer it is not looked at further."""
        query, end = self.ask.query, self.ask.end
        if not _answers(data, number, query, end):
            self._forwarder.counters.spoofed += 1
            return
        if data[3] & 0x0F in (SERVFAIL, REFUSED):
            self.failed(server)
            return
        self.forwarding.answered(server)
        # with the question as it was asked: a server may have changed its case
        answer = query[:2] + data[2:HEADER_BYTES] + query[HEADER_BYTES:end] + data[end:]
        if len(answer) > self.ask.limit:
            answer = cut(answer, self.ask.limit, self.ask.opt)
        self._finish(answer)

    def failed(self, server: Server) -> None:
        """Give a server up that said so, or cannot be reached, and ask the next one at once."""
        if self._over:
            return
        self._forwarder.counters.upstream_failed += 1
        for attempt in self._attempts.pop(server, ()):
            attempt.close()
        self._left = [each for each in self._left if each != server]
        if self._timers[1:]:
            self._timers[1].cancel()
        self._next()

    def _finish(self, answer: bytes) -> None:
        if not self._over:
            self.end()
            self._reply(answer)

    def end(self) -> None:
        """Close all; there is no answer any more."""
        if self._over:
            return
        self._over = True
        for timer in self._timers:
            timer.cancel()
        for attempts in self._attempts.values():
            for attempt in attempts:
                attempt.close()
        self.forwarding.in_flight -= 1
        self._forwarder.ended(self)


class _Attempt(Protocol):
    def close(self) -> None: ...


class _DatagramAttempt:
    """One datagram to one server. Making it may raise OSError and DovetailError."""

    def __init__(self, exchange: _Exchange, server: Server) -> None:
        self._exchange, self._server = exchange, server
        self._number = os.urandom(2)
        self._socket = exchange.forwarding.dial(server, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.connect((str(server.address), server.port))
            self._socket.send(self._number + exchange.ask.query[2:])
            exchange.loop.watch(self._socket.fileno(), self._read)
        except OSError:
            self._socket.close()
            raise

    def _read(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket.fileno() < 0:
                return
            try:
                data = self._socket.recv(_LARGEST)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP message: nobody is there
                self._exchange.failed(self._server)
                return
            self._exchange.heard(self._server, data, self._number)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._exchange.loop.unwatch(self._socket.fileno())
            self._socket.close()


def _stream_attempt(exchange: _Exchange, server: Server) -> Stream:
    """Ask one server over a connection of its own. May raise OSError and DovetailError."""
    number = os.urandom(2)
    connection = exchange.forwarding.dial(server, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        try:
            connection.connect((str(server.address), server.port))
        except BlockingIOError:
            pass  # EINPROGRESS
        stream = Stream(
            exchange.loop,
            connection,
            lambda data: exchange.heard(server, data, number),
            lambda _: exchange.failed(server),
            connecting=True,
        )
    except OSError:
        connection.close()
        raise
    stream.send(number + exchange.ask.query[2:])
    return stream


def _answers(data: bytes, number: bytes, query: bytes, end: int) -> bool:
    """Say whether `data` answers `query`, which was sent with the id `number` (RFC 5452 §9.1); letters in either case."""
    kind = end - _KIND_BYTES
    return (
        len(data) >= HEADER_BYTES
        and data[:2] == number
        and data[2] & 0xF8 == 0x80  # an answer to a standard query
        and question_end(data) == end
        and data[HEADER_BYTES:kind].lower() == query[HEADER_BYTES:kind].lower()
        and data[kind:end] == query[kind:end]
    )
