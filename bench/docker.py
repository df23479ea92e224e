#!/usr/bin/env python3
"""Time a Docker Engine on dovetail and on its own bridge driver, in one run.

``docker network connect`` and ``disconnect`` of a running container go through the Engine's API, so that the start of the
command line (30 ms, the same for all) hides nothing; ``docker run --rm`` is the command as people give it. Each round gives
every network a turn, in random order; what counts are the ratios of the medians. ``--network none`` is the floor of a
``docker run``. Everything happens in a private host, which ends with the run. Needs root, dockerd and busybox.

usage: bench/docker.py [--rounds N] [--check] [--json FILE]
"""

from __future__ import annotations

import argparse
import gc
import http.client
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

INSIDE = "DOVETAIL_BENCH_INSIDE"
ROOT = Path(__file__).resolve().parents[1]
CGROUPS = Path("/sys/fs/cgroup")
BUSYBOX = "/bin/busybox"
READY_S = 60.0
TURN = 3  # connects and disconnects in a row, before another network's turn
AT_MOST = 1.05  # of Docker's own time: what two runs of the same thing differ by here
NETWORKS = {
    # name: what is measured, and how `docker network create` is told
    "native": ("Docker's own bridge driver", ()),
    "ours": ("dovetail", ("-d", "dovetail", "--ipam-driver", "dovetail")),
    "mixed": ("dovetail with Docker's own addresses", ("-d", "dovetail")),
}
RUNS = {
    # name: network and published ports of a `docker run`
    "none": ("--network", "none"),
    **{name: ("--network", name) for name in NETWORKS},
    "native, port": ("--network", "native", "-p", "18080:80"),
    "ours, port": ("--network", "ours", "-p", "18081:80"),
}
PAIRS = [
    # question; operation; which of its ways is ours, which theirs
    ("docker network connect", "connect", "ours", "native"),
    ("docker network disconnect", "disconnect", "ours", "native"),
    ("docker run", "run", "ours", "native"),
    ("docker run with a published port", "run", "ours, port", "native, port"),
    ("docker network connect, our IPAM : Docker's", "connect", "ours", "mixed"),
    ("docker run, our IPAM : Docker's", "run", "ours", "mixed"),
]
Times = dict[str, dict[str, list[float]]]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=20, help="of every way (default: 20)")
    parser.add_argument("--check", action="store_true", help="exit with 1 where Docker's own is faster")
    parser.add_argument("--json", metavar="FILE", help="write all numbers there, in milliseconds")
    arguments = parser.parse_args()
    missing = [program for program in ("dockerd", "docker", BUSYBOX) if shutil.which(program) is None]
    if os.geteuid() != 0 or missing:
        sys.stderr.write(f"bench: needs {' and '.join(missing) or 'root'}; the Docker part is left out\n")
        return 1
    if INSIDE not in os.environ:
        return enter_private_host()
    result = measure(arguments.rounds)
    sys.stdout.write(render(result))
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    reached = all(row["ratio"] <= AT_MOST for row in result["ratios"])
    return 0 if reached or not arguments.check else 1


def enter_private_host() -> int:
    """Run this program again in namespaces of its own."""
    command = [
        "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
        str(ROOT / "scripts" / "private-host"), sys.executable, *sys.argv,
    ]  # fmt: skip
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


