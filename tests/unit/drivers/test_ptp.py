from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network

import msgspec
import pytest

from dovetail.drivers.options import Given
from dovetail.drivers.protocol import Driver
from dovetail.drivers.ptp import PtpDriver
from dovetail.drivers.ptp_options import KNOWN
from dovetail.errors import InvalidArgument, KernelError
from dovetail.kernel.protocol import KernelRoute, LinkSpec
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.attachment import Route
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.firewall import FamilyIntent, FirewallIntent
from dovetail.model.mac import Mac
from dovetail.model.network import Network, Subnet

STORE = "store"
WEB = Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1"))
MORE = Subnet(subnet=ip_network("10.89.0.0/24"), gateway=ip_address("10.89.0.1"))
WEB6 = Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1"))


@pytest.fixture
def kernel() -> RecordingKernel:
    return RecordingKernel()


@pytest.fixture
def driver() -> Driver:
    return PtpDriver()


def a_network(
    *, internal: bool = False, subnets: tuple[Subnet, ...] = (WEB, MORE, WEB6), **options: str
) -> Network:
    return Network(
        id="ab" * 32, name="web", driver="ptp", internal=internal, options=options, subnets=subnets
    )


def an_endpoint(driver: Driver, network: Network, *addresses: str, mac: Mac | None = None) -> Endpoint:
    given = tuple(map(ip_interface, addresses or ("10.89.0.2/24", "fd88::2/64")))
    endpoint = Endpoint(
        id="cd" * 32, network_id=network.id, owner=Owner(face="cli"), addresses=given, mac=mac
    )
    return driver.plan_endpoint(network, endpoint)


def create(driver: Driver, kernel: RecordingKernel, network: Network) -> Network:
    network = driver.plan_network(kernel, network, STORE)
    with ExitStack() as undo:
        driver.create_network(kernel, network, STORE, undo)
        undo.pop_all()
    return network


