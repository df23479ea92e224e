"""The store on one host: an SQLite file that every process opens for itself."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property

from dovetail.store.database import MEMORY, Database
from dovetail.store.endpoints import EndpointTable
from dovetail.store.leases import LeaseTable
from dovetail.store.ledger import LedgerTable
from dovetail.store.networks import BindingTable, NetworkTable
from dovetail.store.parts import PartTable
from dovetail.store.ports import PortTable
from dovetail.store.sandboxes import SandboxTable

__all__ = ["SqliteStore"]


class SqliteStore(
    NetworkTable, EndpointTable, SandboxTable, BindingTable, PartTable, PortTable, LeaseTable, LedgerTable
):
    """`store.protocol.Store` in SQLite; safe under threads, processes and forks.

    A value that is read is shared with other readers and never changed: make a new one and put it.
    """

    def __init__(self, path: str, *, busy_timeout_s: float = 10.0) -> None:
        """Open `path` (``:memory:`` for one that dies with the object), making and migrating it as needed.

        A new file has mode 0600, a new directory 0700. Raises PermissionDenied, Busy where other processes
        keep it locked for `busy_timeout_s`, and StoreError where it is damaged, newer or another program's.
        """
        super().__init__(Database(path, busy_timeout_s=busy_timeout_s))

    @cached_property
    def id(self) -> str:
        """Eight hexadecimal digits drawn when the store was made."""
        return str(self._db.row("SELECT value FROM meta WHERE key = 'id'")[0])

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """Hold the write lock; see `store.protocol.Store.transaction`.

        An exception rolls back what its own ``with`` wrote: one that an outer ``with`` catches leaves
        what the outer one wrote. `durable` on an inner one syncs when the outermost commits.
        """
        return self._db.transaction(durable=durable)

    def joined(self) -> AbstractContextManager[None]:
        """Be part of the open transaction, or hold one; see `model.ledger.Ledger.joined`."""
        return self._db.joined()

    def copy_to_memory(self) -> SqliteStore:
        """Give an independent store in memory with the same content and id; nothing it does reaches the file."""
        copy = SqliteStore(MEMORY)
        self._db.copy_to(copy._db)
        return copy

    def close(self) -> None:
        """Close the connections of all threads."""
        self._db.close()
