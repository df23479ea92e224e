"""A reconciliation may run beside any operation (the daemon's, or that of a command): it must do no harm.

Each operation is walked: at one step after another a second engine on the same kernel and rows reconciles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine
from dovetail.engine.trace import Step
from dovetail.model.addresses import parse_subnet
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.model.port import parse_publish
from dovetail.model.sandbox import Sandbox
from dovetail.store.sqlite import SqliteStore

_LIMIT = 80
_ENDPOINT = "e" * 64
Operation = Callable[[Any], object]


def _network(rig: Any, driver: str = "bridge") -> None:
    subnets = (parse_subnet("10.88.0.0/24"), parse_subnet("fd88::/64"))
    specs = tuple(SubnetSpec(subnet=s, version=s.version) for s in subnets)
    rig.engine.networks.create(NetworkSpec(name="web", driver=driver, subnets=specs))


def _ptp(rig: Any) -> None:
    _network(rig, "ptp")


def _attach(rig: Any) -> None:
    rig.attach(publish="8080:80")


def _detach(rig: Any) -> None:
    rig.engine.endpoints.detach(rig.store.endpoints()[0].id)


def _create(rig: Any) -> None:
    owner = Owner(face="docker", network="n1")
    rig.engine.endpoints.create("web", EndpointSpec(id=_ENDPOINT, owner=owner))


def _join(rig: Any) -> None:
    sandbox = Sandbox(id="box", name="box", netns="/run/docker/netns/box", face="docker")
    rig.engine.endpoints.join(_ENDPOINT, sandbox=sandbox, netns=None, ifname="eth")


def _publish(rig: Any) -> None:
    rig.engine.endpoints.publish(_ENDPOINT, (parse_publish("8080:80"),)[0])


def _leave(rig: Any) -> None:
    rig.engine.endpoints.leave(_ENDPOINT)


_OPERATIONS: dict[str, tuple[tuple[Operation, ...], Operation]] = {
    "create network": ((), _network),
    "delete network": ((_network,), lambda rig: rig.engine.networks.delete("web")),
    "attach": ((_network,), _attach),
    "detach": ((_network, _attach), _detach),
    "create endpoint": ((_network,), _create),
    "join": ((_network, _create), _join),
    "publish": ((_network, _create, _join), _publish),
    "unpublish": (
        (_network, _create, _join, _publish),
        lambda rig: rig.engine.endpoints.unpublish(_ENDPOINT),
    ),
    "leave": ((_network, _create, _join, _publish), _leave),
    "delete endpoint": ((_network, _create, _join, _publish, _leave), _detach),
    "create ptp network": ((), _ptp),
    "delete ptp network": ((_ptp,), lambda rig: rig.engine.networks.delete("web")),
    "attach to ptp": ((_ptp,), _attach),
    "detach from ptp": ((_ptp, _attach), _detach),
    "join ptp": ((_ptp, _create), _join),
    "leave ptp": ((_ptp, _create, _join, _publish), _leave),
    "create sandbox": ((), lambda rig: rig.engine.sandboxes.create("box")),
    "delete sandbox": (
        (lambda rig: rig.engine.sandboxes.create("box"),),
        lambda rig: rig.engine.sandboxes.delete("box"),
    ),
}


_JOINED = ("attach", "join", "publish", "unpublish", "attach to ptp", "join ptp")
_STATUS = dict.fromkeys(_JOINED, "joined") | dict.fromkeys(
    ("create endpoint", "leave", "leave ptp"), "created"
)


@pytest.mark.parametrize("name", _OPERATIONS)
def test_a_reconciliation_at_any_step_changes_nothing(make_rig: Any, tmp_path: Path, name: str) -> None:
    for nth in range(1, _LIMIT):
        directory = tmp_path / str(nth)
        directory.mkdir()
        if not _reconcile_at(nth, name, make_rig, directory):
            return
    pytest.fail("the walk did not end")


def _reconcile_at(nth: int, name: str, make_rig: Any, directory: Path) -> bool:
    """Run an operation, reconcile at its n-th step, and see that nothing is amiss; False where it has no n-th."""
    before, operation = _OPERATIONS[name]
    passed: list[str] | None = None

    def on_step(step: Step) -> None:
        if passed is not None and len(passed) < nth:
            passed.append(f"{step.layer} {step.name}")
            if len(passed) == nth:
                beside.reconcile()

    rig = make_rig(on_step, directory)
    store = SqliteStore(str(directory / "dovetail.db"), busy_timeout_s=0.02)
    built = build_engine(
        state_dir=str(directory / "state"), run_dir=str(directory), kernel=rig.kernel, store=store
    )
    beside = Engine(replace(built.core, lock_timeout_s=0.02))  # what is held is held by this very thread
    for step in before:
        step(rig)

    passed = []
    operation(rig)

    reached, report = len(passed) == nth, beside.reconcile()
    assert (report.restored, report.released, report.removed, report.failed) == ([], [], [], []), passed
    assert [e.status for e in rig.store.endpoints()] == ([_STATUS[name]] if name in _STATUS else []), passed
    return reached
