"""The daemon's end of the shim's socket: a thread a call, no asyncio."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import struct
import threading

from dovetail.cni.frame import FALLBACK, MAGIC, REQUEST, REQUEST_BYTES, pack_answer
from dovetail.cni.plugin import run
from dovetail.engine.engine import Engine

__all__ = ["ShimServer"]

_CALL_S = 120.0
_OWN = "/proc/self/ns/net"
_UCRED = struct.Struct("=iII")  # struct ucred, include/linux/socket.h
_log = logging.getLogger("dovetail")


class ShimServer:
    """Answers the shims that connect to `listening`; only root and the daemon's own user may."""

    def __init__(self, listening: socket.socket, engine: Engine) -> None:
        self._listening = listening
        self._engine = engine
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._calls: set[threading.Thread] = set()

    def serve_forever(self) -> None:
        """Accept until `shutdown`."""
        self._listening.setblocking(False)
        while True:
            ready, _, _ = select.select([self._listening.fileno(), self._stop_read], [], [])
            if self._stop_read in ready:
                return
            with contextlib.suppress(BlockingIOError):
                connection, _ = self._listening.accept()
                connection.settimeout(_CALL_S)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._calls.add(thread)
                thread.start()

    def shutdown(self) -> None:
        """Stop accepting, and let the calls under way end."""
        os.write(self._stop_write, b"x")
        for thread in list(self._calls):
            thread.join(timeout=_CALL_S)

    def _serve(self, connection: socket.socket) -> None:
        fds: list[int] = []
        try:
            with connection:
                self._answer(connection, fds)
        except (OSError, ValueError) as exc:
            _log.warning("cni call broke off", extra={"fields": {"error": str(exc)}})
        except Exception:  # the edge: one bad call must not take a thread's traceback to the runtime
            _log.exception("cni call failed")
        finally:
            for fd in fds:
                os.close(fd)
            self._calls.discard(threading.current_thread())

    def _answer(self, connection: socket.socket, fds: list[int]) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, _ = _UCRED.unpack(credentials)
        if uid not in {0, os.geteuid()}:
            return
        head, passed, _, _ = socket.recv_fds(connection, 1 << 16, 1)
        fds.extend(passed)
        while len(head) < REQUEST.size:
            head += _some(connection)
        magic, environment_length, config_length, device, inode = REQUEST.unpack_from(head)
        total = REQUEST.size + environment_length + config_length
        if magic != MAGIC or total > REQUEST_BYTES:
            raise ValueError("a request that no shim of ours sends")
        parts = [head]
        received = len(head)
        while received < total:
            parts.append(_some(connection))
            received += len(parts[-1])
        body = b"".join(parts)[REQUEST.size : total]
        own = os.stat(_OWN)
        if (device, inode) != (own.st_dev, own.st_ino):
            connection.sendall(pack_answer(FALLBACK))
            return
        pairs = [
            p.decode(errors="surrogateescape").partition("=")
            for p in body[:environment_length].split(b"\0")
            if p
        ]
        environ = {name: value for name, _, value in pairs}
        plugin = environ.pop("PLUGIN", "dovetail")
        outcome = run(
            environ,
            body[environment_length:],
            lambda: self._engine,
            plugin=plugin,
            netns_fd=fds[0] if fds else -1,
        )
        connection.sendall(pack_answer(outcome.status, outcome.stdout, outcome.stderr))


def _some(connection: socket.socket) -> bytes:
    data = connection.recv(1 << 20)
    if not data:
        raise ValueError("the shim closed the connection in the middle of a request")
    return data
