"""The tables, and how a file of an older version becomes one of this version.

``PRAGMA user_version`` says which version a file has. `MIGRATIONS[n]` brings version n to n + 1; the
last one gives `VERSION`. A released migration is never edited: add the next one, and a dump of a file
of the version before it under ``tests/unit/store/fixtures``.

Model values are JSON documents in `doc`, beside the columns that are searched. Addresses are hot and
many, so they are columns only: `address` is the packed form (4 or 16 bytes). `taken` keeps, for each
pool, the ranges of addresses in use, coalesced: two rows never overlap nor touch. Its bounds are
16-byte big-endian integers, which compare as the numbers they are.
"""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from typing import TypeAlias

from dovetail.errors import StoreError

__all__ = ["APPLICATION_ID", "MIGRATIONS", "VERSION", "Migration", "migrate", "version_of"]

Migration: TypeAlias = Callable[[sqlite3.Connection], None]

APPLICATION_ID = 0x44_6F_76_65  # "Dove" (https://www.sqlite.org/fileformat2.html §1.3.14)

_TABLES_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE networks (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, doc TEXT NOT NULL) STRICT",
    """CREATE TABLE endpoints (
        id TEXT PRIMARY KEY, network_id TEXT NOT NULL, sandbox_id TEXT NOT NULL, name TEXT NOT NULL,
        doc TEXT NOT NULL) STRICT""",
    "CREATE INDEX endpoints_by_network ON endpoints (network_id)",
    "CREATE INDEX endpoints_by_sandbox ON endpoints (sandbox_id)",
    "CREATE INDEX endpoints_by_name ON endpoints (name) WHERE name <> ''",
    """CREATE TABLE sandboxes (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, face TEXT NOT NULL, doc TEXT NOT NULL) STRICT""",
    "CREATE INDEX sandboxes_by_name ON sandboxes (name)",
    "CREATE UNIQUE INDEX sandboxes_own_name ON sandboxes (name) WHERE face = 'cli'",
    """CREATE TABLE bindings (
        face TEXT NOT NULL, external_id TEXT NOT NULL, network_id TEXT NOT NULL, made INTEGER NOT NULL,
        PRIMARY KEY (face, external_id)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX bindings_by_network ON bindings (network_id)",
    """CREATE TABLE ports (
        protocol TEXT NOT NULL, host_port INTEGER NOT NULL, host_ip TEXT NOT NULL, endpoint_id TEXT NOT NULL,
        container_port INTEGER NOT NULL,
        PRIMARY KEY (protocol, host_port, host_ip, endpoint_id)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX ports_by_endpoint ON ports (endpoint_id)",
    "CREATE TABLE pools (id TEXT PRIMARY KEY, owner TEXT NOT NULL, doc TEXT NOT NULL) STRICT",
    """CREATE TABLE addresses (
        pool_id TEXT NOT NULL REFERENCES pools ON DELETE CASCADE, address BLOB NOT NULL, kind TEXT NOT NULL,
        owner TEXT NOT NULL, boot_id TEXT NOT NULL, created REAL NOT NULL,
        PRIMARY KEY (pool_id, address)) STRICT, WITHOUT ROWID""",
    "CREATE INDEX addresses_by_owner ON addresses (owner)",
    """CREATE TABLE taken (
        pool_id TEXT NOT NULL REFERENCES pools ON DELETE CASCADE, first BLOB NOT NULL, last BLOB NOT NULL,
        PRIMARY KEY (pool_id, first)) STRICT, WITHOUT ROWID""",
    """CREATE TABLE cursors (
        pool_id TEXT PRIMARY KEY REFERENCES pools ON DELETE CASCADE, value BLOB NOT NULL
        ) STRICT, WITHOUT ROWID""",
)


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _TABLES_1:
        connection.execute(statement)
    connection.execute("INSERT INTO meta VALUES ('id', ?)", (secrets.token_hex(4),))


def _tell_bindings_more(connection: sqlite3.Connection) -> None:
    """Let a binding say what the face calls the network, and since when there is one."""
    for column in (
        "name TEXT NOT NULL DEFAULT ''",
        "labels TEXT NOT NULL DEFAULT '[]'",
        "created REAL NOT NULL DEFAULT 0",
    ):
        connection.execute(f"ALTER TABLE bindings ADD COLUMN {column}")
    connection.execute("CREATE INDEX bindings_by_name ON bindings (name) WHERE name <> ''")


def _tell_families_apart(connection: sqlite3.Connection) -> None:
    """Say for IPv4 and IPv6 each what a network wants of the firewall, as it was said for both."""
    for network_id, doc in connection.execute("SELECT id, doc FROM networks").fetchall():
        network = json.loads(doc)
        firewall = network.get("firewall")
        if firewall is None:
            continue
        mode = "nat" if firewall.pop("protected", True) or firewall.get("internal") else "nat-unprotected"
        family = {"mode": mode, "masquerade": firewall.pop("masquerade", True)}
        firewall.update(ipv4=family, ipv6=family)
        connection.execute("UPDATE networks SET doc = ? WHERE id = ?", (json.dumps(network), network_id))


def _keep_addresses(connection: sqlite3.Connection) -> None:
    """Remember which address a container had, for pools that keep it for it."""
    connection.execute(
        """CREATE TABLE leases (
            pool_id TEXT NOT NULL REFERENCES pools ON DELETE CASCADE, key TEXT NOT NULL, address BLOB NOT NULL,
            used REAL NOT NULL, PRIMARY KEY (pool_id, key)) STRICT, WITHOUT ROWID"""
    )
    connection.execute("CREATE UNIQUE INDEX leases_by_address ON leases (pool_id, address)")


def _keep_parts(connection: sqlite3.Connection) -> None:
    """Remember what each plugin of a CNI chain has done for an attachment."""
    connection.execute(
        """CREATE TABLE parts (
            attachment TEXT NOT NULL, kind TEXT NOT NULL, network TEXT NOT NULL, link TEXT NOT NULL,
            filtered INTEGER NOT NULL, doc TEXT NOT NULL, UNIQUE (attachment, kind)) STRICT"""
    )
    connection.execute("CREATE INDEX parts_by_network ON parts (network, kind)")
    connection.execute("CREATE INDEX parts_by_link ON parts (link) WHERE link <> ''")
    connection.execute("CREATE INDEX parts_filtered ON parts (filtered) WHERE filtered = 1")


MIGRATIONS: tuple[Migration, ...] = (
    _make_tables,
    _tell_bindings_more,
    _tell_families_apart,
    _keep_addresses,
    _keep_parts,
)
VERSION = len(MIGRATIONS)


def version_of(connection: sqlite3.Connection) -> int:
    """Read the file's version; 0 is a file without tables."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection, path: str, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring the file to the version of `migrations` in one transaction; a second process finds it done.

    Raises StoreError where the file is newer than this dovetail, or is another program's.
    """
    if version_of(connection) == len(migrations) and _application(connection) == APPLICATION_ID:
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection)
        _check(connection, path, version, len(migrations))
        for migration in migrations[version:]:
            migration(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _application(connection: sqlite3.Connection) -> int:
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return application


def _check(connection: sqlite3.Connection, path: str, version: int, newest: int) -> None:
    application = _application(connection)
    tables: int = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if application != APPLICATION_ID and (version or application or tables):
        raise StoreError(
            f"{path} is a database of another program", hint="move it away, or give another --state-dir"
        )
    if version > newest:
        raise StoreError(
            f"{path} has schema version {version} and this dovetail knows versions up to {newest}",
            hint="run the newer dovetail that wrote it",
        )
