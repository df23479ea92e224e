"""32 processes at once on one network: no address twice, nothing left, nothing refused that could succeed."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

pytestmark = pytest.mark.root
_MANY = 32
_FIRST_PORT = 9000
Begin: TypeAlias = Callable[[], Callable[[], str]]


class Crowd:
    """Containers and sandboxes that come and go all at once.

    Every other one is a CNI container; the rest are sandboxes joined from the command line, and containers of a
    Docker Engine where there is a daemon.
    """

    def __init__(self, installation: Any, way: str, engine: Any) -> None:
        self._installation = installation
        self._way = way
        self._engine = engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.delete_network()

    def face(self, number: int) -> str:
        return ("cni", "sandbox", "cni", "sandbox" if self._way == "alone" else "docker")[number % 4]

    def prepare(self, numbers: range) -> None:
        """Make the namespaces: that is not what is tested here."""
        for number in numbers:
            name = self.name(number)
            netns = self._installation.netns(name)
            if self.face(number) == "sandbox":
                self._installation.cli("sandbox", "create", name, "--netns", netns)

    @staticmethod
    def name(number: int) -> str:
        return f"c{number}"

    def change(self, *, come: range = range(0), go: range = range(0)) -> None:
        """Let all of `come` and `go` happen at once, each in a process (Docker's: on a thread), and wait."""
        doings = sorted([(number, "ADD") for number in come] + [(number, "DEL") for number in go])
        waiting = [(doing, self._prepare(*doing)) for doing in doings]
        going = [(doing, begin()) for doing, begin in waiting]
        failures = [(doing, failure) for doing, finish in going if (failure := finish())]
        assert failures == []

    def _prepare(self, number: int, verb: str) -> Begin:
        """Give what begins the change at once, which gives what waits for its end and for what went wrong."""
        face, name, port = self.face(number), self.name(number), _FIRST_PORT + number
        # every second one of each face works by itself: it sees no daemon in its run directory
        alone = self._way == "mixed" and number % 8 < 4
        if face == "docker":
            return lambda: _on_thread(
                *((self._engine.start, name, port) if verb == "ADD" else (self._engine.stop, name))
            )
        if face == "sandbox":
            words = (
                ("connect", "web", name, "-p", f"{port}:80") if verb == "ADD" else ("disconnect", "web", name)
            )
            # a run directory that has not been seen before: the command begins with a reconciliation
            run_dir = f"{self._installation.elsewhere}-{name}" if alone else ""
            return lambda: _finish(self._installation.spawn("network", *words, run_dir=run_dir))
        environment = {"DOVETAIL_RUN_DIR": self._installation.elsewhere} if alone else {}
        plugin = self._installation.spawn_cni(verb, name, ports=[(port, 80)], **environment)

        def begin() -> Callable[[], str]:
            self._installation.release(plugin)
            return lambda: _failure(*self._installation.outcome(plugin))

        return begin


def _failure(status: int, result: object) -> str:
    return f"exit {status}: {result}" if status else ""


def _finish(command: Any) -> Callable[[], str]:
    def finish() -> str:
        said = command.communicate(timeout=120)
        return _failure(command.returncode, said)

    return finish


def _on_thread(call: Callable[..., object], *arguments: object) -> Callable[[], str]:
    failures: list[str] = []

    def work() -> None:
        try:
            call(*arguments)
        except Exception as exc:
            failures.append(f"{type(exc).__name__}: {exc}")

    thread = threading.Thread(target=work)
    thread.start()

    def finish() -> str:
        thread.join(timeout=120)
        return "".join(failures)

    return finish


@pytest.fixture(params=[("daemon", "bridge"), ("alone", "bridge"), ("mixed", "bridge"), ("mixed", "ptp")])
def crowd(request: Any, installation: Any, make_docker_engine: Any) -> Iterator[Crowd]:
    way, driver = request.param
    if way != "alone":
        installation.start()
    # 61 addresses for endpoints: at most 48 are held, so not one may be lost on the way
    subnets = ("--subnet", "10.88.0.0/26", "--subnet", "fd88::/64")
    installation.cli("network", "create", "web", "-d", driver, *subnets)
    engine = make_docker_engine() if way != "alone" else None
    if engine is not None:
        engine.create_network("", "fd88::/64", network="web")
    yield Crowd(installation, way, engine)


def test_32_at_once_come_and_go(crowd: Crowd, installation: Any, nobodys: Any) -> None:
    first, second = range(_MANY), range(_MANY, _MANY + _MANY // 2)
    crowd.prepare(range(_MANY + _MANY // 2))

    crowd.change(come=first)
    _check(crowd, installation, nobodys, here=first)
    crowd.change(come=second, go=first[: _MANY // 2])
    _check(crowd, installation, nobodys, here=range(_MANY // 2, second.stop))
    crowd.change(go=range(_MANY // 2, second.stop))
    _check(crowd, installation, nobodys, here=range(0))

    crowd.close()


def _check(crowd: Crowd, installation: Any, nobodys: Any, *, here: range) -> None:
    addresses = {crowd.name(number): installation.addresses(crowd.name(number)) for number in here}
    assert [name for name, found in addresses.items() if len(found) != 2] == []
    times = Counter(address for found in addresses.values() for address in found)
    assert [address for address, count in times.items() if count > 1] == []
    assert nobodys(installation.host.run, installation.state_dir) == []
    links = installation.host.links()
    assert len([name for name in links if name.startswith("dvh")]) == len(here)
    assert [name for name in links if name.startswith("dvc")] == []
    published = installation.host.nft("list", "map", "inet", "dovetail", "publish4")[1]["map"].get("elem", [])
    assert {key["concat"][1] for key, _ in published} == {_FIRST_PORT + number for number in here}


@pytest.mark.parametrize("way", ["daemon", "alone"])
def test_what_there_is_once_goes_to_one_of_many(installation: Any, nobodys: Any, way: str) -> None:
    """A port, and the last addresses of a pool: each goes to somebody, and the rest are told why not."""
    if way == "daemon":
        installation.start()
    installation.cli("network", "create", "web", "--subnet", "10.88.0.0/28")
    same = [installation.spawn_cni("ADD", f"p{number}", ports=[(8080, 80)]) for number in range(8)]
    outcomes = _all_at_once(installation, same)
    assert sorted(result.get("code", 0) for _, result in outcomes) == [0] + [103] * 7

    many = [installation.spawn_cni("ADD", f"c{number}") for number in range(16)]
    outcomes = _all_at_once(installation, many)
    assert sorted(result.get("code", 0) for _, result in outcomes) == [0] * 12 + [102] * 4
    assert nobodys(installation.host.run, installation.state_dir) == []

    gone = [
        installation.spawn_cni("DEL", f"{kind}{n}")
        for kind, count in (("p", 8), ("c", 16))
        for n in range(count)
    ]
    assert {status for status, _ in _all_at_once(installation, gone)} == {0}
    assert nobodys(installation.host.run, installation.state_dir) == []
    assert [name for name in installation.host.links() if name.startswith("dvh")] == []


def test_one_container_that_is_added_and_deleted_at_once_ends_whole(installation: Any, nobodys: Any) -> None:
    """As a runtime does that gives up on an ADD and calls DEL, while the ADD goes on."""
    installation.start()
    installation.cli("network", "create", "web", "--subnet", "10.88.0.0/24")
    for ways in ((0, 1), (1, 0), (0, 0)):  # through the daemon, or by itself
        calls = [
            installation.spawn_cni(
                verb,
                "c1",
                ports=[(8080, 80)],
                **({"DOVETAIL_RUN_DIR": installation.elsewhere} if ways[number % 2] else {}),
            )
            for number, verb in enumerate(("ADD", "DEL") * 4)
        ]
        codes = {(result or {}).get("code", 0) for _, result in _all_at_once(installation, calls)}
        assert codes <= {0, 104}
        assert nobodys(installation.host.run, installation.state_dir) == []
        installation.delete("c1")


def _all_at_once(installation: Any, calls: list[Any]) -> list[tuple[int, Any]]:
    for call in calls:
        installation.release(call)
    return [installation.outcome(call) for call in calls]
