#!/usr/bin/env python3
"""Time CNI ADD and DEL: dovetail, Debian's Go plugins, and the kernel's own floor, all in one run.

Every round gives every way a turn, in random order, so that a noisy moment of the machine hits all alike. In its turn
a way attaches and detaches five times in a row, as a node has one kind of plugin and its caches know that one.
What counts are the ratios of the medians; single times of a shared machine say little. Everything happens
in a private host (network, mounts, processes, /run), which ends with the run. Needs root.

usage: bench/run.py [--repeats N] [--turn N] [--check] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import allocation
from subjects import Empty, Floor, Way, go_ways, our_ways, start_daemon

from dovetail.kernel.linux import LinuxKernel

INSIDE = "DOVETAIL_BENCH_INSIDE"
ROUNDS = 500  # allocations of each kind
ROOT = Path(__file__).resolve().parents[1]
ALLOCATION = {
    "dense": "in one run",
    "holes": "strewn over a /16",
    "v6": "strewn over an IPv6 /64",
}
PAIRS = [
    # (question, ours, theirs, at most this part of theirs for ADD)
    ("bridge + host-local", "dovetail", "go bridge", 1 / 3),
    ("the same with ipMasq", "dovetail, masquerade", "go bridge, ipMasq", 1 / 10),
    ("chain of four", "dovetail, masquerade and port", "go chain of four", None),
]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=60, help="of every way (default: 60)")
    parser.add_argument(
        "--turn", type=int, default=5, help="repeats in a row before another way's turn (default: 5)"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal is not reached")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there, in milliseconds")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("bench: needs root, as it makes links and namespaces (in a private host)\n")
        return 1
    if INSIDE not in os.environ:
        return enter_private_host()
    result = measure(arguments.repeats, max(arguments.turn, 1))
    sys.stdout.write(render(result))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    reached = all(row["reached"] is not False for row in result["ratios"])
    return 0 if reached or not arguments.check else 1


def enter_private_host() -> int:
    """Run this program again in namespaces of its own."""
    command = [
        "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        str(ROOT / "scripts" / "private-host"), sys.executable, *sys.argv,
    ]  # fmt: skip
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


def measure(repeats: int, turn: int) -> dict[str, Any]:
    """Set every way up, run them interleaved, and give medians, ratios and the daemon's memory."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dovetail-bench-")))
        alone, served = directory / "alone", directory / "served"
        for path in (directory, alone, served):
            path.mkdir(exist_ok=True)
        kernel = LinuxKernel()
        daemon = start_daemon(served, stack)
        idle = memory_kb(daemon)
        ways: list[Way] = [
            *our_ways(kernel, served, prefix="dovetail", octet=80),
            *our_ways(kernel, alone, prefix="dovetail without daemon", octet=84),
            *go_ways(kernel, directory),
            Floor("kernel floor", kernel, directory, bridge="floor"),
            Empty("empty process", kernel, directory),
        ]
        times = run_interleaved(ways, repeats, turn)
        medians = {
            name: {verb: round(statistics.median(values) * 1000, 3) for verb, values in verbs.items()}
            for name, verbs in times.items()
        }
        result = {
            "machine": {
                "cpus": os.cpu_count(),
                "kernel": platform.release(),
                "python": platform.python_version(),
            },
            "repeats": repeats,
            "turn": turn,
            "median_ms": medians,
            "p90_ms": {
                name: {
                    verb: round(statistics.quantiles(values, n=10)[-1] * 1000, 3)
                    for verb, values in verbs.items()
                }
                for name, verbs in times.items()
            },
            "ratios": [ratio(medians, *pair) for pair in PAIRS],
            "allocation": [
                allocation.measure(count, pattern, ROUNDS)
                for pattern in allocation.PATTERNS
                for count in allocation.IN_USE
            ],
            "import_ms": import_ms(repeats),
            "daemon_kb": {"idle": idle, "after": memory_kb(daemon)},
        }
        for way in ways:
            kernel.delete_netns(way.netns)
    return result


