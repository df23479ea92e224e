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
from collections.abc import Iterator
from contextlib import contextmanager

from dovetail.errors import Busy

__all__ = ["Locks"]

_FLOCK = "hhqqi4x"  # struct flock, include/uapi/asm-generic/fcntl.h: l_type l_whence l_start l_len l_pid
_POLL_FIRST_S = 0.001
_POLL_LAST_S = 0.02


class Locks:
    """Named locks in one file, made when it is first needed."""

    def __init__(self, path: str) -> None:
        self._path = path

    @contextmanager
    def hold(
        self, identifier: str, *, within: str = "", timeout_s: float = 20.0, what: str = ""
    ) -> Iterator[None]:
        """Hold the lock of `identifier` (hexadecimal digits) for the ``with``; that of `within` first, shared.

        Not re-entrant. Raises Busy after `timeout_s`, naming `what`.
        """
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if within:
                self._acquire(fd, within, shared=True, timeout_s=timeout_s, what=f"network {within[:12]}")
            self._acquire(fd, identifier, shared=False, timeout_s=timeout_s, what=what)
            yield
        finally:
            os.close(fd)

    @contextmanager
    def try_hold(self, identifier: str, *, shared: bool = False) -> Iterator[bool]:
        """Hold the lock if it is free now (`shared`: if all who hold it share it); yields whether it is."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield self._try(fd, identifier, shared=shared)
        finally:
            os.close(fd)

    def _acquire(self, fd: int, identifier: str, *, shared: bool, timeout_s: float, what: str) -> None:
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
        request = struct.pack(_FLOCK, kind, os.SEEK_SET, int(identifier[:15], 16), 1, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
        except OSError as exc:
            if exc.errno in {errno.EAGAIN, errno.EACCES}:
                return False
            raise
        return True
