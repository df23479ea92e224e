"""The store on SQLite: networks, endpoints, sandboxes, bindings, published ports, and the ledger."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager
from typing import TypeVar

from dovetail.errors import AlreadyExists, InvalidArgument, NotFound, PortInUse
from dovetail.model.codec import decode, encode
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import short
from dovetail.model.network import Face, Network
from dovetail.model.port import PortMapping
from dovetail.model.sandbox import Sandbox
from dovetail.store.books import Books, documents
from dovetail.store.database import Database
from dovetail.store.protocol import Binding

__all__ = ["SqliteStore"]

T = TypeVar("T")


class SqliteStore(Books):
    """`store.protocol.Store` in one file, mode 0600."""

    def __init__(self, path: str, *, busy_timeout_s: float = 10.0) -> None:
        """Open the file, making or migrating it as needed. Raises StoreError, Busy."""
        super().__init__(Database(path, busy_timeout_s=busy_timeout_s))
        row = self._db.row("SELECT value FROM meta WHERE key='id'")
        self._id = str(row[0]) if row else ""

    @property
    def id(self) -> str:
        """Eight hexadecimal digits drawn when the store was made."""
        return self._id

    def close(self) -> None:
        """Close every connection of this process."""
        self._db.close()

    def copy_to_memory(self) -> SqliteStore:
        """Give an independent store in memory with the same content (for ``--explain``)."""
        copy = SqliteStore(":memory:")
        self._db.copy_into(copy._db)
        copy._id = self._id
        return copy

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """Hold the write lock (BEGIN IMMEDIATE); nests; durable survives power loss."""
        return self._db.transaction(durable=durable)

    # -- networks ---------------------------------------------------------------------------------

    def put_network(self, network: Network) -> None:
        """Insert or replace by id; a second network of the same name raises AlreadyExists."""
        try:
            self._db.write(
                "INSERT INTO network VALUES (?, ?, ?) ON CONFLICT (id) DO UPDATE SET name=excluded.name, doc=excluded.doc",
                (network.id, network.name, encode(network).decode()),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("network", network.name) from exc

    def delete_network(self, network_id: str) -> None:
        """Delete a network's row."""
        self._db.write("DELETE FROM network WHERE id=?", (network_id,))

    def networks(self) -> list[Network]:
        """Give all networks."""
        return documents(self._db.rows("SELECT doc FROM network"), Network)

    def network(self, network_id: str) -> Network | None:
        """Find a network by id."""
        return self._one("SELECT doc FROM network WHERE id=?", network_id, Network)

    def find_network(self, ref: str) -> Network:
        """Find a network by id, name or unique prefix."""
        return self._find("network", ref, Network)

    # -- endpoints --------------------------------------------------------------------------------

    def put_endpoint(self, endpoint: Endpoint) -> None:
        """Insert or replace by id."""
        self._db.write(
            "INSERT OR REPLACE INTO endpoint VALUES (?, ?, ?, ?, ?)",
            (endpoint.id, endpoint.network_id, endpoint.sandbox_id, endpoint.name, encode(endpoint).decode()),
        )

    def delete_endpoint(self, endpoint_id: str) -> None:
        """Delete an endpoint and its published ports."""
        with self.transaction():
            self.release_ports(endpoint_id)
            self._db.write("DELETE FROM endpoint WHERE id=?", (endpoint_id,))

    def endpoints(self, *, network_id: str = "", sandbox_id: str = "") -> list[Endpoint]:
        """Give all endpoints, or those of one network or sandbox."""
        if network_id:
            found = documents(
                self._db.rows("SELECT doc FROM endpoint WHERE network_id=?", (network_id,)), Endpoint
            )
            return [endpoint for endpoint in found if not sandbox_id or endpoint.sandbox_id == sandbox_id]
        if sandbox_id:
            return documents(
                self._db.rows("SELECT doc FROM endpoint WHERE sandbox_id=?", (sandbox_id,)), Endpoint
            )
        return documents(self._db.rows("SELECT doc FROM endpoint"), Endpoint)

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """Find an endpoint by id."""
        return self._one("SELECT doc FROM endpoint WHERE id=?", endpoint_id, Endpoint)

    def find_endpoint(self, ref: str) -> Endpoint:
        """Find an endpoint by id, name or unique prefix."""
        return self._find("endpoint", ref, Endpoint)

    # -- sandboxes --------------------------------------------------------------------------------

    def put_sandbox(self, sandbox: Sandbox) -> None:
        """Insert or replace by id; another sandbox of face ``cli`` with the same name raises AlreadyExists."""
        try:
            self._db.write(
                "INSERT INTO sandbox VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE"
                " SET name=excluded.name, face=excluded.face, doc=excluded.doc",
                (sandbox.id, sandbox.name, sandbox.face, encode(sandbox).decode()),
            )
        except sqlite3.IntegrityError as exc:
            raise AlreadyExists("sandbox", sandbox.name) from exc

    def delete_sandbox(self, sandbox_id: str) -> None:
        """Delete a sandbox's row."""
        self._db.write("DELETE FROM sandbox WHERE id=?", (sandbox_id,))

    def sandboxes(self) -> list[Sandbox]:
        """Give all sandboxes."""
        return documents(self._db.rows("SELECT doc FROM sandbox"), Sandbox)

    def sandbox(self, sandbox_id: str) -> Sandbox | None:
        """Find a sandbox by id."""
        return self._one("SELECT doc FROM sandbox WHERE id=?", sandbox_id, Sandbox)

    def find_sandbox(self, ref: str) -> Sandbox:
        """Find a sandbox by id, name or unique prefix."""
        return self._find("sandbox", ref, Sandbox)

    # -- bindings ---------------------------------------------------------------------------------

    def put_binding(self, binding: Binding) -> None:
        """Insert or replace by face and external id."""
        self._db.write(
            "INSERT OR REPLACE INTO binding VALUES (?, ?, ?, ?)",
            (binding.face, binding.external_id, binding.network_id, int(binding.made)),
        )

    def binding(self, face: Face, external_id: str) -> Binding | None:
        """Find a binding."""
        row = self._db.row(
            "SELECT network_id, made FROM binding WHERE face=? AND external_id=?", (face, external_id)
        )
        return Binding(face, external_id, str(row[0]), bool(row[1])) if row else None

    def bindings(self, *, network_id: str = "") -> list[Binding]:
        """Give all bindings, or those of one network."""
        rows = self._db.rows(
            "SELECT face, external_id, network_id, made FROM binding WHERE ?='' OR network_id=?",
            (network_id, network_id),
        )
        return [Binding(_face(row[0]), str(row[1]), str(row[2]), bool(row[3])) for row in rows]

    def delete_binding(self, face: Face, external_id: str) -> None:
        """Delete a binding."""
        self._db.write("DELETE FROM binding WHERE face=? AND external_id=?", (face, external_id))

    # -- published ports --------------------------------------------------------------------------

    def claim_ports(self, endpoint_id: str, ports: tuple[PortMapping, ...]) -> None:
        """Write that `endpoint_id` publishes `ports`; raises PortInUse naming port and holder."""
        with self.transaction():
            for mapping in ports:
                host_ip = str(mapping.host_ip or "")
                clash = self._db.row(
                    "SELECT endpoint_id FROM port WHERE protocol=? AND port=? AND (host_ip=? OR host_ip='' OR ?='')",
                    (mapping.protocol, mapping.host_port, host_ip, host_ip),
                )
                if clash is not None:
                    raise PortInUse(
                        f"port {mapping.host_port}/{mapping.protocol} is published by endpoint {short(str(clash[0]))}",
                        hint="choose another host port, or 0 for any",
                    )
                self._db.write(
                    "INSERT INTO port VALUES (?, ?, ?, ?, ?)",
                    (mapping.protocol, mapping.host_port, host_ip, endpoint_id, encode(mapping).decode()),
                )

    def release_ports(self, endpoint_id: str) -> None:
        """Forget what `endpoint_id` publishes."""
        if self._db.row("SELECT 1 FROM port WHERE endpoint_id=?", (endpoint_id,)):
            self._db.write("DELETE FROM port WHERE endpoint_id=?", (endpoint_id,))

    def published_ports(self) -> list[tuple[str, PortMapping]]:
        """List (endpoint id, mapping)."""
        rows = self._db.rows("SELECT endpoint_id, doc FROM port")
        return [(str(row[0]), decode(str(row[1]), PortMapping)) for row in rows]

    # -- pieces -----------------------------------------------------------------------------------

    def _one(self, sql: str, identifier: str, kind: type[T]) -> T | None:
        row = self._db.row(sql, (identifier,))
        return decode(str(row[0]), kind) if row else None

    def _find(self, table: str, ref: str, kind: type[T]) -> T:
        for condition in ("id=?", "name=?"):
            found = self._db.rows(f"SELECT doc FROM {table} WHERE {condition}", (ref,))  # noqa: S608 - our own words
            if len(found) == 1:
                return documents(found, kind)[0]
            if found:
                raise InvalidArgument(f"{len(found)} of the {table}s are called {ref!r}", hint="give an id")
        if ref and all(digit in "0123456789abcdef" for digit in ref):
            sql = f"SELECT doc, id FROM {table} WHERE id >= ? AND id < ? LIMIT 3"  # noqa: S608
            found = self._db.rows(sql, (ref, ref + "g"))
            if len(found) == 1:
                return documents(found, kind)[0]
            if found:
                candidates = ", ".join(short(str(row[1])) for row in found)
                raise InvalidArgument(f"{ref!r} is the beginning of several {table} ids: {candidates}")
        raise NotFound(table, ref)


def _face(value: object) -> Face:
    return "docker" if value == "docker" else "cni" if value == "cni" else "cli"
