"""SQLite's errors as dovetail's, by result code (sqlite3.h, "Result Codes")."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from dovetail.errors import Busy, Conflict, DovetailError, StoreError

__all__ = ["translated"]

_PRIMARY = 0xFF  # an extended result code keeps its primary one in the low byte
_WAITING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}
_SENTENCES = {
    sqlite3.SQLITE_FULL: ("there is no space left to write {path}", "free some space on its file system"),
    sqlite3.SQLITE_CORRUPT: (
        "{path} is damaged",
        "move it away and restart: networks have to be made again, running containers keep their interfaces",
    ),
    sqlite3.SQLITE_NOTADB: ("{path} is not a dovetail database", "move it away, or give another --state-dir"),
    sqlite3.SQLITE_READONLY: ("{path} cannot be written", "run as root, or give another --state-dir"),
    sqlite3.SQLITE_PERM: ("{path} cannot be written", "run as root, or give another --state-dir"),
    sqlite3.SQLITE_AUTH: ("{path} cannot be written", "run as root, or give another --state-dir"),
    sqlite3.SQLITE_CANTOPEN: ("{path} cannot be opened", "see that its directory exists and can be written"),
    sqlite3.SQLITE_IOERR: (
        "{path} cannot be read or written ({name})",
        "see the free space of its file system and the kernel's log",
    ),
}


@contextmanager
def translated(path: str, timeout_s: float) -> Iterator[None]:
    """Raise what SQLite raises in the ``with`` as Busy, Conflict or StoreError with one sentence."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _meaning(exc, path, timeout_s) from exc


def _meaning(exc: sqlite3.Error, path: str, timeout_s: float) -> DovetailError:
    code = getattr(exc, "sqlite_errorcode", 0) & _PRIMARY  # an error of the sqlite3 module itself has none
    if code in _WAITING:
        return Busy(
            f"the store {path} stayed locked by another process for more than {timeout_s:g} s",
            hint="try again; if it lasts, see who has the file open",
        )
    if code == sqlite3.SQLITE_CONSTRAINT:
        return Conflict(f"the store {path} refuses it: {exc}")
    sentence, hint = _SENTENCES.get(code, ("{path}: {text}", ""))
    name = getattr(exc, "sqlite_errorname", type(exc).__name__)
    return StoreError(sentence.format(path=path, name=name, text=exc), hint=hint)
