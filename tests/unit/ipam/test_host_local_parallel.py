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


# Ends a process just before each system call of an operation in turn, and looks at what it left.
WALK = """
import os, sys
from ipaddress import ip_network
from dovetail.ipam import host_local_files
from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_ranges import address_range, range_set

ranges = [range_set([address_range(ip_network(subnet))]) for subnet in ("10.0.0.0/24", "fd00::/64")]
CALLS = ("open", "close", "write", "read", "mkdir", "unlink", "utime", "ftruncate", "fstat", "scandir")

class Dying:
    def __init__(self, after):
        self.left = after
    def __getattr__(self, name):
        if name in CALLS:
            if self.left == 0:
                os._exit(9)
            self.left -= 1
        return getattr(os, name)

def step(ipam, verb):
    if verb == "add":
        ipam.add("dies", "eth0", ranges)
    elif verb == "delete":
        ipam.delete("dies", "eth0")
    else:
        ipam.gc({("stays", "eth0")})

for verb in ("add", "delete", "gc"):
    for after in range(1000):
        directory = f"{sys.argv[1]}/{verb}{after}"
        ipam = HostLocal(directory, "n1")
        if verb != "add" or after % 2:
            ipam.add("stays", "eth0", ranges)
        if verb != "add":
            ipam.add("dies", "eth0", ranges)
        child = os.fork()
        if child == 0:
            host_local_files.os = Dying(after)
            step(ipam, verb)
            os._exit(0)
        died = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        undone = [lease.container for lease in ipam.leases() if lease.container != "stays"]
        assert set(undone) <= {"dies", ""}, (verb, after, undone)
        (ipam.delete("dies", "eth0"), ipam.gc({("stays", "eth0")}))[after % 2]
        left = {lease.container for lease in ipam.leases()}
        assert left <= {"stays"}, (verb, after, left)
        ipam.delete("dies", "eth0")
        assert len(ipam.add("dies", "eth0", ranges)) == 2, (verb, after)
        if not died:
            print(verb, after)
            break
"""


def test_a_process_that_dies_at_any_system_call_leaves_what_delete_or_gc_gives_back(
    tmp_path: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WALK, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )

    assert done.returncode == 0, done.stderr
    walked = {verb: int(calls) for verb, calls in (line.split() for line in done.stdout.splitlines())}
    assert list(walked) == ["add", "delete", "gc"]
    assert min(walked.values()) > 8
