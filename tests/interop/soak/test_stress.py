"""Many ``docker run --rm``, one after the other and all at once: no address twice, and nothing left.

Short form: 24 and 12. Long form (``make soak``): 200 and 50.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")
WEB = (*OURS, "-o", "dovetail.network=web", "--ipam-opt", "dovetail.network=web", "--ipv6")
FIRST_PORT = 20000
# what a container says of itself, from inside
SAY = "ip -o addr show dev eth0; cat /sys/class/net/eth0/address; echo said"
_PATIENCE_S = 180


class Said(NamedTuple):
    """What a container has found on its own interface."""

    addresses: list[str]
    mac: str


def _read(text: str) -> Said:
    """Read what `SAY` prints; link-local addresses are not given by anybody."""
    addresses = [a for a in re.findall(r" inet6? ([0-9a-f.:]+)/\d+", text) if not a.startswith("fe80:")]
    return Said(addresses, re.search(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}$", text, re.MULTILINE)[0])  # type: ignore[index]


@pytest.fixture
def networks(docker: Any, dovetail_daemon: Any) -> dict[str, set[str]]:
    """Two networks with the addresses that no container may have: one made for Docker, one made elsewhere."""
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    dovetail_daemon.cli("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    docker("network", "create", *WEB, "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64", "web")
    return {"one": {"10.77.0.1"}, "web": {"10.88.0.1", "fd88::1"}}


def _check(said: dict[str, Said], networks: dict[str, set[str]], *, at_once: bool) -> None:
    """See that each has an address of each family, that no address is a gateway's, and, `at_once`, that all differ."""
    for name, one in said.items():
        families = 2 if _network(name) == "web" else 1
        assert len(one.addresses) == families, f"{name}: {one}"
        assert not set(one.addresses) & networks[_network(name)], f"{name} has the gateway's address: {one}"
    if at_once:
        times = Counter(value for one in said.values() for value in (*one.addresses, one.mac))
        assert [value for value, count in times.items() if count > 1] == []


def _network(name: str) -> str:
    return "web" if int(name[1:]) % 2 else "one"


def _run(docker: Any, number: int, then: str) -> tuple[str, ...]:
    """Write the command line of container `number`: every second one publishes a port."""
    name = f"c{number}"
    port = ("-p", f"{FIRST_PORT + number}:80") if number % 4 < 2 else ()
    command = (
        "run",
        "--rm",
        "--name",
        name,
        "--network",
        _network(name),
        *port,
        "bb",
        "sh",
        "-c",
        f"{SAY}{then}",
    )
    return tuple(docker.command(*command))


def test_many_docker_runs_in_a_row_and_at_once_leave_nothing(
    docker: Any,
    dovetail_daemon: Any,
    networks: dict[str, set[str]],
    nobodys: Any,
    footprint: Any,
    minutes: float | None,
    say: Callable[[str], None],
) -> None:
    host, state_dir = docker.host, str(docker.host.dir / "state")
    in_a_row, at_once = (200, 50) if minutes else (24, 12)
    before = footprint()

    said = {f"c{n}": _read(host.run(*_run(docker, n, ""), timeout_s=_PATIENCE_S)) for n in range(in_a_row)}
    _check(said, networks, at_once=False)
    assert before.differences(footprint()) == []

    crowd = Crowd(docker, at_once)
    said = crowd.wait_for_all()
    _check(said, networks, at_once=True)
    assert len(dovetail_daemon.json("endpoint", "ls")) == at_once
    assert nobodys(host.run, state_dir, docker=True) == []
    assert crowd.unreachable_ports() == []
    full = footprint()
    crowd.end()

    assert before.differences(footprint()) == []
    assert nobodys(host.run, state_dir, docker=True) == []
    say(
        f"stress: {in_a_row} docker runs in a row, {at_once} at once\n"
        f"  with all running: {full.counts()}\n  before and after: {before.counts()}"
    )
    docker("network", "rm", "one", "web")
    dovetail_daemon.cli("network", "rm", "web")
    assert dovetail_daemon.left() == []


class Crowd:
    """Containers that were started all at once, and live until `end`."""

    def __init__(self, docker: Any, number: int) -> None:
        self._docker, self._host = docker, docker.host
        then = "; exec httpd -f -h /www"
        self._running: dict[str, subprocess.Popen[bytes]] = {
            f"c{n}": self._host.spawn(f"c{n}.log", *_run(docker, n, then)) for n in range(number)
        }

    def wait_for_all(self) -> dict[str, Said]:
        """Wait until each has said what it has."""

        def all_said() -> bool:
            for name, process in self._running.items():
                assert process.poll() is None, f"{name} ended: {self._host.log(f'{name}.log')}"
            return all("said" in self._host.log(f"{name}.log") for name in self._running)

        self._host.wait_for(all_said, timeout_s=_PATIENCE_S, what="all containers run")
        return {name: _read(self._host.log(f"{name}.log")) for name in self._running}

    def unreachable_ports(self) -> list[int]:
        """Give those of the published ports that do not answer on the host."""
        ports = [FIRST_PORT + n for n in range(len(self._running)) if n % 4 < 2]
        return [port for port in ports if self._host.get(f"http://127.0.0.1:{port}/") != "hello"]

    def end(self) -> None:
        """Kill all at once and wait until Docker has removed them."""
        self._docker("kill", *self._running)
        for name, process in self._running.items():
            status = process.wait(timeout=_PATIENCE_S)
            assert status == 137, f"{name}: exit {status}: {self._host.log(f'{name}.log')}"
        self._host.wait_for(lambda: not self._docker("ps", "-aq"), timeout_s=_PATIENCE_S)
