"""One way of running plugins, in a network namespace of its own that plays the host: a process that `plugins.py` asks.

A question is a line of JSON on standard input, the answer one on standard output. What takes the time is the plugins'
alone, but for some 10 µs in which each configuration is put together.
"""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import msgspec
from plugin_cases import BASE, CHAIN, PARENT, PLACES, Case, all_cases, base
from plugin_filler import fill
from subjects import GO, VERSION, dovetail, execute, start_daemon

from dovetail.assembly import build_engine
from dovetail.cni.errors import CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugin_list import PluginList
from dovetail.cni.spec.registry import parse, render
from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError
from dovetail.kernel.linux import LinuxKernel

__all__ = ["WAYS", "Worker", "main"]

Times = dict[str, list[float]]
WAYS = {
    "go": "Debian's Go plugins",
    "daemon": "dovetail's executables, with a daemon",
    "fallback": "dovetail's executables, without a daemon",
    "process": "dovetail in one process, as its own runtime does",
}


class Place:
    """A namespace that plays a container, and the results of what was added there."""

    def __init__(self, number: int, directory: Path, bin_dir: str) -> None:
        self.number = number
        self.netns = str(directory / f"place{number}")
        self.results: dict[str, bytes] = {}
        self.environment = {
            "PATH": os.environ["PATH"],
            "CNI_CONTAINERID": f"{number:064x}",
            "CNI_NETNS": self.netns,
            "CNI_PATH": bin_dir,
        }


