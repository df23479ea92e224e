from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.drivers.macvlan import MacvlanDriver
from dovetail.drivers.protocol import Driver, OnParent
from dovetail.errors import Conflict, DovetailError, InvalidArgument, KernelError, NotFound
from dovetail.kernel.protocol import Dummy, Ipvlan, Link, LinkSpec, Macvlan, Vlan
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.mac import Mac
from dovetail.model.network import Network, Subnet

STORE = "store"
LAN = Subnet(subnet=ip_network("10.5.0.0/24"), gateway=ip_address("10.5.0.254"))
LAN6 = Subnet(subnet=ip_network("fd05::/64"))
HOST_IN_LAN = msgspec.structs.replace(
    LAN, ip_range=ip_network("10.5.0.128/25"), aux={"host": ip_address("10.5.0.128")}
)
HOST_IN_LAN6 = msgspec.structs.replace(LAN6, aux={"host": ip_address("fd05::1")})


@pytest.fixture
def kernel() -> RecordingKernel:
    """A host with one network card, `up0`, and a bridge with a port."""
    kernel = RecordingKernel()
    kernel.add_link(LinkSpec("up0", mac=Mac("02:00:00:00:00:01"), up=True), Dummy())
    kernel.add_bridge("br0")
    kernel.add_veth(LinkSpec("port0", master="br0"), LinkSpec("far0"))
    kernel.commands.clear()
    return kernel


@pytest.fixture
def driver() -> MacvlanDriver:
    return MacvlanDriver()


def a_network(*subnets: Subnet, number: str = "ab", internal: bool = False, **options: str) -> Network:
    return Network(
        id=number * 32,
        name=f"lan-{number}",
        driver="macvlan",
        internal=internal,
        options=options,
        subnets=subnets or (LAN, LAN6),
    )


def plan(kernel: RecordingKernel, network: Network, *beside: Network) -> Network:
    driver = MacvlanDriver()
    network = driver.plan_network(kernel, network, STORE)
    driver.check_beside(kernel, network, beside)
    return network


def create(kernel: RecordingKernel, network: Network, *beside: Network) -> Network:
    network = plan(kernel, network, *beside)
    with ExitStack() as undo:
        MacvlanDriver().create_network(kernel, network, STORE, undo)
        undo.pop_all()
    return msgspec.structs.replace(network, status="active")


def restore(kernel: RecordingKernel, network: Network) -> None:
    with ExitStack() as undo:
        MacvlanDriver().create_network(kernel, network, STORE, undo)
        undo.pop_all()


def delete(kernel: RecordingKernel, network: Network, *beside: Network) -> None:
    driver = MacvlanDriver()
    for _ in range(2):
        driver.delete_network(kernel, network)
        driver.release_parent(kernel, network, beside)


def names(kernel: RecordingKernel) -> set[str]:
    return {link.name for link in kernel.links()} - {"lo", "up0", "br0", "port0", "far0"}


# -- planning -------------------------------------------------------------------------------------


def test_it_is_a_driver_whose_networks_may_share_a_parent(driver: MacvlanDriver) -> None:
    typed: Driver = driver

    assert isinstance(typed, OnParent)
    assert not typed.is_gateway
    assert driver.shared_parent(a_network(parent="up0")) == "up0"
    assert driver.shared_parent(a_network()) == ""


def test_planning_names_the_parent_and_changes_nothing(kernel: RecordingKernel) -> None:
    network = plan(kernel, a_network(parent="up0", macvlan_mode="private"))

    assert (network.parent, network.parent_made, network.link, network.mtu) == ("up0", False, "", 0)
    assert (network.internal, network.firewall, network.adopted) == (False, None, False)
    assert kernel.commands == []


def test_without_a_parent_the_network_is_internal_on_a_link_of_its_own(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(mtu="1400"))

    assert (network.internal, network.parent) == (True, "dm-abababababab")
    assert kernel.commands[:3] == [
        "ip link add name dm-abababababab mtu 1400 type dummy",
        f"ip link set dev dm-abababababab alias dovetail:store/network/{'ab' * 32}",
        "ip link set dev dm-abababababab up",
    ]
    delete(kernel, network)
    assert names(kernel) == set()


