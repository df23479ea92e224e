"""Endpoints of macvlan networks: made, found, compared."""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.drivers.macvlan import MacvlanDriver
from dovetail.errors import AlreadyExists, InvalidArgument, NotFound
from dovetail.kernel.protocol import Dummy, Ipvlan, LinkSpec, Macvlan
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.addresses import EVERYWHERE
from dovetail.model.attachment import Route
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import Network, Subnet

STORE = "store"
LAN = Subnet(subnet=ip_network("10.5.0.0/24"), gateway=ip_address("10.5.0.254"))
LAN6 = Subnet(subnet=ip_network("fd05::/64"))
HOST_IN_LAN = msgspec.structs.replace(
    LAN, ip_range=ip_network("10.5.0.128/25"), aux={"host": ip_address("10.5.0.128")}
)


@pytest.fixture
def kernel() -> RecordingKernel:
    """A host with one network card, `up0`, and a bridge."""
    kernel = RecordingKernel()
    kernel.add_link(LinkSpec("up0", mac=Mac("02:00:00:00:00:01"), up=True), Dummy())
    kernel.add_bridge("br0")
    kernel.commands.clear()
    return kernel


def a_network(*subnets: Subnet, internal: bool = False, **options: str) -> Network:
    return Network(
        id="ab" * 32,
        name="lan-ab",
        driver="macvlan",
        internal=internal,
        options=options,
        subnets=subnets or (LAN, LAN6),
    )


def plan(kernel: RecordingKernel, network: Network) -> Network:
    return MacvlanDriver().plan_network(kernel, network, STORE)


def create(kernel: RecordingKernel, network: Network) -> Network:
    network = plan(kernel, network)
    with ExitStack() as undo:
        MacvlanDriver().create_network(kernel, network, STORE, undo)
        undo.pop_all()
    return msgspec.structs.replace(network, status="active")


def an_endpoint(network: Network, **changes: Any) -> Endpoint:
    addresses = (ip_interface("10.5.0.2/24"), ip_interface("fd05::2/64"))
    endpoint = Endpoint(id="cd" * 32, network_id=network.id, owner=Owner(face="cli"), addresses=addresses)
    return MacvlanDriver().plan_endpoint(network, msgspec.structs.replace(endpoint, **changes))


