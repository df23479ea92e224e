"""Random operations of Docker, a CNI runtime and the command line, with ``kill -9`` of both daemons among them.

At quiet points everything must be in order: see `Soak.check`. In the end all is removed, and the host must be as it was.
What is done comes from a seed, which a failure prints with the last operations. Threads and crashes have their
own timing, so the same seed does the same things and need not meet the same moment.

Short form: some 30 s. Long form: ``make soak MINUTES=20 SEED=…``.
"""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

GRACE_S = 3.0  # DOVETAIL_ORPHAN_GRACE: what nobody has claimed by then is removed
SHORT_S = 9.0
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")
HTTPD = ("bb", "httpd", "-f", "-h", "/www")
MOST = {"container": 7, "pod": 6, "sandbox": 4, "network": 6}
# a refusal that may come without any fault, when two operations of a round meet
MEETINGS = (
    r"active endpoints|is in use|has endpoints|being (made|deleted)|not found|No such|no network|is gone"
)
# what Docker 20.10 says by itself after kill -9: its containerd still has the task of the container that died, a
# removal that broke off stays half done
DOCKERS_OWN = r"task [0-9a-f]+: already exists|is marked for removal"
# and, where containers outlive it, once in some hundred rounds: it does not know of the interface that the container has, names
# the next one eth0 as well, and takes the first one's published ports back before it fails
FORGOTTEN = r'error renaming interface "dvc[0-9a-f]+" to "[a-z]+[0-9]+": file exists'


@dataclass
class Operation:
    """Something to do. alone: names that nobody else may touch meanwhile; beside: names that others may use too."""

    text: str
    act: Callable[[], Any]
    alone: set[str] = field(default_factory=set)
    beside: set[str] = field(default_factory=set)


@dataclass
class Scene:
    """What there is when a round begins."""

    containers: dict[str, dict[str, Any]]  # name -> as /containers/json has it
    docker_networks: set[str]
    networks: dict[str, dict[str, Any]]
    sandboxes: dict[str, set[str]]  # name -> networks


