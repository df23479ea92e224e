"""IPAM's books: pools, addresses, and the coalesced ranges that make finding a free one O(log n)."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from dovetail.errors import Conflict, NotFound
from dovetail.model.addresses import IPAddress
from dovetail.model.pool import Address, Pool
from dovetail.store.documents import Table, read_often, text, where

__all__ = ["LedgerTable"]

_BYTES = 16  # an IPv6 address
_V4_BYTES = 4
_LAST = 2 ** (8 * _BYTES) - 1
_COLUMNS = "pool_id, address, kind, owner, boot_id, created"


class LedgerTable(Table):
    """The tables ``pools``, ``addresses``, ``taken`` and ``cursors``: `model.ledger.Ledger` for SQLite."""

    def pools(self) -> list[Pool]:
        """Give all pools, oldest first."""
        return [read_often(doc, Pool) for (doc,) in self._db.rows("SELECT doc FROM pools ORDER BY rowid")]

    def pool(self, pool_id: str) -> Pool | None:
        """Give the pool of that id."""
        row = self._db.row("SELECT doc FROM pools WHERE id = ?", pool_id)
        return read_often(row[0], Pool) if row else None

    def put_pool(self, pool: Pool) -> None:
        """Insert, or replace by id: its addresses and cursor stay."""
        self._db.write(
            "INSERT INTO pools (id, owner, doc) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, doc = excluded.doc",
            pool.id,
            pool.owner,
            text(pool),
        )

    def delete_pool(self, pool_id: str) -> None:
        """Delete a pool, its addresses, cursor, leases and taken ranges (by their foreign keys)."""
        self._db.write("DELETE FROM pools WHERE id = ?", pool_id)

    def address(self, pool_id: str, address: IPAddress) -> Address | None:
        """Give the row of an address that is held."""
        row = self._db.row(
            f"SELECT {_COLUMNS} FROM addresses WHERE pool_id = ? AND address = ?",  # noqa: S608 - columns of ours
            pool_id,
            address.packed,
        )
        return _row(*row) if row else None

    def put_address(self, address: Address) -> None:
        """Write an address, replacing its owner where it is held; raises NotFound where there is no such pool."""
        values = (address.kind, address.owner, address.boot_id, address.created)
        key = (address.pool_id, address.address.packed)
        with self._db.joined():
            try:
                inserted = self._db.write(
                    f"INSERT INTO addresses ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",  # noqa: S608
                    *key,
                    *values,
                )
            except Conflict as exc:  # the foreign key
                raise NotFound("pool", address.pool_id) from exc
            if inserted:
                self._take(address.pool_id, int(address.address))
            else:
                self._db.write(
                    "UPDATE addresses SET kind = ?, owner = ?, boot_id = ?, created = ?"
                    " WHERE pool_id = ? AND address = ?",
                    *values,
                    *key,
                )

    def delete_address(self, pool_id: str, address: IPAddress) -> None:
        """Delete an address; one that is not held is no error."""
        with self._db.joined():
            deleted = self._db.write(
                "DELETE FROM addresses WHERE pool_id = ? AND address = ?", pool_id, address.packed
            )
            if deleted:
                self._free(pool_id, int(address))

    def addresses(self, pool_id: str = "", *, owner: str = "") -> list[Address]:
        """Give all addresses, or those of a pool, of an owner, or of both; in numerical order in a pool."""
        condition, values = where(pool_id=pool_id, owner=owner)
        query = f"SELECT {_COLUMNS} FROM addresses WHERE {condition} ORDER BY pool_id, address"  # noqa: S608
        return [_row(*row) for row in self._db.rows(query, *values)]

    def count_addresses(self, pool_id: str) -> int:
        """Count the addresses of a pool that are held."""
        count: int = self._db.row("SELECT count(*) FROM addresses WHERE pool_id = ?", pool_id)[0]
        return count

    def free_from(self, pool_id: str, start: int, last: int) -> int | None:
        """Give the lowest address in ``start..last`` that is not taken, or None; one look-up in an index.

        The range that `start` is in, if any, ends below a free address, as ranges never touch.
        """
        covering = self._before(pool_id, start)
        free = start if covering is None or covering[1] < start else covering[1] + 1
        return free if free <= last else None

    def cursor(self, pool_id: str) -> int | None:
        """Give the address given last, as an integer."""
        row = self._db.row("SELECT value FROM cursors WHERE pool_id = ?", pool_id)
        return int.from_bytes(row[0], "big") if row else None

    def set_cursor(self, pool_id: str, value: int) -> None:
        """Write down the address given last."""
        self._db.write("INSERT OR REPLACE INTO cursors (pool_id, value) VALUES (?, ?)", pool_id, _blob(value))

    def _before(self, pool_id: str, value: int) -> tuple[int, int] | None:
        """Give the taken range with the highest first address that is not above `value`."""
        return next(iter(self._up_to(pool_id, value, 1)), None)

    def _up_to(self, pool_id: str, value: int, limit: int) -> list[tuple[int, int]]:
        """Give the last `limit` taken ranges that begin up to `value`, the highest first."""
        rows = self._db.rows(
            "SELECT first, last FROM taken WHERE pool_id = ? AND first <= ? ORDER BY first DESC LIMIT ?",
            pool_id,
            _blob(value),
            limit,
        )
        return [(int.from_bytes(first, "big"), int.from_bytes(last, "big")) for first, last in rows]

    def _take(self, pool_id: str, value: int) -> None:
        """Add `value` to the taken ranges, joining the neighbours it touches."""
        first = last = value
        for left, right in self._up_to(pool_id, min(value + 1, _LAST), 2):
            if left == value + 1:
                last = right
                self._drop(pool_id, left)
            elif right == value - 1:
                first = left
        self._put_range(pool_id, first, last)

    def _free(self, pool_id: str, value: int) -> None:
        """Take `value` out of the taken range it is in, splitting it where it is inside."""
        covering = self._before(pool_id, value)
        if covering is None or covering[1] < value:
            return
        first, last = covering
        if first < value:
            self._put_range(pool_id, first, value - 1)
        else:
            self._drop(pool_id, first)
        if value < last:
            self._put_range(pool_id, value + 1, last)

    def _put_range(self, pool_id: str, first: int, last: int) -> None:
        self._db.write(
            "INSERT INTO taken (pool_id, first, last) VALUES (?, ?, ?)"
            " ON CONFLICT (pool_id, first) DO UPDATE SET last = excluded.last",
            pool_id,
            _blob(first),
            _blob(last),
        )

    def _drop(self, pool_id: str, first: int) -> None:
        self._db.write("DELETE FROM taken WHERE pool_id = ? AND first = ?", pool_id, _blob(first))


def _blob(value: int) -> bytes:
    return value.to_bytes(_BYTES, "big")


def _row(pool_id: str, packed: bytes, kind: Any, owner: str, boot_id: str, created: float) -> Address:
    address = IPv4Address(packed) if len(packed) == _V4_BYTES else IPv6Address(packed)
    return Address(pool_id=pool_id, address=address, kind=kind, owner=owner, boot_id=boot_id, created=created)
