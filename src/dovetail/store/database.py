"""One SQLite file under several processes and threads: connections, transactions, errors.

WAL with one connection a thread and process; writers take the lock at once (BEGIN IMMEDIATE), so a
transaction never fails half-way for want of it. ``synchronous=NORMAL`` (what a power cut may undo
dies with the reboot anyway), FULL for transactions that say ``durable``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from dovetail.errors import Busy, DovetailError, StoreError
from dovetail.store.schema import MIGRATIONS, VERSION

__all__ = ["Database"]


class Database:
    """Connections to one file (or, for ``--explain``, to one database in memory)."""

    def __init__(self, path: str, *, busy_timeout_s: float = 10.0) -> None:
        """Open `path`, making (0600) or migrating it as needed."""
        self.path = path
        self._busy_timeout_s = busy_timeout_s
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        self._guard = threading.RLock()
        self._memory: sqlite3.Connection | None = None
        if path == ":memory:":
            self._memory = self._connect()
        else:
            with self._named():
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._migrate()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Hold the write lock; nests on a thread, the outermost commits, an exception rolls all of it back."""
        depth = getattr(self._local, "depth", 0)
        if depth:
            self._local.depth = depth + 1
            try:
                yield
            finally:
                self._local.depth -= 1
            return
        if self._memory is not None:
            self._guard.acquire()
        try:
            yield from self._outermost(durable=durable)
        finally:
            if self._memory is not None:
                self._guard.release()

    def _outermost(self, *, durable: bool) -> Iterator[None]:
        connection = self._connection()
        with self._named():
            if durable:
                connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
        self._local.depth = 1
        try:
            yield
            with self._named():
                connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        finally:
            self._local.depth = 0
            if durable:
                connection.execute("PRAGMA synchronous=NORMAL")

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Read all rows of a query."""
        with self._named():
            return self._connection().execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> tuple[object, ...] | None:
        """Read the first row of a query."""
        with self._named():
            found: tuple[object, ...] | None = self._connection().execute(sql, parameters).fetchone()
            return found

    def write(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Change rows; sqlite3.IntegrityError passes through, for the caller knows what it means."""
        with self.transaction(), self._named():
            self._connection().execute(sql, parameters)

    def close(self) -> None:
        """Close every connection of this process."""
        with self._guard:
            for connection in self._open:
                connection.close()
            self._open.clear()
        self._local = threading.local()

    def copy_into(self, other: Database) -> None:
        """Copy the whole content into `other`."""
        with self._named():
            self._connection().backup(other._connection())

    def _connection(self) -> sqlite3.Connection:
        if self._memory is not None:
            return self._memory
        held: tuple[int, sqlite3.Connection] | None = getattr(self._local, "held", None)
        if held is None or held[0] != os.getpid():  # a connection must not cross a fork
            held = self._local.held = (os.getpid(), self._connect())
        return held[1]

    def _connect(self) -> sqlite3.Connection:
        with self._named():
            connection = sqlite3.connect(
                self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
            )
            connection.execute("PRAGMA synchronous=NORMAL")
            with self._guard:
                self._open.append(connection)
            return connection

    def _migrate(self) -> None:
        with self._named():
            connection = self._connection()
            if self._version(connection) == VERSION:
                return
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("BEGIN IMMEDIATE")
            try:
                version = self._version(connection)  # another process may have been quicker
                if version > VERSION:
                    raise StoreError(
                        f"{self.path} was written by a newer dovetail (schema {version}, this one knows {VERSION})",
                        hint="upgrade dovetail, or use another --state-dir",
                    )
                for number in range(version, VERSION):
                    for statement in MIGRATIONS[number].split(";"):
                        connection.execute(statement)
                    connection.execute(f"PRAGMA user_version={number + 1}")
                connection.execute("INSERT OR IGNORE INTO meta VALUES ('id', ?)", (os.urandom(4).hex(),))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @staticmethod
    def _version(connection: sqlite3.Connection) -> int:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Give sqlite3's and the file system's errors their meaning."""
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as exc:
            raise self._meaning(exc) from exc
        except OSError as exc:
            raise StoreError(f"the store {self.path} cannot be opened: {exc.strerror}") from exc

    def _meaning(self, exc: sqlite3.Error) -> DovetailError:
        text = str(exc)
        if "locked" in text or "busy" in text:
            return Busy(
                f"the store {self.path} stayed locked for {self._busy_timeout_s:g} s", hint="try again"
            )
        if "full" in text:
            return StoreError(f"no space is left for the store {self.path}", hint="free some disk space")
        return StoreError(f"the store {self.path} cannot be used: {text}", hint="dovetail doctor says more")
