"""The daemon's end of the shim's socket: a frame in, a frame out, on a thread that is there already."""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Callable

from dovetail.cni.frame import FALLBACK, MAGIC, REQUEST, REQUEST_BYTES, pack_answer
from dovetail.cni.plugin import run
from dovetail.cni.workers import Workers
from dovetail.engine.engine import Engine

__all__ = ["ShimServer"]

_CALL_S = 120.0
_OWN = "/proc/self/ns/net"
_UCRED = struct.Struct("=iII")  # struct ucred, include/linux/socket.h
_FD = struct.Struct("=i")
_ONE_FD = socket.CMSG_SPACE(_FD.size)
_log = logging.getLogger("dovetail")


class ShimServer:
    """Answers the shims that connect to `listening`; only root and the daemon's own user may."""

    def __init__(
        self, listening: socket.socket, engine: Engine, begin: Callable[[], None] = lambda: None
    ) -> None:
        """Serve `engine`; `begin` is called on each thread that does, as it starts."""
        self._engine = engine
        self._workers = Workers(listening, self._serve, begin)
        own = os.stat(_OWN)
        self._namespace = (own.st_dev, own.st_ino)

    def serve_forever(self) -> None:
        """Accept until `shutdown`."""
        self._workers.run()

    def shutdown(self) -> None:
        """Stop accepting, and let the calls under way end."""
        self._workers.stop(_CALL_S)

    def _serve(self, connection: socket.socket) -> None:
        fds: list[int] = []
        connection.settimeout(_CALL_S)
        self._engine.tracer.hold_back()
        try:
            self._answer(connection, fds)
        except (OSError, ValueError) as exc:
            _log.warning("cni call broke off", extra={"fields": {"error": str(exc)}})
        except Exception:  # the edge: one bad call must not take a thread's traceback to the runtime
            _log.exception("cni call failed")
        finally:
            self._engine.tracer.let_go()
            for fd in fds:
                os.close(fd)

    def _answer(self, connection: socket.socket, fds: list[int]) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, _ = _UCRED.unpack(credentials)
        if uid not in {0, os.geteuid()}:
            return
        head, control, _, _ = connection.recvmsg(1 << 16, _ONE_FD, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in control:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                fds.extend(number for (number,) in _FD.iter_unpack(data))
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
        if (device, inode) != self._namespace:
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