def join(kernel: RecordingKernel, network: Network, endpoint: Endpoint, path: str) -> Endpoint:
    sandbox = kernel.open_netns(path) if path else None
    with ExitStack() as undo:
        attachment = MacvlanDriver().join(
            kernel, network, endpoint, sandbox=sandbox, ifname="eth0", store_id=STORE, undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


def names(kernel: RecordingKernel) -> set[str]:
    return {link.name for link in kernel.links()} - {"lo", "up0", "br0"}


# -- endpoints ------------------------------------------------------------------------------------


def test_an_endpoint_has_a_mac_of_its_own_and_nothing_on_the_host(kernel: RecordingKernel) -> None:
    network = plan(kernel, a_network(parent="up0"))

    endpoint = an_endpoint(network)

    assert (endpoint.mac, endpoint.link) == (Mac.derived(f"address/{network.id}/10.5.0.2"), "")
    assert an_endpoint(network, mac=Mac("02:00:00:00:00:09")).mac == "02:00:00:00:00:09"


def test_in_passthru_it_has_the_parents_mac(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0", mode="passthru"))

    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")

    assert endpoint.mac is None
    assert endpoint.attachment is not None
    assert endpoint.attachment.mac == "02:00:00:00:00:01"
    with pytest.raises(InvalidArgument, match="of mode passthru has the MAC address of up0"):
        an_endpoint(network, mac=Mac("02:00:00:00:00:09"))


def test_joining_makes_the_link_in_the_sandbox_addressed_and_announced(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))
    kernel.create_netns("/run/netns/box")
    kernel.commands.clear()

    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")

    assert kernel.commands == [
        f"ip link add link up0 name eth0 address {endpoint.mac} netns box type macvlan mode bridge",
        f"ip -n box link set dev eth0 alias dovetail:store/endpoint/{endpoint.id}",
        "nsenter --net=/run/netns/box sysctl -q -w net/ipv4/conf/eth0/arp_notify=1",
        "nsenter --net=/run/netns/box sysctl -q -w net/ipv6/conf/eth0/ndisc_notify=1",
        "ip -n box link set dev lo up",
        "ip -n box addr add 10.5.0.2/24 dev eth0",
        "ip -n box addr add fd05::2/64 dev eth0 nodad",
        "ip -n box link set dev eth0 up",
        "ip -n box route add default via 10.5.0.254 dev eth0",
    ]
    attachment = endpoint.attachment
    assert attachment is not None
    assert (attachment.mtu, attachment.handover, attachment.host_interfaces) == (1500, "", ())
    assert attachment.gateways == (ip_address("10.5.0.254"),), "IPv6 has no gateway that is known"


def test_handing_over_makes_it_in_the_hosts_namespace_down(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))
    kernel.commands.clear()

    endpoint = join(kernel, network, an_endpoint(network), "")

    waiting = f"dvc{'cd' * 6}"
    assert kernel.commands == [
        f"ip link add link up0 name {waiting} address {endpoint.mac} type macvlan mode bridge",
        f"ip link set dev {waiting} alias dovetail:store/endpoint/{endpoint.id}",
    ]
    assert endpoint.attachment is not None
    assert endpoint.attachment.handover == waiting
    assert MacvlanDriver().is_alive(kernel, endpoint, frozenset({waiting}))
    MacvlanDriver().leave(kernel, endpoint)
    MacvlanDriver().leave(kernel, endpoint)
    assert names(kernel) == set()
    assert not MacvlanDriver().is_alive(kernel, endpoint, frozenset())


@pytest.mark.parametrize(("internal", "parent"), [(True, "up0"), (False, "")])
def test_an_internal_network_has_no_gateway(kernel: RecordingKernel, internal: bool, parent: str) -> None:
    options = {"parent": parent} if parent else {}
    network = create(kernel, a_network(internal=internal, **options))

    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")

    assert endpoint.attachment is not None
    assert (endpoint.attachment.gateways, endpoint.attachment.routes) == ((), ())


def test_the_link_is_found_by_its_alias_in_the_sandbox_and_another_is_left(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))
    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")
    driver, box = MacvlanDriver(), "/run/netns/box"

    assert driver.is_alive(kernel, endpoint, frozenset(), sandbox=box)
    assert not driver.is_alive(kernel, endpoint, frozenset(), sandbox="/run/netns/another")
    driver.leave(kernel, endpoint, sandbox="/run/netns/another")
    assert driver.is_alive(kernel, endpoint, frozenset(), sandbox=box)

    driver.leave(kernel, endpoint, sandbox=box)
    driver.leave(kernel, endpoint, sandbox=box)

    assert not driver.is_alive(kernel, endpoint, frozenset(), sandbox=box)


def test_a_namespace_that_is_gone_took_the_link_along(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))
    kernel.create_netns("/run/netns/box")
    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")
    kernel.delete_netns("/run/netns/box")

    MacvlanDriver().leave(kernel, endpoint, sandbox="/run/netns/box")

    assert not MacvlanDriver().is_alive(kernel, endpoint, frozenset(), sandbox="/run/netns/box")


def test_a_name_that_the_sandbox_has_already_is_refused_and_stays(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))
    with kernel.inside(kernel.create_netns("/run/netns/box")) as inner:
        inner.add_bridge("eth0")

    with pytest.raises(AlreadyExists, match="eth0"):
        join(kernel, network, an_endpoint(network), "/run/netns/box")

    with kernel.inside(kernel.open_netns("/run/netns/box")) as inner:
        link = inner.link("eth0")
    assert link is not None
    assert link.kind == "bridge"


