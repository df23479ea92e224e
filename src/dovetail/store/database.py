"""One SQLite file: its connections, lent to one thread at a time, and its transactions.

Why WAL: readers never wait for a writer, and a commit is one append. Why BEGIN IMMEDIATE: a
transaction that reads first and then writes would otherwise fail with SQLITE_BUSY_SNAPSHOT where
another process wrote between the two (https://www.sqlite.org/isolation.html).
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any

from dovetail.errors import Busy, PermissionDenied, StoreError
from dovetail.store.failure import translated
from dovetail.store.schema import migrate

__all__ = ["MEMORY", "Database"]

MEMORY = ":memory:"
_POLL_FIRST_S = 0.001
_POLL_LAST_S = 0.05
_CACHE_KIB = 1024  # the operating system keeps the file's pages anyway
_IDLE = 4  # sessions kept open between operations
_WAL_BYTES = 4 * 1024 * 1024

_birth = threading.Lock()
_inherited: list[sqlite3.Connection] = []
"""Connections of the parent in a forked child. SQLite forbids to use or to close them there
(https://www.sqlite.org/howtocorrupt.html §2.6), so they are kept from being collected."""


class _Session:
    """A connection with what its transaction has come to. depth: how many ``with`` are open."""

    __slots__ = ("__weakref__", "connection", "depth", "pid", "unsynced")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.pid = os.getpid()
        self.depth = 0
        self.unsynced = False

    def __del__(self) -> None:
        if self.pid == os.getpid():
            self.connection.close()
        else:
            _inherited.append(self.connection)


class _Thread(threading.local):
    """The session in which a thread has a transaction open."""

    session: _Session | None = None


class Database:
    """An open file, or ``:memory:``, which all threads share through one connection."""

    def __init__(self, path: str, *, busy_timeout_s: float) -> None:
        """Open `path`, made with mode 0600 in a directory of mode 0700 where they are missing, and migrate it."""
        self.path = path
        self._timeout_s = busy_timeout_s
        self._closed = False
        self._start()
        if path != MEMORY:
            _give_birth(path)
        session = self._open()
        self._retry(lambda: migrate(session.connection, path))
        self._idle.append(session)

    def _start(self) -> None:
        self._pid = os.getpid()
        self._writer = threading.RLock()
        self._sessions: weakref.WeakSet[_Session] = weakref.WeakSet()
        self._idle: deque[_Session] = deque()
        self._thread = _Thread()

    def rows(self, sql: str, *values: object) -> list[Any]:
        """Read all rows of a query; sees what this thread's transaction has written."""
        session = self._current()
        if session is not None:
            return self._execute(session, sql, values)[0]
        return self._alone(sql, values, locked=self.path == MEMORY)[0]

    def row(self, sql: str, *values: object) -> Any:
        """Read the first row of a query, or None."""
        found = self.rows(sql, *values)
        return found[0] if found else None

    def write(self, sql: str, *values: object) -> int:
        """Run a statement in the open transaction, or in one of its own; gives the number of rows changed."""
        session = self._current()
        if session is not None:
            return self._execute(session, sql, values)[1]
        return self._alone(sql, values, locked=True)[1]  # a statement by itself is a transaction

    def joined(self) -> AbstractContextManager[None]:
        """Run the ``with`` in the thread's open transaction, or in one of its own."""
        return self.transaction() if self._current() is None else nullcontext()

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """Hold the write lock; see `store.protocol.Store.transaction`.

        An exception undoes what its own ``with`` wrote: caught in an outer one, the rest goes on.
        Threads of a process queue on a lock of their own first, as SQLite's waiting is by polling.
        """
        session = self._current()
        return _Transaction(self, durable) if session is None else self._nested(session, durable)

    def begin(self, *, durable: bool) -> None:
        """Open the thread's transaction; `transaction` does, and `end` closes it."""
        self._lock()
        try:
            session = self._take()
        except BaseException:
            self._writer.release()
            raise
        try:
            if durable:  # cannot be changed inside a transaction
                self._execute(session, "PRAGMA synchronous = FULL")
            self._execute(session, "BEGIN IMMEDIATE")
        except BaseException:
            self._leave(session, durable=durable)
            raise
        session.depth = 1
        self._thread.session = session

    def end(self, *, durable: bool, commit: bool) -> None:
        """Commit, or roll back, and let the next one in."""
        session = self._thread.session
        assert session is not None  # noqa: S101 - `begin` came before
        try:
            if commit:
                self._execute(session, "COMMIT")
                if session.unsynced and not durable:
                    self._sync(session)
        finally:
            session.unsynced = False
            self._thread.session = None
            self._leave(session, durable=durable)

    def _sync(self, session: _Session) -> None:
        """Make what is committed survive power loss: a synchronous commit syncs the log up to its own end."""
        session.depth = 0
        self._execute(session, "PRAGMA synchronous = FULL")
        try:
            self._execute(session, "UPDATE meta SET value = value WHERE key = 'id'")
        finally:
            self._execute(session, "PRAGMA synchronous = NORMAL")

    def _leave(self, session: _Session, *, durable: bool) -> None:
        try:
            if not self._closed:
                session.depth = 0
                if session.connection.in_transaction:
                    self._execute(session, "ROLLBACK")
                if durable:
                    self._execute(session, "PRAGMA synchronous = NORMAL")
        finally:
            self._put_back(session)
            self._writer.release()

    @contextmanager
    def _nested(self, session: _Session, durable: bool) -> Iterator[None]:
        session.unsynced |= durable
        self._execute(session, "SAVEPOINT inner")
        session.depth += 1
        try:
            yield
        except BaseException:
            if session.connection.in_transaction:
                self._execute(session, "ROLLBACK TO inner")
                self._execute(session, "RELEASE inner")
            raise
        else:
            self._execute(session, "RELEASE inner")
        finally:
            session.depth -= 1

    def _execute(self, session: _Session, sql: str, values: tuple[Any, ...] = ()) -> tuple[list[Any], int]:
        if session.depth and not session.connection.in_transaction:
            # SQLite rolls back by itself on a full disk; going on would write outside of any transaction
            raise StoreError(f"the transaction on {self.path} was rolled back", hint="see the error before")
        try:
            cursor = session.connection.execute(sql, values)
            return cursor.fetchall(), cursor.rowcount
        except sqlite3.Error:
            if self._closed:
                raise StoreError(f"the store {self.path} is closed") from None
            with translated(self.path, self._timeout_s):
                raise

    def _alone(self, sql: str, values: tuple[Any, ...], *, locked: bool) -> tuple[list[Any], int]:
        """Run a statement outside of any transaction."""
        if locked:
            self._lock()
        try:
            session = self._take()
            try:
                return self._execute(session, sql, values)
            finally:
                self._put_back(session)
        finally:
            if locked:
                self._writer.release()

    def _lock(self) -> None:
        if not self._writer.acquire(timeout=self._timeout_s):
            raise Busy(
                f"the store {self.path} stayed locked by another thread for more than {self._timeout_s:g} s"
            )

    def _current(self) -> _Session | None:
        """Give the session in which this thread has a transaction open."""
        if self._pid != os.getpid():
            self._after_fork()
        return self._thread.session

    def _take(self) -> _Session:
        """Take the session that was used last, whose cache is the warmest, or open one; the caller puts it back."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._open()

    def _put_back(self, session: _Session) -> None:
        """Keep a session for the next; one that could not roll back, and one too many, is closed as it is let go."""
        if self._closed:
            return
        if self.path == MEMORY or (len(self._idle) < _IDLE and not session.connection.in_transaction):
            self._idle.append(session)

    def _after_fork(self) -> None:
        _inherited.extend(session.connection for session in list(self._sessions))
        memory = next(iter(self._sessions)) if self.path == MEMORY else None
        self._start()
        if memory is not None:  # has no file to share with the parent, so the child's copy is its own
            memory.pid, memory.depth = self._pid, 0
            self._idle.append(memory)

    def _open(self) -> _Session:
        if self._closed:
            raise StoreError(f"the store {self.path} is closed")
        with translated(self.path, self._timeout_s):
            # a session goes from thread to thread, and is used by one at a time
            connection = sqlite3.connect(
                self.path, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
            )
        session = _Session(connection)
        self._retry(lambda: self._configure(connection))
        self._sessions.add(session)
        return session

    @staticmethod
    def _configure(connection: sqlite3.Connection) -> None:
        if connection.execute("PRAGMA journal_mode").fetchone()[0] not in {"wal", "memory"}:
            connection.execute("PRAGMA journal_mode = WAL")
        for pragma in (
            "synchronous = NORMAL",
            "foreign_keys = ON",
            f"cache_size = -{_CACHE_KIB}",
            f"journal_size_limit = {_WAL_BYTES}",
        ):
            connection.execute(f"PRAGMA {pragma}")

    def _retry(self, action: Callable[[], object]) -> None:
        """Run `action` until it is not refused as busy.

        Turning a fresh file to WAL, and recovering the log of a killed process, are refused without
        waiting where two processes do it at once.
        """
        deadline = time.monotonic() + self._timeout_s
        wait = _POLL_FIRST_S
        while True:
            try:
                with translated(self.path, self._timeout_s):
                    action()
            except Busy:
                if time.monotonic() >= deadline:
                    raise
            else:
                return
            time.sleep(wait)
            wait = min(wait * 2, _POLL_LAST_S)

    def copy_to(self, other: Database) -> None:
        """Copy the whole content, as committed, over that of `other`."""
        ours, theirs = self._take(), other._take()
        try:
            with translated(self.path, self._timeout_s):
                ours.connection.backup(theirs.connection)
        finally:
            self._put_back(ours)
            other._put_back(theirs)

    def close(self) -> None:
        """Close every connection; using the store afterwards raises StoreError."""
        self._closed = True
        self._lock()
        try:
            for session in list(self._sessions):
                session.connection.close()
        finally:
            self._writer.release()


class _Transaction:
    """The ``with`` of the outermost transaction; a class, as a generator costs more, and every operation has one."""

    __slots__ = ("_database", "_durable")

    def __init__(self, database: Database, durable: bool) -> None:
        self._database = database
        self._durable = durable

    def __enter__(self) -> None:
        self._database.begin(durable=self._durable)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._database.end(durable=self._durable, commit=exc is None)


def _give_birth(path: str) -> None:
    """Make the file with its mode from the first moment; SQLite gives its log and index the same.

    Closing a descriptor drops every POSIX lock that this process has on the file
    (https://www.sqlite.org/howtocorrupt.html §2.2), so an existing file is never opened here.
    """
    directory = os.path.dirname(os.path.abspath(path))
    try:
        with _birth:
            os.makedirs(directory, mode=0o700, exist_ok=True)
            if not os.path.exists(path):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if not os.path.isdir(directory):
            raise StoreError(f"{directory} is not a directory", hint="give another --state-dir") from None
    except PermissionError as exc:
        raise PermissionDenied(
            f"no permission to make {path}", hint="run as root, or give --state-dir"
        ) from exc
    except OSError as exc:
        raise StoreError(f"{path} cannot be made: {exc.strerror}", hint="see its file system") from exc