def join(
    driver: Driver,
    kernel: RecordingKernel,
    network: Network,
    endpoint: Endpoint,
    path: str = "/run/netns/box",
) -> Endpoint:
    sandbox = kernel.open_netns(path) if path else None
    with ExitStack() as undo:
        attachment = driver.join(
            kernel, network, endpoint, sandbox=sandbox, ifname="eth0", store_id=STORE, undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


def test_planning_decides_the_firewall_and_no_link_and_changes_nothing(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = driver.plan_network(
        kernel, a_network(icc="false", mtu="1400", masquerade="false", gateway_mode_ipv6="routed"), STORE
    )

    assert (network.link, network.mtu) == ("", 1400)
    assert network.firewall == FirewallIntent(
        link="",
        icc=False,
        ipv4=FamilyIntent(masquerade=False),
        ipv6=FamilyIntent(mode="routed", masquerade=False),
    )
    assert kernel.mutations == 0


def test_an_mtu_of_auto_is_that_of_the_uplink(driver: Driver, kernel: RecordingKernel) -> None:
    kernel.add_veth(LinkSpec("up0", mtu=1450, up=True), LinkSpec("up1"))
    kernel.add_address("up0", ip_interface("192.0.2.1/24"))
    kernel.add_route("up0", Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("192.0.2.9")))

    assert driver.plan_network(kernel, a_network(mtu="auto"), STORE).mtu == 1450


def test_docker_calls_the_options_by_its_own_names() -> None:
    options = {
        "com.docker.network.bridge.enable_icc": "0",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.endpoint.whatever": "x",
    }
    given = Given("ptp", options, KNOWN)

    assert (given.boolean("icc", default=True), given.mtu(ipv6=False)) == (False, 1400)


@pytest.mark.parametrize(
    ("network", "where", "words"),
    [
        (a_network(subnets=()), "$.subnets", "--subnet"),
        (a_network(subnets=(WEB, Subnet(subnet=MORE.subnet))), "$.subnets[1].gateway", "10.89.0.0/24"),
        (
            a_network(
                subnets=(msgspec.structs.replace(WEB, aux={"DefaultGatewayIPv4": ip_address("10.88.0.9")}),)
            ),
            "$.subnets[0].aux",
            "10.88.0.9",
        ),
        (a_network(route="10.0.0.0/8 via 10.88.0.9"), "$.options.route", "10.0.0.0/8 via 10.88.0.1"),
        (a_network(route="10.0.0.0/8"), "$.options.route", "gateway"),
        (a_network(gateway_mode_ipv4="isolated", internal=True), "$.options.gateway_mode_ipv4", "routed"),
        (  # the engine takes no gateway then
            a_network(gateway_mode_ipv6="isolated", internal=True, subnets=(Subnet(subnet=WEB6.subnet),)),
            "$.options.gateway_mode_ipv6",
            "routed",
        ),
        (a_network(gateway="none"), "$.options.gateway", "not an option of a ptp network"),
        (a_network(bridge="br0"), "$.options.bridge", "not an option of a ptp network"),
        (a_network(mtu="1000"), "$.options.mtu", "IPv6"),
    ],
)
def test_what_cannot_be_by_way_of_the_host_is_refused(
    driver: Driver, kernel: RecordingKernel, network: Network, where: str, words: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        driver.plan_network(kernel, network, STORE)

    assert refused.value.where == where
    assert words in f"{refused.value} {refused.value.hint}"


def test_routes_lead_by_the_gateway_that_the_link_has(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(route="10.0.0.0/8 via 10.88.0.1, default via 10.88.0.1"))

    endpoint = join(driver, kernel, network, an_endpoint(driver, network))

    assert endpoint.attachment is not None
    ways = {str(r.destination): str(r.gateway) for r in endpoint.attachment.routes if r.gateway}
    assert ways == {
        "10.0.0.0/8": "10.89.0.1",
        "10.88.0.0/24": "10.89.0.1",
        "10.89.0.0/24": "10.89.0.1",
        "fd88::/64": "fd88::1",
    }
    assert endpoint.attachment.gateways == (ip_address("10.89.0.1"), ip_address("fd88::1"))


def test_an_internal_network_leads_to_neighbours_and_nowhere_else(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network(internal=True))

    endpoint = join(driver, kernel, network, an_endpoint(driver, network))

    assert kernel.sysctl("net/ipv4/ip_forward") == "1", "the host is the way to a neighbour"
    assert endpoint.attachment is not None
    assert endpoint.attachment.gateways == ()
    assert {str(route.destination) for route in endpoint.attachment.routes} == {
        *("10.89.0.1/32", "fd88::1/128", "10.88.0.0/24", "10.89.0.0/24", "fd88::/64")
    }


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.89.0.2/24", {"10.89.0.0/25", "10.89.0.128/25"}),
        ("10.89.0.2/32", {"10.89.0.0/24"}),
    ],
)
def test_where_dockerd_sets_the_address_the_neighbours_are_still_behind_the_gateway(
    driver: Driver, kernel: RecordingKernel, address: str, inside: set[str]
) -> None:
    network = create(driver, kernel, a_network())

    endpoint = join(driver, kernel, network, an_endpoint(driver, network, address), path="")

    assert endpoint.attachment is not None
    assert endpoint.attachment.handover == "dvccdcdcdcdcdcd"
    first, *others = endpoint.attachment.routes
    assert (str(first.destination), first.gateway) == ("10.89.0.1/32", None), "the others lead by it"
    assert {str(route.destination) for route in others} == {*inside, "10.88.0.0/24"}


def test_a_pair_of_addresses_needs_no_way_to_neighbours(driver: Driver, kernel: RecordingKernel) -> None:
    pair = Subnet(subnet=ip_network("10.88.0.0/31"), gateway=ip_address("10.88.0.0"))
    network = create(driver, kernel, a_network(subnets=(pair,)))

    endpoint = join(driver, kernel, network, an_endpoint(driver, network, "10.88.0.1/31"), path="")

    assert endpoint.attachment is not None
    assert [str(route.destination) for route in endpoint.attachment.routes] == ["10.88.0.0/32"]


def test_an_address_of_no_subnet_is_refused(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())

    with pytest.raises(InvalidArgument, match=r"10\.7\.0\.2 is not in network 'web' \(10\.88\.0\.0/24, "):
        an_endpoint(driver, network, "10.7.0.2/24")


def test_a_mac_is_always_the_same_and_the_users_where_one_is_given(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network())

    assert an_endpoint(driver, network).mac == an_endpoint(driver, network).mac
    given = an_endpoint(driver, network, mac=Mac("02:00:5e:10:00:01"))
    assert given.mac == "02:00:5e:10:00:01"
    assert given.link == "dvhcdcdcdcdcdcd"