def test_a_parent_that_has_gone_is_named(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))
    kernel.delete_links(["up0"])

    with pytest.raises(NotFound, match=r"'up0' \(the parent of network 'lan-ab' is gone: make it again\)"):
        join(kernel, network, an_endpoint(network), "/run/netns/box")


# -- check ----------------------------------------------------------------------------------------


def differences(kernel: RecordingKernel, network: Network, endpoint: Endpoint) -> list[str]:
    sandbox = kernel.open_netns("/run/netns/box")
    return MacvlanDriver().check(kernel, network, endpoint, sandbox)


def test_nothing_differs_after_a_join_and_when_the_mtu_has_followed_the_parent(
    kernel: RecordingKernel,
) -> None:
    network = create(kernel, a_network(HOST_IN_LAN, LAN6, parent="up0", host_access="10.5.0.128"))
    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")

    assert differences(kernel, network, endpoint) == []
    with kernel.inside(kernel.open_netns("/run/netns/box")) as inner:
        inner.set_link("eth0", mtu=1400)
    assert differences(kernel, network, endpoint) == []


def test_each_difference_is_a_sentence(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(HOST_IN_LAN, LAN6, parent="up0", mtu="1400", host_access="10.5.0.128"))
    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")
    kernel.set_link("up0", up=False)
    kernel.set_link(network.link, up=False)
    kernel.delete_address(network.link, ip_interface("10.5.0.128/32"))
    with kernel.inside(kernel.open_netns("/run/netns/box")) as inner:
        inner.set_link("eth0", mtu=1300)
        inner.delete_address("eth0", ip_interface("10.5.0.2/24"))

    found = differences(kernel, network, endpoint)

    assert found == [
        "the parent 'up0' is down",
        "the host's interface 'dv-abababababab' is down",
        "the host's interface 'dv-abababababab' has lost address 10.5.0.128/32",
        "interface 'eth0' has MTU 1300, not 1400",
        "interface 'eth0' has lost address 10.5.0.2/24",
    ]


@pytest.mark.parametrize(
    ("parent", "settings", "text"),
    [
        ("up0", Macvlan("private"), "interface 'eth0' is in mode private, not in mode bridge"),
        ("br0", Macvlan("bridge"), "interface 'eth0' is not on 'up0'"),
        ("up0", Ipvlan(), "interface 'eth0' is of kind ipvlan, not macvlan"),
    ],
)
def test_another_link_in_its_place_differs(
    kernel: RecordingKernel, parent: str, settings: Any, text: str
) -> None:
    network = create(kernel, a_network(parent="up0"))
    sandbox = kernel.create_netns("/run/netns/box")
    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")
    with kernel.inside(sandbox) as inner:
        inner.delete_links(["eth0"])
    kernel.add_link(LinkSpec("eth0", mac=endpoint.mac, netns=sandbox, up=True), settings, parent=parent)
    with kernel.inside(sandbox) as inner:
        for address in endpoint.addresses:
            inner.add_address("eth0", address)
        inner.add_route("eth0", Route(destination=EVERYWHERE[4], gateway=ip_address("10.5.0.254")))

    found = differences(kernel, network, endpoint)

    assert text in found


def test_a_parent_and_an_interface_that_are_gone_are_said(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(HOST_IN_LAN, parent="up0", host_access="10.5.0.128"))
    endpoint = join(kernel, network, an_endpoint(network), "/run/netns/box")
    kernel.delete_links(["up0"])

    assert differences(kernel, network, endpoint) == [
        "the parent 'up0' is gone",
        "the host's interface 'dv-abababababab' is gone",
        "interface 'eth0' is gone from the sandbox",
    ]
    assert MacvlanDriver().check(kernel, network, endpoint, None) == [
        "the parent 'up0' is gone",
        "the host's interface 'dv-abababababab' is gone",
    ]
