"""Networks on a parent of the host, as the engine keeps them: who shares it, whose addresses, what comes back."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dovetail.errors import AddressInUse, Busy, Conflict, InvalidArgument, KernelError, PoolOverlap
from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.model.addresses import parse_address, parse_interface, parse_subnet
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.names import derive_id
from dovetail.model.network import Network, NetworkSpec, SubnetSpec
from dovetail.model.sandbox import Sandbox


@pytest.fixture
def rig(rig: Any) -> Any:
    """An engine on a host whose network card `up0` has 10.5.0.1/24."""
    rig.kernel.add_link(LinkSpec("up0", up=True), Dummy())
    rig.kernel.add_address("up0", parse_interface("10.5.0.1/24"))
    rig.kernel.commands.clear()
    return rig


def create(
    rig: Any, name: str, subnet: str, *, driver: str = "macvlan", ip_range: str = "", **options: str
) -> Network:
    spec = SubnetSpec(subnet=parse_subnet(subnet), ip_range=parse_subnet(ip_range) if ip_range else None)
    options = {"parent": "up0", **options}
    made: Network = rig.engine.networks.create(
        NetworkSpec(name=name, driver=driver, subnets=(spec,), options=options)
    )
    return made


def names(rig: Any) -> set[str]:
    return {link.name for link in rig.kernel.links()} - {"lo", "up0"}


def test_a_network_is_on_the_hosts_own_wire_and_takes_no_gateway(rig: Any) -> None:
    network = create(rig, "lan", "10.5.0.0/24")

    assert [subnet.gateway for subnet in network.subnets] == [None]


def test_addresses_that_the_host_has_on_the_wire_are_nobody_elses(rig: Any) -> None:
    rig.kernel.add_address("up0", parse_interface("10.5.0.2/24"))
    rig.kernel.add_address("up0", parse_interface("10.9.0.3/24"))

    network = create(rig, "lan", "10.5.0.0/24")

    reserved = {"up0": parse_address("10.5.0.1"), "up0 10.5.0.2": parse_address("10.5.0.2")}
    assert network.subnets[0].aux == reserved
    rig.attach(network="lan")
    assert [str(a) for e in rig.engine.endpoints.all() for a in e.addresses] == ["10.5.0.3/24"]


def test_a_host_that_is_the_gateway_itself_holds_its_address_once(rig: Any) -> None:
    spec = SubnetSpec(subnet=parse_subnet("10.5.0.0/24"), gateway=parse_address("10.5.0.1"))
    network = rig.engine.networks.create(
        NetworkSpec(name="lan", driver="macvlan", subnets=(spec,), options={"parent": "up0"})
    )

    assert network.subnets[0].aux == {}
    assert [(str(row.address), row.kind) for row in rig.store.addresses()] == [("10.5.0.1", "gateway")]


def test_a_bridge_on_the_hosts_own_wire_is_refused_as_ever(rig: Any) -> None:
    spec = SubnetSpec(subnet=parse_subnet("10.5.0.0/16"))

    with pytest.raises(PoolOverlap, match="overlaps the route to 10.5.0.0/24"):
        rig.engine.networks.create(NetworkSpec(name="web", subnets=(spec,)))


def test_a_subnet_that_is_chosen_is_clear_of_the_hosts_routes(rig: Any) -> None:
    rig.kernel.add_address("up0", parse_interface("172.17.0.1/16"))

    network = rig.engine.networks.create(NetworkSpec(name="lan", driver="macvlan", options={"parent": "up0"}))

    assert [str(subnet.subnet) for subnet in network.subnets] == ["172.18.0.0/16"]


def test_a_vlan_is_made_once_and_goes_with_the_last_network_on_it(rig: Any) -> None:
    create(rig, "one", "10.6.0.0/24", parent="up0.10")
    create(rig, "two", "10.7.0.0/24", parent="up0.10", mode="private")
    assert names(rig) == {"up0.10"}

    rig.engine.networks.delete("one")
    assert names(rig) == {"up0.10"}
    assert rig.engine.reconcile().findings == [], "the VLAN is the other network's by now"
    assert names(rig) == {"up0.10"}

    rig.engine.networks.delete("two")
    assert names(rig) == set()


def test_a_network_that_could_not_be_made_leaves_the_vlan_to_the_one_that_has_it(rig: Any) -> None:
    create(rig, "one", "10.6.0.0/24", parent="up0.10")
    rig.kernel.fail(on=lambda verb: verb == "add_link")

    with pytest.raises(KernelError):
        create(rig, "two", "10.7.0.0/24", parent="up0.10")

    assert names(rig) == {"up0.10"}


def test_what_a_crash_left_half_made_does_not_take_the_vlan_of_another(rig: Any) -> None:
    first = create(rig, "one", "10.6.0.0/24", parent="up0.10")
    second = create(rig, "two", "10.7.0.0/24", parent="up0.10")
    rig.store.put_network(msgspec.structs.replace(first, status="creating"))

    rig.engine.reconcile()

    assert rig.store.network(first.id) is None
    assert names(rig) == {"up0.10"}
    assert rig.kernel.link("up0.10").alias.endswith(second.id)


def test_a_vlan_that_changes_hands_during_a_reconciliation_is_not_taken_for_nobodys(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(rig, "one", "10.6.0.0/24", parent="up0.10")
    create(rig, "two", "10.7.0.0/24", parent="up0.10")
    read_before = rig.kernel.links()
    rig.engine.networks.delete("one")
    monkeypatch.setattr(rig.kernel, "links", lambda: read_before)

    assert rig.engine.reconcile().findings == []

    assert rig.kernel.link("up0.10") is not None


def test_networks_take_turns_on_a_parent(rig: Any) -> None:
    object.__setattr__(rig.engine.core, "lock_timeout_s", 0.05)

    with rig.engine.core.locks.hold(derive_id("parent", "up0")):
        with pytest.raises(Busy, match="interface 'up0' is being changed"):
            create(rig, "lan", "10.5.0.0/24")
        rig.engine.networks.create(NetworkSpec(name="web"))

    assert create(rig, "lan", "10.5.0.0/24").parent == "up0"


def test_a_parent_is_macvlans_or_ipvlans(rig: Any) -> None:
    create(rig, "one", "10.6.0.0/24")

    with pytest.raises(Conflict, match="'up0' carries the macvlan network 'one', and cannot carry a ipvlan"):
        create(rig, "two", "10.7.0.0/24", driver="ipvlan")

    assert [network.name for network in rig.engine.networks.all()] == ["one"]
    assert len(rig.store.pools()) == 1


def test_the_hosts_address_is_reserved_and_given_back(rig: Any) -> None:
    network = create(rig, "lan", "10.5.0.0/24", ip_range="10.5.0.128/25", host_access="true")

    assert network.subnets[0].aux["host"] == parse_address("10.5.0.128")
    rig.attach(network="lan")
    assert [str(a) for e in rig.engine.endpoints.all() for a in e.addresses] == ["10.5.0.129/24"]
    for endpoint in rig.engine.endpoints.all():
        rig.engine.endpoints.detach(endpoint.id)
    rig.engine.networks.delete("lan")
    assert rig.store.addresses() == []
    assert names(rig) == set()


def test_an_address_that_is_named_for_the_host_is_nobody_elses(rig: Any) -> None:
    create(rig, "lan", "10.5.0.0/25", host_access="10.5.0.7")

    with pytest.raises(AddressInUse, match=r"10.5.0.7 of 10.5.0.0/25 is in use: network \w+ reserves it"):
        rig.engine.endpoints.attach(
            "lan",
            EndpointSpec(
                owner=Owner(face="cni", network="lan", container="c1", ifname="eth0"),
                addresses=(parse_address("10.5.0.7"),),
            ),
            netns=rig.kernel.open_netns("/run/netns/c1"),
            sandbox=Sandbox(id="c1", name="c1", netns="/run/netns/c1", face="cni"),
        )


def test_ports_cannot_be_published_and_nothing_is_left(rig: Any) -> None:
    create(rig, "lan", "10.5.0.0/24")

    with pytest.raises(InvalidArgument, match="a macvlan network cannot publish ports"):
        rig.attach(network="lan", publish="8080:80")

    assert rig.engine.endpoints.all() == []
    assert [row.kind for row in rig.store.addresses()] == ["aux"]


def test_after_a_reboot_the_vlan_and_the_hosts_interface_come_back(rig: Any) -> None:
    network = create(rig, "lan", "10.6.0.0/24", parent="up0.10", host_access="true")
    rig.kernel.delete_links(["up0.10"])
    assert names(rig) == set()

    rig.engine.reconcile()

    assert names(rig) == {"up0.10", network.link}
    assert rig.kernel.addresses(network.link) == [(network.link, parse_interface("10.6.0.1/32"))]


def test_a_parent_that_is_gone_is_reported_and_stops_nothing_else(rig: Any) -> None:
    create(rig, "lan", "10.6.0.0/24")
    rig.engine.networks.create(NetworkSpec(name="web"))
    web = rig.engine.networks.get("web").link
    rig.kernel.delete_links(["up0", web])

    report = rig.engine.reconcile()

    assert any("'up0' (the network's parent is gone" in sentence for sentence in report.failed)
    assert rig.kernel.link(web) is not None
    rig.engine.networks.delete("lan")