class Engine:
    """A dockerd beside dovetail's daemon; both end with `stack`. It has image ``bb``, which is busybox."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self._socket = str(directory / "docker.sock")
        cgroup = f"dovetail-bench-{os.getpid()}"
        stack.callback(remove_cgroups, cgroup)
        self._start(
            stack, "dovetail", "--state-dir", str(directory / "state"), "--run-dir", str(directory / "run"),
            "daemon", "--docker-socket", self._socket,
        )  # fmt: skip
        self._start(
            stack, "dockerd", "--data-root", str(directory / "data"), "--exec-root", str(directory / "exec"),
            "-H", f"unix://{self._socket}", "--pidfile", str(directory / "pid"), "--cgroup-parent", f"/{cgroup}",
        )  # fmt: skip
        self._connection = http.client.HTTPConnection("docker")
        wait_for(self._answers)
        wait_for(lambda: Path("/run/docker/plugins/dovetail.sock").exists())
        self.docker("import", str(image(directory)), "bb")

    @staticmethod
    def _start(stack: ExitStack, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
        started = subprocess.Popen(
            [str(path), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        stack.callback(started.wait, 60)
        stack.callback(started.terminate)

    def _answers(self) -> bool:
        with suppress(OSError):
            self._connection.sock = socket.socket(socket.AF_UNIX)
            self._connection.sock.connect(self._socket)
            self.call("GET", "/version")
            return True
        return False

    def call(self, method: str, path: str, body: object = None) -> None:
        """Call the Engine's API over one lasting connection; raises where it fails."""
        payload = None if body is None else json.dumps(body)
        self._connection.request(method, f"/v1.41{path}", payload, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            message = f"{method} {path}: {answer.status} {text.decode()}"
            raise RuntimeError(message)

    def command(self, *arguments: str) -> list[str]:
        """Write a command line."""
        return [str(shutil.which("docker")), "-H", f"unix://{self._socket}", *arguments]

    def docker(self, *arguments: str) -> None:
        """Run a command; raises where it fails. With a timeout, Python would look for its end every 50 ms."""
        subprocess.run(self.command(*arguments), check=True, stdout=subprocess.DEVNULL)

    def run(self, *arguments: str) -> None:
        """``docker run --rm … true``."""
        self.docker("run", "--rm", *arguments, "bb", "true")


def wait_for(condition: Callable[[], bool]) -> None:
    """Poll until `condition` is true."""
    deadline = time.monotonic() + READY_S
    while not condition():
        if time.monotonic() > deadline:
            message = "dockerd or dovetail did not start"
            raise RuntimeError(message)
        time.sleep(0.05)


def image(directory: Path) -> Path:
    """Make a root file system with busybox."""
    tree = directory / "rootfs"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin" / "busybox")
    for applet in ("true", "sleep"):
        (tree / "bin" / applet).symlink_to("busybox")
    subprocess.run(["tar", "-C", str(tree), "-cf", str(directory / "rootfs.tar"), "."], check=True)
    return directory / "rootfs.tar"


def remove_cgroups(name: str) -> None:
    """Remove what dockerd made below the control groups of that name, under every controller."""
    for top in [*CGROUPS.glob(f"*/{name}"), CGROUPS / name]:
        for directory, _, _ in os.walk(top, topdown=False):
            with suppress(OSError):  # another controller's name for it
                os.rmdir(directory)


def measure(rounds: int) -> dict[str, Any]:
    """Make the networks, run everything interleaved, and give medians and ratios."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dovetail-bench-")))
        engine = Engine(directory, stack)
        for number, (name, (_, options)) in enumerate(NETWORKS.items()):
            engine.docker("network", "create", *options, "--subnet", f"10.{70 + number}.0.0/16", name)
        engine.docker("run", "-d", "--name", "c1", "bb", "sleep", "100000")
        stack.callback(engine.docker, "rm", "-f", "c1")
        times: Times = {"connect": {}, "disconnect": {}, "run": {}}
        chance = random.Random(1)
        gc.disable()
        for number in range(rounds + 1):
            if number == 1:  # the first round only warms up
                times = {operation: {} for operation in times}
            connect(engine, times, chance)
            run(engine, times, chance)
        gc.enable()
        median = {
            operation: {name: ms(statistics.median(values)) for name, values in ways.items()}
            for operation, ways in times.items()
        }
        return {
            "machine": {
                "cpus": os.cpu_count(),
                "kernel": platform.release(),
                "python": platform.python_version(),
                "docker": version(engine),
            },
            "rounds": rounds,
            "turn": TURN,
            "median_ms": median,
            "p90_ms": {
                operation: {name: ms(statistics.quantiles(v, n=10)[-1]) for name, v in ways.items()}
                for operation, ways in times.items()
            },
            "ratios": [
                {
                    "what": what, "operation": operation, "ours": ours, "theirs": theirs,
                    "ratio": round(median[operation][ours] / median[operation][theirs], 3),
                }
                for what, operation, ours, theirs in PAIRS
            ],
        }  # fmt: skip


def connect(engine: Engine, times: Times, chance: random.Random) -> None:
    """Connect the running container to each network and take it off again, `TURN` times in a row."""
    for name in chance.sample(list(NETWORKS), len(NETWORKS)):
        for _ in range(TURN):
            for operation in ("connect", "disconnect"):
                # what the kernel waits for ends with a tick of its clock (4 ms), so one operation right after
                # another would begin at the same moment between two ticks each time
                time.sleep(chance.uniform(0.002, 0.014))
                start = time.perf_counter()
                engine.call("POST", f"/networks/{name}/{operation}", {"Container": "c1"})
                times[operation].setdefault(name, []).append(time.perf_counter() - start)


def run(engine: Engine, times: Times, chance: random.Random) -> None:
    """Run a container in each way."""
    for name in chance.sample(list(RUNS), len(RUNS)):
        start = time.perf_counter()
        engine.run(*RUNS[name])
        times["run"].setdefault(name, []).append(time.perf_counter() - start)


def version(engine: Engine) -> str:
    """Give the version of dockerd."""
    command = engine.command("version", "--format", "{{.Server.Version}}")
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def ms(seconds: float) -> float:
    """Give milliseconds."""
    return round(seconds * 1000, 2)


def render(result: dict[str, Any]) -> str:
    """Give the result as text."""
    head = "{rounds} rounds, turns of {turn}; dockerd {machine[docker]}, {machine[cpus]} CPUs; milliseconds"
    lines = [head.format_map(result), "", f"{'':24}{'':34}{'p50':>9}{'p90':>9}"]
    for operation, ways in result["median_ms"].items():
        for name, median in ways.items():
            p90 = result["p90_ms"][operation][name]
            lines.append(f"docker {operation:17}{label(name):34}{median:9.1f}{p90:9.1f}")
    lines += ["", "dovetail's time as a part of Docker's own"]
    lines += [f"{row['what']:58}{row['ratio']:9.2f}" for row in result["ratios"]]
    return "\n".join([*lines, ""])


def label(name: str) -> str:
    """Say what is measured."""
    network, _, port = name.partition(", ")
    text = NETWORKS[network][0] if network in NETWORKS else "no network"
    return f"{text}{', a port' if port else ''}"


if __name__ == "__main__":
    sys.exit(main())