def run_interleaved(ways: list[Way], repeats: int, turn: int) -> dict[str, dict[str, list[float]]]:
    """Run ADD and DEL of every way `repeats` times, `turn` in a row; the first round of turns only warms up."""
    times: dict[str, dict[str, list[float]]] = {way.name: {"ADD": [], "DEL": []} for way in ways}
    order = list(ways)
    chance = random.Random(1)
    gc.disable()
    for number in range(-(-repeats // turn) + 1):
        chance.shuffle(order)
        for way in (way for way in order for _ in range(turn)):
            start = time.perf_counter()
            way.add()
            middle = time.perf_counter()
            way.delete()
            end = time.perf_counter()
            if number:
                times[way.name]["ADD"].append(middle - start)
                times[way.name]["DEL"].append(end - middle)
    gc.enable()
    return times


def ratio(
    medians: dict[str, dict[str, float]], what: str, ours: str, theirs: str, goal: float | None
) -> dict[str, Any]:
    """Compare two ways; `goal` is the part of the other's ADD that ours may take."""
    add, delete = (medians[ours][verb] / medians[theirs][verb] for verb in ("ADD", "DEL"))
    return {
        "what": what, "ours": ours, "theirs": theirs, "ADD": round(add, 4), "DEL": round(delete, 4),
        "goal": goal and round(goal, 4), "reached": None if goal is None else add <= goal,
    }  # fmt: skip


def import_ms(repeats: int) -> dict[str, float]:
    """Give what imports add to the start of a bare Python."""
    programs = {
        "bare": "pass",
        "dovetail": "import dovetail",
        "engine": "import dovetail.cni.plugin, dovetail.engine.engine, dovetail.kernel.linux, dovetail.store.sqlite",
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(max(repeats // 2, 5)):
        for name, program in programs.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], check=True)
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) * 1000 for name, values in times.items()}
    return {name: round(medians[name] - medians["bare"], 1) for name in ("dovetail", "engine")}


def memory_kb(pid: int) -> int:
    """Give the resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def render(result: dict[str, Any]) -> str:
    """Give the result as text."""
    machine = result["machine"]
    lines = [
        "{} repeats in turns of {}, {cpus} CPUs, Linux {kernel}, Python {python}; milliseconds".format(
            result["repeats"], result["turn"], **machine
        ),
        "",
        f"{'':40}{'ADD p50':>9}{'p90':>9}{'DEL p50':>10}{'p90':>9}",
    ]
    for name, median in result["median_ms"].items():
        p90 = result["p90_ms"][name]
        lines.append(f"{name:40}{median['ADD']:9.2f}{p90['ADD']:9.2f}{median['DEL']:10.2f}{p90['DEL']:9.2f}")
    lines += ["", f"{'dovetail with daemon : Go plugins':40}{'ADD':>9}{'DEL':>9}"]
    for row in result["ratios"]:
        goal = "" if row["goal"] is None else f"   goal ADD 1 : {1 / row['goal']:.0f}"
        verdict = {True: ", reached", False: ", NOT reached", None: ""}[row["reached"]]
        lines.append(
            f"{row['what']:40}{'1 :':>4}{1 / row['ADD']:5.1f}{'1 :':>4}{1 / row['DEL']:5.1f}{goal}{verdict}"
        )
    lines += [
        "",
        f"{'an address, by the number in use':40}" + "".join(f"{n:>10,}" for n in allocation.IN_USE),
    ]
    for pattern in allocation.PATTERNS:
        rows = [row["allocate_ns"] / 1e6 for row in result["allocation"] if row["pattern"] == pattern]
        lines.append(f"{ALLOCATION[pattern]:40}" + "".join(f"{ms:10.3f}" for ms in rows))
    memory = result["daemon_kb"]
    lines += [
        "",
        "imports add to the start of Python: dovetail {} ms, the whole engine {} ms".format(
            *result["import_ms"].values()
        ),
        "the daemon has {} MB idle, {} MB after the run".format(*(kb // 1024 for kb in memory.values())),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
