"""Reading HTTP/1 requests off a socket with h11, within a time, and writing replies.

h11 knows the protocol and no sockets; here are the deadline from a request's first byte to its last, the limit on a
body's length, and the sentence for what cannot be read.

Source: RFC 9112 (HTTP/1.1 messages), RFC 9110 §10.1.1 (Expect). docs/adr/0009-http-requests.md.
"""

from __future__ import annotations

import socket
import time
from http import HTTPStatus
from typing import NamedTuple

import h11

__all__ = ["BODY_BYTES", "BadRequest", "Parsed", "RequestReader"]

BODY_BYTES = 4 * 1024 * 1024
REQUEST_S = 30.0
"""From the first byte of a request to its last."""
_HEAD_BYTES = 64 * 1024
_READ_BYTES = 64 * 1024
_ANSWER_S = 30.0  # for a client that does not read


class BadRequest(Exception):
    """What arrived is no request that can be answered otherwise than with `status` and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Parsed(NamedTuple):
    """A request as it stood on the wire."""

    method: str
    target: str
    body: bytes


class RequestReader:
    """Reads one request after the other off a connection, each answered by `reply` before the next is read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_HEAD_BYTES)
        self._deadline = 0.0
        self._head = False

    def wait(self) -> bool:
        """Wait as long as it takes for the first byte of a request; False where the other side has closed."""
        self._connection.settimeout(None)
        if not self._http.trailing_data[0]:
            data = self._connection.recv(_READ_BYTES)
            if not data:
                return False
            self._http.receive_data(data)
        self._deadline = time.monotonic() + REQUEST_S
        return True

    def read(self) -> Parsed:
        """Read a request of which a byte is there; raises BadRequest, or OSError where the connection breaks."""
        try:
            return self._read()
        except h11.RemoteProtocolError as exc:
            raise BadRequest(exc.error_status_hint, f"this is no HTTP request: {exc}") from exc

    def _read(self) -> Parsed:
        request: h11.Request | None = None
        body = bytearray()
        while True:
            match event := self._http.next_event():
                case h11.Request():
                    request = event
                    self._head = event.method == b"HEAD"
                    _check_head(event)
                case h11.Data():
                    body += event.data
                    if len(body) > BODY_BYTES:
                        raise _too_large()
                case h11.EndOfMessage() if request is not None:
                    method, target = request.method.decode("ascii"), request.target.decode("latin-1")
                    return Parsed(method, target, bytes(body))
                case h11.NEED_DATA:
                    self._receive()
                case _:  # h11.ConnectionClosed: empty lines and an end
                    raise BadRequest(400, "the connection ends before a request")

    def _receive(self) -> None:
        left = self._deadline - time.monotonic()
        self._connection.settimeout(max(left, 0.001))
        try:
            if self._http.they_are_waiting_for_100_continue:
                self._connection.sendall(
                    self._http.send(
                        h11.InformationalResponse(status_code=100, reason=b"Continue", headers=[])
                    )
                    or b""
                )
            data = self._connection.recv(_READ_BYTES) if left > 0 else None
        except TimeoutError:
            data = None
        if data is None:
            raise BadRequest(408, f"the request was not whole within {REQUEST_S:g} s")
        self._http.receive_data(data)

    def reply(self, status: int, content_type: str, body: bytes, *, close: bool) -> bool:
        """Send a whole reply, also to what could not be read; says whether another request may follow."""
        headers = [("Content-Type", content_type), ("Content-Length", str(len(body)))]
        if close:
            headers.append(("Connection", "close"))
        phrase = HTTPStatus(status).phrase.encode("ascii")
        parts: list[h11.Event] = [h11.Response(status_code=status, reason=phrase, headers=headers)]
        if not self._head:  # whose reply has the length of a body, and none
            parts.append(h11.Data(data=body))
        parts.append(h11.EndOfMessage())
        self._connection.settimeout(_ANSWER_S)
        self._connection.sendall(b"".join(self._http.send(part) or b"" for part in parts))
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True


def _check_head(request: h11.Request) -> None:
    """Refuse another protocol, and a body that is too long before it is sent."""
    if not request.http_version.startswith(b"1."):
        raise BadRequest(505, f"HTTP/{request.http_version.decode()} is not spoken here: HTTP/1.1 is")
    for name, value in request.headers:
        if name == b"content-length" and int(value) > BODY_BYTES:
            raise _too_large()


def _too_large() -> BadRequest:
    return BadRequest(413, f"a body may have {BODY_BYTES} bytes at most")
