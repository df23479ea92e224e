"""Processes that ask host-local at once, and processes that are killed while they do."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_ranges import address_range, range_set

RANGES = range_set([address_range(ip_network("10.0.0.0/22"))])


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# One interpreter that forks: 64 that start would spend their time on starting, one after another.
CROWD = """
import os, random, sys
from ipaddress import ip_network
from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_ranges import address_range, range_set

directory, processes, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
ranges = range_set([address_range(ip_network("10.0.0.0/22"))])
start, go = os.pipe()
children = []
for number in range(processes):
    child = os.fork()
    if child:
        children.append(child)
        continue
    os.close(go)
    os.read(start, 1)  # until the parent closes its end
    ipam = HostLocal(directory, "n1", timeout_s=60)
    held = []
    for step in range(steps):
        container = f"{number}-{step}"
        held.append((container, ipam.add(container, "eth0", (ranges,))[0].address.ip))
        if random.random() < 0.4:
            gone, address = held.pop(random.randrange(len(held)))
            assert ipam.delete(gone, "eth0") == [address], (gone, address)
    os.write(1, "".join(f"{container} {address}\\n" for container, address in held).encode())
    os._exit(0)
os.close(go)
sys.exit(any(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def crowd(directory: Path, processes: int, steps: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CROWD, str(directory), str(processes), str(steps)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_64_processes_on_a_fresh_directory_are_given_different_addresses(tmp_path: Path) -> None:
    process = crowd(tmp_path / "networks", 64, 6)
    output, errors = process.communicate(timeout=120)

    assert process.returncode == 0, errors
    assert errors == ""
    held = dict(line.split() for line in output.splitlines())
    assert len(set(held.values())) == len(held) > 64
    leases = HostLocal(str(tmp_path / "networks"), "n1").leases()
    assert {lease.container: str(lease.address) for lease in leases} == held


def test_a_process_that_is_killed_at_any_moment_leaves_what_gc_gives_back(tmp_path: Path) -> None:
    ipam = HostLocal(str(tmp_path), "n1")
    ipam.add("stays", "eth0", (RANGES,))
    for _ in range(8):
        process = crowd(tmp_path, 1, 500)
        wait_for(lambda: len(ipam.leases()) > 1)
        try:
            process.wait(random.random() * 0.02)
        except subprocess.TimeoutExpired:
            subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=False)
        process.communicate(timeout=10)

        ipam.gc({("stays", "eth0")})

        assert [lease.container for lease in ipam.leases()] == ["stays"]
    assert len(ipam.add("next", "eth0", (RANGES,))) == 1
