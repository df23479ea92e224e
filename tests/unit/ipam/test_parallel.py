"""Threads and processes that ask at once never get the same address or pool."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from ipaddress import ip_network
from pathlib import Path

from dovetail.ipam.local import LocalIpam
from dovetail.model.pool import AddressRequest, PoolRequest
from dovetail.store.sqlite import SqliteStore

POOL = "dovetail/10.88.0.0/22"


def opened(path: str) -> LocalIpam:
    ipam = LocalIpam(SqliteStore(path))
    ipam.request_pool(PoolRequest(subnet=ip_network("10.88.0.0/22"), owner="n1"))
    return ipam


def ranges_match_rows(store: SqliteStore) -> None:
    expected = []
    for row in store.addresses(POOL):
        value = int(row.address)
        if expected and expected[-1][1] == value - 1:
            expected[-1][1] = value
        else:
            expected.append([value, value])
    rows = store._db.rows("SELECT first, last FROM taken WHERE pool_id = ? ORDER BY first", POOL)
    assert [[int.from_bytes(first, "big"), int.from_bytes(last, "big")] for first, last in rows] == expected


def test_8_threads_are_given_different_addresses(tmp_path: Path) -> None:
    ipam = opened(str(tmp_path / "d.db"))
    given: list[str] = []

    def work(number: int) -> None:
        for step in range(50):
            request = AddressRequest(kind="endpoint", owner=f"{number}-{step}")
            given.append(str(ipam.request_address(POOL, request)))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(given) == len(set(given)) == 400
    ranges_match_rows(ipam._ledger)


WORKER = """
import random, sys
from dovetail.ipam.local import LocalIpam
from dovetail.model.pool import AddressRequest, PoolRequest
from dovetail.store.sqlite import SqliteStore
path, number, pool = sys.argv[1:]
ipam = LocalIpam(SqliteStore(path))
print("ready", flush=True)
sys.stdin.readline()
print(ipam.request_pool(PoolRequest(owner=number)).subnet, flush=True)
held = []
for step in range(60):
    owner = f"{number}-{step}"
    held.append((owner, ipam.request_address(pool, AddressRequest(kind="endpoint", owner=owner)).ip))
    if random.random() < 0.3:
        owner, address = held.pop(random.randrange(len(held)))
        ipam.release_address(pool, address, owner)
for owner, address in held:
    print(owner, address)
"""


def start(path: str, number: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, path, str(number), POOL],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process: subprocess.Popen[str]) -> None:
    process.stdin.write("go\n")
    process.stdin.flush()


def test_8_processes_are_given_different_addresses_and_pools(tmp_path: Path) -> None:
    path = str(tmp_path / "d.db")
    ipam = opened(path)
    processes = [start(path, number) for number in range(8)]
    for process in processes:
        go(process)

    outputs = [process.communicate(timeout=60) for process in processes]

    assert [err for _, err in outputs if err] == []
    subnets = [out.splitlines()[0] for out, _ in outputs]
    assert len(set(subnets)) == 8
    held = dict(line.split() for out, _ in outputs for line in out.splitlines()[1:])
    assert len(set(held.values())) == len(held)
    assert {row.owner: str(row.address) for row in ipam._ledger.addresses(POOL)} == held
    ranges_match_rows(ipam._ledger)


def test_killing_processes_at_any_moment_leaves_ranges_that_match_the_rows(tmp_path: Path) -> None:
    path = str(tmp_path / "d.db")
    ipam = opened(path)

    for number in range(6):
        process = start(path, number)
        go(process)
        process.stdout.readline()  # it has begun
        try:
            process.wait(random.random() * 0.02)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate(timeout=10)
        ranges_match_rows(ipam._ledger)

    request = AddressRequest(kind="endpoint", owner="last")
    assert str(ipam.request_address(POOL, request)).startswith("10.88.")
