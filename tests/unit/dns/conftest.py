"""A resolver on loopback, the servers behind it, and an asker."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address

import dns.message
import pytest

from dovetail.dns.server import Resolver, Sandbox
from dovetail.dns.upstream import Forwarding, Limits, Server
from dovetail.dns.zone import View

Script = Callable[[dns.message.Message], "dns.message.Message | bytes | None"]


class Upstream:
    """A server that answers as its script says; None is silence. Keeps what came, with each asker's port."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.heard: list[tuple[str, dns.message.Message, int]] = []
        while True:
            self._tcp = socket.create_server(("127.0.0.1", 0))
            self.port = self._tcp.getsockname()[1]
            self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                self._udp.bind(("127.0.0.1", self.port))
                break
            except OSError:  # somebody has the port over UDP
                self._tcp.close()
                self._udp.close()
        self.server = Server(ip_address("127.0.0.1"), self.port)
        self._threads = [
            threading.Thread(target=each, daemon=True) for each in (self._datagrams, self._streams)
        ]
        for thread in self._threads:
            thread.start()

    def _answer(self, data: bytes, transport: str, port: int) -> bytes | None:
        query = dns.message.from_wire(data)
        self.heard.append((transport, query, port))
        answer = self.script(query)
        return answer.to_wire(max_size=65535) if isinstance(answer, dns.message.Message) else answer

    def _datagrams(self) -> None:
        while True:
            try:
                data, asker = self._udp.recvfrom(65535)
            except OSError:
                return
            if not data:
                return
            answer = self._answer(data, "udp", asker[1])
            if answer is not None:
                self._udp.sendto(answer, asker)

    def _streams(self) -> None:
        while True:
            try:
                connection, asker = self._tcp.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(10)
                data = read_frame(connection)
                answer = self._answer(data, "tcp", asker[1]) if data else None
                if answer is not None:
                    connection.sendall(struct.pack(">H", len(answer)) + answer)

    def close(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self._tcp.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._udp.close()
        self._tcp.close()


def read_frame(connection: socket.socket) -> bytes:
    """Read a message behind its length; empty at the end."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = connection.recv(count - len(data))
            if not more:
                return b""
            data += more
        return data

    head = exactly(2)
    return exactly(int.from_bytes(head, "big")) if head else b""


class Asker:
    """Asks a sandbox's resolver over loopback."""

    def __init__(self, sandbox: Sandbox, address: tuple[str, int]) -> None:
        self.sandbox, self.address = sandbox, address

    def datagram(self) -> socket.socket:
        asker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        asker.settimeout(10)
        asker.connect(self.address)
        return asker

    def stream(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=10)

    def ask(self, query: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
        with closing(self.stream() if tcp else self.datagram()) as asker:
            data = query.to_wire()
            asker.sendall(struct.pack(">H", len(data)) + data if tcp else data)
            read = dns.message.from_wire(read_frame(asker) if tcp else asker.recv(65535))
        assert query.is_response(read)
        return read


class Bench:
    """Makes resolvers and servers, and ends them with the test."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def resolver(self, **options: object) -> Resolver:
        resolver = Resolver(**options)  # type: ignore[arg-type]
        self._stack.callback(resolver.close)
        return resolver

    def upstream(self, script: Script) -> Upstream:
        upstream = Upstream(script)
        self._stack.callback(upstream.close)
        return upstream

    def serve(self, resolver: Resolver, view: View, forwarding: Forwarding | None = None) -> Asker:
        while True:
            tcp = socket.create_server(("127.0.0.1", 0))
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                udp.bind(tcp.getsockname())
                break
            except OSError:
                tcp.close()
                udp.close()
        address = tcp.getsockname()
        return Asker(resolver.serve(udp, tcp, view, forwarding), address)


QUICK = Limits(patience_s=0.05, deadline_s=1.0)
PATIENT = Limits(patience_s=60, deadline_s=60)


@pytest.fixture
def bench() -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(stack)


@pytest.fixture
def quick() -> Limits:
    return QUICK


@pytest.fixture
def patient() -> Limits:
    """For what must not wait for a time to pass."""
    return PATIENT
