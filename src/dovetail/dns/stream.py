"""DNS over TCP: messages behind their length, on a socket that does not block.

Source: RFC 1035 §4.2.2 (the length), RFC 7766 §6.2.1.1 and §7 (several questions at once, answers in any order).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

from dovetail.dns.loop import Loop

__all__ = ["Stream"]

_AT_ONCE = 65536
_WAITING_BYTES = 1 << 18  # an asker who reads none of so much is not waited for
_LENGTH_BYTES = 2


class Stream:
    """One connection; it may be under way still.

    on_message: a message came. on_end: no more will come, with whether the connection broke (an error, and not the other's end
    of speaking); the owner closes it when it has said all.
    """

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        on_message: Callable[[bytes], None],
        on_end: Callable[[bool], None],
        *,
        connecting: bool = False,
    ) -> None:
        self._loop, self._socket = loop, connection
        self._on_message, self._on_end = on_message, on_end
        self._connecting = connecting
        self._in, self._out = bytearray(), bytearray()
        self._closing = self._deaf = False
        self._watch()

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self._socket.fileno() < 0

    def send(self, message: bytes) -> None:
        """Send a message, now or when there is room; nothing happens on a closed connection."""
        if self.closed:
            return
        self._out += len(message).to_bytes(_LENGTH_BYTES, "big") + message
        if len(self._out) > _WAITING_BYTES:
            self._end(broken=True)
        elif not self._connecting:
            self._flush()

    def close_when_sent(self) -> None:
        """Close it when all is sent."""
        self._closing = True
        if not self._out:
            self.close()

    def close(self) -> None:
        """Close it at once; closing twice is no error."""
        if not self.closed:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _watch(self) -> None:
        """Watch for what is of use now: at the other's end of speaking, a poll would come back at once for ever."""
        readable = None if self._deaf or self._connecting else self._read
        writable = self._flush if self._out or self._connecting else None
        if readable is None and writable is None:
            self._loop.unwatch(self._socket.fileno())
        else:
            self._loop.watch(self._socket.fileno(), readable, writable)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_AT_ONCE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._end(broken=True)
            return
        if not data:
            self._end(broken=False)
            return
        self._in += data
        for message in self._messages():
            self._on_message(message)
            if self.closed:
                return

    def _messages(self) -> Iterator[bytes]:
        """Cut off the messages that are whole."""
        at = 0
        while True:
            start = at + _LENGTH_BYTES
            end = start + int.from_bytes(self._in[at:start], "big")
            if start > len(self._in) or end > len(self._in):
                break
            at = end
            yield bytes(self._in[start:end])
        del self._in[:at]

    def _flush(self) -> None:
        try:
            if self._connecting:
                self._connected()
            while self._out:
                del self._out[: self._socket.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._end(broken=True)
            return
        if self._closing and not self._out:
            self.close()
        else:
            self._watch()

    def _connected(self) -> None:
        """See how connecting went; raises OSError, BlockingIOError while it is under way."""
        error = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, "connect")
        try:
            self._socket.getpeername()
        except OSError as exc:
            raise BlockingIOError from exc
        self._connecting = False

    def _end(self, *, broken: bool) -> None:
        """Hear no more, and tell the owner."""
        self._deaf = True
        if broken:
            self.close()
        else:
            self._watch()
        self._on_end(broken)
