"""What published ports mean on a network: the host's address that it says, and ports of the host where it has some."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from dovetail.errors import InvalidArgument, PortInUse
from dovetail.model.element import Element
from dovetail.model.network import NetworkSpec, SubnetSpec

DUAL = (SubnetSpec(subnet=ip_network("10.88.0.0/24")), SubnetSpec(subnet=ip_network("fd88::/64"), version=6))
ROUTED = {"gateway_mode_ipv4": "routed", "gateway_mode_ipv6": "routed"}


def make(rig: Any, name: str = "web", subnets: tuple[SubnetSpec, ...] = DUAL, **options: str) -> None:
    rig.engine.networks.create(NetworkSpec(name=name, subnets=subnets, options=options))


def ports(rig: Any) -> list[str]:
    return [str(port) for endpoint in rig.engine.endpoints.all() for port in endpoint.ports]


def published(rig: Any) -> set[Element]:
    return {e for e in rig.kernel.nft_elements() if e.set.startswith(("publish", "opened"))}


@pytest.mark.parametrize("binding", ["127.0.0.1", "::1"])
def test_a_port_that_names_no_address_is_on_the_one_that_the_network_says(rig: Any, binding: str) -> None:
    make(rig, host_binding=binding)
    rig.attach(publish="8080:80")

    address = ip_address(binding)
    target = ip_address("10.88.0.2" if address.version == 4 else "fd88::2")
    expected = Element(f"publish{address.version}_at", (address, "tcp", 8080), (target, 80))
    assert published(rig) == {expected}


def test_a_port_that_names_an_address_is_on_that(rig: Any) -> None:
    make(rig, host_binding="127.0.0.1")
    rig.attach(publish="192.0.2.1:8080:80")

    assert ports(rig) == ["192.0.2.1:8080->80/tcp"]


def test_networks_that_say_different_addresses_have_the_same_port(rig: Any) -> None:
    make(rig, host_binding="127.0.0.1")
    make(rig, "other", (SubnetSpec(subnet=ip_network("10.89.0.0/24")),), host_binding="192.0.2.1")
    rig.attach(publish="8080:80")
    rig.attach("c2", publish="8080:80", network="other")

    assert sorted(ports(rig)) == ["127.0.0.1:8080->80/tcp", "192.0.2.1:8080->80/tcp"]


def test_publishing_again_keeps_what_the_network_has_bound(rig: Any) -> None:
    make(rig, host_binding="127.0.0.1")
    rig.attach(publish="8080:80")
    (endpoint,) = rig.engine.endpoints.all()
    asked = tuple(port for port in endpoint.ports)

    rig.engine.endpoints.publish(endpoint.id, asked)

    assert ports(rig) == ["127.0.0.1:8080->80/tcp"]


def test_a_routed_network_takes_no_ports_of_the_host(rig: Any) -> None:
    make(rig, **ROUTED)
    rig.kernel.bound = {("tcp", 8080)}
    for container in ("c1", "c2"):
        rig.attach(container, publish="8080:80")

    assert ports(rig) == ["80/tcp", "80/tcp"]
    assert rig.store.published_ports() == []
    assert {element.key[0] for element in published(rig)} == {
        ip_address(text) for text in ("10.88.0.2", "fd88::2", "10.88.0.3", "fd88::3")
    }


def test_where_one_family_is_translated_the_host_has_the_port(rig: Any) -> None:
    make(rig, gateway_mode_ipv6="routed")
    rig.attach(publish="8080:80")

    assert ports(rig) == ["8080->80/tcp"]
    assert {element.set for element in published(rig)} == {"publish4", "opened6"}
    with pytest.raises(PortInUse):
        rig.attach("c2", publish="8080:80")


def test_what_a_routed_network_opened_goes_with_the_endpoint(rig: Any) -> None:
    make(rig, **ROUTED)
    rig.attach(publish="8080:80/udp")
    (endpoint,) = rig.engine.endpoints.all()

    rig.engine.endpoints.detach(endpoint.id)

    assert published(rig) == set()
    assert not any(command.startswith("conntrack") for command in rig.kernel.commands), "of all of UDP"


def test_an_address_of_a_family_that_the_endpoint_has_not_is_refused(rig: Any) -> None:
    make(rig, subnets=DUAL[:1])

    with pytest.raises(
        InvalidArgument, match=r"no IPv6 address on network 'web', so \[::1\]:8080->80/tcp leads"
    ):
        rig.attach(publish="[::1]:8080:80")
