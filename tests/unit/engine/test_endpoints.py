"""Attach, detach, publish and collect, over a recording kernel."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.engine.engine import endpoint_id
from dovetail.errors import AlreadyExists, InUse, InvalidArgument, NotFound, PortInUse
from dovetail.model.addresses import parse_subnet
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.model.port import parse_publish


@pytest.fixture
def web(rig: Any) -> Any:
    rig.engine.networks.create(
        NetworkSpec(name="web", subnets=(SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),))
    )
    return rig


def test_an_attachment_has_the_next_address_and_the_gateway(web: Any) -> None:
    attachment = web.attach()

    assert [str(a) for a in attachment.addresses] == ["10.88.0.2/24"]
    assert [str(g) for g in attachment.gateways] == ["10.88.0.1"]
    assert attachment.sandbox == "/run/netns/c1"


def test_detaching_leaves_nothing_and_twice_is_no_error(web: Any) -> None:
    rows, state = web.rows(), web.kernel_state()
    web.attach(publish="8080:80")
    identifier = endpoint_id(Owner(face="cni", network="web", container="c1", ifname="eth0"))

    web.engine.endpoints.detach(identifier)
    web.engine.endpoints.detach(identifier)

    assert web.rows() == rows
    assert web.kernel_state() == state


def test_attaching_twice_is_refused(web: Any) -> None:
    web.attach()

    with pytest.raises(AlreadyExists):
        web.attach()


def test_a_published_port_is_refused_to_a_second_container_before_anything_changes(web: Any) -> None:
    web.attach("c1", publish="8080:80")
    rows, state = web.rows(), web.kernel_state()

    with pytest.raises(PortInUse, match="8080"):
        web.attach("c2", publish="8080:80")

    assert web.rows() == rows
    assert web.kernel_state() == state


def test_a_network_in_use_names_its_endpoints(web: Any) -> None:
    web.attach("c1")

    with pytest.raises(InUse, match="c1"):
        web.engine.networks.delete("web")


def test_collect_removes_what_is_not_valid(web: Any) -> None:
    web.attach("c1")
    web.attach("c2")

    gone = web.engine.endpoints.collect("cni", "web", {("c1", "eth0")})

    assert [e.owner.container for e in gone] == ["c2"]
    assert [e.owner.container for e in web.engine.endpoints.all()] == ["c1"]


def test_an_address_outside_the_network_is_refused(web: Any) -> None:
    from ipaddress import ip_address

    spec = EndpointSpec(
        owner=Owner(face="docker", network="n", container="", ifname=""), addresses=(ip_address("10.9.0.1"),)
    )
    with pytest.raises(InvalidArgument, match="10.9.0.1"):
        web.engine.endpoints.create("web", spec)


def test_docker_s_address_is_tied_to_its_endpoint_and_given_back_to_docker(web: Any) -> None:
    from dovetail.model.addresses import parse_interface
    from dovetail.model.pool import AddressRequest

    pool = web.store.pools()[0]
    given = web.engine.addresses.request(pool.id, AddressRequest(kind="docker", owner="docker"))
    spec = EndpointSpec(owner=Owner(face="docker", network="n"), id="a" * 64, given=(given,))
    web.engine.endpoints.create("web", spec)
    assert web.store.address(pool.id, given.ip).owner == "a" * 64

    web.engine.endpoints.delete("a" * 64)
    assert web.store.address(pool.id, given.ip).owner == "docker"
    web.engine.addresses.release(pool.id, given.ip, "docker")
    assert web.store.address(pool.id, given.ip) is None
    assert parse_interface(str(given)) == given


def test_publishing_replaces_what_was_published(web: Any) -> None:
    web.attach("c1", publish="8080:80")
    endpoint = web.engine.endpoints.all()[0]

    web.engine.endpoints.publish(endpoint.id, parse_publish("8080-8081:80-81"))

    assert sorted(m.host_port for _, m in web.store.published_ports()) == [8080, 8081]
    web.engine.endpoints.unpublish(endpoint.id)
    assert web.store.published_ports() == []


def test_joining_an_unknown_network_is_not_found(rig: Any) -> None:
    with pytest.raises(NotFound, match="web"):
        rig.attach()


def test_the_trace_shows_the_layers_of_an_attachment(web: Any) -> None:
    web.attach()

    root = web.engine.tracer.recent()[-1]
    assert root.name == "attach"
    assert {"ipam", "driver"} <= {child.layer for child in root.children}


def test_a_range_publishes_its_first_free_port(web: Any) -> None:
    web.attach("c1", publish="8000-8010:80")
    web.attach("c2", publish="8000-8010:80")

    assert [m.host_port for _, m in web.store.published_ports()] == [8000, 8001]
    assert [str(e.ports[0]) for e in web.engine.endpoints.all()] == ["8000->80/tcp", "8001->80/tcp"]


def test_a_port_on_an_address_of_a_family_that_the_endpoint_lacks_is_refused(web: Any) -> None:
    rows, state = web.rows(), web.kernel_state()

    with pytest.raises(InvalidArgument, match=r"no IPv6 address.*\[fd00::1\]:8080->80/tcp"):
        web.attach(publish="[fd00::1]:8080:80")
    assert (web.rows(), web.kernel_state()) == (rows, state)

    web.attach()
    endpoint = web.engine.endpoints.all()[0]
    with pytest.raises(InvalidArgument, match="no IPv6 address"):
        web.engine.endpoints.publish(endpoint.id, parse_publish("[::]:8080:80"))
    assert web.store.published_ports() == []


def test_a_name_that_another_network_has_by_now_leads_to_that_one(web: Any) -> None:
    web.attach("c1")
    web.engine.endpoints.detach(endpoint_id(Owner(face="cni", network="web", container="c1", ifname="eth0")))
    web.engine.networks.delete("web")
    with pytest.raises(NotFound, match="'web'"):
        web.attach("c2")
    web.engine.networks.create(
        NetworkSpec(name="web", subnets=(SubnetSpec(subnet=parse_subnet("10.99.0.0/24")),))
    )

    attachment = web.attach("c3")

    assert [str(a) for a in attachment.addresses] == ["10.99.0.2/24"]
