"""Where requests go: to the daemon over its socket, or to an engine in this process."""

from __future__ import annotations

import errno
import http.client
import os
import socket
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from dovetail.api import tracelog
from dovetail.api.dispatch import Reply, dispatch
from dovetail.api.problems import Problem
from dovetail.api.settle import settle
from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine
from dovetail.errors import Busy, DovetailError, PermissionDenied
from dovetail.model.codec import decode, encode

__all__ = ["API_SOCKET", "Backend", "DaemonBackend", "InProcessBackend", "find_daemon", "open_backend"]

API_SOCKET = "api.sock"
_CONNECT_S = 2.0
_ANSWER_S = 90.0  # the engine itself gives up a lock after 20 s, and an operation may take several
_ABSENT = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.ENOTDIR, errno.ENOTSOCK})
_FAILED = 400


class Backend(Protocol):
    """Answers requests of the API."""

    @property
    def commands(self) -> list[str]:
        """What ``--explain`` wrote down; always empty for the other backends."""
        ...

    def request(self, method: str, path: str, body: object, *, query: Mapping[str, str]) -> bytes:
        """Give the payload of a success; raises the failure as a DovetailError."""
        ...


def open_backend(state_dir: str, run_dir: str, *, docker_socket: str = "", explain: bool = False) -> Backend:
    """Choose the daemon if it accepts on ``<run-dir>/api.sock``, else build an engine here.

    docker_socket: for the engine here; a daemon has its own.
    Raises PermissionDenied where the socket or the state may not be used.
    """
    if explain:
        from dovetail.cli.explain import explaining_engine

        engine, commands = explaining_engine(state_dir, run_dir)
        return InProcessBackend(engine, commands=commands)
    daemon = find_daemon(run_dir)
    if daemon is not None:
        return daemon
    engine = build_engine(state_dir=state_dir, run_dir=run_dir, docker_socket=docker_socket)
    engine.tracer.add_sink(tracelog.sink(run_dir), whole=True)
    return InProcessBackend(engine, run_dir=run_dir)


class InProcessBackend:
    """The engine in this process. `run_dir` empty: nothing is repaired first (``--explain``)."""

    def __init__(self, engine: Engine, *, run_dir: str = "", commands: list[str] | None = None) -> None:
        self._engine = engine
        self._run_dir = run_dir
        self.commands = commands if commands is not None else []

    def request(self, method: str, path: str, body: object, *, query: Mapping[str, str]) -> bytes:
        """Dispatch here; a change is preceded by what the last reboot left to repair, unless it is that repair."""
        if self._run_dir and method != "GET" and path != "/v1/gc":
            settle(self._engine, self._run_dir)
        payload = encode(body) if body is not None else b""
        return _unwrap(dispatch(self._engine, method, path, query, payload))


class DaemonBackend:
    """The daemon on the other end of a unix socket."""

    def __init__(self, path: str, connected: socket.socket) -> None:
        self._path = path
        self._connected: socket.socket | None = connected
        self.commands: list[str] = []

    def request(self, method: str, path: str, body: object, *, query: Mapping[str, str]) -> bytes:
        """Send one HTTP request; a daemon that goes away or does not answer in time raises Busy."""
        target = f"{path}?{urlencode(query)}" if query else path
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection = _UnixConnection(self._connected or _connect(self._path))
        self._connected = None
        try:
            connection.request(method, target, encode(body) if body is not None else None, headers)
            answer = connection.getresponse()
            return _unwrap(Reply(answer.status, answer.read()))
        except (OSError, http.client.HTTPException) as exc:
            hint = "see its log: journalctl -u dovetail"
            raise Busy(
                f"the daemon at {self._path} did not answer: {exc or type(exc).__name__}", hint=hint
            ) from exc
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, connected: socket.socket) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        connected.settimeout(_ANSWER_S)
        self.sock = connected

    def connect(self) -> None:
        """Do nothing: the socket is connected already."""


def find_daemon(run_dir: str) -> DaemonBackend | None:
    """Connect to the daemon of `run_dir`; None where none listens. Raises PermissionDenied, Busy."""
    path = os.path.join(run_dir, API_SOCKET)
    try:
        return DaemonBackend(path, _connect(path))
    except OSError as exc:
        if exc.errno in _ABSENT:
            return None
        if exc.errno in {errno.EACCES, errno.EPERM}:
            raise PermissionDenied(
                f"no permission to talk to the daemon at {path}", hint="run as root"
            ) from exc
        raise Busy(f"the daemon at {path} does not accept: {exc}") from exc


def _connect(path: str) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(_CONNECT_S)
    try:
        connected.connect(path)
    except BaseException:
        connected.close()
        raise
    return connected


def _unwrap(reply: Reply) -> bytes:
    if reply.status < _FAILED:
        return reply.payload
    try:
        problem = decode(reply.payload, Problem)
    except (DovetailError, msgspec.MsgspecError):
        text = reply.payload.decode(errors="replace").strip()
        raise DovetailError(f"the daemon answered {reply.status}: {text[:200]}") from None
    raise DovetailError(problem.error, where=problem.where.removeprefix("$."), hint=problem.hint)
