from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.features.isolation import Isolation
from dovetail.features.masquerade import Masquerade
from dovetail.features.portmap import PortMap
from dovetail.features.protocol import Feature
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.firewall import FamilyIntent, FirewallIntent, GatewayMode
from dovetail.model.network import Network, Subnet
from dovetail.model.port import PortMapping

NET4, NET6 = ip_network("10.88.0.0/24"), ip_network("fd88::/64")


ROUTED, NAT = FamilyIntent(mode="routed"), FamilyIntent()


def a_network(**intent: Any) -> Network:
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


def names(**intent: Any) -> list[str]:
    return [element.set for element in Isolation().network_elements(a_network(**intent))]


def test_isolation_says_what_the_bridge_keeps_apart() -> None:
    assert names() == ["bridges", "same_bridge", "enclosed", "protected4", "protected6"]
    assert names(icc=False) == ["bridges", "same_bridge", "enclosed", "isolated", "protected4", "protected6"]
    assert names(internal=True, trusted=("eth1",)) == ["bridges", "same_bridge", "enclosed", "internal"]


@pytest.mark.parametrize(
    ("mode", "sets"),
    [("nat", ["protected"]), ("nat-unprotected", []), ("routed", ["routed"]), ("isolated", [])],
)
def test_each_family_is_entered_as_its_mode_says(mode: GatewayMode, sets: list[str]) -> None:
    family = FamilyIntent(mode=mode)

    assert names(ipv4=family)[3:] == [*(f"{name}4" for name in sets), "protected6"]
    assert names(ipv6=family)[3:] == ["protected4", *(f"{name}6" for name in sets)]


def test_a_family_without_a_subnet_is_left_alone() -> None:
    network = msgspec.structs.replace(a_network(), subnets=(Subnet(subnet=NET4),))

    assert [e.set for e in Isolation().network_elements(network)][3:] == ["protected4"]


def test_a_bridge_that_was_there_before_may_have_more_behind_it_than_endpoints() -> None:
    network = msgspec.structs.replace(a_network(), adopted=True)

    assert "enclosed" not in {element.set for element in Isolation().network_elements(network)}


def test_each_trusted_link_is_paired_with_the_bridge() -> None:
    elements = Isolation().network_elements(a_network(trusted=("eth1", "vxlan.1")))

    assert [e.key for e in elements if e.set == "trusted"] == [("eth1", "dv-1"), ("vxlan.1", "dv-1")]


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
    plain = FamilyIntent(masquerade=False, source=ip_address("192.0.2.7"))
    sets = [element.set for element in Masquerade().network_elements(a_network(ipv4=plain))]

    assert sets == ["subnets4", "hairpin4", "subnets6", "masquerade6", "hairpin6"]


def test_a_network_takes_the_address_that_it_is_given() -> None:
    source = ip_address("192.0.2.7")
    elements = Masquerade().network_elements(a_network(ipv4=FamilyIntent(source=source)))

    assert Element("source4", (NET4,), (source,)) in elements
    assert "masquerade4" not in {element.set for element in elements}


def test_a_routed_family_is_known_and_not_translated() -> None:
    sets = [element.set for element in Masquerade().network_elements(a_network(ipv6=ROUTED))]

    assert sets == ["subnets4", "masquerade4", "hairpin4", "subnets6"]


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


def test_a_port_of_a_routed_family_is_opened_on_the_endpoints_own_address() -> None:
    port = PortMapping(container_port=80, host_port=8080)

    assert PortMap().endpoint_elements(a_network(ipv6=ROUTED), an_endpoint(port)) == [
        Element("publish4", ("tcp", 8080), (ip_address("10.88.0.2"), 80)),
        Element("opened6", (ip_address("fd88::2"), "tcp", 80)),
    ]


def test_a_port_is_opened_once_however_often_it_is_published_and_not_if_it_is_the_hosts_own() -> None:
    ports = [PortMapping(container_port=80, host_port=port) for port in (8080, 8081)]
    local = PortMapping(container_port=81, host_port=8082, host_ip=ip_address("127.0.0.1"))
    elements = PortMap().endpoint_elements(a_network(ipv4=ROUTED, ipv6=ROUTED), an_endpoint(*ports, local))

    assert [e.key for e in elements] == [
        (ip_address("10.88.0.2"), "tcp", 80),
        (ip_address("fd88::2"), "tcp", 80),
    ]


def test_trusted_links_may_ask_the_endpoints_own_address_where_others_may_not() -> None:
    port = PortMapping(container_port=80, host_port=8080)
    open_already = FamilyIntent(mode="nat-unprotected")
    network = a_network(trusted=("eth1",), ipv6=open_already)

    assert [e.set for e in PortMap().endpoint_elements(network, an_endpoint(port))] == [
        "publish4",
        "opened4",
        "publish6",
    ]