class Soak:
    """Does things at random, and knows what must hold."""

    def __init__(self, world: Any, seed: int, pod: Any, nobodys: Any, *, long: bool) -> None:
        self.world, self.docker, self.dovetail, self.host = world, world.docker, world.dovetail, world.host
        self.chance, self.long = random.Random(seed), long
        self.diary: deque[str] = deque(maxlen=400)
        self.counts: Counter[str] = Counter()
        self._pod, self._nobodys = pod, nobodys
        self._numbers = count(1)
        self._last = time.monotonic()
        self._fixed: dict[str, int] = {}  # container -> last octet of the address that it was started with

    # -- one round ------------------------------------------------------------------------------------------

    def round(self) -> None:
        """Do one to three things at once; now and then a daemon dies meanwhile, and comes back."""
        scene = self._look()
        operations = list(self._choose(scene, self.chance.randint(1, 3)))
        fault = self._choose_fault() if self.chance.random() < 0.15 else None
        mined = fault is not None and bool(fault.alone)
        if fault is not None and mined:
            self._meet(fault)
        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(self._perform, operation) for operation in operations]
            if fault is not None and not mined:
                threading.Event().wait(self.chance.uniform(0, 0.8))  # the moment is as random as the rest
                self._meet(fault)
            down_s = self.chance.choice([0.0, 0.2, 0.5, 1.0, 40.0 if self.long else 0.0])
            while mined and wait(futures, timeout=0.05).not_done:
                self._raise_the_dead(down_s)
            outcomes = [future.result() for future in futures]
        self._come_back(mined=mined)
        for operation, (status, words) in zip(operations, outcomes, strict=True):
            self.counts[operation.text.partition("  ")[0] + ("" if status == 0 else ", failed")] += 1
            allowed = status == 0 or fault or re.search(f"{MEETINGS}|{DOCKERS_OWN}|{FORGOTTEN}", words)
            assert allowed, f"{operation.text}: {words}"
            if re.search(FORGOTTEN, words):
                self._give_up(operation)
        self._last = time.monotonic()

    def _give_up(self, connecting: Operation) -> None:
        """Remove a container that Docker has lost track of."""
        self.counts["forgotten by Docker"] += 1
        for name in connecting.alone:
            self._note(f"{name} is forgotten by Docker")
            self.world.docker("rm", "-f", name)

    def _meet(self, fault: Operation) -> None:
        self._note(f"FAULT {fault.text}")
        self.counts[f"{fault.text}"] += 1
        fault.act()

    def _perform(self, operation: Operation) -> tuple[int, str]:
        self._note(f"begin {operation.text}")
        done = operation.act()
        words = (done.stderr or done.stdout).strip() if done.returncode else ""
        self._note(f"  end {operation.text}: {done.returncode} {words[-300:]}")
        return done.returncode, words

    def _note(self, line: str) -> None:
        self.diary.append(f"{time.strftime('%H:%M:%S')}.{int(time.time() * 1000) % 1000:03} {line}")

    def _look(self) -> Scene:
        api = self.docker.api
        containers = {c["Names"][0].strip("/"): c for c in api("GET", "/containers/json?all=1")}
        networks = {n["name"]: n for n in self.world.api("/v1/networks")}
        ours = {n["Name"] for n in api("GET", "/networks") if n["Driver"] == "dovetail"}
        sandboxes = {
            s["name"]: {e["network"] for e in s.get("endpoints", [])}
            for s in self.world.api("/v1/sandboxes")
            if s["face"] == "cli"
        }
        return Scene(containers, ours, networks, sandboxes)

    def _choose(self, scene: Scene, number: int) -> Iterator[Operation]:
        alone: set[str] = set()
        beside: set[str] = set()
        kinds = [getattr(self, name) for name in sorted(dir(self)) if name.startswith("do_")]
        tries = 0
        while number and tries < 50:
            tries += 1
            operation = self.chance.choice(kinds)(scene)
            if operation is None or operation.alone & (alone | beside) or operation.beside & alone:
                continue
            alone |= operation.alone
            beside |= operation.beside
            number -= 1
            yield operation

    # -- Docker -----------------------------------------------------------------------------------------------

    def _in_docker(self, *words: str, alone: set[str], beside: set[str] | None = None) -> Operation:
        text = f"docker {' '.join(words[:2] if words[0] == 'network' else words[:1])}  {' '.join(words)}"
        return Operation(text, lambda: self.docker.attempt(*words, timeout_s=180), alone, beside or set())

    def do_docker_run(self, scene: Scene) -> Operation | None:
        if len(scene.containers) >= MOST["container"] or not scene.docker_networks:
            return None
        number, network = next(self._numbers), self.chance.choice(sorted(scene.docker_networks))
        name = f"c{number}"
        port = ("-p", f"{20000 + number}:80") if self.chance.random() < 0.4 else ()
        again = ("--restart", "unless-stopped") if self.chance.random() < 0.3 else ()
        fixed = ("--ip", self._free_address(scene, name, network)) if self.chance.random() < 0.3 else ()
        place = ("--name", name, "--network", network, "--stop-timeout", "0")
        return self._in_docker(
            "run", "-d", *place, *port, *again, *fixed, *HTTPD, alone={name}, beside={network}
        )

    def _free_address(self, scene: Scene, name: str, network: str) -> str:
        """Choose an address that no container there has asked for; a crash must not keep it from its owner."""
        subnet = "10.88.0.0/24" if network == "web" else _subnet(int(network[1:]))
        taken = {self._fixed[other] for other in scene.containers if other in self._fixed}
        self._fixed[name] = self.chance.choice([octet for octet in range(200, 250) if octet not in taken])
        return subnet.replace(".0/24", f".{self._fixed[name]}")

    do_docker_run_too = do_docker_run_once_more = do_docker_run  # there is more that takes containers away

    def _container(self, scene: Scene, *states: str) -> str | None:
        names = [n for n, c in scene.containers.items() if not states or c["State"] in states]
        return self.chance.choice(sorted(names)) if names else None

    def _networks_of(self, scene: Scene, name: str) -> set[str]:
        return set(scene.containers[name]["NetworkSettings"]["Networks"])

    def do_docker_rm(self, scene: Scene) -> Operation | None:
        name = self._container(scene)
        return self._in_docker("rm", "-f", name, alone={name}) if name else None

    def do_docker_stop(self, scene: Scene) -> Operation | None:
        name = self._container(scene, "running")
        return self._in_docker("stop", "-t", "0", name, alone={name}) if name else None

    def do_docker_start(self, scene: Scene) -> Operation | None:
        name = self._container(scene, "exited", "created")
        return name and self._in_docker("start", name, alone={name}, beside=self._networks_of(scene, name))

    def do_docker_restart(self, scene: Scene) -> Operation | None:
        name = self._container(scene, "running")
        return name and self._in_docker(
            "restart", "-t", "0", name, alone={name}, beside=self._networks_of(scene, name)
        )

    def do_docker_connect(self, scene: Scene) -> Operation | None:
        name = self._container(scene)
        others = sorted(scene.docker_networks - self._networks_of(scene, name)) if name else []
        if not others:
            return None
        network = self.chance.choice(others)
        return self._in_docker("network", "connect", network, name, alone={name}, beside={network})

    def do_docker_disconnect(self, scene: Scene) -> Operation | None:
        name = self._container(scene)
        here = sorted(self._networks_of(scene, name)) if name else []
        if len(here) < 2:
            return None
        network = self.chance.choice(here)
        return self._in_docker("network", "disconnect", network, name, alone={name}, beside={network})

    def do_docker_network_create(self, scene: Scene) -> Operation | None:
        if len(scene.networks) >= MOST["network"]:
            return None
        number = next(self._numbers)
        name, subnet = f"d{number}", _subnet(number)
        v6 = ("--ipv6", "--subnet", f"fd00:{number:x}::/64") if self.chance.random() < 0.5 else ()
        inner = ("--internal",) if self.chance.random() < 0.2 else ()
        options = ("-o", f"dovetail.name={name}", "--subnet", subnet, *v6, *inner)
        return self._in_docker("network", "create", *OURS, *options, name, alone={name})

    def do_docker_network_rm(self, scene: Scene) -> Operation | None:
        used = {network for name in scene.containers for network in self._networks_of(scene, name)}
        free = sorted(scene.docker_networks - used - {"web"})
        if not free:
            return None
        name = self.chance.choice(free)
        return self._in_docker("network", "rm", name, alone={name})

    # -- CNI --------------------------------------------------------------------------------------------------

    def do_pod_add(self, scene: Scene) -> Operation | None:
        if len(self.world.pods) >= MOST["pod"]:
            return None
        name, network = f"p{next(self._numbers)}", self.chance.choice(sorted(scene.networks))

        def act() -> Any:
            self.host.run("ip", "netns", "add", name)
            pod = self.world.pods[name] = self._pod(name, network)
            return self.world.cni("ADD", pod)

        return Operation(f"cni ADD  {name} to {network}", act, {name}, {network})

    do_pod_add_too = do_pod_add

    def _pod_there(self) -> Any:
        names = sorted(self.world.pods)
        return self.world.pods[self.chance.choice(names)] if names else None

    def do_pod_del(self, scene: Scene) -> Operation | None:
        pod = self._pod_there()
        if pod is None:
            return None
        lost = self.chance.random() < 0.3  # the machine's runtime lost the namespace before it could call

        def act() -> Any:
            if lost:
                self.host.run("ip", "netns", "del", pod.name)
            return self._take_off(pod)

        return Operation(f"cni DEL  {pod.name}{' without its namespace' * lost}", act, {pod.name})

    def _take_off(self, pod: Any) -> Any:
        done = self.world.cni("DEL", pod)
        if done.returncode == 0:
            self.host.try_run("ip", "netns", "del", pod.name)
            del self.world.pods[pod.name]
        return done

    def do_pod_check(self, scene: Scene) -> Operation | None:
        pod = self._pod_there()
        if pod is None or not pod.result:
            return None
        return Operation(f"cni CHECK  {pod.name}", lambda: self.world.cni("CHECK", pod), {pod.name})

    def do_pods_gc(self, scene: Scene) -> Operation | None:
        pods = [pod for pod in self.world.pods.values() if pod.result]
        if not pods:
            return None
        network = self.chance.choice(sorted({pod.network for pod in pods}))
        mine = [pod for pod in self.world.pods.values() if pod.network == network]
        valid = [{"containerID": pod.name, "ifname": "eth0"} for pod in mine]
        sample = self._pod("gc", network)
        return Operation(
            f"cni GC  of {network}, {len(valid)} are valid",
            lambda: self.world.cni("GC", sample, **{"cni.dev/valid-attachments": valid}),
            {f"gc {network}", network},  # a pod that is added meanwhile is not in the list
        )

    # -- the command line -----------------------------------------------------------------------------------

    def _command(self, *words: str, alone: set[str], beside: set[str] | None = None) -> Operation:
        text = f"dovetail {' '.join(words[:2])}  {' '.join(words)}"
        return Operation(text, lambda: self.dovetail.try_cli(*words), alone, beside or set())

    def do_sandbox_create(self, scene: Scene) -> Operation | None:
        if len(scene.sandboxes) >= MOST["sandbox"]:
            return None
        name = f"s{next(self._numbers)}"
        return self._command("sandbox", "create", name, alone={name})

    def _sandbox(self, scene: Scene, *, connected: bool) -> str | None:
        names = sorted(name for name, networks in scene.sandboxes.items() if bool(networks) == connected)
        return self.chance.choice(names) if names else None

    def do_sandbox_connect(self, scene: Scene) -> Operation | None:
        name = self._sandbox(scene, connected=False)
        network = self.chance.choice(sorted(scene.networks))
        return name and self._command("network", "connect", network, name, alone={name}, beside={network})

    def do_sandbox_disconnect(self, scene: Scene) -> Operation | None:
        name = self._sandbox(scene, connected=True)
        network = self.chance.choice(sorted(scene.sandboxes[name])) if name else ""
        return name and self._command("network", "disconnect", network, name, alone={name}, beside={network})

    def do_sandbox_rm(self, scene: Scene) -> Operation | None:
        name = self._sandbox(scene, connected=self.chance.random() < 0.5)
        return name and self._command("sandbox", "rm", name, alone={name})

    def do_network_create(self, scene: Scene) -> Operation | None:
        if len(scene.networks) >= MOST["network"]:
            return None
        number = next(self._numbers)
        name, subnet = f"n{number}", _subnet(number)
        return self._command("network", "create", name, "--subnet", subnet, alone={name})

    def do_network_rm(self, scene: Scene) -> Operation | None:
        free = sorted(set(scene.networks) - scene.docker_networks - {"web"})
        name = self.chance.choice(free) if free else ""
        if not name or (scene.networks[name].get("endpoints") and self.chance.random() < 0.8):
            return None
        return self._command("network", "rm", name, alone={name})

    # -- faults ---------------------------------------------------------------------------------------------

    def _choose_fault(self) -> Operation:
        mine = f"{self.chance.choice(['docker', 'cni', 'cli'])}:+{self.chance.randint(1, 25)}=kill"
        faults = {
            "kill -9 dovetail": lambda: self._restart_dovetail(signal.SIGKILL),
            "kill -9 dovetail at a step": lambda: self._restart_dovetail(signal.SIGKILL, failpoint=mine),
            "restart dovetail": lambda: self._restart_dovetail(signal.SIGTERM),
            "kill -9 dockerd": lambda: self._restart_dockerd(signal.SIGKILL),
            "restart dockerd": lambda: self._restart_dockerd(signal.SIGTERM),
            "kill -9 both": self._kill_both,
            "nft delete table": lambda: self.host.try_run("nft", "delete", "table", "inet", "dovetail"),
        }
        if self.long:
            faults["kill -9 both, dockerd is first"] = lambda: self._kill_both(dockerd_first=True)
        text = self.chance.choice(list(faults))
        return Operation(text, faults[text], alone={mine} if text.endswith("step") else set())

    def _restart_dovetail(self, number: int, *, failpoint: str = "") -> None:
        if self.dovetail.running:
            self.dovetail.stop(number)
        self.dovetail.start(failpoint=failpoint)

    def _restart_dockerd(self, number: int) -> None:
        self.docker.stop(number)
        self.docker.start()

    def _kill_both(self, *, dockerd_first: bool = False) -> None:
        self.dovetail.stop(signal.SIGKILL)
        self.docker.stop(signal.SIGKILL)
        if not dockerd_first:
            self.dovetail.start()
            self.docker.start()
            return
        with ThreadPoolExecutor(1) as pool:
            starting = pool.submit(self.docker.start)
            wait([starting], timeout=self.chance.uniform(0, 4))
            self.dovetail.start()
            starting.result()

    def _raise_the_dead(self, down_s: float) -> None:
        """Start a daemon that died at its step, `down_s` later, as a supervisor does."""
        if not self.dovetail.running:
            self._note("dovetail died at its step")
            self.counts["died at its step"] += 1
            threading.Event().wait(down_s)
            self.dovetail.start()

    def _come_back(self, *, mined: bool) -> None:
        """After a fault: a daemon that died at its step is started, and the CNI runtime takes off what failed to be added."""
        if mined:
            self._raise_the_dead(0.0)
            self._restart_dovetail(signal.SIGTERM)
        for pod in [pod for pod in self.world.pods.values() if not pod.result]:
            done = self._take_off(pod)
            assert done.returncode == 0, f"cni DEL {pod.name}: {done.stdout}"

    # -- what must hold ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """See at a quiet point, when the grace is over and the daemon has looked around, that all is in order.

        What only Docker knows to be nobody's is shown to a person and removed by `dovetail gc`; then it is gone as well.
        """
        self._wait_for_grace(self._last)
        self._note("check")
        self._restart_dovetail(self.chance.choice([signal.SIGTERM, signal.SIGKILL]))
        look = self.world.look()
        problems = look.problems(self.chance, self.counts)
        problems += self._nobodys(self.host.run, str(self.host.dir / "state"), docker=True)
        assert problems == []
        if look.forgotten():
            self._note(f"forgotten by Docker: {look.forgotten()}")
            self.counts["forgotten by Docker, removed by gc"] += len(look.forgotten())
            # an endpoint that the daemon has just released leaves Docker its address, for a grace of its own
            self._wait_for_grace(time.monotonic())
            self.dovetail.cli("gc", "--yes")
            assert self.world.look().forgotten() == []
        self.counts["checks"] += 1

    def _wait_for_grace(self, since: float) -> None:
        threading.Event().wait(max(0.0, since + GRACE_S + 0.5 - time.monotonic()))

    # -- the end --------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Remove everything, each thing by those who made it."""
        self._note("end")
        for container in self._look().containers:
            self.docker("rm", "-f", container)
        for pod in list(self.world.pods.values()):
            assert self._take_off(pod).returncode == 0
        for name in self._look().sandboxes:
            self.dovetail.cli("sandbox", "rm", name)
        for name in self._look().docker_networks:
            self.docker("network", "rm", name)
        self._wait_for_grace(time.monotonic())
        self.dovetail.cli("gc", "--yes")
        for name in self._look().networks:
            self.dovetail.cli("network", "rm", name)

    def evidence(self) -> str:
        """Give what helps to understand a failure."""
        parts = {
            "last operations": "\n".join([*self.diary][-120:]),
            "trace": self.dovetail.try_cli("trace", "--last", "40").stdout,
            "dovetail's log": self.host.log("dovetail.log")[-6000:],
            "dockerd's log": "\n".join(self._complaints()[-30:]),
        }
        return "\n\n".join(f"---- {name}\n{text}" for name, text in parts.items())

    def _complaints(self) -> list[str]:
        return [line for line in self.host.log("dockerd.log").splitlines() if "level=info" not in line]


