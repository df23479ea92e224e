"""Leases: which address a container had in a pool that keeps it for it."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address

from dovetail.model.addresses import IPAddress
from dovetail.store.documents import Table

__all__ = ["LeaseTable"]

_V4_BYTES = 4


class LeaseTable(Table):
    """The table ``leases``: one address a key and one key an address, within a pool."""

    def lease(self, pool_id: str, key: str) -> IPAddress | None:
        """Give the address that `key` had."""
        row = self._db.row("SELECT address FROM leases WHERE pool_id = ? AND key = ?", pool_id, key)
        return _address(row[0]) if row else None

    def leases(self, pool_id: str) -> list[tuple[str, IPAddress]]:
        """Give all keys of a pool with their addresses; the one that was asked for longest ago comes first."""
        rows = self._db.rows("SELECT key, address FROM leases WHERE pool_id = ? ORDER BY used, key", pool_id)
        return [(key, _address(packed)) for key, packed in rows]

    def put_lease(self, pool_id: str, key: str, address: IPAddress) -> None:
        """Write that `key` has `address` now; another's lease of it, and its own of another one, end."""
        with self._db.joined():
            self._db.write(
                "DELETE FROM leases WHERE pool_id = ? AND address = ? AND key <> ?",
                pool_id,
                address.packed,
                key,
            )
            self._db.write(
                "INSERT OR REPLACE INTO leases (pool_id, key, address, used) VALUES (?, ?, ?, ?)",
                pool_id,
                key,
                address.packed,
                time.time(),
            )

    def delete_lease(self, pool_id: str, key: str) -> None:
        """Delete a lease; none is no error."""
        self._db.write("DELETE FROM leases WHERE pool_id = ? AND key = ?", pool_id, key)


def _address(packed: bytes) -> IPAddress:
    return IPv4Address(packed) if len(packed) == _V4_BYTES else IPv6Address(packed)
