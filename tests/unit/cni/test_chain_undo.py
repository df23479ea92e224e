"""A failure at any change of the kernel leaves kernel, store and files as they were: each plugin of a chain in turn."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dovetail.assembly import build_engine
from dovetail.cni.plugin import run
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore

_LIMIT = 60
MAPPINGS = [
    {"hostPort": 8080, "containerPort": 80},
    {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
]
RATES = {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000}


class Rig:
    """An engine on a recording kernel, called as a runtime calls it."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.kernel = RecordingKernel()
        self.store = SqliteStore(str(directory / "dovetail.db"))
        self.data_dir = directory / "networks"
        state_dir = directory / "state"
        state_dir.mkdir()
        self.engine = build_engine(
            state_dir=str(state_dir), run_dir=str(directory), kernel=self.kernel, store=self.store
        )
        self.result: Any = None

    def plugin(self, kind: str) -> dict[str, Any]:
        sets = [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]
        ipam = {"type": "host-local", "ranges": sets, "dataDir": str(self.data_dir)}
        plugins: dict[str, dict[str, Any]] = {
            "bridge": {
                "isDefaultGateway": True,
                "ipMasq": True,
                "hairpinMode": True,
                "bridge": "br0",
                "ipam": ipam,
            },
            "portmap": {"runtimeConfig": {"portMappings": MAPPINGS}},
            "firewall": {"ingressPolicy": "isolated"},
            "bandwidth": RATES,
        }
        return {"type": kind, **plugins[kind]}

    def call(self, verb: str, kind: str, *, ifname: str = "eth0", **keys: Any) -> tuple[int, Any]:
        config = {"cniVersion": "1.1.0", "name": "pods", **self.plugin(kind), **keys}
        if self.result is not None and "prevResult" not in keys:
            config["prevResult"] = self.result
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/run/netns/c1",
            "CNI_IFNAME": ifname,
            "CNI_PATH": "/no/such/directory",
        }
        outcome = run(environ, json.dumps(config).encode(), lambda: self.engine, plugin=kind)
        answer = json.loads(outcome.stdout) if outcome.stdout else None
        if outcome.status:
            assert answer["code"] not in {0, 999}
            assert "internal error" not in answer["msg"], answer
        return outcome.status, answer

    def add(self, *kinds: str) -> None:
        for kind in kinds:
            status, answer = self.call("ADD", kind)
            assert status == 0, answer
            self.result = answer

    def state(self) -> Any:
        """Give what there is; forwarding stays on, and so does the table, which others may need by then."""
        gone = {"ifindex": 0, "peer_ifindex": 0, "parent_ifindex": 0, "master": 0}
        found = []
        with self.kernel.inside(self.kernel.open_netns("/run/netns/c1")) as inner:
            for handle in (self.kernel, inner):
                links = sorted((link._replace(**gone) for link in handle.links()), key=lambda link: link.name)
                found.append((links, handle.addresses(), sorted(map(str, handle.routes()))))
        files = sorted(p.name for p in self.data_dir.rglob("*") if p.is_file() and p.name[0] != "l")
        parts = [(part.kind, part.owner, part.status, part.detail) for part in self.store.parts()]
        return found, self.kernel.nft_elements(), parts, sorted(map(str, self.store.published_ports())), files


def walk(
    tmp_path: Path, before: Callable[[Rig], None], operation: Callable[[Rig], tuple[int, Any]]
) -> Iterator[Rig]:
    """Do `operation` on rigs made new, with the first change of the kernel failing, the second and so on."""
    for nth in range(1, _LIMIT):
        rig = Rig(tmp_path / str(nth))
        before(rig)
        state = rig.state()
        rig.kernel.fail(at=nth)
        status, answer = operation(rig)
        rig.kernel.fail()
        if status == 0:
            assert nth > 1
            return
        assert answer["code"] == 5, answer
        yield rig
        assert rig.state() == state, f"change {nth}: {answer}"
    pytest.fail("it never came through")


CHAIN = ("bridge", "portmap", "firewall", "bandwidth")


@pytest.mark.parametrize("kind", CHAIN)
def test_a_failed_add_leaves_all_as_it_was(tmp_path: Path, kind: str) -> None:
    for _ in walk(
        tmp_path, lambda rig: rig.add(*CHAIN[: CHAIN.index(kind)]), lambda rig: rig.call("ADD", kind)
    ):
        pass


@pytest.mark.parametrize("kind", CHAIN[1:])
def test_a_failed_second_add_leaves_the_first(tmp_path: Path, kind: str) -> None:
    others = {"portmap": {"runtimeConfig": {"portMappings": [{"hostPort": 9090, "containerPort": 80}]}}}
    others["bandwidth"] = {**RATES, "ingressRate": 16_000_000}
    others["firewall"] = {"ingressPolicy": "open"}

    for _ in walk(
        tmp_path,
        lambda rig: rig.add(*CHAIN[: CHAIN.index(kind) + 1]),
        lambda rig: rig.call("ADD", kind, **others[kind]),
    ):
        pass


@pytest.mark.parametrize("kind", CHAIN)
def test_a_failed_del_can_be_repeated(tmp_path: Path, kind: str) -> None:
    for rig in walk_del(tmp_path, kind):
        for each in reversed(CHAIN):
            assert rig.call("DEL", each) == (0, None)
        state = rig.state()
        assert state[1:] == (set(), [], [], [])
        assert [link.name for link in state[0][0][0]] == ["br0", "lo"]


def walk_del(tmp_path: Path, kind: str) -> Iterator[Rig]:
    for nth in range(1, _LIMIT):
        rig = Rig(tmp_path / str(nth))
        rig.add(*CHAIN)
        rig.kernel.fail(at=nth)
        status, answer = rig.call("DEL", kind)
        rig.kernel.fail()
        yield rig
        if status == 0:
            return
        assert answer["code"] == 5, answer
    pytest.fail("it never came through")


def test_a_bridge_that_another_has_come_to_meanwhile_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path / "rig")
    rig.add("bridge")
    other = msgspec.structs.replace(rig.store.parts(kind="bridge")[0], attachment="f" * 64)
    rig.call("DEL", "bridge")
    rig.kernel.delete_links(["br0"])
    rig.result = None
    add_veth = rig.kernel.add_veth

    def add_and_be_joined(*args: Any) -> None:
        add_veth(*args)
        rig.store.put_part(other)  # as another process has just written it down
        rig.kernel.fail(at=1)

    monkeypatch.setattr(rig.kernel, "add_veth", add_and_be_joined)
    status, answer = rig.call("ADD", "bridge")
    rig.kernel.fail()

    assert (status, answer["code"]) == (1, 5)
    assert rig.kernel.link("br0") is not None
    assert [str(a) for _, a in rig.kernel.addresses("br0")] == ["10.50.0.1/24", "fd50::1/64"]
