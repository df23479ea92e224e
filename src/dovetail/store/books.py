"""The ledger's tables: pools, addresses, and the taken ranges that make the next free address O(log n).

`taken` holds the addresses of a pool as maximal ranges that never touch: giving one out extends or
joins at most two of them, taking one back splits at most one. The next free address at or after X is
X itself, or the end of the range around X plus one.
"""

from __future__ import annotations

from typing import TypeVar

from dovetail.model.addresses import IPAddress
from dovetail.model.codec import decode, encode
from dovetail.model.pool import Address, Pool
from dovetail.store.database import Database

__all__ = ["Books"]

T = TypeVar("T")


def _blob(value: int) -> bytes:
    return value.to_bytes(16, "big")


def _number(value: object) -> int:
    return int.from_bytes(value, "big") if isinstance(value, bytes) else 0


def documents(rows: list[tuple[object, ...]], kind: type[T]) -> list[T]:
    """Read the first column of each row as `kind`."""
    return [decode(str(row[0]), kind) for row in rows]


class Books:
    """`model.ledger.Ledger` on SQLite."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def pools(self) -> list[Pool]:
        """Give all pools."""
        return documents(self._db.rows("SELECT doc FROM pool"), Pool)

    def pool(self, pool_id: str) -> Pool | None:
        """Find a pool."""
        row = self._db.row("SELECT doc FROM pool WHERE id=?", (pool_id,))
        return decode(str(row[0]), Pool) if row else None

    def put_pool(self, pool: Pool) -> None:
        """Insert or replace a pool; its cursor stays."""
        self._db.write(
            "INSERT INTO pool (id, doc) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET doc=excluded.doc",
            (pool.id, encode(pool).decode()),
        )

    def delete_pool(self, pool_id: str) -> None:
        """Delete a pool, its addresses, cursor and taken ranges."""
        with self._db.transaction():
            self._db.write("DELETE FROM pool WHERE id=?", (pool_id,))
            self._db.write("DELETE FROM address WHERE pool_id=?", (pool_id,))
            self._db.write("DELETE FROM taken WHERE pool_id=?", (pool_id,))

    def address(self, pool_id: str, address: IPAddress) -> Address | None:
        """Find an address that is given out."""
        row = self._db.row("SELECT doc FROM address WHERE pool_id=? AND ip=?", (pool_id, _blob(int(address))))
        return decode(str(row[0]), Address) if row else None

    def put_address(self, address: Address) -> None:
        """Write an address; (pool, address) is unique, so a second insert replaces the owner."""
        value = int(address.address)
        with self._db.transaction():
            known = self._db.row(
                "SELECT 1 FROM address WHERE pool_id=? AND ip=?", (address.pool_id, _blob(value))
            )
            self._db.write(
                "INSERT OR REPLACE INTO address VALUES (?, ?, ?, ?)",
                (address.pool_id, _blob(value), address.owner, encode(address).decode()),
            )
            if known is None:
                self._take(address.pool_id, value)

    def delete_address(self, pool_id: str, address: IPAddress) -> None:
        """Delete an address; one that is free is no error."""
        value = int(address)
        with self._db.transaction():
            known = self._db.row("SELECT 1 FROM address WHERE pool_id=? AND ip=?", (pool_id, _blob(value)))
            if known is not None:
                self._db.write("DELETE FROM address WHERE pool_id=? AND ip=?", (pool_id, _blob(value)))
                self._free(pool_id, value)

    def addresses(self, pool_id: str = "", *, owner: str = "") -> list[Address]:
        """Give all addresses, or those of one pool or owner."""
        sql = "SELECT doc FROM address WHERE (?='' OR pool_id=?) AND (?='' OR owner=?)"
        if owner and not pool_id:
            return documents(self._db.rows("SELECT doc FROM address WHERE owner=?", (owner,)), Address)
        return documents(self._db.rows(sql, (pool_id, pool_id, owner, owner)), Address)

    def count_addresses(self, pool_id: str) -> int:
        """Count the addresses of a pool."""
        row = self._db.row("SELECT COUNT(*) FROM address WHERE pool_id=?", (pool_id,))
        return int(str(row[0])) if row else 0

    def free_from(self, pool_id: str, start: int, last: int) -> int | None:
        """Give the lowest free address (as an integer) in ``start..last``; None if all are taken."""
        around = self._around(pool_id, start)
        candidate = around[1] + 1 if around and around[1] >= start else start
        return candidate if candidate <= last else None

    def cursor(self, pool_id: str) -> int | None:
        """Give the address given last."""
        row = self._db.row("SELECT cursor FROM pool WHERE id=?", (pool_id,))
        return _number(row[0]) if row and row[0] is not None else None

    def set_cursor(self, pool_id: str, value: int) -> None:
        """Note the address given last."""
        self._db.write("UPDATE pool SET cursor=? WHERE id=?", (_blob(value), pool_id))

    def _around(self, pool_id: str, value: int) -> tuple[int, int] | None:
        row = self._db.row(
            "SELECT first, last FROM taken WHERE pool_id=? AND first<=? ORDER BY first DESC LIMIT 1",
            (pool_id, _blob(value)),
        )
        return (_number(row[0]), _number(row[1])) if row else None

    def _take(self, pool_id: str, value: int) -> None:
        first = last = value
        before = self._around(pool_id, value)
        if before and before[1] == value - 1:
            first = before[0]
        after = self._db.row(
            "SELECT last FROM taken WHERE pool_id=? AND first=?", (pool_id, _blob(value + 1))
        )
        if after:
            last = _number(after[0])
            self._db.write("DELETE FROM taken WHERE pool_id=? AND first=?", (pool_id, _blob(value + 1)))
        self._db.write("INSERT OR REPLACE INTO taken VALUES (?, ?, ?)", (pool_id, _blob(first), _blob(last)))

    def _free(self, pool_id: str, value: int) -> None:
        around = self._around(pool_id, value)
        if around is None or around[1] < value:
            return
        first, last = around
        self._db.write("DELETE FROM taken WHERE pool_id=? AND first=?", (pool_id, _blob(first)))
        for part in ((first, value - 1), (value + 1, last)):
            if part[0] <= part[1]:
                self._db.write(
                    "INSERT INTO taken VALUES (?, ?, ?)", (pool_id, _blob(part[0]), _blob(part[1]))
                )
