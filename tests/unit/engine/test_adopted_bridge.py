"""A network on a bridge that the host has already, with addresses on it."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.model.addresses import parse_address, parse_interface, parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.model.pool import AddressRequest, PoolRequest

SUBNET = parse_subnet("10.5.0.0/24")


@pytest.fixture
def rig(rig: Any) -> Any:
    """An engine on a host whose bridge `br0` has 10.5.0.2/24."""
    rig.kernel.add_bridge("br0")
    rig.kernel.set_link("br0", up=True)
    rig.kernel.add_address("br0", parse_interface("10.5.0.2/24"))
    return rig


@pytest.mark.parametrize("key", ["bridge", "com.docker.network.bridge.name"])
def test_what_the_host_has_on_the_bridge_is_nobody_elses(rig: Any, key: str) -> None:
    spec = SubnetSpec(subnet=SUBNET, gateway=parse_address("10.5.0.254"))

    network = rig.engine.networks.create(NetworkSpec(name="lan", subnets=(spec,), options={key: "br0"}))

    assert network.subnets[0].aux == {"br0": parse_address("10.5.0.2")}
    rig.attach("c1", network="lan")
    rig.attach("c2", network="lan")
    given = [str(a.ip) for e in rig.engine.endpoints.all() for a in e.addresses]
    assert sorted(given) == ["10.5.0.1", "10.5.0.3"]


def test_the_hosts_address_there_can_be_the_gateway(rig: Any) -> None:
    spec = SubnetSpec(subnet=SUBNET, gateway=parse_address("10.5.0.2"))

    network = rig.engine.networks.create(NetworkSpec(name="lan", subnets=(spec,), options={"bridge": "br0"}))

    assert (network.subnets[0].gateway, network.subnets[0].aux) == (parse_address("10.5.0.2"), {})


def test_a_pool_that_docker_has_asked_for_is_taken_over_all_the_same(rig: Any) -> None:
    addresses = rig.engine.addresses
    pool = addresses.request_pool(PoolRequest(subnet=SUBNET, version=4, owner="docker"))
    gateway = parse_address("10.5.0.1")
    addresses.request(pool.id, AddressRequest(kind="gateway", owner="docker", address=gateway))
    spec = SubnetSpec(subnet=SUBNET, gateway=gateway)

    network = rig.engine.networks.create(
        NetworkSpec(
            name="lan",
            subnets=(spec,),
            options={"com.docker.network.bridge.name": "br0"},
            face="docker",
            external_id="d" * 64,
        )
    )

    assert network.subnets[0].aux == {"br0": parse_address("10.5.0.2")}
