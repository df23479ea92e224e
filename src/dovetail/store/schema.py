"""The schema of the SQLite store, a migration a version; files are only ever migrated forward.

Rows are JSON documents of the model's types beside the columns that are searched or unique. IP
addresses are 16-byte big-endian blobs, so that IPv6 fits and blobs compare as numbers do.
"""

from __future__ import annotations

__all__ = ["MIGRATIONS", "VERSION"]

_V1 = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE network (id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, doc TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE endpoint (
  id TEXT PRIMARY KEY, network_id TEXT NOT NULL, sandbox_id TEXT NOT NULL, name TEXT NOT NULL, doc TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX endpoint_network ON endpoint (network_id);
CREATE INDEX endpoint_sandbox ON endpoint (sandbox_id);
CREATE TABLE sandbox (id TEXT PRIMARY KEY, name TEXT NOT NULL, face TEXT NOT NULL, doc TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX sandbox_name ON sandbox (name) WHERE face = 'cli';
CREATE TABLE binding (
  face TEXT NOT NULL, external_id TEXT NOT NULL, network_id TEXT NOT NULL, made INTEGER NOT NULL,
  PRIMARY KEY (face, external_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE pool (id TEXT PRIMARY KEY, cursor BLOB, doc TEXT NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE address (
  pool_id TEXT NOT NULL, ip BLOB NOT NULL, owner TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (pool_id, ip)
) STRICT, WITHOUT ROWID;
CREATE INDEX address_owner ON address (owner);
CREATE TABLE taken (
  pool_id TEXT NOT NULL, first BLOB NOT NULL, last BLOB NOT NULL, PRIMARY KEY (pool_id, first)
) STRICT, WITHOUT ROWID;
CREATE TABLE port (
  protocol TEXT NOT NULL, port INTEGER NOT NULL, host_ip TEXT NOT NULL, endpoint_id TEXT NOT NULL, doc TEXT NOT NULL,
  PRIMARY KEY (protocol, port, host_ip)
) STRICT, WITHOUT ROWID;
CREATE INDEX port_endpoint ON port (endpoint_id);
"""

MIGRATIONS: tuple[str, ...] = (_V1,)
"""What brings a file from version N to N + 1; the index is N."""

VERSION = len(MIGRATIONS)
