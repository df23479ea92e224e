"""Locks that hold between threads and between processes, and that a killed holder lets go.

All of them are byte ranges of one file, as open-file-description locks (F_OFD_SETLK,
include/uapi/asm-generic/fcntl.h, Linux 3.15): the kernel drops them when the description closes,
so ``kill -9`` never leaves one behind, and no lock file has to be cleaned up. The range of an
object is one byte whose offset is read off its id; two objects sharing a byte only wait for each other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from dovetail.errors import Busy

__all__ = ["Locks"]

_FLOCK = "hhqqi4x"  # struct flock, include/uapi/asm-generic/fcntl.h: l_type l_whence l_start l_len l_pid
_ALL_FREE = struct.pack(_FLOCK, fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)  # length 0: to the end
_IDLE = 4  # open descriptions kept between operations
_POLL_FIRST_S = 0.001
_POLL_LAST_S = 0.02


class Locks:
    """Named locks in one file, made when it is first needed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._idle: deque[tuple[int, int]] = deque()

    def __del__(self) -> None:
        while self._idle:
            pid, fd = self._idle.pop()
            if pid == os.getpid():
                os.close(fd)

    def hold(
        self, identifier: str, *, within: str = "", timeout_s: float = 20.0, what: str = ""
    ) -> AbstractContextManager[None]:
        """Hold the lock of `identifier` (hexadecimal digits) for the ``with``; that of `within` first, shared.

        Not re-entrant. Raises Busy after `timeout_s`, naming `what`.
        """
        return _Held(self, identifier, within, timeout_s, what)

    @contextmanager
    def try_hold(self, identifier: str, *, shared: bool = False) -> Iterator[bool]:
        """Hold the lock if it is free now (`shared`: if all who hold it share it); yields whether it is."""
        fd = self.take()
        try:
            yield self._try(fd, identifier, shared=shared)
        finally:
            self.give_back(fd)

    def is_shared(self, identifier: str) -> bool:
        """Say whether somebody holds the lock and would share it."""
        fd = self.take()
        try:
            answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _request(fcntl.F_WRLCK, identifier))
        finally:
            self.give_back(fd)
        return bool(struct.unpack(_FLOCK, answer)[0] == fcntl.F_RDLCK)

    def take(self) -> int:
        """Take an open description of the file that holds no lock; `give_back` lets go what it has come to hold."""
        while self._idle:
            try:
                pid, fd = self._idle.pop()
            except IndexError:
                break
            if pid == os.getpid():
                return fd
            os.close(fd)  # a fork shares the parent's descriptions, and so the parent's locks
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def give_back(self, fd: int) -> None:
        """Drop all locks of a description, and keep it for the next."""
        if len(self._idle) < _IDLE:
            try:
                fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _ALL_FREE)
            except OSError:
                os.close(fd)
                raise
            self._idle.append((os.getpid(), fd))
        else:
            os.close(fd)

    def acquire(self, fd: int, identifier: str, *, shared: bool, timeout_s: float, what: str) -> None:
        """Get a lock on an open description."""
        if not self._try(fd, identifier, shared=shared):
            self._wait(fd, identifier, shared=shared, timeout_s=timeout_s, what=what)

    def _wait(self, fd: int, identifier: str, *, shared: bool, timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        wait = _POLL_FIRST_S
        while not self._try(fd, identifier, shared=shared):
            if time.monotonic() >= deadline:
                raise Busy(
                    f"{what or 'it'} is being changed by another operation for more than {timeout_s:g} s"
                )
            time.sleep(wait)
            wait = min(wait * 2, _POLL_LAST_S)

    @staticmethod
    def _try(fd: int, identifier: str, *, shared: bool) -> bool:
        kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _request(kind, identifier))
        except OSError as exc:
            if exc.errno in {errno.EAGAIN, errno.EACCES}:
                return False
            raise
        return True


def _request(kind: int, identifier: str) -> bytes:
    return struct.pack(_FLOCK, kind, os.SEEK_SET, int(identifier[:15], 16), 1, 0)


class _Held:
    """The ``with`` of `Locks.hold`."""

    __slots__ = ("_fd", "_identifier", "_locks", "_timeout_s", "_what", "_within")

    def __init__(self, locks: Locks, identifier: str, within: str, timeout_s: float, what: str) -> None:
        self._locks = locks
        self._identifier = identifier
        self._within = within
        self._timeout_s = timeout_s
        self._what = what

    def __enter__(self) -> None:
        locks, timeout_s = self._locks, self._timeout_s
        self._fd = locks.take()
        try:
            if self._within:
                network = f"network {self._within[:12]}"
                locks.acquire(self._fd, self._within, shared=True, timeout_s=timeout_s, what=network)
            locks.acquire(self._fd, self._identifier, shared=False, timeout_s=timeout_s, what=self._what)
        except BaseException:
            locks.give_back(self._fd)
            raise

    def __exit__(self, *exc: object) -> None:
        self._locks.give_back(self._fd)
