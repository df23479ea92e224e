"""The resolver: sockets of many sandboxes, one thread.

The caller opens the sockets where they belong (in the sandbox's namespace, bound to 127.0.0.11) and hands them over;
a socket stays in the namespace that it was opened in, so nothing here enters any.

    resolver = Resolver()
    sandbox = resolver.serve(udp, tcp, View((zone,)), Forwarding((Server(address),), dial))
    sandbox.update(View((zone.with_host(host),)))
    sandbox.close()
    resolver.close()

Source: RFC 1035 §4.2, RFC 7766 (TCP).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from dovetail.dns.answer import QUERY_BYTES, TTL_S, Answers, Ask
from dovetail.dns.loop import Loop, Timer
from dovetail.dns.metrics import Counters
from dovetail.dns.stream import Stream
from dovetail.dns.upstream import Forwarder, Forwarding, Limits
from dovetail.dns.zone import View

__all__ = ["Resolver", "Sandbox"]

_AT_ONCE = 32  # datagrams of one sandbox before the others have their turn
_CONNECTIONS = 64  # of one sandbox
_IDLE_S = 10.0  # RFC 7766 §6.2.3: a few seconds
_STOP_S = 5.0
_FULL_S = 0.1  # until a connection is taken again when the process has no descriptor left
_LIMITS = Limits()
_Address: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


class Resolver:
    """Answers sandboxes on a thread of its own; its methods are for any thread."""

    def __init__(self, *, ttl_s: int = TTL_S, limits: Limits = _LIMITS) -> None:
        self.counters = Counters()
        self._ttl_s = ttl_s
        self._loop = Loop(self.counters)
        self._forwarder = Forwarder(self._loop, self.counters, limits)
        self._sandboxes: set[Sandbox] = set()
        self._thread = threading.Thread(target=self._loop.run, name="dns", daemon=True)
        self._thread.start()

    def serve(
        self, udp: socket.socket, tcp: socket.socket | None, view: View, forwarding: Forwarding | None = None
    ) -> Sandbox:
        """Answer what comes to these sockets, which are bound (`tcp` listens) and become the resolver's.

        Bind them to an address: an answer from a socket that is bound to all of them may come from another than was
        asked. Without `forwarding`, what the view does not know is answered SERVFAIL. After `close` the sockets are closed.
        """
        sandbox = Sandbox(
            self._loop,
            self._forwarder,
            udp,
            tcp,
            Answers(view, ttl_s=self._ttl_s),
            forwarding or Forwarding(),
        )
        if not self._loop.call(partial(self._begin, sandbox)):
            sandbox.end()
        return sandbox

    def close(self) -> None:
        """End all sandboxes and the thread; closing twice is no error."""
        self._loop.call(self._end)
        self._loop.stop()
        self._thread.join(_STOP_S)

    def _begin(self, sandbox: Sandbox) -> None:
        self._sandboxes = {each for each in self._sandboxes if not each.closed}
        self._sandboxes.add(sandbox)
        sandbox.begin()

    def _end(self) -> None:
        for sandbox in self._sandboxes:
            sandbox.end()


class Sandbox:
    """One sandbox's sockets, and what it is answered. `update` and `close` are for any thread."""

    def __init__(
        self,
        loop: Loop,
        forwarder: Forwarder,
        udp: socket.socket,
        tcp: socket.socket | None,
        answers: Answers,
        forwarding: Forwarding,
    ) -> None:
        self._loop, self._forwarder, self._counters = loop, forwarder, forwarder.counters
        self._udp, self._tcp = udp, tcp
        self._answers, self._forwardings = answers, [forwarding]
        self._connections: set[_Connection] = set()
        self.closed = False

    def update(self, view: View, forwarding: Forwarding | None = None) -> None:
        """Answer from another view, and send on as `forwarding` says if it does, from the next question on."""
        self._answers = self._answers.with_view(view)
        if forwarding is not None:
            # what is under way by the others ends in its time, or with the sandbox
            self._forwardings = [*(each for each in self._forwardings if each.in_flight), forwarding]

    def close(self) -> None:
        """Close its sockets soon; what is under way has no answer."""
        self._loop.call(self.end)

    def begin(self) -> None:
        """Listen; on the loop's thread, as all below."""
        self._udp.setblocking(False)
        self._loop.watch(self._udp.fileno(), self._receive)
        if self._tcp is not None:
            self._tcp.setblocking(False)
            self._listen(self._tcp)

    def end(self) -> None:
        """Close all."""
        if self.closed:
            return
        self.closed = True
        for forwarding in self._forwardings:
            self._forwarder.end(forwarding)
        for connection in tuple(self._connections):
            connection.close()
        for each in (self._udp, self._tcp):
            if each is not None:
                self._loop.unwatch(each.fileno())
                each.close()

    def answer(self, query: bytes, reply: Callable[[bytes], None], *, stream: bool) -> bool:
        """Answer a message by `reply`, now or later; say whether there will be an answer."""
        counters = self._counters
        counters.received[stream] += 1
        verdict = self._answers.answer(query, stream=stream)
        if isinstance(verdict, bytes):
            counters.from_memory += 1
            reply(verdict)
        elif isinstance(verdict, Ask):
            self._forwarder.forward(verdict, self._forwardings[-1], reply, stream=stream)
        else:
            counters.dropped += 1
            return False
        return True

    def _receive(self) -> None:
        for _ in range(_AT_ONCE):
            if self.closed:
                return
            try:
                query, asker = self._udp.recvfrom(QUERY_BYTES + 1)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # an ICMP message that answers an answer of ours
                continue
            self.answer(query, partial(self._send, asker), stream=False)

    def _send(self, asker: _Address, answer: bytes) -> None:
        self.count(answer)
        try:
            self._udp.sendto(answer, asker)
        except OSError:  # no room or no way; the asker asks again
            self._counters.dropped += 1

    def count(self, answer: bytes) -> None:
        """Count an answer by its code."""
        self._counters.answered[answer[3] & 0x0F] += 1
        if answer[2] & 0x02:
            self._counters.truncated += 1

    def _listen(self, tcp: socket.socket) -> None:
        if not self.closed:
            self._loop.watch(tcp.fileno(), partial(self._accept, tcp))

    def _accept(self, tcp: socket.socket) -> None:
        try:
            accepted, _ = tcp.accept()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:  # no descriptor is left: the poll would say at once that one still waits
            self._loop.unwatch(tcp.fileno())
            self._loop.later(_FULL_S, partial(self._listen, tcp))
            return
        if len(self._connections) >= _CONNECTIONS:
            accepted.close()
            return
        accepted.setblocking(False)
        self._connections.add(_Connection(self, self._loop, accepted))
        self._counters.connections += 1

    def left(self, connection: _Connection) -> None:
        """Forget a connection that has closed."""
        if connection in self._connections:
            self._connections.discard(connection)
            self._counters.connections -= 1


