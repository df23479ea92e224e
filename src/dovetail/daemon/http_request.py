"""Reading HTTP/1 requests off a socket, and saying what is wrong with one that cannot be read.

Why not `http.server`: it answers nothing at all to an empty line, takes a head that breaks off for a whole one, knows
no chunked body, and parses a head as an electronic mail, which takes longer than most of what is asked for.

Source: RFC 9112 (HTTP/1.1 messages), RFC 9110 §10.1.1 (Expect). docs/adr/0006-http-server.md.
"""

from __future__ import annotations

import re
import socket
import time
from typing import NamedTuple

__all__ = ["BODY_BYTES", "BadRequest", "Parsed", "RequestReader"]

BODY_BYTES = 4 * 1024 * 1024
REQUEST_S = 30.0
"""From the first byte of a request to its last."""
_LINE_BYTES = 64 * 1024
_HEAD_LINES = 100
_EMPTY_LINES = 8  # before a request: RFC 9112 §2.2 asks for one to be borne
_READ_BYTES = 64 * 1024
_LENGTH_DIGITS = 18

_REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]{1,32}) ([!-~\x80-\xff]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*", re.DOTALL)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL)


class BadRequest(Exception):
    """What arrived is no request that can be answered otherwise than with `status` and `message`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Parsed(NamedTuple):
    """A request as it stood on the wire; names of header fields are in lower case. close: none follows it."""

    method: str
    target: str
    fields: dict[str, str]
    body: bytes
    close: bool


class RequestReader:
    """Reads one request after the other off a connection; what has arrived beyond one is kept for the next."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._deadline = 0.0

    def wait(self) -> bool:
        """Wait as long as it takes for the first byte of a request; False where the other side has closed."""
        self._connection.settimeout(None)
        if not self._buffer:
            self._buffer += self._connection.recv(_READ_BYTES)
        self._deadline = time.monotonic() + REQUEST_S
        return bool(self._buffer)

    def read(self) -> Parsed:
        """Read a request of which a byte is there; raises BadRequest, or OSError where the connection breaks."""
        method, target, minor = self._request_line()
        fields = self._fields()
        close = _closes(fields, minor)
        encoding, length = fields.get("transfer-encoding"), _length(fields)
        if encoding is None and not length:
            return Parsed(method, target, fields, b"", close)
        if encoding is not None:
            _check_encoding(encoding, fields, minor)
        self._expect(fields, minor)
        return Parsed(
            method, target, fields, self._exactly(length) if encoding is None else self._chunks(), close
        )

    def _request_line(self) -> tuple[str, str, int]:
        for _ in range(_EMPTY_LINES):
            line = self._line(414, "the request line is too long")
            if line:
                break
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise BadRequest(400, f"{_shown(line)} is not the first line of a request")
        method, target, major, minor = match.groups()
        if major != b"1":
            raise BadRequest(505, f"HTTP/{major.decode()} is not spoken here: HTTP/1.1 is")
        return method.decode("ascii"), target.decode("latin-1"), int(minor)

    def _fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        for _ in range(_HEAD_LINES):
            line = self._line(431, "a header field is too long")
            if not line:
                return fields
            match = _FIELD.fullmatch(line)
            if match is None:
                raise BadRequest(400, f"{_shown(line)} is not a header field")
            name, value = match[1].decode("ascii").lower(), match[2].decode("latin-1")
            fields[name] = f"{fields[name]}, {value}" if name in fields else value
        raise BadRequest(431, f"a request may have {_HEAD_LINES} header fields at most")

    def _expect(self, fields: dict[str, str], minor: int) -> None:
        """Tell a client that waits for it to send the body."""
        expected = fields.get("expect")
        if expected is None or minor == 0:
            return
        if expected.lower() != "100-continue":
            raise BadRequest(417, f"{expected[:99]!r} cannot be expected here")
        if not self._buffer:
            self._connection.settimeout(self._left())
            self._connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _chunks(self) -> bytes:
        body = bytearray()
        while True:
            match = _CHUNK.fullmatch(self._line(400, "a chunk's size is too long"))
            if match is None:
                raise BadRequest(400, "a chunk of the body has no size")
            size = int(match[1], 16)
            if not size:
                break
            if len(body) + size > BODY_BYTES:
                raise _too_large()
            body += self._exactly(size)
            if self._line(400, "a chunk is longer than its size"):
                raise BadRequest(400, "a chunk is longer than its size")
        for _ in range(_HEAD_LINES):  # trailer fields, which say nothing to us
            if not self._line(431, "a trailer field is too long"):
                return bytes(body)
        raise BadRequest(431, f"a body may have {_HEAD_LINES} trailer fields at most")

    def _line(self, status: int, too_long: str) -> bytes:
        """Take a line without its end, which is CR LF, or LF alone (RFC 9112 §2.2)."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > _LINE_BYTES:
                raise BadRequest(status, too_long)
            self._receive("in its head")
        if end > _LINE_BYTES:
            raise BadRequest(status, too_long)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r")

    def _exactly(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._receive(f"after {len(self._buffer)} of {length} bytes of its body")
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _receive(self, where: str) -> None:
        self._connection.settimeout(self._left())
        try:
            data = self._connection.recv(_READ_BYTES)
        except TimeoutError:
            raise _too_slow() from None
        if not data:
            raise BadRequest(400, f"the request ends {where}")
        self._buffer += data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise _too_slow()
        return left


def _closes(fields: dict[str, str], minor: int) -> bool:
    said = {word.strip().lower() for word in fields.get("connection", "").split(",")}
    return "close" in said or (minor == 0 and "keep-alive" not in said)


def _length(fields: dict[str, str]) -> int:
    text = fields.get("content-length", "0")
    first, *others = (part.strip() for part in text.split(","))
    if not (first.isascii() and first.isdigit()) or any(other != first for other in others):
        raise BadRequest(400, f"{text[:99]!r} is not a Content-Length")
    if len(first) > _LENGTH_DIGITS or int(first) > BODY_BYTES:  # int() itself refuses thousands of digits
        raise _too_large()
    return int(first)


def _check_encoding(encoding: str, fields: dict[str, str], minor: int) -> None:
    """Refuse what nobody could be sure of the length of (RFC 9112 §6.1)."""
    if minor == 0 or "content-length" in fields:
        raise BadRequest(
            400, "a request has a Transfer-Encoding or a Content-Length, and HTTP/1.0 only the latter"
        )
    if encoding.lower() != "chunked":
        raise BadRequest(501, f"{encoding[:99]!r} is no Transfer-Encoding that is known here: chunked is")


def _too_large() -> BadRequest:
    return BadRequest(413, f"a body may have {BODY_BYTES} bytes at most")


def _too_slow() -> BadRequest:
    return BadRequest(408, f"the request was not whole within {REQUEST_S:g} s")


def _shown(line: bytes) -> str:
    return repr(line[:99].decode("latin-1"))
