"""What an address costs, by how many are in use: ``python bench/allocation.py [--json] [--rounds N]``.

Each allocation is a request of its own to the local IPAM on a store in a file: the transaction, the
search, the row and its ranges. `dense`: the addresses in use are one run; `holes`: they are strewn at
random, so that the ranges are many; `v6`: strewn over a /64. The time is the median of the rounds;
`ratio` is that of the fullest to the emptiest pool, which stays near 1 if the cost does not grow.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from dovetail.ipam.local import LocalIpam
from dovetail.model.pool import Address, AddressRequest, Pool, PoolRequest
from dovetail.store.sqlite import SqliteStore

IN_USE = (10, 1_000, 60_000)
PATTERNS = ("dense", "holes", "v6")


def fill(store: SqliteStore, pool: Pool, count: int, pattern: str) -> None:
    """Take `count` addresses of `pool` in one transaction."""
    network = pool.subnet.network_address
    offsets = range(1, count + 1)
    if pattern != "dense":
        size = min(pool.subnet.num_addresses - 2, 2**63)
        offsets = random.Random(count).sample(range(1, size), count)
    with store.transaction():
        for offset in offsets:
            store.put_address(
                Address(pool_id=pool.id, address=network + offset, kind="endpoint", owner="filler")
            )


def measure(count: int, pattern: str, rounds: int) -> dict[str, object]:
    """Give the median time of an allocation and of a release in nanoseconds."""
    with tempfile.TemporaryDirectory() as directory:
        store = SqliteStore(str(Path(directory) / "bench.db"))
        ipam = LocalIpam(store)
        subnet = IPv6Network("fd00::/64") if pattern == "v6" else IPv4Network("10.0.0.0/16")
        pool = ipam.request_pool(PoolRequest(subnet=subnet, owner="bench"))
        fill(store, pool, count, pattern)
        allocate, release = [], []
        for number in range(rounds):
            request = AddressRequest(kind="endpoint", owner=f"{number:064}")
            started = time.perf_counter_ns()
            address = ipam.request_address(pool.id, request).ip
            middle = time.perf_counter_ns()
            if number % 2:  # every other one stays, so that the round goes on over new ground
                ipam.release_address(pool.id, address, request.owner)
                release.append(time.perf_counter_ns() - middle)
            allocate.append(middle - started)
        store.close()
    return {
        "pattern": pattern,
        "in_use": count,
        "allocate_ns": round(statistics.median(allocate)),
        "release_ns": round(statistics.median(release)),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=2_000)
    arguments = parser.parse_args()
    results = [measure(count, pattern, arguments.rounds) for pattern in PATTERNS for count in IN_USE]
    times = {(row["pattern"], row["in_use"]): row["allocate_ns"] for row in results}
    ratios = {p: round(times[p, IN_USE[-1]] / times[p, IN_USE[0]], 2) for p in PATTERNS}
    if arguments.json:
        print(json.dumps({"results": results, "ratio": ratios}))
        return
    print(f"{'pattern':8} {'in use':>8} {'allocate':>12} {'release':>12}")
    for row in results:
        print(f"{row['pattern']:8} {row['in_use']:8} {row['allocate_ns']:9} ns {row['release_ns']:9} ns")
    for pattern, ratio in ratios.items():
        print(f"{pattern}: {IN_USE[-1]} in use cost {ratio} times what {IN_USE[0]} do")


if __name__ == "__main__":
    main()
