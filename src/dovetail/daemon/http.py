"""HTTP over a unix socket: a thread a connection, and every answer a whole reply.

Why not a framework: dockerd 20.10 sends an empty ``Host``, retries what is dropped for 15 s and then with
an empty body, and prints what it gets, so even what cannot be parsed gets a status and JSON of the
application's own form; and an idle connection is never closed from this side while the daemon runs
(docs/adr/0006-http-server.md).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

__all__ = ["Application", "HttpServer", "Request", "Response"]

_LOG = logging.getLogger("dovetail")
_BODY_BYTES = 4 * 1024 * 1024
_REQUEST_S = 30.0  # from the first byte of a request to its last
_LINE_BYTES = 65536
_DISCARD_BYTES = 1 << 16
_LENGTH_DIGITS = 18


class Request(NamedTuple):
    """A request; `query` with one value a key, the last."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes


class Response(NamedTuple):
    """A whole reply."""

    status: int
    body: bytes
    content_type: str = "application/json"


class Application(NamedTuple):
    """What a server serves. `answer` may block and raise; `refuse` writes the body of an error."""

    answer: Callable[[Request], Response]
    refuse: Callable[[int, str], Response]


class HttpServer:
    """Serves `application` to whoever connects to `listening`, until `shutdown`."""

    def __init__(self, listening: socket.socket, application: Application) -> None:
        self.application = application
        self._listening = listening
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._busy: set[socket.socket] = set()
        self.stopping = False

    def serve_forever(self) -> None:
        """Accept until `shutdown`."""
        self._listening.setblocking(False)
        poller = select.poll()
        for descriptor in (self._listening.fileno(), self._stop_read):
            poller.register(descriptor, select.POLLIN)
        while True:
            if self._stop_read in dict(poller.poll()):
                return
            try:
                connection, _ = self._listening.accept()
            except BlockingIOError:
                continue
            except OSError as exc:  # out of descriptors or memory: those under way may free some
                _LOG.warning("accept failed", extra={"fields": {"error": str(exc)}})
                time.sleep(0.1)
                continue
            connection.setblocking(True)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True, name="http")
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def shutdown(self, timeout_s: float) -> None:
        """Stop accepting, close what is idle, and wait for the requests under way."""
        os.write(self._stop_write, b"x")
        with self._lock:
            self.stopping = True
            idle = [connection for connection in self._connections if connection not in self._busy]
            threads = list(self._connections.values())
        for connection in idle:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(timeout=max(0.0, deadline - time.monotonic()))

    def begin(self, connection: socket.socket) -> None:
        """Note that a request has begun to arrive."""
        with self._lock:
            self._busy.add(connection)

    def end(self, connection: socket.socket) -> None:
        """Note that it is answered."""
        with self._lock:
            self._busy.discard(connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            _Connection(connection, ("", 0), self)  # type: ignore[arg-type]  # it asks no more of its server
        except OSError as exc:
            _LOG.debug("connection broke off", extra={"fields": {"error": str(exc)}})
        except Exception:  # the edge: a thread's traceback belongs into the log
            _LOG.exception("connection failed")
        finally:
            with self._lock:
                self._connections.pop(connection, None)
                self._busy.discard(connection)
            connection.close()


class _Connection(BaseHTTPRequestHandler):
    """One connection: reads requests and writes the application's replies."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"  # so that an error about a line without a version has a head, too
    server_version = "dovetail"
    sys_version = ""
    server: HttpServer  # type: ignore[assignment]

    def handle_one_request(self) -> None:
        """Read and answer one request; the time it may take starts with its first byte."""
        self.close_connection = True
        self.connection.settimeout(None)
        if not self.rfile.peek(1):  # type: ignore[attr-defined]  # a BufferedReader, rbufsize is not 0
            return
        self.server.begin(self.connection)
        try:
            self.connection.settimeout(_REQUEST_S)
            self.raw_requestline = self.rfile.readline(_LINE_BYTES + 1)
            if len(self.raw_requestline) > _LINE_BYTES:
                self.requestline = self.command = ""
                self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            elif self.parse_request():
                self._answer()
        except TimeoutError:
            self.send_error(HTTPStatus.REQUEST_TIMEOUT)
        finally:
            self.server.end(self.connection)
            if self.server.stopping:
                self.close_connection = True

    def _answer(self) -> None:
        body = self._body()
        if body is None:
            return
        parts = urlsplit(self.path)
        request = Request(
            self.command, parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), body
        )
        try:
            response = self.server.application.answer(request)
        except Exception as exc:  # the edge: a defect must not drop the connection
            _LOG.exception("request failed", extra={"fields": {"path": parts.path}})
            response = self.server.application.refuse(500, f"internal error: {type(exc).__name__}: {exc}")
        self._send(response)

    def _body(self) -> bytes | None:
        """Read the body; None after answering an error."""
        if self.headers.get("Transfer-Encoding"):  # no client of ours streams a body
            self.send_error(HTTPStatus.LENGTH_REQUIRED, "send the body with a Content-Length")
            return None
        text = self.headers.get("Content-Length", "0").strip()
        if not (text.isascii() and text.isdigit()):
            self.send_error(HTTPStatus.BAD_REQUEST, f"{text[:99]!r} is not a Content-Length")
            return None
        if len(text) > _LENGTH_DIGITS or int(text) > _BODY_BYTES:  # int() itself refuses thousands of digits
            self.send_error(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {_BODY_BYTES} bytes at most"
            )
            return None
        length = int(text)
        body = self.rfile.read(length)
        if len(body) < length:
            self.send_error(HTTPStatus.BAD_REQUEST, f"the body ends after {len(body)} of {length} bytes")
            return None
        return body

    def _send(self, response: Response) -> None:
        head = io.BytesIO()
        phrase = HTTPStatus(response.status).phrase
        head.write(f"HTTP/1.1 {response.status} {phrase}\r\n".encode("ascii"))
        head.write(
            f"Content-Type: {response.content_type}\r\nContent-Length: {len(response.body)}\r\n".encode()
        )
        if self.close_connection or self.server.stopping:
            head.write(b"Connection: close\r\n")
        head.write(b"\r\n")
        if self.command != "HEAD":
            head.write(response.body)
        self.wfile.write(head.getvalue())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what is no request with the application's own form of an error, and close.

        What has arrived and was not read is taken off first: closing with it would reset the
        connection, and the reply could be lost.
        """
        self.close_connection = True
        self.command = getattr(self, "command", None) or ""
        status = HTTPStatus(code)
        self._send(self.server.application.refuse(status.value, message or status.phrase))
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1.0)
            while self.connection.recv(_DISCARD_BYTES):
                pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Log nothing: the tracer's sink writes a line for each operation."""