def test_a_vlan_that_is_missing_is_made_and_removed(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0.10"))

    assert network.parent_made
    assert kernel.commands[:3] == [
        "ip link add link up0 name up0.10 type vlan id 10",
        f"ip link set dev up0.10 alias dovetail:store/network/{'ab' * 32}",
        "ip link set dev up0.10 up",
    ]
    restore(kernel, network)
    delete(kernel, network)
    assert names(kernel) == set()


def test_a_vlan_that_was_there_stays(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("up0.10", up=True), Vlan(10), parent="up0")

    network = create(kernel, a_network(parent="up0.10"))
    delete(kernel, network)

    assert not network.parent_made
    assert names(kernel) == {"up0.10"}
    kernel.delete_links(["up0.10"])
    with pytest.raises(NotFound, match=r"'up0.10' \(the network's parent is gone: make it again"):
        restore(kernel, network)


def test_a_vlan_goes_with_the_last_network_on_it(kernel: RecordingKernel) -> None:
    first = create(kernel, a_network(LAN, parent="up0.10"))
    second = create(kernel, a_network(LAN6, parent="up0.10", number="cd"), first)

    assert second.parent_made
    delete(kernel, first, second)
    link = kernel.link("up0.10")
    assert link is not None
    assert link.alias == f"dovetail:store/network/{'cd' * 32}", "the next network has it now"
    delete(kernel, second)
    assert names(kernel) == set()


def test_a_link_of_that_name_which_is_somebody_elses_is_not_removed(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(parent="up0.10"))
    kernel.delete_links(["up0.10"])
    kernel.add_link(LinkSpec("up0.10"), Vlan(10), parent="up0")

    delete(kernel, network)

    assert names(kernel) == {"up0.10"}


def test_what_another_dovetail_made_is_not_ours(kernel: RecordingKernel) -> None:
    alias = f"dovetail:other/network/{'ef' * 32}"
    kernel.add_link(LinkSpec("up0.10", alias=alias, up=True), Vlan(10), parent="up0")

    assert not plan(kernel, a_network(parent="up0.10")).parent_made


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"parent": "lo"}, InvalidArgument, r"options.parent: 'lo' leads nowhere: no macvlan can be on it"),
        ({"parent": "nope"}, NotFound, r"options.parent: no such interface: 'nope' \(give a network card"),
        ({"parent": "nope.10"}, NotFound, "no such interface: 'nope.10'"),
        ({"parent": "up0.0"}, InvalidArgument, r"0 is no VLAN of up0 \(VLANs are numbered from 1 to 4094\)"),
        ({"parent": "up0.4095"}, InvalidArgument, "4095 is no VLAN of up0"),
        ({"parent": "up0.x"}, NotFound, "no such interface: 'up0.x'"),
        ({"parent": "a-name-that-is-too-long"}, InvalidArgument, "is not a valid interface name"),
        ({"parent": "a b"}, InvalidArgument, "options.parent: 'a b' is not a valid interface name"),
        ({"parent": "port0"}, Conflict, r"'port0' is a port of bridge br0, and cannot .* \(give parent=br0\)"),
        ({"parent": "up0", "mode": "source"}, InvalidArgument, "options.mode: 'source' is none of private"),
        ({"parent": "up0", "macvlan_mode": "x"}, InvalidArgument, "options.macvlan_mode: 'x' is none of"),
        ({"parent": "up0", "mtu": "9000"}, InvalidArgument, "options.mtu: an MTU of 9000 is more than 'up0'"),
        ({"parent": "up0.10", "mtu": "9000"}, InvalidArgument, "an MTU of 9000 is more than 'up0.10' has"),
        ({"parent": "up0", "mtu": "1000"}, InvalidArgument, "an MTU that works on a network with IPv6"),
        ({"parent": "up0", "masquerade": "true"}, InvalidArgument, "not an option of a macvlan network"),
        ({"parnet": "up0"}, InvalidArgument, "did you mean 'parent'"),
        ({"parent": "up0", "host_access": "yes"}, InvalidArgument, "'yes' is neither true, false nor an"),
        ({"parent": "up0", "host_access": "10.5.0.300"}, InvalidArgument, "'10.5.0.300' is not an IP address"),
        ({"parent": "up0", "host_access": "10.5.0.3,10.5.0.3"}, InvalidArgument, "names an address twice"),
        ({"parent": "up0", "host_access": "10.9.0.3"}, InvalidArgument, "10.9.0.3 is in no subnet"),
        ({"parent": "up0", "host_access": "1", "mode": "private"}, InvalidArgument, "private keeps the links"),
        ({"parent": "up0", "host_access": "1", "mode": "vepa"}, InvalidArgument, "only bridge lets them meet"),
        ({"parent": "up0", "host_access": "1", "mode": "passthru"}, InvalidArgument, "the host's too"),
        ({"parent": "up0", "host_access": "1"}, InvalidArgument, "by the name host: --aux-address host="),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_changes(
    kernel: RecordingKernel, options: dict[str, str], kind: type[DovetailError], text: str
) -> None:
    with pytest.raises(kind, match=text) as refused:
        plan(kernel, a_network(**options))

    assert refused.value.where.startswith("$.options.")
    assert kernel.commands == []


