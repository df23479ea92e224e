"""HTTP/1.1 over unix sockets on threads, for the Docker plugin socket and the API socket.

Python's own server: dockerd 20.10 sends an empty Host header and retries a broken connection for
15 s, so what matters is that every request, however malformed, gets a JSON answer.
"""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TypeAlias

import msgspec

__all__ = ["Answer", "Handler", "UnixHTTPServer"]

Answer: TypeAlias = tuple[int, bytes, str]
"""HTTP status, body, content type."""
Handler: TypeAlias = Callable[[str, str, bytes], Answer]
"""(method, path with query, body) to an answer; it must not raise."""

_BODY_BYTES = 4 << 20
_IDLE_S = 300.0


class UnixHTTPServer(socketserver.ThreadingMixIn, socketserver.BaseServer):
    """Serves requests on a listening unix socket that is given to it; a thread a connection."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, handler: Handler) -> None:
        super().__init__("", _RequestHandler)
        self.handler = handler
        self.socket = listening

    def fileno(self) -> int:
        """Give the listening descriptor to the selector."""
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, str]:
        """Accept a connection."""
        connection, _ = self.socket.accept()
        connection.settimeout(_IDLE_S)
        return connection, ""

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close a connection."""
        if isinstance(request, socket.socket):
            request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """Let a connection that broke go: the peer has noticed already."""


class _RequestHandler(BaseHTTPRequestHandler):
    server: UnixHTTPServer
    protocol_version = "HTTP/1.1"
    server_version = "dovetail"
    sys_version = ""

    def do_POST(self) -> None:
        body = self._body()
        if body is not None:
            self._answer(*self.server.handler(self.command, self.path, body))

    do_GET = do_DELETE = do_PUT = do_POST  # noqa: N815 - the names http.server looks for

    def _body(self) -> bytes | None:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return self._chunks()
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            return self._refuse(400, f"Content-Length {length!r} is not a number")
        if int(length) > _BODY_BYTES:
            return self._refuse(413, f"the request is larger than {_BODY_BYTES} bytes")
        return self.rfile.read(int(length))

    def _chunks(self) -> bytes | None:
        body = b""
        while True:
            size = self.rfile.readline(64).split(b";")[0].strip()
            try:
                length = int(size, 16)
            except ValueError:
                return self._refuse(400, "a chunk has no size")
            if length == 0:
                while self.rfile.readline(1024).strip():
                    pass
                return body
            body += self.rfile.read(length)
            self.rfile.readline(8)
            if len(body) > _BODY_BYTES:
                return self._refuse(413, f"the request is larger than {_BODY_BYTES} bytes")

    def _refuse(self, status: int, text: str) -> bytes | None:
        self.send_error(status, text)
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a malformed request with JSON in every dialect we speak."""
        text = message or explain or "bad request"
        body = msgspec.json.encode({"Err": text, "Error": text, "error": text})
        self.close_connection = True
        self._answer(code, body, "application/json")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.1"  # or the status line would be left out
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name in http.server
        """Stay quiet: the tracer's sink writes one line an operation."""
