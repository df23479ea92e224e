"""A network that one endpoint has: the second is refused by name, and comes in when the first is gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dovetail.errors import Conflict
from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.model.addresses import parse_subnet
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.network import NetworkSpec, SubnetSpec

VLAN = {"parent": "up0", "id": "10"}


def create(rig: Any, name: str = "web", driver: str = "vlan", **options: str) -> None:
    subnet = {"web": "10.88.0.0/24", "other": "10.89.0.0/24"}[name]
    subnets = (SubnetSpec(subnet=parse_subnet(subnet)),)
    rig.engine.networks.create(NetworkSpec(name=name, driver=driver, subnets=subnets, options=options))


@pytest.fixture
def rig(make_rig: Callable[..., Any]) -> Any:
    made = make_rig()
    made.kernel.add_link(LinkSpec("up0", up=True), Dummy())
    return made


@pytest.mark.parametrize("options", [VLAN, {"parent": "up0", "mode": "passthru"}])
def test_the_second_endpoint_is_told_who_has_the_network(rig: Any, options: dict[str, str]) -> None:
    create(rig, driver="vlan" if "id" in options else "macvlan", **options)
    rig.attach("c1")
    before = rig.rows()

    with pytest.raises(Conflict, match="network 'web' has one endpoint at most, and cni endpoint 'c1' is it"):
        rig.attach("c2")
    with pytest.raises(Conflict, match="'c1'"):
        rig.engine.endpoints.create("web", EndpointSpec(owner=Owner(face="docker", network="n1")))

    assert rig.rows() == before
    rig.engine.endpoints.detach(rig.store.endpoints()[0].id)
    rig.attach("c2")


def test_the_same_endpoint_may_be_asked_for_again(rig: Any) -> None:
    create(rig, **VLAN)
    spec = EndpointSpec(id="e" * 64, owner=Owner(face="docker", network="n1"))

    first = rig.engine.endpoints.create("web", spec)

    assert rig.engine.endpoints.create("web", spec) == first


@pytest.mark.parametrize(
    ("driver", "options"),
    [("vlan", VLAN), ("macvlan", {"parent": "up0.10"})],
)
def test_a_second_network_on_the_vlan_is_told_whose_it_is(
    rig: Any, driver: str, options: dict[str, str]
) -> None:
    create(rig, **VLAN)

    with pytest.raises(Conflict, match="'web'"):
        create(rig, "other", driver, **options)

    create(rig, "other", "vlan", parent="up0", id="11")
    rig.attach("c1")
    rig.attach("c2", network="other")


def test_the_vlan_of_a_macvlan_network_is_taken(rig: Any) -> None:
    create(rig, "other", "macvlan", parent="up0.10")

    with pytest.raises(Conflict, match=r"up0\.10|'other'"):
        create(rig, **VLAN)
