"""Transactions: what they undo, how they nest, what threads and killed processes see of each other."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading

import pytest

from dovetail.errors import Busy, PermissionDenied, StoreError
from dovetail.store.protocol import Binding
from dovetail.store.sqlite import SqliteStore


def bind(store: SqliteStore, name: str) -> None:
    store.put_binding(Binding("docker", name, "n1", made=False))


def names(store: SqliteStore) -> list[str]:
    return sorted(binding.external_id for binding in store.bindings())


@pytest.fixture(params=["file", "memory"])
def any_store(request: pytest.FixtureRequest, path: str):
    opened = SqliteStore(path if request.param == "file" else ":memory:", busy_timeout_s=1.0)
    yield opened
    opened.close()


def test_an_exception_undoes_the_transaction(any_store: SqliteStore) -> None:
    bind(any_store, "before")

    with pytest.raises(RuntimeError), any_store.transaction():
        bind(any_store, "a")
        with any_store.transaction(durable=True):
            bind(any_store, "b")
        raise RuntimeError

    assert names(any_store) == ["before"]


def test_an_inner_failure_that_is_caught_undoes_only_the_inner_part(any_store: SqliteStore) -> None:
    with any_store.transaction():
        bind(any_store, "outer")
        with pytest.raises(RuntimeError), any_store.transaction():
            bind(any_store, "inner")
            with any_store.transaction():
                bind(any_store, "innermost")
            raise RuntimeError
        bind(any_store, "after")

    assert names(any_store) == ["after", "outer"]


def test_a_transaction_reads_what_it_wrote(any_store: SqliteStore) -> None:
    with any_store.transaction():
        bind(any_store, "a")
        assert names(any_store) == ["a"]


def test_readers_see_nothing_before_the_commit_and_do_not_wait(store: SqliteStore, path: str) -> None:
    other = SqliteStore(path)
    with store.transaction():
        bind(store, "a")
        with store.transaction():
            bind(store, "b")

        assert names(other) == []

    assert names(other) == ["a", "b"]


def test_a_thread_waits_for_the_transaction_of_another(any_store: SqliteStore) -> None:
    entered, seen = threading.Event(), []

    def second() -> None:
        entered.wait(5)
        with any_store.transaction():
            seen.extend(names(any_store))
            bind(any_store, "second")

    thread = threading.Thread(target=second)
    thread.start()
    with any_store.transaction():
        bind(any_store, "first")
        entered.set()
        bind(any_store, "first too")
    thread.join(10)

    assert seen == ["first", "first too"]
    assert names(any_store) == ["first", "first too", "second"]


@pytest.mark.parametrize(("durable", "level"), [(False, 1), (True, 2)])
def test_synchronous_is_full_only_in_a_durable_transaction(
    store: SqliteStore, durable: bool, level: int
) -> None:
    with store.transaction(durable=durable):
        assert store._db.row("PRAGMA synchronous") == (level,)

    assert store._db.row("PRAGMA synchronous") == (1,)


def test_a_durable_transaction_inside_one_that_is_not_is_synced_at_its_end(store: SqliteStore) -> None:
    ran: list[str] = []
    store._db._idle[-1].connection.set_trace_callback(ran.append)

    with store.transaction(), store.transaction(durable=True):
        bind(store, "a")

    synced = next(index for index, sql in enumerate(ran) if sql.startswith("UPDATE meta"))
    full, normal = ran.index("PRAGMA synchronous = FULL"), ran.index("PRAGMA synchronous = NORMAL")
    assert ran.index("COMMIT") < full < synced < normal


def test_a_file_locked_by_another_process_is_busy(store: SqliteStore, path: str) -> None:
    impatient = SqliteStore(path, busy_timeout_s=0.05)

    with store.transaction():
        with pytest.raises(Busy, match=r"stayed locked by another process for more than 0\.05 s"):
            bind(impatient, "a")
        assert impatient.bindings() == []

    bind(impatient, "a")


def test_a_thread_that_holds_the_store_too_long_makes_others_busy(path: str) -> None:
    store = SqliteStore(path, busy_timeout_s=0.05)
    failures: list[Exception] = []

    def second() -> None:
        try:
            bind(store, "second")
        except Busy as exc:
            failures.append(exc)

    with store.transaction():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(10)

    assert "locked by another thread" in str(failures[0])


def test_file_and_directory_are_private_from_birth(path: str) -> None:
    before = os.umask(0)
    try:
        store = SqliteStore(path)
        bind(store, "a")
    finally:
        os.umask(before)

    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    for end in ("", "-wal", "-shm"):
        assert stat.S_IMODE(os.stat(path + end).st_mode) == 0o600


def test_an_open_store_survives_another_one_on_the_same_file_being_opened_and_closed(path: str) -> None:
    """Closing a descriptor of the file would drop the first store's POSIX locks."""
    store = SqliteStore(path)
    with store.transaction():
        bind(store, "a")
        SqliteStore(path).close()
        outsider = sqlite3.connect(path, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            outsider.execute("BEGIN IMMEDIATE")
        outsider.close()

    assert names(store) == ["a"]


KILLED = """
import sys
from ipaddress import ip_address, ip_network
from dovetail.model.pool import Address, Pool
from dovetail.store.protocol import Binding
from dovetail.store.sqlite import SqliteStore
store = SqliteStore(sys.argv[1])
with store.transaction(durable=True):
    store.put_pool(Pool(id="p", subnet=ip_network("10.0.0.0/24")))
    store.put_address(Address(pool_id="p", address=ip_address("10.0.0.1"), kind="gateway", owner="n"))
    store.put_binding(Binding("docker", "a", "n1", made=True))
    print("inside", flush=True)
    sys.stdin.read()
"""


def test_a_process_killed_inside_a_transaction_leaves_nothing(
    store: SqliteStore, path: str, start_process
) -> None:
    bind(store, "before")
    process = start_process(KILLED, path)
    assert process.stdout.readline() == "inside\n"

    process.kill()
    process.wait(10)

    assert store.pools() == []
    assert store.addresses() == []
    assert names(store) == ["before"]
    assert names(SqliteStore(path)) == ["before"]
    bind(store, "after")


OPENER = """
import sys
from dovetail.store.protocol import Binding
from dovetail.store.sqlite import SqliteStore
sys.stdin.readline()
store = SqliteStore(sys.argv[1])
with store.transaction():
    store.put_binding(Binding("docker", sys.argv[2], "n", made=False))
print(store.id)
store.close()
"""


def test_32_processes_open_a_fresh_file_at_once(path: str, start_process) -> None:
    processes = [start_process(OPENER, path, f"b{number:02}") for number in range(32)]
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()

    outputs = [process.communicate(timeout=60) for process in processes]

    assert [err for _, err in outputs if err] == []
    store = SqliteStore(path)
    assert {out.strip() for out, _ in outputs} == {store.id}
    assert names(store) == [f"b{number:02}" for number in range(32)]


def test_16_threads_share_a_store(store: SqliteStore) -> None:
    def work(number: int) -> None:
        for step in range(10):
            bind(store, f"{number:02}-{step}")
            store.bindings()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(names(store)) == 160


def test_a_forked_child_opens_its_own_connection(store: SqliteStore) -> None:
    bind(store, "parent")
    child = os.fork()
    if child == 0:
        status = 1
        try:
            bind(store, "child")
            status = 0 if names(store) == ["child", "parent"] else 2
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    bind(store, "parent again")
    assert names(store) == ["child", "parent", "parent again"]


def test_a_copy_in_memory_is_independent(store: SqliteStore) -> None:
    bind(store, "a")

    copy = store.copy_to_memory()
    bind(copy, "b")
    bind(store, "c")

    assert copy.id == store.id
    assert names(copy) == ["a", "b"]
    assert names(store) == ["a", "c"]


def test_a_closed_store_says_so(any_store: SqliteStore) -> None:
    any_store.close()

    with pytest.raises(StoreError, match="is closed"):
        any_store.bindings()
    with pytest.raises(StoreError, match="is closed"):
        bind(any_store, "a")


def test_closing_reaches_the_connections_of_other_threads(store: SqliteStore, path: str) -> None:
    opened, closed, failures = threading.Event(), threading.Event(), []

    def other() -> None:
        store.bindings()
        opened.set()
        closed.wait(5)
        try:
            store.bindings()
        except StoreError as exc:
            failures.append(exc)

    thread = threading.Thread(target=other)
    thread.start()
    opened.wait(5)
    store.close()
    closed.set()
    thread.join(10)

    assert len(failures) == 1
    assert not os.path.exists(path + "-wal")


def test_a_directory_that_cannot_be_made_is_named(tmp_path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match=r"file/x\.db cannot be made|file is not a directory"):
        SqliteStore(str(tmp_path / "file" / "x.db"))
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore(str(tmp_path))


def test_a_missing_permission_is_named(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(PermissionDenied, match=r"no permission to make .*x\.db"):
        SqliteStore(str(tmp_path / "x.db"))


def test_a_transaction_that_cannot_begin_lets_other_threads_in(path: str) -> None:
    store = SqliteStore(path, busy_timeout_s=0.2)
    store.close()
    failures: list[Exception] = []

    def begin() -> None:
        try:
            with store.transaction():
                pass
        except Exception as exc:
            failures.append(exc)

    begin()
    begin()
    other = threading.Thread(target=begin)
    other.start()
    other.join()

    assert [str(failure) for failure in failures] == [f"the store {path} is closed"] * 3