def _subnet(number: int) -> str:
    return f"10.{100 + number // 250}.{number % 250}.0/24"


@pytest.fixture(autouse=True)
def grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give what is in the making a short time; the daemon reads it when it starts."""
    monkeypatch.setenv("DOVETAIL_ORPHAN_GRACE", str(GRACE_S))


@pytest.fixture
def seed() -> int:
    """Give ``SOAK_SEED``, or another each time."""
    return int(os.environ.get("SOAK_SEED") or random.SystemRandom().randrange(1_000_000))


@pytest.fixture
def docker(dovetail_daemon: Any, make_dockerd: Any, seed: int) -> Any:
    """A dockerd, whose containers outlive it where the seed is odd."""
    return make_dockerd(*(("--live-restore",) if seed % 2 else ()))


def test_random_operations_and_crashes_leave_everything_in_order(
    world: Any,
    seed: int,
    pod: Any,
    nobodys: Any,
    footprint: Any,
    minutes: float | None,
    say: Callable[[str], None],
) -> None:
    soak = Soak(world, seed, pod, nobodys, long=minutes is not None)
    for program in ("iptables", "ip6tables"):  # what dovetail sets beside Docker, and leaves to it
        world.host.run(program, "-P", "FORWARD", "DROP")
    before = footprint()
    world.dovetail.cli("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    shared = ("-o", "dovetail.network=web", "--ipam-opt", "dovetail.network=web", "--ipv6")
    world.docker(
        "network", "create", *OURS, *shared, "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64", "web"
    )
    deadline = time.monotonic() + (minutes * 60 if minutes else SHORT_S)
    rounds = 0
    try:
        while time.monotonic() < deadline:
            soak.round()
            rounds += 1
            if rounds % 20 == 0:
                soak.check()
        soak.check()
        soak.end()
        assert before.differences(footprint()) == []
    except BaseException:
        say(f"soak: SEED={seed} failed in round {rounds}\n{soak.evidence()}")
        raise
    lines = [f"  {number:5} {what}" for what, number in sorted(soak.counts.items())]
    say("\n".join([f"soak: SEED={seed}, {rounds} rounds", *lines]))
