"""Configurations as types: what is read, what is refused by its place, and that the documented keys are the ones that are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from dovetail.assembly import build_engine
from dovetail.cni.conf import Conf, keys_of, read_conf
from dovetail.cni.errors import CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugin import run
from dovetail.cni.plugins import PLUGINS, plugin_type
from dovetail.engine.engine import Engine
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore

RESULT = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "br0"}, {"name": "eth0", "sandbox": "/run/netns/none"}],
    "ips": [{"address": "10.0.0.2/24", "interface": 1}],
}


class Example(Conf, frozen=True, kw_only=True):
    """One key of each type."""

    is_gateway: Annotated[bool, "yes or no"] = True
    name: Annotated[str, "a name"] = "cni0"
    mtu: Annotated[int | Literal["auto"], "a size"] = 0
    mode: Annotated[Literal["", "l2", "l3"], "a mode"] = ""
    gateways: Annotated[tuple[str, ...], "addresses"] = ()
    length: Annotated[int | None, "a length"] = None


@pytest.mark.cni(13)
def test_a_key_matches_in_any_case_and_a_missing_or_null_one_is_its_default() -> None:
    found = read_conf(Folded({"ISGATEWAY": False, "Name": None, "mtu": "auto", "gateways": ["a"]}), Example)

    assert (found.is_gateway, found.name, found.mtu, found.gateways) == (False, "cni0", "auto", ("a",))
    assert (found.mode, found.length) == ("", None)


@pytest.mark.parametrize(
    ("document", "place"),
    [
        ({"isGateway": 1}, r"\$\.isGateway: expected true or false"),
        ({"name": []}, r"\$\.name: expected a string"),
        ({"mtu": "big"}, r"\$\.mtu: expected a whole number"),
        ({"mode": "l4"}, r"\$\.mode: unknown mode 'l4'"),
        ({"gateways": [1]}, r"\$\.gateways: expected strings"),
        ({"length": 1.5}, r"\$\.length: expected a whole number"),
    ],
)
def test_a_value_of_another_type_is_refused_by_its_place(document: dict[str, Any], place: str) -> None:
    with pytest.raises(CniError, match=place) as caught:
        read_conf(Folded(document), Example)
    assert caught.value.code == 7


def test_keys_are_described_as_they_are_written() -> None:
    described = {key.name: (key.accepts, key.default) for key in keys_of(Example)}

    assert described == {
        "isGateway": ("true or false", "true"),
        "name": ("text", "cni0"),
        "mtu": ("a whole number, or `auto`", "0"),
        "mode": ("`l2`, `l3`", ""),
        "gateways": ("a list of texts", ""),
        "length": ("a whole number", ""),
    }


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    store = SqliteStore(":memory:")
    (tmp_path / "state").mkdir()
    yield build_engine(
        state_dir=str(tmp_path / "state"), run_dir=str(tmp_path), kernel=RecordingKernel(), store=store
    )
    store.close()


def documented() -> list[tuple[str, str]]:
    kinds = {name: plugin_type(name) for name in PLUGINS}
    return [(name, key.name) for name, kind in kinds.items() if kind for key in keys_of(kind.conf)]


@pytest.mark.parametrize(("plugin", "key"), documented())
def test_each_documented_key_is_one_that_the_plugin_reads(plugin: str, key: str, engine: Engine) -> None:
    """A plugin that reads a key refuses a value that no key takes, naming the key."""
    kind = plugin_type(plugin)
    assert kind is not None
    ipam: dict[str, Any] = {"type": plugin, "subnet": "10.0.0.0/24"} if kind.where == "$.ipam" else {}
    wrong: Any = 1.5
    config = {"cniVersion": "1.1.0", "name": "n", "type": plugin, "prevResult": RESULT}
    config |= {"ipam": {**ipam, key: wrong}} if ipam else {"ipam": {"type": "static"}, key: wrong}

    outcome = run(
        {"CNI_COMMAND": "STATUS", "CNI_PATH": ""}, json.dumps(config).encode(), lambda: engine, plugin=plugin
    )

    assert outcome.status == 1, outcome
    error = json.loads(outcome.stdout)
    assert f".{key}" in error["msg"], error
