"""What an address of host-local costs, by how many are in use: ``python bench/host_local.py [--rounds N]``.

`ADD` and `DEL`: one call in a process that stays, as the daemon is, and the files are there already. `first`: the
first ADD of a new process, which reads every file; `Go`: the reference plugin, where it is installed. All in
milliseconds, the median of the rounds. `next`: the last one given is the last in use, as in a pool that fills;
`dense`: the addresses in use are one run, and the last one given is before
it; `full`: the same in a pool with one free address.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from ipaddress import IPv4Address, ip_network

from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_ranges import AddressRange, RangeSet, address_range, range_set

IN_USE = (10, 1_000, 10_000)
BASE = IPv4Address("10.0.0.1")
GO = "/usr/lib/cni/host-local"
FIRST = """
import sys, time
from ipaddress import ip_network
from dovetail.ipam.host_local import HostLocal
from dovetail.ipam.host_local_ranges import address_range, range_set
ranges = range_set([address_range(ip_network("10.0.0.0/16"))])
ipam = HostLocal(sys.argv[1], "bench")
started = time.perf_counter()
ipam.add(sys.argv[2], "eth0", [ranges])
print(time.perf_counter() - started)
"""


def pool(count: int, pattern: str) -> RangeSet:
    """Give a /16, or a range with room for one more."""
    subnet = ip_network("10.0.0.0/16")
    whole: AddressRange = address_range(subnet)
    if pattern == "full":
        whole = address_range(subnet, last=BASE + count + 1)
    return range_set([whole])


def fill(directory: str, count: int, pattern: str) -> None:
    """Write the files of `count` containers, from the second address of the subnet on."""
    network = f"{directory}/bench"
    os.mkdir(network)
    for number in range(1, count + 1):
        with open(f"{network}/{BASE + number}", "w", encoding="ascii", newline="") as file:
            file.write(f"{number:064}\r\neth0")
    last = BASE if pattern != "next" else BASE + count
    with open(f"{network}/last_reserved_ip.0", "w", encoding="ascii") as file:
        file.write(str(last))


def stays(directory: str, count: int, pattern: str, rounds: int) -> dict[str, float]:
    """Measure ADD and DEL in this process."""
    ipam, ranges = HostLocal(directory, "bench"), pool(count, pattern)
    add, delete = [], []
    for number in range(rounds + 1):
        if pattern == "dense":  # again before the run
            with open(f"{directory}/bench/last_reserved_ip.0", "r+", encoding="ascii") as file:
                file.write(str(BASE))
                file.truncate()
        container = f"{number + count + 1:064}"
        started = time.perf_counter()
        ipam.add(container, "eth0", [ranges])
        middle = time.perf_counter()
        ipam.delete(container, "eth0")
        if number:  # the first one reads the directory
            add.append(middle - started)
            delete.append(time.perf_counter() - middle)
    return {"ADD": statistics.median(add), "DEL": statistics.median(delete)}


def first(directory: str, rounds: int) -> float:
    """Measure the first ADD of a process."""
    found = []
    for number in range(rounds):
        command = [sys.executable, "-c", FIRST, directory, f"first{number}"]
        found.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return statistics.median(found)


def go(directory: str, rounds: int) -> tuple[float, float]:
    """Measure ADD and DEL of the reference plugin."""
    config = {"cniVersion": "0.4.0", "name": "bench", "type": "host-local"}
    config["ipam"] = {"type": "host-local", "dataDir": directory, "subnet": "10.0.0.0/16"}
    body = json.dumps(config).encode()
    times: dict[str, list[float]] = {"ADD": [], "DEL": []}
    for number in range(rounds):
        for verb, spent in times.items():
            environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": f"go{number}", "CNI_IFNAME": "eth0"}
            environ |= {"CNI_NETNS": "/x", "CNI_PATH": "/usr/lib/cni"}
            started = time.perf_counter()
            subprocess.run([GO], input=body, env=environ, capture_output=True, check=True)
            spent.append(time.perf_counter() - started)
    return statistics.median(times["ADD"]), statistics.median(times["DEL"])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    print(f"{'pattern':8} {'in use':>7} {'ADD':>8} {'DEL':>8} {'first':>8} {'Go ADD':>8} {'Go DEL':>8}")
    for pattern in ("next", "dense", "full"):
        for count in IN_USE:
            with tempfile.TemporaryDirectory() as directory:
                fill(directory, count, pattern)
                figures = list(stays(directory, count, pattern, rounds).values())
                if pattern == "next":
                    figures.append(first(directory, 5))
                    figures += go(directory, 5) if os.path.exists(GO) else []
                print(f"{pattern:8} {count:7} " + " ".join(f"{figure * 1000:8.3f}" for figure in figures))


if __name__ == "__main__":
    main()
