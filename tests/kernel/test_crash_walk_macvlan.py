"""kill -9 at each step on a macvlan network, which has nothing on the host to tell who is joined."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.model.addresses import parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec

pytestmark = pytest.mark.root
_LIMIT = 60
_WORDS = {
    "create": (
        *("network", "create", "lan", "-d", "macvlan", "-o", "parent=up0", "-o", "host_access=true"),
        *("--subnet", "10.6.0.0/24", "--ip-range", "10.6.0.128/25"),
    ),
    "rm": ("network", "rm", "lan"),
}
_LAN = NetworkSpec(
    name="lan",
    driver="macvlan",
    subnets=(SubnetSpec(subnet=parse_subnet("10.6.0.0/24"), ip_range=parse_subnet("10.6.0.128/25")),),
    options={"parent": "up0", "host_access": "true"},
)
Nobodys = Callable[..., list[str]]


@pytest.fixture
def town(installation: Any) -> Any:
    """Network ``web`` on the card `up0`, with a container that answers."""
    run = installation.host.run
    run("ip", "link", "add", "up0", "up", "type", "veth", "peer", "name", "wire0")
    run("ip", "link", "set", "wire0", "up")
    installation.start()
    installation.cli(
        "network", "create", "web", "-d", "macvlan", "-o", "parent=up0", "--subnet", "10.5.0.0/24"
    )
    (resident,) = installation.add("resident")
    installation.resident = resident
    return installation


def _deaths(town: Any, where: str, operation: Callable[[], Any], *, at_least: int) -> Iterator[None]:
    """Let the daemon die at each step from `where` on; no daemon runs when it yields."""
    for nth in range(_LIMIT):
        town.stop(signal.SIGKILL)
        town.start(DOVETAIL_FAILPOINT=f"{where}+{nth}=kill")
        operation()
        if town.survived():
            assert nth >= at_least, "the walk has left something out"
            return
        yield
    pytest.fail("the operation never came through")


def _links(town: Any, container: str) -> set[str]:
    return set(town.host.links(town.netns(container)))


def test_an_add_that_dies_with_its_daemon_leaves_nothing(town: Any, nobodys: Nobodys) -> None:
    for _ in _deaths(town, "cni:ADD", lambda: town.cni("ADD", "c1", fallback=False), at_least=8):
        town.start()
        assert nobodys(town.host.run, town.state_dir) == []
        town.delete("c1")
        assert _links(town, "c1") == {"lo"}
        (address,) = town.add("c1")
        assert town.pings("resident", address)
        town.delete("c1")
        assert nobodys(town.host.run, town.state_dir) == []


def test_a_del_that_dies_with_its_daemon_is_finished_in_the_end(town: Any, nobodys: Nobodys) -> None:
    def operation() -> None:
        town.add("c1")
        town.cni("DEL", "c1", fallback=False)

    for _ in _deaths(town, "cni:DEL", operation, at_least=3):
        town.start()
        assert nobodys(town.host.run, town.state_dir) == []
        town.delete("c1")
        assert _links(town, "c1") == {"lo"}
        assert town.pings("resident", town.resident)


@pytest.mark.parametrize("verb", ["create", "rm"])
def test_a_command_that_dies_leaves_a_network_or_none(town: Any, nobodys: Nobodys, verb: str) -> None:
    """Without a daemon: the next look finds what the command that died has left."""
    town.stop(signal.SIGKILL)
    engine = build_engine(state_dir=town.state_dir, run_dir=town.run_dir)

    for nth in range(_LIMIT):
        if verb == "rm":
            engine.networks.create(_LAN)
        status = _dies_at(town, f"cli:network {verb}+{nth}=kill", _WORDS[verb])
        assert engine.reconcile().failed == []
        assert nobodys(town.host.run, town.state_dir) == []
        for network in engine.networks.all():
            if network.name == "lan":
                engine.networks.delete("lan")
        assert set(town.host.links()) == {"lo", "up0", "wire0"}
        if status == 0:
            break
    assert nth >= {"create": 8, "rm": 4}[verb], "the walk has left something out"


def _dies_at(town: Any, failpoint: str, words: Sequence[str]) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "--state-dir", town.state_dir, "--run-dir", town.run_dir, *words],
        env={**os.environ, "DOVETAIL_FAILPOINT": failpoint},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode in {0, -signal.SIGKILL}, done.stderr
    return done.returncode
