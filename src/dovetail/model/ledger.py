"""The ledger: where an address driver keeps its books. Every store has one."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from dovetail.model.addresses import IPAddress
from dovetail.model.pool import Address, Pool

__all__ = ["Ledger"]


class Ledger(Protocol):
    """Where `ipam/local.py` writes; the SQLite store implements it. Call inside a `transaction`."""

    @property
    def id(self) -> str:
        """What tells this ledger from every other one; drawn when it was made."""
        ...

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """Hold the write lock; nests (the outermost commits); an exception rolls all of it back."""
        ...

    def joined(self) -> AbstractContextManager[None]:
        """Be part of the transaction that is open, or hold one of its own; a failure is the whole transaction's."""
        ...

    def pools(self) -> list[Pool]: ...
    def pool(self, pool_id: str) -> Pool | None: ...
    def put_pool(self, pool: Pool) -> None: ...
    def delete_pool(self, pool_id: str) -> None:
        """Delete a pool, its addresses, cursor, leases and taken ranges."""
        ...

    def address(self, pool_id: str, address: IPAddress) -> Address | None: ...
    def put_address(self, address: Address) -> None:
        """Write an address; (pool, address) is unique, so a second insert replaces the owner."""
        ...

    def delete_address(self, pool_id: str, address: IPAddress) -> None: ...
    def addresses(self, pool_id: str = "", *, owner: str = "") -> list[Address]: ...
    def count_addresses(self, pool_id: str) -> int: ...

    def free_from(self, pool_id: str, start: int, last: int) -> int | None:
        """Give the lowest address (as an integer) in ``start..last`` that is not taken, in O(log n); None if all are."""
        ...

    def lease(self, pool_id: str, key: str) -> IPAddress | None:
        """Give the address that `key` had."""
        ...

    def leases(self, pool_id: str) -> list[tuple[str, IPAddress]]:
        """Give keys and addresses; the one that was asked for longest ago comes first."""
        ...

    def put_lease(self, pool_id: str, key: str, address: IPAddress) -> None:
        """Write that `key` has `address` now; another's lease of it, and its own of another one, end."""
        ...

    def delete_lease(self, pool_id: str, key: str) -> None: ...

    def cursor(self, pool_id: str) -> int | None:
        """Give the address given last, as an integer."""
        ...

    def set_cursor(self, pool_id: str, value: int) -> None: ...
