from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dovetail.features.isolation import Isolation
from dovetail.features.masquerade import Masquerade
from dovetail.features.portmap import PortMap
from dovetail.features.protocol import Feature
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import FirewallIntent, Network, Subnet
from dovetail.model.port import PortMapping

NET4, NET6 = ip_network("10.88.0.0/24"), ip_network("fd88::/64")


def a_network(**intent: bool) -> Network:
    return Network(
        id="ab" * 32,
        name="web",
        driver="bridge",
        subnets=(Subnet(subnet=NET4), Subnet(subnet=NET6)),
        firewall=FirewallIntent(link="dv-1", **intent),
    )


def an_endpoint(*ports: PortMapping, addresses: tuple[str, ...] = ("10.88.0.2/24", "fd88::2/64")) -> Endpoint:
    return Endpoint(
        id="cd" * 32,
        network_id="ab" * 32,
        owner=Owner(face="cli"),
        addresses=tuple(ip_interface(address) for address in addresses),
        ports=ports,
    )


@pytest.mark.parametrize("feature", [Isolation(), Masquerade(), PortMap()])
def test_a_network_without_a_firewall_has_no_elements(feature: Feature) -> None:
    network = Network(id="ab" * 32, name="plain", driver="null", subnets=(Subnet(subnet=NET4),))
    endpoint = an_endpoint(PortMapping(container_port=80, host_port=8080))

    assert not feature.network_elements(network)
    assert not feature.endpoint_elements(network, endpoint)


def test_isolation_says_what_the_bridge_keeps_apart() -> None:
    def names(**intent: bool) -> list[str]:
        return [element.set for element in Isolation().network_elements(a_network(**intent))]

    assert names() == ["bridges", "same_bridge", "protected"]
    assert names(protected=False) == ["bridges", "same_bridge"]
    assert names(icc=False) == ["bridges", "same_bridge", "isolated", "protected"]
    assert names(internal=True, protected=True) == ["bridges", "same_bridge", "internal"]


def test_masquerade_names_each_subnet() -> None:
    assert Masquerade().network_elements(a_network()) == [
        Element("subnets4", (NET4,)),
        Element("masquerade4", (NET4,)),
        Element("hairpin4", (NET4, NET4)),
        Element("subnets6", (NET6,)),
        Element("masquerade6", (NET6,)),
        Element("hairpin6", (NET6, NET6)),
    ]


def test_without_masquerade_published_ports_still_hairpin() -> None:
    names = [element.set for element in Masquerade().network_elements(a_network(masquerade=False))]

    assert names == ["subnets4", "hairpin4", "subnets6", "hairpin6"]


def test_an_internal_network_is_not_translated() -> None:
    network = a_network(internal=True)

    assert not Masquerade().network_elements(network)
    assert not PortMap().endpoint_elements(
        network, an_endpoint(PortMapping(container_port=80, host_port=8080))
    )


def test_a_port_on_every_address_is_published_in_both_families() -> None:
    endpoint = an_endpoint(PortMapping(container_port=80, host_port=8080))

    assert PortMap().endpoint_elements(a_network(), endpoint) == [
        Element("publish4", ("tcp", 8080), (ip_address("10.88.0.2"), 80)),
        Element("publish6", ("tcp", 8080), (ip_address("fd88::2"), 80)),
    ]


def test_an_endpoint_with_one_family_publishes_in_that_one() -> None:
    endpoint = an_endpoint(PortMapping(container_port=80, host_port=8080), addresses=("fd88::2/64",))

    assert [e.set for e in PortMap().endpoint_elements(a_network(), endpoint)] == ["publish6"]


@pytest.mark.parametrize(
    ("host_ip", "expected"),
    [
        (
            "192.0.2.1",
            Element("publish4_at", (ip_address("192.0.2.1"), "udp", 53), (ip_address("10.88.0.2"), 53)),
        ),
        ("fd00::1", Element("publish6_at", (ip_address("fd00::1"), "udp", 53), (ip_address("fd88::2"), 53))),
        ("0.0.0.0", Element("publish4", ("udp", 53), (ip_address("10.88.0.2"), 53))),
        ("::", Element("publish6", ("udp", 53), (ip_address("fd88::2"), 53))),
    ],
)
def test_a_port_on_one_address_is_published_there_only(host_ip: str, expected: Element) -> None:
    port = PortMapping(container_port=53, host_port=53, protocol="udp", host_ip=ip_address(host_ip))

    assert PortMap().endpoint_elements(a_network(), an_endpoint(port)) == [expected]


def test_each_port_leads_to_the_first_address_of_its_family() -> None:
    endpoint = an_endpoint(
        PortMapping(container_port=80, host_port=8080), addresses=("10.88.0.2/24", "10.88.0.3/24")
    )

    assert [e.data[0] for e in PortMap().endpoint_elements(a_network(), endpoint)] == [
        ip_address("10.88.0.2")
    ]