def test_creating_twice_changes_nothing_the_second_time(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())
    commands = list(kernel.commands)

    with ExitStack() as undo:
        driver.create_network(kernel, network, STORE, undo)

    assert kernel.commands == commands


def test_a_network_takes_what_it_added_along(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())
    assert kernel.unreachable() == {subnet.subnet for subnet in network.subnets}

    driver.delete_network(kernel, network)
    driver.delete_network(kernel, network)

    assert kernel.unreachable() == set()


@pytest.mark.parametrize("step", range(1, 7))
def test_a_network_that_fails_at_any_step_leaves_no_route(
    driver: Driver, kernel: RecordingKernel, step: int
) -> None:
    network = driver.plan_network(kernel, a_network(), STORE)
    kernel.fail(at=step)

    try:
        with ExitStack() as undo:
            driver.create_network(kernel, network, STORE, undo)
            undo.pop_all()
    except KernelError:
        assert kernel.unreachable() == set()
    else:
        assert kernel.mutations < step, "there are steps that were not tried"


@pytest.mark.parametrize("path", ["/run/netns/box", ""])
@pytest.mark.parametrize("step", range(1, 20))
def test_a_join_that_fails_at_any_step_leaves_no_link_and_no_route(
    driver: Driver, kernel: RecordingKernel, step: int, path: str
) -> None:
    network = create(driver, kernel, a_network())
    endpoint = an_endpoint(driver, network)
    before = ({link.name for link in kernel.links()}, kernel.routes(), kernel.addresses())
    kernel.fail(at=step)

    try:
        join(driver, kernel, network, endpoint, path)
    except KernelError:
        pass
    else:
        assert kernel.mutations < step
        kernel.fail()
        driver.leave(kernel, endpoint)
    assert ({link.name for link in kernel.links()}, kernel.routes(), kernel.addresses()) == before


def test_leaving_takes_the_hosts_route_and_addresses_along_from_anywhere(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network())
    endpoint = join(driver, kernel, network, an_endpoint(driver, network), path="")
    assert KernelRoute(ip_network("10.89.0.2/32"), None, endpoint.link) in kernel.routes()
    assert driver.is_alive(kernel, endpoint, frozenset({endpoint.link}))

    driver.leave(kernel, endpoint)
    driver.leave(kernel, endpoint)

    assert [link.name for link in kernel.links()] == ["lo"]
    assert kernel.routes() == []
    assert not driver.is_alive(kernel, endpoint, frozenset({"lo"}))


def test_checking_sees_what_somebody_changed(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(mtu="1400"))
    endpoint = join(driver, kernel, network, an_endpoint(driver, network))
    box = kernel.open_netns("/run/netns/box")
    assert driver.check(kernel, network, endpoint, box) == []

    kernel.delete_address(endpoint.link, ip_interface("10.89.0.1/32"))
    kernel.set_link(endpoint.link, up=False, mtu=1300)
    kernel.set_sysctl("net/ipv6/conf/all/forwarding", "0")
    with kernel.inside(box) as inner:
        inner.delete_address("eth0", ip_interface("10.89.0.2/24"))

    assert driver.check(kernel, network, endpoint, box) == [
        "interface 'dvhcdcdcdcdcdcd' is down",
        "interface 'dvhcdcdcdcdcdcd' has MTU 1300, not 1400",
        "interface 'dvhcdcdcdcdcdcd' has lost address 10.89.0.1/32",
        "the host forwards no IPv6: sysctl net.ipv6.conf.all.forwarding is off",
        "interface 'eth0' has lost address 10.89.0.2/24",
    ]


def test_checking_a_link_that_is_gone_or_not_the_hosts_end_says_so(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network())
    endpoint = join(driver, kernel, network, an_endpoint(driver, network))
    driver.leave(kernel, endpoint)

    assert driver.check(kernel, network, endpoint, None) == [
        "interface 'dvhcdcdcdcdcdcd' is gone from the host"
    ]
    kernel.add_bridge(endpoint.link)
    kernel.set_link(endpoint.link, up=True)
    found = driver.check(kernel, network, endpoint, None)
    assert found[0] == "interface 'dvhcdcdcdcdcdcd' is a bridge, not a veth"
    assert "the host's route to fd88::2 dev dvhcdcdcdcdcdcd is missing" in found
