"""kill -9 at each step of an operation: afterwards everything belongs to somebody, and the next operation succeeds.

The steps are those of the trace, and the moments at which something is in the database for good (see
`failpoint` in ``assembly.py``). The walks end where the operation comes through, so they take in every step
that is added. Two containers talk to each other, to their gateway and through a published port all the while.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
_LIMIT = 80
_PORTS = ((8080, 80),)
Nobodys = Callable[..., list[str]]


@pytest.fixture
def town(request: Any, installation: Any) -> Iterator[Any]:
    """Network ``web``, of driver bridge or of the one a test says, with two containers that talk.

    One of them is published at port 8000.
    """
    installation.start()
    subnets = ("--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    installation.cli("network", "create", "web", "-d", getattr(request, "param", "bridge"), *subnets)
    addresses = installation.add("resident", ports=[(8000, 80)])
    installation.add("neighbour")
    with (
        installation.greeting("resident", 80),
        installation.talking("neighbour", *addresses, "10.88.0.1", "fd88::1"),
    ):
        yield installation


def _deaths(town: Any, where: str, operation: Callable[[], Any], *, at_least: int) -> Iterator[Any]:
    """Let the daemon die at each step from `where` on; yields what `operation` gave then.

    No daemon runs then, unless `operation` has started one. Ends when none has died, with one that will not.
    """
    for nth in range(_LIMIT):
        town.stop(signal.SIGKILL)
        town.start(DOVETAIL_FAILPOINT=f"{where}+{nth}=kill")
        pid = town.pid
        outcome = operation()
        if town.survived() and town.pid == pid:
            assert nth >= at_least, "the walk has left something out"
            town.stop(signal.SIGKILL)
            town.start()
            return
        yield outcome
    pytest.fail("the operation never came through")


def _check(town: Any, nobodys: Nobodys, **options: Any) -> None:
    assert nobodys(town.host.run, town.state_dir, **options) == []
    assert town.greeted(8000) == "resident"


def test_an_add_whose_daemon_dies_is_finished_by_the_plugin_itself(town: Any, nobodys: Nobodys) -> None:
    for status, result in _deaths(town, "cni:ADD", lambda: town.cni("ADD", "c1", ports=_PORTS), at_least=8):
        _check(town, nobodys)
        if status == 0:
            assert town.addresses("c1") == sorted(ip["address"] for ip in result["ips"])
        else:  # all of it was done, only the answer was lost
            assert (status, result["code"]) == (1, 104)
        town.start()
        _check(town, nobodys)
        town.delete("c1")


by_either_driver = pytest.mark.parametrize("town", ["bridge", "ptp"], indirect=True)


@by_either_driver
def test_an_add_that_dies_with_its_daemon_leaves_nothing(town: Any, nobodys: Nobodys) -> None:
    def operation() -> None:
        town.cni("ADD", "c1", ports=_PORTS, fallback=False)

    for _ in _deaths(town, "cni:ADD", operation, at_least=8):
        town.start()
        _check(town, nobodys)
        town.delete("c1")
        address, _ = town.add("c1", ports=_PORTS)
        assert town.pings("neighbour", address)
        _check(town, nobodys)
        town.delete("c1")


def test_a_del_whose_daemon_dies_is_finished_by_the_plugin_itself(town: Any, nobodys: Nobodys) -> None:
    def operation() -> None:
        town.add("c1", ports=_PORTS)
        town.delete("c1")

    for _ in _deaths(town, "cni:DEL", operation, at_least=3):
        _check(town, nobodys)
        town.start()
        _check(town, nobodys)


@by_either_driver
def test_a_del_that_dies_with_its_daemon_can_be_repeated(town: Any, nobodys: Nobodys) -> None:
    def operation() -> None:
        town.add("c1", ports=_PORTS)
        town.cni("DEL", "c1", fallback=False)

    for _ in _deaths(town, "cni:DEL", operation, at_least=3):
        town.start()
        _check(town, nobodys)
        town.delete("c1")
        _check(town, nobodys)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_a_plugin_that_dies_on_its_own_is_cleaned_up_after(town: Any, nobodys: Nobodys, verb: str) -> None:
    """By the runtime's next call without a daemon, and by the daemon's start."""
    town.stop(signal.SIGKILL)

    def dies(nth: int) -> bool:
        if verb == "DEL":
            town.add("c1", ports=_PORTS)
        status, result = town.cni(verb, "c1", ports=_PORTS, DOVETAIL_FAILPOINT=f"cni:{verb}+{nth}=kill")
        assert status in {0, -signal.SIGKILL}, result
        return bool(status)

    for nth in range(_LIMIT):
        if not dies(nth):
            break
        town.delete("c1")
        _check(town, nobodys)

        assert dies(nth)
        town.start()
        _check(town, nobodys)
        town.delete("c1")
        town.stop(signal.SIGKILL)
    assert nth >= {"ADD": 8, "DEL": 3}[verb], "the walk has left something out"


@pytest.fixture
def engine(town: Any, make_docker_engine: Callable[[], Any]) -> Any:
    """What plays dockerd; when the daemon dies it is started again before the retry."""
    made = make_docker_engine()
    made.on_broken = lambda: town.wait() and town.start()
    return made


def test_a_docker_network_whose_daemon_dies_can_be_made_again(
    town: Any, nobodys: Nobodys, engine: Any, refused: type[Exception]
) -> None:
    def operation() -> bool:
        try:
            engine.create_network("10.77.0.0/24")
        except refused:
            return False
        return True

    for came_through in _deaths(town, "docker:IpamDriver.RequestPool", operation, at_least=12):
        _check(town, nobodys, docker=True)
        if not came_through:
            engine.create_network("10.77.0.0/24")
        engine.delete_network()
        _check(town, nobodys)


@pytest.mark.cnm(17)
def test_a_docker_start_whose_daemon_dies_is_undone_or_finished(
    town: Any, nobodys: Nobodys, engine: Any, refused: type[Exception]
) -> None:
    engine.create_network("", "fd88::/64", network="web")

    def operation() -> bool:
        try:
            engine.start("c1", 8080)
        except refused:
            return False
        return True

    for came_through in _deaths(town, "docker:IpamDriver.RequestAddress", operation, at_least=12):
        _check(town, nobodys, docker=True)
        if not came_through:
            engine.start("c1", 8080)
        assert town.pings("neighbour", town.addresses("c1")[0])
        engine.stop("c1")
        _check(town, nobodys, docker=True)

    engine.stop("c1")
    engine.delete_network()
    town.stop(signal.SIGKILL)
    town.start(DOVETAIL_ORPHAN_GRACE="0")
    _check(town, nobodys)


def test_a_docker_stop_whose_daemon_dies_is_finished_in_the_end(
    town: Any, nobodys: Nobodys, engine: Any
) -> None:
    engine.create_network("", "fd88::/64", network="web")

    def operation() -> None:
        engine.start("c1", 8080)
        engine.stop("c1")

    for _ in _deaths(town, "docker:NetworkDriver.RevokeExternalConnectivity", operation, at_least=6):
        _check(town, nobodys, docker=True)

    engine.delete_network()
    town.stop(signal.SIGKILL)
    town.start(
        DOVETAIL_ORPHAN_GRACE="0"
    )  # dockerd asks for nothing a second time: what it has lost is ours to find
    _check(town, nobodys)


def test_the_walks_would_see_what_has_no_owner(town: Any, nobodys: Nobodys) -> None:
    address = town.add("c1", ports=_PORTS)[0].partition("/")[0]
    town.stop(signal.SIGKILL)
    with sqlite3.connect(f"{town.state_dir}/dovetail.db") as database:
        database.execute("DELETE FROM endpoints WHERE name = 'c1'")
        database.execute("DELETE FROM ports WHERE host_port = 8080")

    found = nobodys(town.host.run, town.state_dir)

    assert any(each.startswith(f"address {address}") for each in found)
    assert any("link dvh" in each for each in found)
    assert f"element publish4 tcp 8080 {address} 80 belongs to nobody" in found
    town.start()
    _check(town, nobodys)


@pytest.mark.parametrize("way", ["daemon", "alone"])
def test_the_first_add_after_a_reboot_finds_everything_repaired(
    installation: Any, nobodys: Nobodys, way: str
) -> None:
    installation.cli("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    installation.add("c1", ports=_PORTS)
    _reboot(installation)

    if way == "daemon":
        installation.start()
    installation.add("c2", ports=_PORTS)

    assert installation.pings("c2", "10.88.0.1")
    assert nobodys(installation.host.run, installation.state_dir) == []
    with installation.greeting("c2", 80):
        assert installation.greeted(8080) == "c2"


def _reboot(installation: Any) -> None:
    """Take away what a reboot takes away, and let the rows be of another boot."""
    host = installation.host
    for name in [name for name in host.links() if name.startswith("dv")]:
        host.run("ip", "link", "del", name, check=False)  # one end of a pair takes the other along
    host.run("nft", "delete", "table", "inet", "dovetail")
    shutil.rmtree(installation.run_dir)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with sqlite3.connect(f"{installation.state_dir}/dovetail.db") as database:
        for table in ("endpoints", "sandboxes"):
            database.execute(f"UPDATE {table} SET doc = replace(doc, ?, 'another')", (boot_id,))
        database.execute("UPDATE addresses SET boot_id = 'another'")
