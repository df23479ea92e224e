"""A failure at any step leaves nothing: every operation is failed at each of its steps in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from dovetail.engine.trace import Step
from dovetail.errors import DovetailError, KernelError
from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.model.addresses import parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec

_LIMIT = 60


def _spec() -> NetworkSpec:
    return NetworkSpec(
        name="web",
        subnets=(
            SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),
            SubnetSpec(subnet=parse_subnet("fd88::/64"), version=6),
        ),
    )


def _create(rig: Any) -> None:
    rig.engine.networks.create(_spec())


def _card(rig: Any) -> None:
    rig.kernel.add_link(LinkSpec("up0", up=True), Dummy())


def _create_on_parent(rig: Any, driver: str, **options: str) -> None:
    spec = _spec()
    rig.engine.networks.create(
        NetworkSpec(name="web", driver=driver, subnets=spec.subnets, options={"parent": "up0.10", **options})
    )


def _create_macvlan(rig: Any) -> None:
    _create_on_parent(rig, "macvlan", host_access="true")


def _create_ipvlan(rig: Any) -> None:
    _create_on_parent(rig, "ipvlan", mode="l3")


def _create_ptp(rig: Any) -> None:
    rig.engine.networks.create(msgspec.structs.replace(_spec(), driver="ptp"))


def _create_vlan(rig: Any) -> None:
    options = {"parent": "up0", "id": "10"}
    rig.engine.networks.create(msgspec.structs.replace(_spec(), driver="vlan", options=options))


def _attach(rig: Any) -> None:
    rig.attach(publish="8080:80")


_OPERATIONS: dict[str, tuple[tuple[Callable[[Any], None], ...], Callable[[Any], None]]] = {
    "create network": ((), _create),
    "attach": ((_create,), _attach),
    "create macvlan network": ((_card,), _create_macvlan),
    "create ipvlan network": ((_card,), _create_ipvlan),
    "create network without a parent": (
        (),
        lambda rig: rig.engine.networks.create(NetworkSpec(name="web", driver="macvlan")),
    ),
    "create ptp network": ((), _create_ptp),
    "create vlan network": ((_card,), _create_vlan),
    "attach to ptp": ((_create_ptp,), _attach),
    "attach to vlan": ((_card, _create_vlan), lambda rig: rig.attach()),
    "attach to macvlan": ((_card, _create_macvlan), lambda rig: rig.attach()),
    "attach to ipvlan": ((_card, _create_ipvlan), lambda rig: rig.attach()),
    "create sandbox": ((), lambda rig: rig.engine.sandboxes.create("box")),
}


@pytest.mark.parametrize("name", _OPERATIONS)
def test_a_kernel_failure_at_any_verb_leaves_kernel_and_store_as_before(make_rig: Any, name: str) -> None:
    before, operation = _OPERATIONS[name]
    failures = 0
    for nth in range(1, _LIMIT):
        rig = make_rig()
        for step in before:
            if not rig.store.networks():
                step(rig)
        rows, state = rig.rows(), rig.kernel_state()
        rig.kernel.fail(at=nth)

        try:
            operation(rig)
        except (DovetailError, ExceptionGroup):
            failures += 1
        else:
            rig.kernel.fail()
            break

        rig.kernel.fail()
        assert rig.rows() == rows, f"verb {nth}"
        assert rig.kernel_state() == state, f"verb {nth}"
        for (
            network
        ) in rig.engine.networks.all():  # the store is shared by the rigs of this test, their kernels are not
            rig.engine.networks.delete(network.id)
    else:
        pytest.fail("the operation never succeeded")
    assert failures >= 1


@pytest.mark.parametrize("name", _OPERATIONS)
def test_a_failure_at_any_step_leaves_kernel_and_store_as_before(make_rig: Any, name: str) -> None:
    before, operation = _OPERATIONS[name]
    for nth in range(1, _LIMIT):
        armed: list[int] = []

        def on_step(step: Step, armed: list[int] = armed, nth: int = nth) -> None:
            if armed:
                armed[0] += 1
                if armed[0] == nth:
                    raise KernelError(f"failed at {step.layer} {step.name}", 5)

        rig = make_rig(on_step)
        for step in before:
            step(rig)
        rows, state = rig.rows(), rig.kernel_state()
        armed.append(0)

        try:
            operation(rig)
        except (DovetailError, ExceptionGroup):
            armed.clear()
            assert rig.rows() == rows, f"step {nth}"
            assert rig.kernel_state() == state, f"step {nth}"
        else:
            return

        for network in rig.engine.networks.all():
            rig.engine.networks.delete(network.id)
    pytest.fail("the operation never succeeded")