class _Connection:
    """One asker's connection: several questions may be under way, and are answered as their answers come."""

    def __init__(self, sandbox: Sandbox, loop: Loop, accepted: socket.socket) -> None:
        self._sandbox, self._loop = sandbox, loop
        self._waiting, self._ended = 0, False
        self._stream = Stream(loop, accepted, self._heard, self._end)
        self._idle: Timer = loop.later(_IDLE_S, self.close)

    def close(self) -> None:
        """Close it at once."""
        self._idle.cancel()
        self._stream.close()
        self._sandbox.left(self)

    def _heard(self, query: bytes) -> None:
        self._idle.cancel()
        self._waiting += 1
        if not self._sandbox.answer(query, self._reply, stream=True):
            self.close()  # what is no question will not be followed by one

    def _reply(self, answer: bytes) -> None:
        self._waiting -= 1
        self._sandbox.count(answer)
        self._stream.send(answer)
        self._rest()

    def _rest(self) -> None:
        """Wait for the next question, or close it when there will be none."""
        if self._waiting:
            return
        self._idle.cancel()
        if self._ended:
            self._stream.close_when_sent()
        if self._stream.closed:
            self.close()
        else:
            self._idle = self._loop.later(_IDLE_S, self.close)

    def _end(self, broken: bool) -> None:
        self._ended = True
        if broken:
            self.close()
        else:
            self._rest()
