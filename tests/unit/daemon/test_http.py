from __future__ import annotations

import json
import socket
import threading

import pytest

from dovetail.daemon import http_request
from dovetail.daemon.http import Application, HttpServer, Response
from dovetail.daemon.http_request import BODY_BYTES


class Server:
    """An HTTP server on a unix socket; ``/wait`` is answered once `release` is set, ``/fail`` raises."""

    def __init__(self, path):
        self.path = path
        self.release = threading.Event()
        self.arrived = threading.Event()
        self.seen = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(path)
        self._listening.listen(512)
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


CHUNK_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 505),
        (b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (
            b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(30_000)) + b"\r\n",
            431,
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nConnection: close\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nabc", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n", 400),
        (CHUNK_HEAD + b"ffffffff\r\n" + b"x" * (BODY_BYTES + 1), 413),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 200, 400),
        (b"POST / HTTP/1.1\r\nHost : x\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n", 400),
        (b"POST / HT", 400),
        (b"POST  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\r\n" * 20, 400),
        (b"\r\n", 400),
        (b"\0" * 70000, 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"x" * 200_000 + b"\r\n\r\n", 431),
    ],
)
def test_what_is_no_request_gets_a_status_and_json_and_nothing_is_done(server, data, status):
    reply = server.send(data, finish=True)

    head, _, body = reply.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert json.loads(body)["error"]
    assert server.seen == []


CHUNKED = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n3;x=y\r\nabc\r\n2 \r\nde\r\n0\r\nTrailer: z\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "path", "length"),
    [
        (b"POST /a HTTP/1.1\r\nHost: \r\nContent-Length: 3\r\n\r\nabc", "/a", 3),
        (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc", "/a", 3),
        (b"POST /a HTTP/1.0\nContent-Length:3\n\nabc", "/a", 3),
        (b"POST http://plugin/a HTTP/1.1\r\nHost: x\r\ncontent-length: \t0 \r\n\r\n", "/a", 0),
        (b"POST //[ HTTP/1.1\r\nHost: x\r\n\r\n", "//[", 0),
        (CHUNKED, "/c", 5),
        (b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc", "/e", 3),
    ],
)
def test_what_is_odd_and_allowed_is_answered_also_byte_by_byte(server, data, path, length):
    wanted = {"path": path, "length": length}

    assert json.loads(server.send(data, finish=True).rpartition(b"\r\n\r\n")[2]) == wanted
    with server.connect() as caller:
        for byte in data:
            caller.sendall(bytes([byte]))
        caller.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: caller.recv(65536), b""))
    assert json.loads(reply.rpartition(b"\r\n\r\n")[2]) == wanted


def test_a_client_that_waits_to_be_told_is_told_to_go_on(server):
    with server.connect() as caller:
        caller.sendall(b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-Continue\r\n\r\n")
        assert caller.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        caller.sendall(b"abc")
        assert b'"length": 3' in caller.recv(4096)


def test_one_that_would_be_refused_is_not_told_to_go_on(server):
    data = b"POST /e HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"

    assert server.send(data).startswith(b"HTTP/1.1 413 ")


def test_requests_one_behind_the_other_are_answered_in_order(server):
    one = b"POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok"
    data = b"".join(one % number for number in range(50))

    reply = server.send(data + b"HEAD /last HTTP/1.1\r\nHost: x\r\n\r\n" + CHUNKED, finish=True)

    bodies = [part.partition(b"HTTP/1.1")[0] for part in reply.split(b"\r\n\r\n")[1:]]
    paths = [json.loads(body)["path"] for body in bodies if body]
    assert paths == [f"/{number}" for number in range(50)] + ["/c"]
    assert len(bodies) == 52, "HEAD has a head and no body"
    assert b"Connection: close" not in reply


@pytest.mark.parametrize(
    ("head", "goes_on"),
    [
        (b"HTTP/1.1\r\nHost: x\r\n", True),
        (b"HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", False),
        (b"HTTP/1.1\r\nHost: x\r\nConnection: upgrade, Close\r\n", False),
        (b"HTTP/1.0\r\n", False),
        (b"HTTP/1.0\r\nConnection: keep-alive\r\n", False),
    ],
)
def test_a_connection_lives_on_where_the_client_wants_it(server, head, goes_on):
    with server.connect() as caller:
        caller.sendall(b"GET /a " + head + b"\r\n")
        assert caller.recv(4096).startswith(b"HTTP/1.1 200 ")
        caller.settimeout(0.2)
        if goes_on:
            with pytest.raises(TimeoutError):
                caller.recv(1)
        else:
            assert caller.recv(1) == b""


def test_many_connections_at_once_are_all_answered(server):
    callers = [server.connect() for _ in range(200)]
    for number, caller in enumerate(callers):
        caller.sendall(b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n" % number)

    replies = [caller.recv(4096) for caller in callers]

    assert all(b'"/%d"' % number in reply for number, reply in enumerate(replies))
    for caller in callers:
        caller.close()


def test_a_query_is_read_and_may_hold_an_address(server):
    server.send(b"GET /v1/trace?last=3&u=http://h/p?q&last=4 HTTP/1.0\r\n\r\n")

    assert server.seen[0].path == "/v1/trace"
    assert server.seen[0].query == {"last": "4", "u": "http://h/p?q"}


def test_a_defect_is_an_answer_and_the_next_request_is_served(server):
    with server.connect() as caller:
        stream = caller.makefile("rb")
        for path, status in ((b"/fail", b"500"), (b"/next", b"200")):
            caller.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            assert stream.readline().split()[1] == status
            length = 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length"):
                    length = int(line.split()[1])
            stream.read(length)
        stream.close()


def test_a_request_that_does_not_go_on_is_given_up(server, monkeypatch):
    monkeypatch.setattr(http_request, "REQUEST_S", 0.05)

    reply = server.send(b"POST /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc")

    assert reply.startswith(b"HTTP/1.1 408 ")


def test_a_request_that_trickles_is_given_up_too(server, monkeypatch):
    monkeypatch.setattr(http_request, "REQUEST_S", 0.2)

    with server.connect() as caller:
        caller.settimeout(0.05)
        for _ in range(200):
            try:
                caller.sendall(b"x")
                if reply := caller.recv(4096):
                    break
            except TimeoutError:
                continue

    assert reply.startswith(b"HTTP/1.1 408 ")


def test_a_stop_closes_what_is_idle_and_waits_for_what_is_under_way(server):
    idle, busy = server.connect(), server.connect()
    busy.sendall(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
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
