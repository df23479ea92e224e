from __future__ import annotations

import json
import socket
import threading

import pytest

from dovetail.daemon import http
from dovetail.daemon.http import Application, HttpServer, Response


class Server:
    """An HTTP server on a unix socket; ``/wait`` is answered once `release` is set, ``/fail`` raises."""

    def __init__(self, path):
        self.path = path
        self.release = threading.Event()
        self.arrived = threading.Event()
        self.seen = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen()
        self.server = HttpServer(self._listening, Application(self._answer, self._refuse))
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def _answer(self, request):
        self.seen.append(request)
        if request.path == "/fail":
            raise ZeroDivisionError("division by zero")
        if request.path == "/wait":
            self.arrived.set()
            self.release.wait(30)
        return Response(200, json.dumps({"path": request.path, "length": len(request.body)}).encode())

    @staticmethod
    def _refuse(status, message):
        return Response(status, json.dumps({"error": message}).encode())

    def connect(self):
        caller = socket.socket(socket.AF_UNIX)
        caller.settimeout(30)
        caller.connect(self.path)
        return caller

    def send(self, data, *, finish=False):
        """Send bytes on a connection of their own; give all that comes back until it is closed."""
        with self.connect() as caller:
            try:
                caller.sendall(data)
            except BrokenPipeError:
                pass  # refused before it was all there
            if finish:
                caller.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: caller.recv(65536), b""))

    def stop(self):
        self.release.set()
        self.server.shutdown(30)
        self._thread.join(30)
        self._listening.close()


@pytest.fixture
def server(tmp_path):
    made = Server(str(tmp_path / "s"))
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 505),
        (b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc", 400),
    ],
)
def test_what_is_no_request_gets_a_status_and_json_and_nothing_is_done(server, data, status):
    reply = server.send(data, finish=True)

    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert json.loads(body)["error"]
    assert server.seen == []


def test_a_defect_is_an_answer_and_the_next_request_is_served(server):
    with server.connect() as caller:
        stream = caller.makefile("rb")
        for path, status in ((b"/fail", b"500"), (b"/next", b"200")):
            caller.sendall(b"GET " + path + b" HTTP/1.1\r\n\r\n")
            assert stream.readline().split()[1] == status
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length"):
                    length = int(line.split()[1])
            stream.read(length)
        stream.close()


def test_a_request_that_does_not_go_on_is_given_up(server, monkeypatch):
    monkeypatch.setattr(http, "_REQUEST_S", 0.05)

    reply = server.send(b"POST /slow HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")

    assert reply.startswith(b"HTTP/1.1 408 ")


def test_a_stop_closes_what_is_idle_and_waits_for_what_is_under_way(server):
    idle, busy = server.connect(), server.connect()
    busy.sendall(b"GET /wait HTTP/1.1\r\n\r\n")
    assert server.arrived.wait(30)

    stopper = threading.Thread(target=server.server.shutdown, args=(30,))
    stopper.start()

    assert idle.recv(1) == b""
    assert stopper.is_alive()
    server.release.set()
    reply = b"".join(iter(lambda: busy.recv(65536), b""))
    stopper.join(30)
    assert reply.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in reply
    idle.close()
    busy.close()