def test_a_vlan_that_is_there_by_another_name_is_named(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("guests"), Vlan(10), parent="up0")

    with pytest.raises(
        Conflict, match=r"VLAN 10 of up0 is there, by the name of guests \(give parent=guests\)"
    ):
        plan(kernel, a_network(parent="up0.10"))


def test_a_link_without_a_mac_is_no_parent(kernel: RecordingKernel) -> None:
    kernel._space.links["tun0"] = Link("tun0", 99, "tun")

    with pytest.raises(InvalidArgument, match="'tun0' is no Ethernet interface"):
        plan(kernel, a_network(parent="tun0"))


def test_docker_names_the_options_too_and_its_others_are_ignored(kernel: RecordingKernel) -> None:
    options = {
        "parent": "up0",
        "macvlan_mode": "vepa",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.enable_icc": "true",
    }
    network = create(kernel, a_network(**options))

    assert network.mtu == 1400
    assert "ip link add link up0 name dv-abababababab mtu 1400 type macvlan mode vepa" in kernel.commands


def test_mtu_auto_is_the_parents(kernel: RecordingKernel) -> None:
    assert plan(kernel, a_network(parent="up0", mtu="auto")).mtu == 0


# -- beside others --------------------------------------------------------------------------------


def test_networks_share_a_parent_in_different_modes_but_none_shares_passthru(kernel: RecordingKernel) -> None:
    bridge = create(kernel, a_network(LAN, parent="up0"))
    passthru = a_network(LAN6, parent="up0", mode="passthru", number="cd")

    plan(kernel, a_network(LAN6, parent="up0", mode="private", number="cd"), bridge)
    with pytest.raises(Conflict, match="passthru wants 'up0' for itself, and network 'lan-ab' is on it"):
        plan(kernel, passthru, bridge)
    with pytest.raises(Conflict, match="network 'lan-cd', in mode passthru, has 'up0' for itself"):
        plan(kernel, a_network(LAN, parent="up0"), plan(kernel, passthru))


def test_a_parent_of_an_ipvlan_network_is_refused(kernel: RecordingKernel) -> None:
    other = Network(id="ef" * 32, name="routed", driver="ipvlan", options={"parent": "up0"}, parent="up0")

    with pytest.raises(
        Conflict, match="'up0' carries the ipvlan network 'routed', and cannot carry a macvlan"
    ):
        plan(kernel, a_network(parent="up0"), other)


def test_links_of_others_on_the_parent_count(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("guest0"), Macvlan(), parent="up0")

    plan(kernel, a_network(parent="up0"))
    with pytest.raises(Conflict, match="'up0' carries the macvlan 'guest0', and cannot .* of mode passthru"):
        plan(kernel, a_network(parent="up0", mode="passthru"))
    kernel.delete_links(["guest0"])
    kernel.add_link(LinkSpec("guest0"), Ipvlan(), parent="up0")
    with pytest.raises(Conflict, match="'up0' carries the ipvlan 'guest0'"):
        plan(kernel, a_network(parent="up0"))


