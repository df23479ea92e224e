#!/usr/bin/env python3
"""Time the CNI plugins beside Debian's Go plugins: each type, and the chain bridge(ipMasq) → portmap → firewall → tuning.

Four ways of running them take turns in random order, each in a network namespace of its own that plays the host: Go's,
ours executed with a daemon, ours executed without one, and ours in one process. What counts are the ratios of the medians.
ADD, CHECK and DEL one at a time, and at 16 places at once (the time until the last is done); 100 pods removed at once; and
what ADD number 10,000 costs beside number 10. Everything happens in a private host, which ends with the run. Needs root.

usage: bench/plugins.py [--repeats N] [--turn N] [--check] [--json FILE]
       bench/plugins.py --only CASE …   prints one case and nothing of the goals
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from plugin_cases import CHAIN, PLACES, all_cases
from plugin_filler import PREPARED
from plugin_worker import WAYS, Times
from run import INSIDE, enter_private_host

__all__ = ["main"]

PODS = 100
PODS_ROUNDS = 3
NUMBERS = (10, 10_000)
SLOW = "fallback"  # takes one repeat a turn, and at 16 places the chain only, twice
SLOW_ROUNDS = 2
GOALS = [
    # (what, way, how it is run, verb, at most this part of Go's)
    ("four executables, ADD", "daemon", "one", "ADD", 1 / 10),
    ("four executables, DEL", "daemon", "one", "DEL", 1 / 5),
    ("in one process, ADD", "process", "one", "ADD", 1 / 30),
    ("in one process, DEL", "process", "one", "DEL", 1 / 6),
]
Medians = dict[str, dict[str, dict[str, dict[str, float]]]]  # case, way, how, verb: milliseconds


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20, help="of each (default: 20)")
    parser.add_argument("--turn", type=int, default=4, help="in a row before another's turn (default: 4)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal is not reached")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there, in milliseconds")
    parser.add_argument("--only", metavar="CASE", action="append", help="a case, as the table names it")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.stderr.write("bench: needs root, as it makes links and namespaces (in a private host)\n")
        return 1
    if INSIDE not in os.environ:
        return enter_private_host()
    result = measure(arguments.repeats, max(arguments.turn, 1), only=arguments.only)
    sys.stdout.write(render(result))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    reached = all(goal["reached"] for goal in result["goals"])
    return 0 if reached or not arguments.check else 1


class Asked:
    """A worker process in a network namespace of its own, see `plugin_worker.py`; it ends with `stack`."""

    def __init__(self, way: str, directory: Path, stack: ExitStack) -> None:
        directory.mkdir()
        program = str(Path(__file__).with_name("plugin_worker.py"))
        self._log = stack.enter_context((directory / "log").open("w+", encoding="utf-8"))
        self._process = subprocess.Popen(
            ["unshare", "--net", sys.executable, program, way, str(directory)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
        )  # fmt: skip
        stack.callback(self._end)

    def ask(self, question: str, *arguments: object) -> Times:
        """Ask, and wait for the answer; raises RuntimeError with what went wrong."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None  # noqa: PT018
        stdin.write(json.dumps([question, arguments]) + "\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            self._log.seek(0)
            raise RuntimeError(self._log.read())
        answer: Times = json.loads(line)
        if "failed" in answer:
            message = f"{question} {arguments}: {answer['failed']}"
            raise RuntimeError(message)
        return answer

    def _end(self) -> None:
        with self._process:
            pass  # the end of its standard input is what it waits for


def measure(repeats: int, turn: int, *, only: list[str] | None = None) -> dict[str, Any]:
    """Start the four ways, run everything interleaved, and give medians and what they say of the goals.

    only: the cases, without what else there is.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dovetail-bench-")))
        workers = {way: Asked(way, directory / way, stack) for way in WAYS}
        names = only or [case.name for case in all_cases(directory)]
        chance = random.Random(1)
        times = run_interleaved(workers, names, repeats, turn, chance)
        pods = run_pods(workers, 0 if only else min(repeats, PODS_ROUNDS), chance)
        numbers = () if only else NUMBERS
        growing = {str(number): Asked("process", directory / str(number), stack) for number in numbers}
        growth = run_growth(growing, repeats, turn, chance)
    medians: Medians = {
        name: {
            way: {
                how: {verb: _ms(values) for verb, values in times[name, way, how].items()}
                for how in ("one", "at once")
                if (name, way, how) in times
            }
            for way in WAYS
        }
        for name in names
    }
    pods_ms = {way: _ms(values) for way, values in pods.items() if values}
    growth_ms = {
        number: {verb: _ms(values) for verb, values in found.items()} for number, found in growth.items()
    }
    return {
        "machine": {
            "cpus": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "repeats": repeats,
        "turn": turn,
        "places": PLACES,
        "median_ms": medians,
        "pods": {"count": PODS, "median_ms": pods_ms},
        "growth": {"prepared": PREPARED, "median_ms": growth_ms},
        "goals": [] if only else judge(medians, pods_ms, growth_ms),
    }


def run_interleaved(
    workers: dict[str, Asked], names: list[str], repeats: int, turn: int, chance: random.Random
) -> dict[tuple[str, str, str], Times]:
    """Give the ways a turn after another in each case, `repeats` of each; the first round only warms up."""
    times: dict[tuple[str, str, str], Times] = {}
    turns = [(name, how) for name in names for how in ("one", "at once")]
    for number in range(-(-repeats // turn) + 1):
        for name, how in chance.sample(turns, len(turns)):
            for way in chance.sample(list(workers), len(workers)):
                if way == SLOW and how == "at once" and (name != CHAIN or number > SLOW_ROUNDS):
                    continue
                count = 1 if not number or how == "at once" or way == SLOW else turn
                found = workers[way].ask("turn" if how == "one" else "crowd", name, count)
                if number:
                    _add(times.setdefault((name, way, how), {}), found)
    return times


def run_pods(workers: dict[str, Asked], rounds: int, chance: random.Random) -> dict[str, list[float]]:
    """Remove 100 pods at once, by each way in turn."""
    ways = [way for way in workers if way != SLOW]
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in chance.sample(ways, len(ways)):
            times[way] += workers[way].ask("pods", PODS)["DEL"]
    return times


def run_growth(workers: dict[str, Asked], repeats: int, turn: int, chance: random.Random) -> dict[str, Times]:
    """ADD with 9 attachments there and with 9,999, in turns; each is deleted again."""
    times: dict[str, Times] = {number: {} for number in workers}
    for number, worker in workers.items():
        worker.ask("fill", int(number) - 1)
        worker.ask("turn", CHAIN, turn)
    for _ in range(-(-2 * repeats // turn)):
        for number in chance.sample(list(workers), len(workers)):
            _add(times[number], workers[number].ask("turn", CHAIN, turn))
    return times


def judge(
    medians: Medians, pods: dict[str, float], growth: dict[str, dict[str, float]]
) -> list[dict[str, Any]]:
    """Compare what was measured with what is wanted."""
    chain = medians[CHAIN]
    found = [
        _goal(f"{CHAIN}, {what}", chain[way][how][verb] / chain["go"][how][verb], most)
        for what, way, how, verb, most in GOALS
    ]
    found += [
        _goal(f"{PODS} pods removed at once, {what}", pods[way] / pods["go"], 1 / 10)
        for way, what in (("daemon", "four executables each"), ("process", "in one process"))
    ]
    slowest = max(
        (ways["daemon"][how][verb] / go, f"{name} {verb}, {how}")
        for name, ways in medians.items()
        for how, verbs in ways["go"].items()
        for verb, go in verbs.items()
    )
    found.append(_goal(f"the slowest verb with a daemon ({slowest[1]})", slowest[0], 1.0))
    first, last = (growth[str(number)]["ADD"] for number in NUMBERS)
    found.append(_goal("ADD number 10,000 of the chain : number 10", last / first, 1.2))
    return found


def _goal(what: str, ratio: float, most: float) -> dict[str, Any]:
    return {"what": what, "ratio": round(ratio, 4), "at_most": round(most, 4), "reached": ratio <= most}


def _add(times: Times, found: Times) -> None:
    for verb, values in found.items():
        times.setdefault(verb, []).extend(values)


def _ms(values: list[float]) -> float:
    return round(statistics.median(values) * 1000, 3)


def render(result: dict[str, Any]) -> str:
    """Give the result as text."""
    ways = {"go": "Go", "daemon": "daemon", "process": "process", "fallback": "no daemon"}
    lines = [
        "{} repeats in turns of {}, {cpus} CPUs, Linux {kernel}, Python {python}; milliseconds, and parts of Go's".format(
            result["repeats"], result["turn"], **result["machine"]
        )
    ]
    for how, title in (("one", "one at a time"), ("at once", f"at {result['places']} places at once")):
        lines += ["", f"{title:24}" + "".join(f"{text:>10}{'':8}" for text in ways.values())]
        for name, found in result["median_ms"].items():
            for verb, go in found["go"][how].items():
                cells = [
                    f"{found[way][how][verb]:10.2f}{_part(found[way][how][verb] / go):>8}"
                    if how in found[way]
                    else " " * 18
                    for way in ways
                ]
                lines.append(f"{name + ' ' + verb:24}" + "".join(cells))
    if not result["goals"]:
        return "\n".join([*lines, ""])
    pods = result["pods"]["median_ms"]
    lines += ["", f"{result['pods']['count']} pods removed at once: "]
    lines[-1] += ", ".join(f"{ways[way]} {ms:.0f}" for way, ms in pods.items())
    growth = result["growth"]["median_ms"]
    lines += [f"ADD number {number} of the chain: {found['ADD']:.2f}" for number, found in growth.items()]
    lines += ["", f"{'goals':64}{'is':>8}{'at most':>10}"]
    for goal in result["goals"]:
        verdict = "" if goal["reached"] else "   NOT reached"
        lines.append(f"{goal['what']:64}{_part(goal['ratio']):>8}{_part(goal['at_most']):>10}{verdict}")
    return "\n".join([*lines, ""])


def _part(ratio: float) -> str:
    return f"1/{1 / ratio:.1f}" if ratio < 1 else f"{ratio:.2f}"


if __name__ == "__main__":
    sys.exit(main())
