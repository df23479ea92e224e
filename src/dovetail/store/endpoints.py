"""Endpoints."""

from __future__ import annotations

from dovetail.model.endpoint import Endpoint
from dovetail.store.documents import Table, read, read_often, text, where

__all__ = ["EndpointTable"]


class EndpointTable(Table):
    """The table ``endpoints``."""

    def put_endpoint(self, endpoint: Endpoint) -> None:
        """Insert or replace by id."""
        self._db.write(
            "INSERT INTO endpoints (id, network_id, sandbox_id, name, doc) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET network_id = excluded.network_id,"
            " sandbox_id = excluded.sandbox_id, name = excluded.name, doc = excluded.doc",
            endpoint.id,
            endpoint.network_id,
            endpoint.sandbox_id,
            endpoint.name,
            text(endpoint),
        )

    def note_endpoint(self, endpoint: Endpoint) -> None:
        """Write anew what an endpoint is, but not what it is found by: one page instead of one an index.

        One that is gone stays gone.
        """
        self._db.write("UPDATE endpoints SET doc = ? WHERE id = ?", text(endpoint), endpoint.id)

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Delete an endpoint and its published ports."""
        with self._db.joined():
            self._db.write("DELETE FROM ports WHERE endpoint_id = ?", endpoint_id)
            self._db.write("DELETE FROM endpoints WHERE id = ?", endpoint_id)

    def endpoints(self, *, network_id: str = "", sandbox_id: str = "") -> list[Endpoint]:
        """Give all endpoints, oldest first, or those of a network, a sandbox, or both."""
        condition, values = where(network_id=network_id, sandbox_id=sandbox_id)
        rows = self._db.rows(f"SELECT doc FROM endpoints WHERE {condition} ORDER BY rowid", *values)  # noqa: S608
        return [read(doc, Endpoint) for (doc,) in rows]

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """Give the endpoint of that id."""
        row = self._db.row("SELECT doc FROM endpoints WHERE id = ?", endpoint_id)
        return read_often(row[0], Endpoint) if row else None

    def find_endpoint(self, ref: str) -> Endpoint:
        """Find by id, name or unique prefix of an id; raises NotFound or InvalidArgument."""
        return read_often(self._find("endpoints", "endpoint", ref), Endpoint)
