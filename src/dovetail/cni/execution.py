"""Executing somebody else's plugin: it is given so long and may print so much, and takes what it started with it."""

from __future__ import annotations

import errno
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import NamedTuple

from dovetail.cni.errors import IO_FAILURE, TRY_AGAIN, CniError

__all__ = ["MOST_BYTES", "Ended", "execute"]

MOST_BYTES = 4 << 20
"""What it may print on each of its streams; a result of a thousand addresses is a fortieth of it."""
_CHUNK = 1 << 16


class Ended(NamedTuple):
    """How it ended: its status, negative for a signal, and what it printed."""

    status: int
    stdout: bytes
    stderr: bytes


def execute(path: str, environ: Mapping[str, str], stdin: bytes, *, timeout_s: float) -> Ended:
    """Run the program at `path` until it ends, in a process group of its own.

    What it leaves running may keep its streams open: nobody waits for that. Raises CniError: of code 5 where it cannot
    be executed or prints more than `MOST_BYTES`, of code 11 where it is being written just now, or has not ended after
    `timeout_s`. In the last two cases its group is killed.
    """
    try:
        process = subprocess.Popen(
            [path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(environ),
            start_new_session=True,
        )
    except OSError as exc:
        code = TRY_AGAIN if exc.errno == errno.ETXTBSY else IO_FAILURE
        raise CniError(code, f"plugin {path} cannot be executed: {exc.strerror}") from exc
    except ValueError as exc:  # a NUL in the environment
        raise CniError(IO_FAILURE, f"plugin {path} cannot be executed: {exc}") from exc
    with _Conversation(process, stdin) as conversation:
        why = conversation.hold(time.monotonic() + timeout_s)
        if not why:
            return Ended(process.returncode, bytes(conversation.stdout), bytes(conversation.stderr))
    if why == _TOO_MUCH:
        raise CniError(IO_FAILURE, f"plugin {path} printed more than {MOST_BYTES} bytes")
    raise CniError(TRY_AGAIN, f"plugin {path} did not end within {timeout_s:g} s")


_TOO_LONG, _TOO_MUCH = "too long", "too much"


class _Conversation:
    """What goes into a process and comes out of it."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        self._process = process
        self._left = memoryview(stdin)
        self.stdout, self.stderr = bytearray(), bytearray()
        self._open = ExitStack()
        self._selector = self._open.enter_context(selectors.DefaultSelector())

    def __enter__(self) -> _Conversation:
        process, selector = self._process, self._selector
        for stream, events, into in (
            (process.stdin, selectors.EVENT_WRITE, None),
            (process.stdout, selectors.EVENT_READ, self.stdout),
            (process.stderr, selectors.EVENT_READ, self.stderr),
        ):
            if stream is not None:  # it is a pipe, as each was asked for
                self._open.callback(stream.close)
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, events, into)
        pidfd = os.pidfd_open(process.pid)
        self._open.callback(os.close, pidfd)
        selector.register(pidfd, selectors.EVENT_READ, "ended")
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.returncode is None:
            os.killpg(
                self._process.pid, signal.SIGKILL
            )  # it is not reaped yet, so the number is still its own
            self._process.wait()
        self._open.close()

    def hold(self, deadline: float) -> str:
        """Feed it and listen until it ends; gives why not, or an empty text."""
        while True:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return _TOO_LONG
            for key, _ in ready:
                if key.data is None:
                    self._write(key)
                elif isinstance(key.data, bytearray):
                    self._read(key)
            if max(len(self.stdout), len(self.stderr)) > MOST_BYTES:
                return _TOO_MUCH
            if any(key.data == "ended" for key, _ in ready):
                self._read_what_is_left()
                self._process.wait()
                return ""
            if time.monotonic() > deadline:
                return _TOO_LONG

    def _write(self, key: selectors.SelectorKey) -> None:
        try:
            self._left = self._left[os.write(key.fd, self._left[:_CHUNK]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # it does not want to know
            self._left = self._left[:0]
        if not self._left:
            self._selector.unregister(key.fileobj)
            if self._process.stdin is not None:
                self._process.stdin.close()

    def _read(self, key: selectors.SelectorKey) -> bytes:
        try:
            data = os.read(key.fd, _CHUNK)
        except BlockingIOError:
            return b""
        key.data.extend(data)
        if not data:
            self._selector.unregister(key.fileobj)
        return data

    def _read_what_is_left(self) -> None:
        for key in list(self._selector.get_map().values()):
            while isinstance(key.data, bytearray) and len(key.data) <= MOST_BYTES and self._read(key):
                pass
