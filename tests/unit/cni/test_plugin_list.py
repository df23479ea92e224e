"""A list of plugins in one process does what its plugins do one by one, as a runtime executes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dovetail.assembly import build_engine
from dovetail.cni.errors import CniError
from dovetail.cni.plugin import run
from dovetail.cni.plugin_list import PluginList
from dovetail.cni.spec.registry import SUPPORTED, render
from dovetail.errors import PortInUse
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore

PORTS = {
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "mac": "02:00:00:00:00:63",
}


class Rig:
    """An engine on a recording kernel."""

    def __init__(self, directory: Path) -> None:
        (directory / "state").mkdir(parents=True)
        self.kernel = RecordingKernel()
        self.engine = build_engine(
            state_dir=str(directory / "state"),
            run_dir=str(directory),
            kernel=self.kernel,
            store=SqliteStore(":memory:"),
        )
        self.data_dir = str(directory / "networks")
        ipam = {
            "type": "host-local",
            "ranges": [[{"subnet": "10.50.0.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0", "priority": 7}],
            "dataDir": self.data_dir,
        }
        self.plugins: list[dict[str, Any]] = [
            {"type": "bridge", "bridge": "br0", "isGateway": True, "ipMasq": True, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall"},
            {
                "type": "tuning",
                "mtu": 1400,
                "dataDir": str(directory / "tuning"),
                "capabilities": {"mac": True, "portMappings": False},
            },
        ]

    def environ(self, container: str = "c1") -> dict[str, str]:
        return {"CNI_CONTAINERID": container, "CNI_NETNS": f"/run/netns/{container}", "CNI_IFNAME": "eth0"}

    def one_by_one(self, verb: str, version: str, result: Any) -> Any:
        """Run the plugins as a runtime executes them: ADD hands each result on, the others have the last."""
        for plugin in reversed(self.plugins) if verb == "DEL" else self.plugins:
            given = {k: PORTS[k] for k, declared in plugin.get("capabilities", {}).items() if declared}
            config = {**plugin, "cniVersion": version, "name": "pods", "runtimeConfig": given}
            config |= {"prevResult": result} if result else {}
            outcome = run(
                {**self.environ(), "CNI_COMMAND": verb},
                msgspec.json.encode(config),
                lambda: self.engine,
                plugin=plugin["type"],
            )
            assert outcome.status == 0, outcome.stdout
            result = msgspec.json.decode(outcome.stdout) if verb == "ADD" else result
        return result

    def told(self) -> list[str]:
        """Give what the kernel has been told since this was asked last, whoever's store it is in."""
        commands = [command.replace(self.engine.core.store.id, "ID") for command in self.kernel.commands]
        self.kernel.commands.clear()
        return commands


@pytest.fixture
def rigs(tmp_path: Path) -> Iterator[tuple[Rig, Rig]]:
    yield Rig(tmp_path / "1"), Rig(tmp_path / "2")


@pytest.mark.parametrize("version", SUPPORTED)
def test_it_does_and_says_what_its_plugins_do_one_by_one(rigs: tuple[Rig, Rig], version: str) -> None:
    first, second = rigs
    whole = PluginList(first.engine, "pods", version, first.plugins)

    made = whole.add(first.environ(), capability_args=PORTS)
    printed = second.one_by_one("ADD", version, None)

    assert render(made, version) == printed
    assert first.told() == second.told()
    if version not in {"0.1.0", "0.2.0", "0.3.0", "0.3.1"}:
        whole.check(first.environ(), made, capability_args=PORTS)

    whole.delete(first.environ(), made, capability_args=PORTS)
    second.one_by_one("DEL", version, printed)

    assert first.told() == second.told()
    assert first.engine.parts.all() == []
    assert sorted(path.name for path in Path(first.data_dir, "pods").glob("10.*")) == []


def test_it_serves_one_attachment_after_another_each_with_its_own_capability_arguments(
    rigs: tuple[Rig, Rig],
) -> None:
    rig, _ = rigs
    whole = PluginList(rig.engine, "pods", "1.1.0", rig.plugins)
    whole.add(rig.environ("c1"), capability_args=PORTS)

    without = whole.add(rig.environ("c2"))
    with pytest.raises(PortInUse):
        whole.add(rig.environ("c3"), capability_args=PORTS)
    whole.delete(rig.environ("c3"), None)

    assert [str(ip.address) for ip in without.ips] == ["10.50.0.3/24"]
    assert {part.owner.container for part in rig.engine.parts.all()} == {"c1", "c2"}
    assert [part.owner.container for part in rig.engine.parts.all() if part.kind == "portmap"] == ["c1"]


def test_delete_needs_no_result_and_no_namespace(rigs: tuple[Rig, Rig]) -> None:
    rig, _ = rigs
    whole = PluginList(rig.engine, "pods", "1.1.0", rig.plugins)
    whole.add(rig.environ(), capability_args=PORTS)

    whole.delete({**rig.environ(), "CNI_NETNS": ""}, None)
    whole.delete({**rig.environ(), "CNI_NETNS": ""}, None)

    assert rig.engine.parts.all() == []


def test_check_says_what_differs(rigs: tuple[Rig, Rig]) -> None:
    rig, _ = rigs
    whole = PluginList(rig.engine, "pods", "1.1.0", rig.plugins)
    made = whole.add(rig.environ(), capability_args=PORTS)
    whole.delete(rig.environ(), made)

    with pytest.raises(CniError) as refused:
        whole.check(rig.environ(), made, capability_args=PORTS)

    assert refused.value.code == 105


@pytest.mark.parametrize(
    ("version", "plugins", "code", "place"),
    [
        ("1.1.0", [], 7, "$.plugins"),
        ("1.1.0", [{"type": "bridge", "bridge": "br0"}, {"type": "portmat"}], 7, "$.plugins[1].type"),
        ("1.1.0", [{"type": "bridge", "mtu": "many"}], 7, "$.plugins[0].mtu"),
        ("3.0.0", [{"type": "bridge"}], 1, "incompatible"),
    ],
)
def test_a_list_that_cannot_be_is_refused_before_anything_is_done(
    rigs: tuple[Rig, Rig], version: str, plugins: list[dict[str, Any]], code: int, place: str
) -> None:
    with pytest.raises(CniError) as refused:
        PluginList(rigs[0].engine, "pods", version, plugins)

    assert refused.value.code == code
    assert place in refused.value.msg