class Worker:
    """Runs lists of plugins as a CNI runtime does: ADD and CHECK forwards with prevResult, DEL backwards."""

    def __init__(self, way: str, directory: Path, stack: ExitStack) -> None:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        kernel = LinuxKernel()
        link = ["ip", "link", "add", PARENT, "up", "type", "veth", "peer", "name", "parent1"]
        subprocess.run(link, check=True)
        subprocess.run(["ip", "link", "set", "parent1", "up"], check=True)
        self.directory = directory
        self.cases = {case.name: case for case in all_cases(directory)}
        self.engine: Engine | None = None
        self._kernel = kernel
        self._chance = random.Random(way)
        self._stack = stack
        self._bin_dir = GO if way == "go" else str(directory / "bin")
        self._base = base(directory)
        self._places: list[Place] = []
        self._crowds: dict[int, ThreadPoolExecutor] = {}
        if way != "go":
            dovetail(directory, "cni", "install", "--bin-dir", self._bin_dir)
        if way == "daemon":
            start_daemon(directory, stack)
        if way == "process":
            run_dir, state_dir = str(directory / "run"), str(directory / "state")
            self.engine = build_engine(state_dir=state_dir, run_dir=run_dir)
        self._lists: dict[str, PluginList] = {}

    # -- what is asked for ------------------------------------------------------------------------------

    def turn(self, name: str, count: int) -> Times:
        """ADD, CHECK and DEL of a case at one place, `count` times in a row."""
        return self._rounds(self.cases[name], self.places(1), count)

    def crowd(self, name: str, count: int) -> Times:
        """ADD at 16 places at once, then CHECK, then DEL: the time until the last is done."""
        return self._rounds(self.cases[name], self.places(PLACES), count)

    def pods(self, count: int) -> Times:
        """ADD `count` chains, 16 at a time, then remove all of them at once."""
        case, places = self.cases[CHAIN], self.places(count)
        for first in range(0, count, PLACES):
            self._at_once("ADD", case, places[first : first + PLACES])
        times: Times = {"DEL": []}
        self._pool(count)
        self._time(times["DEL"], partial(self._at_once, "DEL", case, places))
        return times

    def fill(self, count: int) -> Times:
        """Write down `count` attachments of the chain, see `plugin_filler.py`."""
        case, (place,) = self.cases[CHAIN], self.places(1)
        engine = self.engine
        assert engine is not None
        self.do("ADD", case, place)
        network = case.conf(0, place.number)["name"]
        fill(engine, engine.core.store.parts(network=network), self.directory / "host-local" / network, count)
        self.do("DEL", case, place)
        return {}

    # -- pieces -----------------------------------------------------------------------------------------

    def do(self, verb: str, case: Case, place: Place) -> None:
        """Run one verb of a list."""
        if self.engine is not None:
            self._do_here(verb, case, place)
            return
        indices = list(range(len(case.plugins)))
        if verb == "DEL":
            indices.reverse()
        result = place.results.get(case.name, b"") if verb != "ADD" else b""
        if case.based:
            result = place.results[BASE]
        environment = {**place.environment, "CNI_COMMAND": verb, "CNI_IFNAME": case.ifname}
        for index in indices:
            conf = case.conf(index, place.number)
            kind = conf["type"]
            if verb == "CHECK" and kind in case.unchecked:
                continue
            stdin = msgspec.json.encode({**conf, "prevResult": msgspec.Raw(result)} if result else conf)
            output = execute(f"{self._bin_dir}/{kind}", stdin, environment)
            if verb == "ADD":
                result = output
        if verb == "ADD":
            place.results[case.name] = result

    def _do_here(self, verb: str, case: Case, place: Place) -> None:
        """Do the same in this process. What a runtime keeps of a result and reads again is text here too."""
        if case.name not in self._lists:
            self._lists[case.name] = self._plugin_list(case)
        plugins = self._lists[case.name]
        environment = {**place.environment, "CNI_IFNAME": case.ifname}
        before = place.results.get(BASE if case.based else case.name, b"")
        known = before and (case.based or verb != "ADD")
        result = parse(Folded(msgspec.json.decode(before)), VERSION) if known else None
        given = case.capability_args(place.number)
        try:
            if verb == "ADD":
                made = plugins.add(environment, result=result, capability_args=given)
                place.results[case.name] = msgspec.json.encode(render(made, VERSION))
            elif verb == "CHECK":
                plugins.check(environment, result, capability_args=given, without=frozenset(case.unchecked))
            else:
                plugins.delete(environment, result, capability_args=given)
        except (CniError, DovetailError, ExceptionGroup) as exc:
            raise RuntimeError(f"{case.name} {verb}: {exc}") from exc

    def places(self, count: int) -> list[Place]:
        """Give the first `count` places, made as they are needed."""
        while len(self._places) < count:
            place = Place(len(self._places), self.directory, self._bin_dir)
            self._kernel.create_netns(place.netns).close()
            self._stack.callback(self._kernel.delete_netns, place.netns)
            self._places.append(place)
        return self._places[:count]

    def _rounds(self, case: Case, places: list[Place], count: int) -> Times:
        times: Times = {verb: [] for verb in case.verbs}
        for _ in range(count):
            if case.based:
                self._lay(places, fresh=case.fresh)
            for verb in case.verbs:
                action = self._at_once if len(places) > 1 else self._alone
                self._time(times[verb], partial(action, verb, case, places))
        return times

    def _lay(self, places: list[Place], *, fresh: bool) -> None:
        """Give the places the interface that plugins of the second kind get."""
        for place in places:
            if fresh and BASE in place.results:
                self.do("DEL", self._base, place)
                del place.results[BASE]
            if BASE not in place.results:
                self.do("ADD", self._base, place)

    def _alone(self, verb: str, case: Case, places: list[Place]) -> None:
        self.do(verb, case, places[0])

    def _at_once(self, verb: str, case: Case, places: list[Place]) -> None:
        list(self._pool(len(places)).map(lambda place: self.do(verb, case, place), places))

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        """Give as many threads; they have been started."""
        if threads not in self._crowds:
            pool = self._crowds[threads] = self._stack.enter_context(ThreadPoolExecutor(threads))
            list(pool.map(lambda _: time.sleep(0.05), range(threads)))
        return self._crowds[threads]

    def _time(self, times: list[float], action: Callable[[], None]) -> None:
        gc.collect()
        # what the kernel waits for ends with a tick of its clock (4 ms), so one verb right after another would begin
        # at the same moment between two ticks each time
        time.sleep(self._chance.uniform(0.002, 0.014))
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)

    def _plugin_list(self, case: Case) -> PluginList:
        assert self.engine is not None
        return PluginList(self.engine, case.network, VERSION, case.plugins)


def main() -> None:
    """Answer until standard input ends. Arguments: the way, and a directory of its own."""
    way, directory = sys.argv[1], Path(sys.argv[2])
    with ExitStack() as stack:
        worker = Worker(way, directory, stack)
        gc.disable()
        for line in sys.stdin:
            question, arguments = json.loads(line)
            try:
                answer = getattr(worker, question)(*arguments)
            except RuntimeError as exc:
                answer = {"failed": str(exc)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