def test_what_the_kernel_has_against_a_parent_is_heard_when_the_network_is_made(
    kernel: RecordingKernel,
) -> None:
    network = plan(kernel, a_network(parent="up0"))
    kernel.fail(on=lambda verb: verb == "add_link")

    with pytest.raises(KernelError), ExitStack() as undo:
        MacvlanDriver().create_network(kernel, network, STORE, undo)

    kernel.fail()
    assert names(kernel) == set()
    kernel.commands.clear()
    restore(kernel, msgspec.structs.replace(network, status="active"))
    assert kernel.commands == [], "it is tried once, not whenever the network is looked after"


# -- the host's own interface ---------------------------------------------------------------------


def test_the_host_gets_an_address_and_a_route_to_the_endpoints(kernel: RecordingKernel) -> None:
    kernel.add_address("up0", ip_interface("10.5.0.1/24"))
    kernel.commands.clear()

    network = create(kernel, a_network(HOST_IN_LAN, HOST_IN_LAN6, parent="up0", host_access="true"))

    link = "dv-abababababab"
    mac = Mac.derived(f"host access/{network.id}")
    assert network.link == link
    assert kernel.commands == [
        f"ip link add link up0 name {link} address {mac} type macvlan mode bridge",
        f"ip link set dev {link} alias dovetail:store/network/{network.id}",
        f"sysctl -q -w net/ipv6/conf/{link}/accept_ra=0",
        f"sysctl -q -w net/ipv4/conf/{link}/arp_ignore=1",
        f"sysctl -q -w net/ipv4/conf/{link}/arp_announce=2",
        f"ip addr add 10.5.0.128/32 dev {link}",
        f"ip addr add fd05::1/128 dev {link} nodad",
        f"ip link set dev {link} up",
        f"ip route add 10.5.0.128/25 dev {link}",
        f"ip -6 route add fd05::/64 dev {link}",
    ]
    kernel.commands.clear()
    restore(kernel, network)
    assert kernel.commands == []
    delete(kernel, network)
    assert names(kernel) == set()


def test_what_a_reboot_took_from_the_host_comes_back(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(HOST_IN_LAN, parent="up0.10", host_access="true"))
    kernel.delete_links(["up0.10"])
    assert names(kernel) == set()

    restore(kernel, network)

    assert names(kernel) == {"up0.10", network.link}
    assert kernel.addresses(network.link) == [(network.link, ip_interface("10.5.0.128/32"))]


def test_a_route_of_the_host_to_all_of_the_subnet_asks_for_a_range(kernel: RecordingKernel) -> None:
    kernel.add_address("up0", ip_interface("10.5.0.1/24"))
    whole = msgspec.structs.replace(HOST_IN_LAN, ip_range=None)

    with pytest.raises(Conflict, match=r"route to 10.5.0.0/24 by up0, .* \(give the network an --ip-range"):
        plan(kernel, a_network(whole, parent="up0", host_access="true"))


def test_a_link_that_is_somebody_elses_is_not_taken(kernel: RecordingKernel) -> None:
    network = plan(kernel, a_network(HOST_IN_LAN, parent="up0", host_access="true"))
    kernel.add_bridge(network.link)

    with (
        pytest.raises(Conflict, match="'dv-abababababab' is there and is not dovetail's"),
        ExitStack() as undo,
    ):
        MacvlanDriver().create_network(kernel, network, STORE, undo)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", None),
        ("false", None),
        ("true", ()),
        ("10.5.0.9", (ip_address("10.5.0.9"),)),
        ("10.5.0.9, fd05::9", (ip_address("10.5.0.9"), ip_address("fd05::9"))),
    ],
)
def test_the_hosts_addresses_are_chosen_or_named(driver: MacvlanDriver, text: str, addresses: Any) -> None:
    assert driver.host_addresses(a_network(parent="up0", host_access=text)) == addresses
