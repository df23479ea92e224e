"""Endpoints that have a link to themselves: the firewall knows it for as long as it is there, and not a moment less."""

from __future__ import annotations

from typing import Any

from dovetail.model.addresses import parse_subnet
from dovetail.model.element import Element
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.model.sandbox import Sandbox

_ENDPOINT = "e" * 64


def create(rig: Any, **options: str) -> None:
    subnets = (SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),)
    rig.engine.networks.create(NetworkSpec(name="web", driver="ptp", subnets=subnets, options=options))
    rig.kernel.commands.clear()


def places(rig: Any, *beginnings: str) -> list[int]:
    """Give where the first command stands that begins so, of each."""
    return [
        next(number for number, line in enumerate(rig.kernel.commands) if line.startswith(beginning))
        for beginning in beginnings
    ]


def marks(link: str) -> set[Element]:
    return {Element(name, (link,)) for name in ("bridges", "enclosed", "protected4")}


def test_the_link_is_known_before_it_is_there_and_until_it_is_gone(rig: Any) -> None:
    create(rig)

    rig.attach()

    (endpoint,) = rig.store.endpoints()
    assert marks(endpoint.link) <= rig.kernel.nft_elements()
    known, made = places(rig, "nft 'add element inet dovetail bridges", "ip link add")
    assert known < made
    rig.kernel.commands.clear()

    rig.engine.endpoints.detach(endpoint.id)

    gone, forgotten = places(rig, "ip link del", "nft 'delete element inet dovetail bridges")
    assert gone < forgotten
    assert marks(endpoint.link).isdisjoint(rig.kernel.nft_elements())


def test_one_that_was_handed_over_is_known_until_it_is_deleted(rig: Any) -> None:
    create(rig)
    rig.engine.endpoints.create("web", EndpointSpec(id=_ENDPOINT, owner=Owner(face="docker", network="n1")))
    sandbox = Sandbox(id="box", name="box", netns="/run/docker/netns/box", face="docker")
    rig.engine.endpoints.join(_ENDPOINT, sandbox=sandbox, netns=None, ifname="eth")
    (endpoint,) = rig.store.endpoints()

    rig.engine.endpoints.leave(_ENDPOINT)
    assert marks(endpoint.link) <= rig.kernel.nft_elements(), "dockerd takes it back to the host's namespace"

    rig.engine.endpoints.delete(_ENDPOINT)
    assert marks(endpoint.link).isdisjoint(rig.kernel.nft_elements())


def test_a_flush_is_repaired_and_what_is_missing_is_told(rig: Any) -> None:
    create(rig, icc="false")
    rig.attach()
    (endpoint,) = rig.store.endpoints()
    netns = rig.kernel.open_netns("/run/netns/c1")
    wanted = marks(endpoint.link) | {Element("isolated", (endpoint.link,))}
    assert rig.engine.endpoints.check(endpoint.id, netns) == []

    rig.kernel.nft_delete_elements(list(wanted))
    assert len(rig.engine.endpoints.check(endpoint.id, netns)) == len(wanted)
    rig.kernel.nft_apply("delete table inet dovetail\n")
    rig.engine.restore_firewall()

    assert wanted <= rig.kernel.nft_elements()
    assert rig.engine.endpoints.check(endpoint.id, netns) == []


def test_elements_of_a_link_that_belongs_to_nobody_go(rig: Any) -> None:
    create(rig)
    rig.kernel.nft_add_elements([Element("bridges", ("dvh0123456789ab",))])

    rig.engine.restore_firewall()

    assert Element("bridges", ("dvh0123456789ab",)) not in rig.kernel.nft_elements()


def test_on_a_bridge_an_endpoint_that_publishes_nothing_has_no_elements(rig: Any) -> None:
    rig.engine.networks.create(NetworkSpec(name="web"))
    before = rig.kernel.nft_elements()
    rig.kernel.commands.clear()

    rig.attach()

    assert rig.kernel.nft_elements() == before
    assert not [line for line in rig.kernel.commands if line.startswith("nft")]
