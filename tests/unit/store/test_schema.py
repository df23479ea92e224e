"""Schema versions: a file of each old version opens with its content, a newer one is refused.

A new version adds ``fixtures/vN.sql``, a dump of a file of the version before it (N) with the content
that `CONTENT` expects; `dump` at the end of this file writes it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import threading
from ipaddress import ip_address, ip_network
from pathlib import Path

import msgspec
import pytest

from dovetail.errors import StoreError
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.firewall import FamilyIntent, FirewallIntent
from dovetail.model.network import Network, Subnet
from dovetail.model.pool import Address, Pool
from dovetail.model.port import parse_publish
from dovetail.model.sandbox import Sandbox
from dovetail.store import schema
from dovetail.store.protocol import Binding
from dovetail.store.sqlite import SqliteStore

FIXTURES = Path(__file__).parent / "fixtures"
VERSIONS = range(1, schema.VERSION + 1)

NETWORK = Network(
    id="a" * 64,
    name="web",
    driver="bridge",
    subnets=(
        Subnet(
            subnet=ip_network("10.88.0.0/24"),
            gateway=ip_address("10.88.0.1"),
            pool_id="dovetail/10.88.0.0/24",
        ),
        Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1"), pool_id="dovetail/fd88::/64"),
    ),
    link="dv-aaaaaaaaaaaa",
    created=1.0,
    status="active",
)
ENDPOINT = Endpoint(
    id="e" * 64,
    network_id=NETWORK.id,
    owner=Owner(face="cni", network="web", container="c1", ifname="eth0"),
    sandbox_id="c1",
    ports=parse_publish("8080:80"),
    created=2.0,
    status="joined",
)
SANDBOX = Sandbox(id="c1", name="c1", netns="/run/netns/c1", face="cni", created=3.0)
BINDING = Binding("docker", "d" * 64, NETWORK.id, made=True)
POOLS = [
    Pool(id=f"dovetail/{subnet}", subnet=ip_network(subnet), owner=NETWORK.id, created=4.0)
    for subnet in ("10.88.0.0/24", "fd88::/64")
]
ADDRESSES = [
    Address(pool_id=pool_id, address=ip_address(text), kind=kind, owner=owner, boot_id="b" * 36, created=5.0)
    for pool_id, text, kind, owner in (
        (POOLS[0].id, "10.88.0.1", "gateway", NETWORK.id),
        (POOLS[0].id, "10.88.0.2", "endpoint", ENDPOINT.id),
        (POOLS[0].id, "10.88.0.9", "aux", NETWORK.id),
        (POOLS[1].id, "fd88::1", "gateway", NETWORK.id),
        (POOLS[1].id, "fd88::2", "endpoint", ENDPOINT.id),
    )
]


def write_content(store: SqliteStore) -> None:
    store.put_network(NETWORK)
    store.put_endpoint(ENDPOINT)
    store.put_sandbox(SANDBOX)
    store.put_binding(BINDING)
    store.claim_ports(ENDPOINT.id, ENDPOINT.ports)
    for pool in POOLS:
        store.put_pool(pool)
    for address in ADDRESSES:
        store.put_address(address)
    store.set_cursor(POOLS[0].id, int(ip_address("10.88.0.2")))


def assert_content(store: SqliteStore) -> None:
    assert store.networks() == [NETWORK]
    assert store.endpoints(network_id=NETWORK.id) == [ENDPOINT]
    assert store.sandboxes() == [SANDBOX]
    assert store.bindings() == [BINDING]
    assert store.published_ports() == [(ENDPOINT.id, ENDPOINT.ports[0])]
    assert store.pools() == POOLS
    assert store.addresses() == ADDRESSES
    assert store.cursor(POOLS[0].id) == int(ip_address("10.88.0.2"))
    first = int(ip_address("10.88.0.1"))
    assert store.free_from(POOLS[0].id, first, first + 90) == first + 2
    assert store.free_from(POOLS[0].id, first + 8, first + 90) == first + 9


def load(path: str, script: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(script)
    connection.close()


def shape(path: str) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()
    connection.close()
    return [(kind, name, table, " ".join((sql or "").split())) for kind, name, table, sql in rows]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_file_of_each_version_becomes_one_of_this_version(version: int, path: str, tmp_path: Path) -> None:
    load(path, (FIXTURES / f"v{version}.sql").read_text())
    fresh = str(tmp_path / "fresh.db")
    SqliteStore(fresh).close()

    store = SqliteStore(path)

    assert store.id == "0badcafe"
    assert_content(store)
    assert store._db.row("PRAGMA user_version") == (schema.VERSION,)
    assert store._db.rows("PRAGMA foreign_key_check") == []
    assert store._db.rows("PRAGMA integrity_check") == [("ok",)]
    store.close()
    assert shape(path) == shape(fresh)


@pytest.mark.parametrize(
    ("before", "family"),
    [
        ({}, FamilyIntent()),
        ({"masquerade": False}, FamilyIntent(masquerade=False)),
        ({"protected": False}, FamilyIntent(mode="nat-unprotected")),
        ({"protected": False, "masquerade": False, "internal": True}, FamilyIntent(masquerade=False)),
    ],
)
def test_a_network_of_version_2_wants_the_same_of_the_firewall_for_each_family(
    before: dict[str, bool], family: FamilyIntent, path: str
) -> None:
    firewall = {
        "link": "dv-1",
        "masquerade": True,
        "icc": False,
        "internal": False,
        "protected": True,
        **before,
    }
    load(path, (FIXTURES / "v2.sql").read_text())
    connection = opened(path)
    connection.execute(
        "UPDATE networks SET doc = json_set(doc, '$.firewall', json(?))", (json.dumps(firewall),)
    )
    connection.close()

    store = SqliteStore(path)

    internal = bool(before.get("internal"))
    expected = FirewallIntent(link="dv-1", icc=False, internal=internal, ipv4=family, ipv6=family)
    assert store.networks() == [msgspec.structs.replace(NETWORK, firewall=expected)]
    store.close()


def test_a_newer_file_is_refused_and_left_alone(store: SqliteStore, path: str) -> None:
    newer = schema.VERSION + 1
    store._db.write(f"PRAGMA user_version = {newer}")
    store.close()

    with pytest.raises(StoreError, match=f"has schema version {newer} .* up to {schema.VERSION}") as caught:
        SqliteStore(path)

    assert caught.value.hint == "run the newer dovetail that wrote it"
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA user_version").fetchone() == (newer,)
    connection.close()


def opened(path: str) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=10)


def add_column(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE networks ADD COLUMN zone TEXT NOT NULL DEFAULT ''")


def test_only_the_missing_migrations_run_and_once(store: SqliteStore, path: str) -> None:
    write_content(store)
    store.close()
    ran = []

    def next_one(connection: sqlite3.Connection) -> None:
        ran.append(schema.version_of(connection))
        add_column(connection)

    connection = opened(path)
    for _ in range(2):
        schema.migrate(connection, path, (*schema.MIGRATIONS, next_one))

    assert ran == [schema.VERSION]
    assert schema.version_of(connection) == schema.VERSION + 1
    assert connection.execute("SELECT name, zone FROM networks").fetchall() == [("web", "")]
    connection.close()


def test_a_migration_that_fails_leaves_the_old_version_whole(store: SqliteStore, path: str) -> None:
    write_content(store)
    store.close()

    def fails(connection: sqlite3.Connection) -> None:
        add_column(connection)
        connection.execute("DELETE FROM networks")
        raise RuntimeError

    connection = opened(path)
    with pytest.raises(RuntimeError):
        schema.migrate(connection, path, (*schema.MIGRATIONS, fails))
    connection.close()

    assert_content(SqliteStore(path))


def test_two_processes_migrate_once(path: str) -> None:
    SqliteStore(path).close()
    ran, failures, start = [], [], threading.Barrier(4)

    def next_one(connection: sqlite3.Connection) -> None:
        ran.append(1)
        add_column(connection)

    def work() -> None:
        connection = opened(path)
        start.wait(10)
        try:
            schema.migrate(connection, path, (*schema.MIGRATIONS, next_one))
        except Exception as exc:
            failures.append(exc)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert (failures, ran) == ([], [1])


def dump(target: str) -> None:
    """Write the fixture of this version: ``python tests/unit/store/test_schema.py DIRECTORY``."""
    path = os.path.join(target, "dump.db")
    store = SqliteStore(path)
    write_content(store)
    store._db.write("UPDATE meta SET value = '0badcafe' WHERE key = 'id'")
    store.close()
    connection = sqlite3.connect(path)
    lines = [
        f"PRAGMA application_id = {schema.APPLICATION_ID};",
        f"PRAGMA user_version = {schema.VERSION};",
        *connection.iterdump(),
    ]
    connection.close()
    Path(target, f"v{schema.VERSION}.sql").write_text("\n".join(lines) + "\n")
    os.unlink(path)


if __name__ == "__main__":
    dump(sys.argv[1])
