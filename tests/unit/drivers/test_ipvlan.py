"""What ipvlan does otherwise than macvlan, whose tests are those of both. This kernel has no ipvlan."""

from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.drivers.ipvlan import IpvlanDriver
from dovetail.errors import Conflict, DovetailError, InvalidArgument
from dovetail.kernel.protocol import Dummy, Ipvlan, LinkSpec, Macvlan
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.addresses import EVERYWHERE
from dovetail.model.attachment import Route
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import Network, Subnet

STORE = "store"
PARENT_MAC = Mac("02:00:00:00:00:01")
LAN = Subnet(subnet=ip_network("10.5.0.0/24"), gateway=ip_address("10.5.0.254"))
LAN6 = Subnet(subnet=ip_network("fd05::/64"), gateway=ip_address("fd05::fe"))


@pytest.fixture
def kernel() -> RecordingKernel:
    kernel = RecordingKernel()
    kernel.add_link(LinkSpec("up0", mac=PARENT_MAC, up=True), Dummy())
    kernel.commands.clear()
    return kernel


def a_network(*subnets: Subnet, number: str = "ab", internal: bool = False, **options: str) -> Network:
    return Network(
        id=number * 32,
        name=f"lan-{number}",
        driver="ipvlan",
        internal=internal,
        options=options,
        subnets=subnets or (LAN, LAN6),
    )


def plan(kernel: RecordingKernel, network: Network, *beside: Network) -> Network:
    driver = IpvlanDriver()
    network = driver.plan_network(kernel, network, STORE)
    driver.check_beside(kernel, network, beside)
    return network


def create(kernel: RecordingKernel, network: Network) -> Network:
    network = plan(kernel, network)
    with ExitStack() as undo:
        IpvlanDriver().create_network(kernel, network, STORE, undo)
        undo.pop_all()
    kernel.commands.clear()
    return network


def join(kernel: RecordingKernel, network: Network, path: str) -> Endpoint:
    driver = IpvlanDriver()
    addresses = (ip_interface("10.5.0.2/24"), ip_interface("fd05::2/64"))
    endpoint = Endpoint(id="cd" * 32, network_id=network.id, owner=Owner(face="cli"), addresses=addresses)
    endpoint = driver.plan_endpoint(network, endpoint)
    sandbox = kernel.open_netns(path) if path else None
    with ExitStack() as undo:
        attachment = driver.join(
            kernel, network, endpoint, sandbox=sandbox, ifname="eth0", store_id=STORE, undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
@pytest.mark.parametrize("flag", ["bridge", "private", "vepa"])
def test_every_mode_and_flag_is_made(kernel: RecordingKernel, mode: str, flag: str) -> None:
    network = plan(kernel, a_network(parent="up0", ipvlan_mode=mode, ipvlan_flag=flag))
    assert kernel.commands == []

    with ExitStack() as undo:
        IpvlanDriver().create_network(kernel, network, STORE, undo)
        undo.pop_all()

    link = "dv-abababababab"
    assert kernel.commands == [
        f"ip link add link up0 name {link} type ipvlan mode {mode} {flag}",
        f"ip link set dev {link} alias dovetail:store/network/{network.id}",
        f"ip link del dev {link}",
    ]


def test_in_l2_the_gateways_are_the_subnets(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))

    endpoint = join(kernel, network, "/run/netns/box")

    attachment = endpoint.attachment
    assert attachment is not None
    assert attachment.gateways == (ip_address("10.5.0.254"), ip_address("fd05::fe"))
    assert (endpoint.mac, attachment.mac) == (None, PARENT_MAC)


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_in_l3_the_default_routes_are_on_the_link(kernel: RecordingKernel, mode: str) -> None:
    network = create(kernel, a_network(parent="up0", mode=mode))
    kernel.create_netns("/run/netns/box")
    kernel.commands.clear()

    endpoint = join(kernel, network, "/run/netns/box")

    assert endpoint.attachment is not None
    assert endpoint.attachment.gateways == ()
    assert endpoint.attachment.routes == tuple(Route(destination=EVERYWHERE[v]) for v in (4, 6))
    assert kernel.commands == [
        f"ip link add link up0 name eth0 netns box type ipvlan mode {mode} bridge",
        f"ip -n box link set dev eth0 alias dovetail:store/endpoint/{endpoint.id}",
        "nsenter --net=/run/netns/box sysctl -q -w net/ipv4/conf/eth0/arp_notify=1",
        "nsenter --net=/run/netns/box sysctl -q -w net/ipv6/conf/eth0/ndisc_notify=1",
        "ip -n box link set dev lo up",
        "ip -n box addr add 10.5.0.2/24 dev eth0",
        "ip -n box addr add fd05::2/64 dev eth0 nodad",
        "ip -n box link set dev eth0 up",
        "ip -n box route add default dev eth0",
        "ip -n box -6 route add default dev eth0",
    ]


def test_an_internal_l3_network_leads_nowhere(kernel: RecordingKernel) -> None:
    for network in (a_network(parent="up0", mode="l3", internal=True), a_network(mode="l3")):
        endpoint = join(kernel, create(kernel, network), f"/run/netns/{network.options.get('parent', 'own')}")
        assert endpoint.attachment is not None
        assert (endpoint.attachment.gateways, endpoint.attachment.routes) == ((), ())


