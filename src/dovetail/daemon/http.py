"""HTTP over a unix socket: a thread a connection, and every answer a whole reply.

Why not a framework: dockerd 20.10 sends an empty ``Host``, retries what is dropped for 15 s and then with
an empty body, and prints what it gets, so even what cannot be parsed gets a status and JSON of the
application's own form; and an idle connection is never closed from this side while the daemon runs
(docs/adr/0006-http-server.md). `http_request` reads what arrives.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import socket
import threading
import time
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import parse_qsl

from dovetail.daemon.http_request import BadRequest, RequestReader

__all__ = ["Application", "HttpServer", "Request", "Response"]

_LOG = logging.getLogger("dovetail")
_DISCARD_BYTES = 1 << 16
_DISCARD_S = 1.0
_AUTHORITY = re.compile(r"[a-z]+://[^/?]*", re.IGNORECASE)  # a proxy's way to write a target, RFC 9112 §3.2.2


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
            _Connection(connection, self).serve()
        except OSError as exc:
            _LOG.debug("connection broke off", extra={"fields": {"error": str(exc)}})
        except Exception:  # the edge: a thread's traceback belongs into the log
            _LOG.exception("connection failed")
        finally:
            with self._lock:
                self._connections.pop(connection, None)
                self._busy.discard(connection)
            connection.close()


class _Connection:
    """One connection: reads requests and writes the application's replies."""

    def __init__(self, connection: socket.socket, server: HttpServer) -> None:
        self._connection = connection
        self._server = server
        self._reader = RequestReader(connection)

    def serve(self) -> None:
        """Answer one request after the other, until the last; the time each may take starts with its first byte."""
        while not self._server.stopping and self._reader.wait():
            self._server.begin(self._connection)
            try:
                if not self._serve_one():
                    return
            finally:
                self._server.end(self._connection)

    def _serve_one(self) -> bool:
        """Answer one request; says whether there may be another."""
        try:
            parsed = self._reader.read()
        except BadRequest as exc:
            self._send(self._server.application.refuse(exc.status, exc.message), close=True)
            self._discard()
            return False
        path, query = _split(parsed.target)
        request = Request(parsed.method, path, query, parsed.body)
        try:
            response = self._server.application.answer(request)
        except Exception as exc:  # the edge: a defect must not drop the connection
            _LOG.exception("request failed", extra={"fields": {"path": path}})
            response = self._server.application.refuse(500, f"internal error: {type(exc).__name__}: {exc}")
        return self._send(response, close=self._server.stopping)

    def _send(self, response: Response, *, close: bool) -> bool:
        return self._reader.reply(response.status, response.content_type, response.body, close=close)

    def _discard(self) -> None:
        """Take off what has arrived and was not read: closing with it would reset the connection and lose the reply."""
        deadline = time.monotonic() + _DISCARD_S
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_WR)
            while (left := deadline - time.monotonic()) > 0:
                self._connection.settimeout(left)
                if not self._connection.recv(_DISCARD_BYTES):
                    return


def _split(target: str) -> tuple[str, dict[str, str]]:
    authority = _AUTHORITY.match(target)
    path, mark, query = target[authority.end() if authority else 0 :].partition("?")
    return path, dict(parse_qsl(query, keep_blank_values=True)) if mark else {}
