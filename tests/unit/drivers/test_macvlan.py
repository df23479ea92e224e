from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.drivers.macvlan import MacvlanDriver
from dovetail.drivers.protocol import Driver, OnParent
from dovetail.errors import AlreadyExists, Conflict, DovetailError, InvalidArgument, KernelError, NotFound
from dovetail.kernel.protocol import Dummy, Ipvlan, Link, LinkSpec, Macvlan, Vlan
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


# -- endpoints ------------------------------------------------------------------------------------


def test_an_endpoint_has_a_mac_of_its_own_and_nothing_on_the_host(kernel: RecordingKernel) -> None:
    network = plan(kernel, a_network(parent="up0"))

    endpoint = an_endpoint(network)

    assert (endpoint.mac, endpoint.link) == (Mac.derived(f"endpoint/{endpoint.id}"), "")
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
