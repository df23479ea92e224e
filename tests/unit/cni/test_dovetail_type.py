"""What the `dovetail` type reads of a runtime's words, over a recording kernel."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cni.plugin import Outcome, run
from dovetail.engine.engine import Engine
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.addresses import parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.model.routes import parse_routes
from dovetail.store.sqlite import SqliteStore


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine with network ``web``."""
    store = SqliteStore(str(tmp_path / "dovetail.db"))
    (tmp_path / "state").mkdir()
    engine = build_engine(
        state_dir=str(tmp_path / "state"), run_dir=str(tmp_path), kernel=RecordingKernel(), store=store
    )
    engine.networks.create(
        NetworkSpec(name="web", subnets=(SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),))
    )
    yield engine
    store.close()


def add(engine: Engine, *, more: dict[str, Any] | None = None, **runtime: Any) -> Outcome:
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_PATH": "/opt/cni/bin",
    }
    config = {"cniVersion": "1.0.0", "name": "pods", "type": "dovetail", "network": "web"}
    body = json.dumps(config | {"runtimeConfig": runtime} | (more or {})).encode()
    return run(environment, body, lambda: engine)


@pytest.mark.parametrize("aliases", [["db", "sql"], {"pods": ["db", "sql"]}, {"PODS": ["db", "sql"]}])
def test_aliases_are_a_list_or_podmans_list_under_the_configurations_name(
    engine: Engine, aliases: object
) -> None:
    outcome = add(engine, aliases=aliases)

    assert outcome.status == 0, outcome.stdout
    assert [endpoint.aliases for endpoint in engine.endpoints.all()] == [("db", "sql")]


@pytest.mark.parametrize(
    ("aliases", "where"),
    [("db", "$.runtimeConfig.aliases"), ({"pods": "db"}, "$.runtimeConfig.aliases.pods"), ([1], "strings")],
)
def test_aliases_of_another_form_are_refused_by_their_place(
    engine: Engine, aliases: object, where: str
) -> None:
    outcome = add(engine, aliases=aliases)

    error = json.loads(outcome.stdout)
    assert (error["code"], where in error["msg"]) == (7, True)
    assert list(engine.endpoints.all()) == []


def test_sysctls_of_the_interface_are_set_as_tuning_would(engine: Engine) -> None:
    sysctl = {"net.ipv4.conf.IFNAME.forwarding": "1"}

    outcome = add(engine, more={"sysctl": sysctl})

    assert outcome.status == 0, outcome.stdout
    assert [endpoint.sysctls for endpoint in engine.endpoints.all()] == [sysctl]


@pytest.mark.parametrize(
    ("sysctl", "told"),
    [
        ({"net.ipv4.ip_forward": "1"}, "net.ipv4.ip_forward"),
        ({"net.ipv4.conf.IFNAME.forwarding": 1}, "expected strings"),
        ("x", "expected an object"),
    ],
)
def test_other_sysctls_are_refused_and_leave_nothing(engine: Engine, sysctl: object, told: str) -> None:
    outcome = add(engine, more={"sysctl": sysctl})

    error = json.loads(outcome.stdout)
    assert (error["code"], told in error["msg"]) == (7, True), error
    assert list(engine.endpoints.all()) == []


def test_the_networks_routes_are_in_the_result_behind_the_default_one(engine: Engine) -> None:
    engine.networks.create(
        NetworkSpec(
            name="lan",
            subnets=(SubnetSpec(subnet=parse_subnet("10.91.0.0/24")),),
            routes=parse_routes("10.0.0.0/8 via 10.91.0.254, 10.99.0.0/16"),
        )
    )

    outcome = add(engine, more={"network": "lan"})

    assert json.loads(outcome.stdout)["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "10.91.0.1"},
        {"dst": "10.99.0.0/16"},
        {"dst": "10.0.0.0/8", "gw": "10.91.0.254"},
    ]