def test_a_default_route_that_is_given_counts(kernel: RecordingKernel) -> None:
    network = plan(kernel, a_network(LAN, parent="up0", mode="l3", route="0.0.0.0/0 via 10.5.0.254"))

    assert [str(route.gateway) for route in network.routes] == ["10.5.0.254"]


def test_handing_over_leaves_it_in_the_hosts_namespace(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0", mode="l3"))

    endpoint = join(kernel, network, "")

    waiting = f"dvc{'cd' * 6}"
    assert kernel.commands == [
        f"ip link add link up0 name {waiting} type ipvlan mode l3 bridge",
        f"ip link set dev {waiting} alias dovetail:store/endpoint/{endpoint.id}",
    ]
    assert endpoint.attachment is not None
    assert endpoint.attachment.handover == waiting


def test_without_a_parent_it_is_on_a_dummy_of_its_own(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network())

    assert (network.internal, network.parent, network.parent_made) == (True, "di-abababababab", True)


def test_the_host_reaches_it_by_an_ipvlan_of_its_own(kernel: RecordingKernel) -> None:
    lan = msgspec.structs.replace(LAN, aux={"host": ip_address("10.5.0.9")})
    network = plan(kernel, a_network(lan, parent="up0", mode="l3", host_access="10.5.0.9"))
    with ExitStack() as undo:
        IpvlanDriver().create_network(kernel, network, STORE, undo)
        undo.pop_all()

    link = "dv-abababababab"
    assert kernel.commands[0] == f"ip link add link up0 name {link} type ipvlan mode l3 bridge"
    assert f"ip addr add 10.5.0.9/32 dev {link}" in kernel.commands
    assert kernel.commands[-1] == f"ip route add 10.5.0.0/24 dev {link}"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"parent": "lo"}, "'lo' leads nowhere: no ipvlan can be on it"),
        ({"parent": "up0", "mode": "l4"}, r"'l4' is none of l2, l3, l3s \(the default is l2\)"),
        ({"parent": "up0", "ipvlan_flag": "x"}, "options.ipvlan_flag: 'x' is none of bridge, private, vepa"),
        ({"parent": "up0", "macvlan_mode": "bridge"}, "'macvlan_mode' is not an option of a ipvlan network"),
        ({"parent": "up0", "host_access": "1", "flag": "vepa"}, "vepa keeps the links of a parent apart"),
    ],
)
def test_what_cannot_be_is_refused(kernel: RecordingKernel, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidArgument, match=text):
        plan(kernel, a_network(**options))


def test_a_mac_of_its_own_is_refused(kernel: RecordingKernel) -> None:
    network = plan(kernel, a_network(parent="up0"))
    endpoint = Endpoint(id="cd" * 32, network_id=network.id, owner=Owner(face="cli"), mac=PARENT_MAC)

    with pytest.raises(
        InvalidArgument, match="ipvlan network 'lan-ab' has the MAC address of up0"
    ) as refused:
        IpvlanDriver().plan_endpoint(network, endpoint)

    assert refused.value.where == "$.mac"


@pytest.mark.parametrize("other", [{"mode": "l3"}, {"flag": "private"}])
def test_a_parent_has_one_mode_and_flag_for_all(kernel: RecordingKernel, other: dict[str, str]) -> None:
    first = plan(kernel, a_network(LAN, parent="up0"))

    plan(kernel, a_network(LAN6, parent="up0", number="cd"), first)
    with pytest.raises(
        Conflict, match="network 'lan-ab' has 'up0' in mode l2 with flag bridge, and a parent"
    ):
        plan(kernel, a_network(LAN6, parent="up0", number="cd", **other), first)


@pytest.mark.parametrize("settings", [Macvlan(), Ipvlan("l3")])
def test_links_of_others_that_do_not_agree_are_in_the_way(kernel: RecordingKernel, settings: Any) -> None:
    kernel.add_link(LinkSpec("guest0"), settings, parent="up0")

    with pytest.raises(DovetailError, match="'up0' carries the (macvlan|ipvlan) 'guest0', and cannot carry"):
        plan(kernel, a_network(parent="up0"))


def test_one_that_agrees_is_not(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("guest0"), Ipvlan("l2", "bridge"), parent="up0")

    assert plan(kernel, a_network(parent="up0")).parent == "up0"


def test_another_flag_in_the_kernel_differs(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0"))
    sandbox = kernel.create_netns("/run/netns/box")
    endpoint = join(kernel, network, "/run/netns/box")
    assert IpvlanDriver().check(kernel, network, endpoint, sandbox) == []
    with kernel.inside(sandbox) as inner:
        inner.delete_links(["eth0"])
    kernel.add_link(LinkSpec("eth0", netns=sandbox, up=True), Ipvlan("l2", "private"), parent="up0")

    found = IpvlanDriver().check(kernel, network, endpoint, sandbox)

    expected = "interface 'eth0' is in mode l2 with flag private, not in mode l2 with flag bridge"
    assert expected in found
