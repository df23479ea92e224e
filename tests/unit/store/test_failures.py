"""A full disk, a damaged, foreign or read-only file: one sentence, and nothing half-written."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys

import pytest

from dovetail.errors import DovetailError, StoreError
from dovetail.store import schema
from dovetail.store.protocol import Binding
from dovetail.store.sqlite import SqliteStore


def fill(store: SqliteStore) -> None:
    for number in range(200):
        store.put_binding(Binding("docker", f"{number:0200}", "n1", made=False))


def limit(store: SqliteStore, pages: int) -> None:
    store._db._idle[-1].connection.execute(f"PRAGMA max_page_count = {pages}")


def test_a_full_disk_undoes_the_transaction_and_says_so(store: SqliteStore, path: str) -> None:
    store.put_binding(Binding("docker", "before", "n1", made=False))
    limit(store, 1)

    with pytest.raises(StoreError, match=f"no space left to write {path}") as caught, store.transaction():
        fill(store)

    assert caught.value.hint == "free some space on its file system"
    assert [b.external_id for b in store.bindings()] == ["before"]
    limit(store, 100_000)
    fill(store)
    assert len(store.bindings()) == 201


def test_nothing_is_written_outside_a_transaction_that_sqlite_gave_up(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match="was rolled back"), store.transaction():
        store._db._thread.session.connection.execute("ROLLBACK")
        store.put_binding(Binding("docker", "stray", "n1", made=False))

    assert store.bindings() == []


FULL = """
import sys
from dovetail.errors import StoreError
from dovetail.store.protocol import Binding
from dovetail.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
written = 0
try:
    for number in range(10_000):
        store.put_binding(Binding("docker", f"{number:0400}", "n1", made=False))
        written += 1
except StoreError as exc:
    print(exc)
assert len(store.bindings()) == written, (len(store.bindings()), written)
"""


MOUNTED = 'mount -n -t tmpfs -o size=512k none /mnt; exec "$@"'


@pytest.mark.root
def test_a_full_file_system_is_one_sentence() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-ec", MOUNTED, "sh", sys.executable, "-c", FULL, "/mnt/state/dovetail.db"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("there is no space left to write /mnt/state/dovetail.db (free some")


def test_a_read_only_database_says_so(store: SqliteStore) -> None:
    store._db._idle[-1].connection.execute("PRAGMA query_only = ON")

    with pytest.raises(StoreError, match="cannot be written"):
        fill(store)


def test_a_file_that_is_no_database_is_left_alone(path: str) -> None:
    os.makedirs(os.path.dirname(path))
    content = b"not a database, but long enough to be read as the header of one. " * 20
    with open(path, "wb") as file:
        file.write(content)

    with pytest.raises(StoreError, match=r"dovetail\.db is not a dovetail database"):
        SqliteStore(path)

    with open(path, "rb") as file:
        assert file.read() == content


def test_a_damaged_file_says_so_on_reading(path: str) -> None:
    store = SqliteStore(path)
    fill(store)
    store.close()
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))

    with pytest.raises(StoreError, match="is damaged"):
        SqliteStore(path).bindings()


@pytest.mark.parametrize("version", [0, schema.VERSION, schema.VERSION + 1])
def test_a_database_of_another_program_is_left_alone(path: str, version: int) -> None:
    os.makedirs(os.path.dirname(path))
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE theirs (x)")
    foreign.execute(f"PRAGMA user_version = {version}")
    foreign.close()

    with pytest.raises(StoreError, match="is a database of another program"):
        SqliteStore(path)

    foreign = sqlite3.connect(path)
    assert foreign.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]
    foreign.close()


def test_every_failure_is_an_error_of_ours_with_a_next_step(store: SqliteStore) -> None:
    with pytest.raises(DovetailError) as caught:
        store._db.write("INSERT INTO nowhere VALUES (1)")

    assert isinstance(caught.value, StoreError)
    assert "no such table" in str(caught.value)
