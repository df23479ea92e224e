from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network

import msgspec
import pytest

from dovetail.drivers.bridge import BridgeDriver
from dovetail.drivers.protocol import Driver
from dovetail.errors import AlreadyExists, Conflict, InvalidArgument, KernelError, NotFound
from dovetail.kernel.protocol import LinkSpec
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import FirewallIntent, Network, Subnet

STORE = "store"


@pytest.fixture
def kernel() -> RecordingKernel:
    return RecordingKernel()


@pytest.fixture
def driver() -> Driver:
    return BridgeDriver()


def a_network(*, internal: bool = False, **options: str) -> Network:
    return Network(
        id="ab" * 32,
        name="web",
        driver="bridge",
        internal=internal,
        options=options,
        subnets=(
            Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1")),
            Subnet(subnet=ip_network("10.89.0.0/24"), gateway=ip_address("10.89.0.1")),
            Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
        ),
    )


def an_endpoint(driver: Driver, network: Network, **changes: object) -> Endpoint:
    addresses = (ip_interface("10.89.0.2/24"), ip_interface("fd88::2/64"))
    endpoint = Endpoint(id="cd" * 32, network_id=network.id, owner=Owner(face="cli"), addresses=addresses)
    return driver.plan_endpoint(network, msgspec.structs.replace(endpoint, **changes))


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
    path: str,
    ifname: str = "eth0",
) -> Endpoint:
    sandbox = kernel.open_netns(path) if path else None
    with ExitStack() as undo:
        attachment = driver.join(
            kernel, network, endpoint, sandbox=sandbox, ifname=ifname, store_id=STORE, undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


def test_planning_decides_link_and_firewall_and_changes_nothing(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = driver.plan_network(kernel, a_network(icc="false", mtu="1400"), STORE)

    assert network.link == "dv-abababababab"
    assert (network.adopted, network.mtu) == (False, 1400)
    assert network.firewall == FirewallIntent(link=network.link, icc=False)
    assert kernel.mutations == 0


def test_planning_says_what_cannot_be(driver: Driver, kernel: RecordingKernel) -> None:
    with pytest.raises(InvalidArgument, match="only an internal network can be isolated"):
        driver.plan_network(kernel, a_network(gateway_mode_ipv4="isolated"), STORE)


def test_the_bridge_of_an_isolated_network_has_no_address(driver: Driver, kernel: RecordingKernel) -> None:
    modes = {"gateway_mode_ipv4": "isolated", "gateway_mode_ipv6": "isolated"}
    network = create(driver, kernel, a_network(internal=True, **modes))

    assert kernel.addresses(network.link) == []
    assert kernel.sysctl(f"net/ipv6/conf/{network.link}/disable_ipv6") == "1"


def test_a_network_is_isolated_in_one_family_only(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(internal=True, gateway_mode_ipv4="isolated"))

    assert [address.version for _, address in kernel.addresses(network.link)] == [6]
    assert kernel.sysctl(f"net/ipv6/conf/{network.link}/disable_ipv6") == "0"


def test_a_bridge_without_the_ipv4_gateway_keeps_that_of_ipv6(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network(inhibit_ipv4="true"))

    assert [address.version for _, address in kernel.addresses(network.link)] == [6]
    assert network.subnets[0].gateway == ip_address("10.88.0.1"), "another machine has it"


def test_a_routed_network_leaves_loopback_addresses_on_the_loopback_interface(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network(gateway_mode_ipv4="routed"))

    assert kernel.sysctl("net/ipv4/ip_forward") == "1"
    assert kernel.sysctl(f"net/ipv4/conf/{network.link}/route_localnet") == "0"


def test_creating_twice_changes_nothing_the_second_time(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())
    commands = list(kernel.commands)

    create(driver, kernel, a_network())
    with ExitStack() as undo:
        driver.create_network(kernel, network, STORE, undo)

    assert kernel.commands == commands


def test_creating_repairs_what_is_missing(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())
    kernel.delete_address(network.link, ip_interface("10.89.0.1/24"))
    kernel.set_link(network.link, up=False)
    kernel.commands.clear()

    create(driver, kernel, network)

    assert kernel.commands == [
        f"ip addr add 10.89.0.1/24 dev {network.link}",
        f"ip link set dev {network.link} up",
    ]


def test_the_hosts_own_ipv6_survives_that_it_forwards(driver: Driver, kernel: RecordingKernel) -> None:
    kernel.add_veth(LinkSpec("up0"), LinkSpec("up1"))
    kernel.set_sysctl("net/ipv6/conf/up1/accept_ra", "0")
    kernel.commands.clear()

    create(driver, kernel, a_network())

    order = [line for line in kernel.commands if "accept_ra" in line or "forwarding" in line]
    assert order == [
        "sysctl -q -w net/ipv6/conf/dv-abababababab/accept_ra=0",
        "sysctl -q -w net/ipv6/conf/up0/accept_ra=2",
        "sysctl -q -w net/ipv6/conf/all/forwarding=1",
    ]


@pytest.mark.parametrize("step", range(1, 12))
def test_a_network_that_fails_at_any_step_leaves_no_link(
    driver: Driver, kernel: RecordingKernel, step: int
) -> None:
    network = driver.plan_network(kernel, a_network(), STORE)
    kernel.fail(at=step)

    try:
        with ExitStack() as undo:
            driver.create_network(kernel, network, STORE, undo)
            undo.pop_all()
    except KernelError:
        assert kernel.link(network.link) is None
    else:
        assert kernel.mutations < step, "there are steps that were not tried"


@pytest.mark.parametrize("step", range(1, 10))
def test_a_join_that_fails_at_any_step_leaves_no_link(
    driver: Driver, kernel: RecordingKernel, step: int
) -> None:
    network = create(driver, kernel, a_network())
    endpoint = an_endpoint(driver, network)
    before = {link.name for link in kernel.links()}
    kernel.fail(at=step)

    try:
        join(driver, kernel, network, endpoint, "/run/netns/box")
    except KernelError:
        pass
    else:
        assert kernel.mutations < step
        kernel.fail()
        driver.leave(kernel, endpoint)
    assert {link.name for link in kernel.links()} == before


def test_a_bridge_that_exists_is_adopted_and_outlives_the_network(
    driver: Driver, kernel: RecordingKernel
) -> None:
    kernel.add_bridge("br0", mtu=1300)
    for address in ("192.0.2.1/24", "10.88.0.1/24"):
        kernel.add_address("br0", ip_interface(address))

    network = create(driver, kernel, a_network(bridge="br0"))
    assert (network.link, network.adopted, network.mtu) == ("br0", True, 1300)
    assert ("br0", ip_interface("10.89.0.1/24")) in kernel.addresses("br0")
    driver.delete_network(kernel, network)

    assert kernel.link("br0") is not None
    assert [str(address) for _, address in kernel.addresses("br0")] == ["10.88.0.1/24", "192.0.2.1/24"]


def test_a_named_bridge_that_is_not_there_is_made_and_deleted(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network(bridge="br7"))
    assert not network.adopted
    assert not driver.plan_network(kernel, network, STORE).adopted, "it is ours, whoever plans again"

    driver.delete_network(kernel, network)

    assert kernel.link("br7") is None


def test_an_adopted_bridge_that_is_gone_is_not_made_up(driver: Driver, kernel: RecordingKernel) -> None:
    kernel.add_bridge("br0")
    network = driver.plan_network(kernel, a_network(bridge="br0"), STORE)
    kernel.delete_links(["br0"])

    with pytest.raises(NotFound, match="br0"), ExitStack() as undo:
        driver.create_network(kernel, network, STORE, undo)


def test_a_link_of_another_kind_is_a_conflict(driver: Driver, kernel: RecordingKernel) -> None:
    kernel.add_veth(LinkSpec("up0"), LinkSpec("up1"))

    with pytest.raises(Conflict, match="'up0' is a veth, not a bridge"):
        driver.plan_network(kernel, a_network(bridge="up0"), STORE)


def test_the_bridge_of_another_network_is_a_conflict(driver: Driver, kernel: RecordingKernel) -> None:
    create(driver, kernel, msgspec.structs.replace(a_network(bridge="br7"), id="ef" * 32))

    with pytest.raises(Conflict, match="belongs to network efefefefefef"):
        driver.plan_network(kernel, a_network(bridge="br7"), STORE)


def test_deleting_leaves_a_link_alone_that_is_no_bridge(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(bridge="br7"))
    kernel.delete_links(["br7"])
    kernel.add_veth(LinkSpec("br7"), LinkSpec("peer"))

    driver.delete_network(kernel, network)

    assert kernel.link("br7") is not None


def test_an_endpoint_keeps_the_mac_asked_for_and_gets_a_stable_one_otherwise(driver: Driver) -> None:
    network = a_network()

    assert an_endpoint(driver, network, mac=Mac("02:00:00:00:00:07")).mac == "02:00:00:00:00:07"
    assert an_endpoint(driver, network).mac == an_endpoint(driver, network).mac
    assert an_endpoint(driver, network).link == "dvhcdcdcdcdcdcd"


def test_who_has_an_address_next_has_its_mac_too(driver: Driver) -> None:
    """Neighbours remember which MAC an address has; nobody tells them when a container is started anew with it."""
    network = a_network()
    others = (ip_interface("10.89.0.3/24"), ip_interface("fd88::2/64"))

    mac = an_endpoint(driver, network).mac

    assert an_endpoint(driver, network, id="ce" * 32).mac == mac
    assert an_endpoint(driver, network, addresses=others).mac != mac
    assert an_endpoint(driver, msgspec.structs.replace(network, id="ef" * 32)).mac != mac
    assert (
        an_endpoint(driver, network, addresses=()).mac
        != an_endpoint(driver, network, addresses=(), id="ce" * 32).mac
    )


def test_joining_gives_the_gateways_of_the_subnets_the_addresses_are_in(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network())

    attachment = join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box").attachment

    assert attachment is not None
    assert [str(gateway) for gateway in attachment.gateways] == ["10.89.0.1", "fd88::1"]
    assert [interface.name for interface in attachment.host_interfaces] == [network.link, "dvhcdcdcdcdcdcd"]
    assert (attachment.sandbox, attachment.handover, attachment.mtu) == ("/run/netns/box", "", 1500)


def test_a_second_default_route_stands_behind_the_first(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())
    join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")
    second = an_endpoint(driver, network, id="ef" * 32)
    kernel.commands.clear()

    join(driver, kernel, network, second, "/run/netns/box", "eth1")

    defaults = [line for line in kernel.commands if "route add default" in line]
    assert len(defaults) == 2
    assert all(int(line.partition("dev eth1 metric ")[2]) > 1024 for line in defaults)


def test_an_internal_network_gives_no_gateway(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(internal=True))

    attachment = join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box").attachment

    assert attachment is not None
    assert attachment.gateways == ()
    assert not any("default" in line for line in kernel.commands)
    assert ("dv-abababababab", ip_interface("10.88.0.1/24")) in kernel.addresses()


def test_handing_over_leaves_the_interface_down_in_the_hosts_namespace(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network(mtu="1400"))

    endpoint = join(driver, kernel, network, an_endpoint(driver, network), "")

    assert endpoint.attachment is not None
    assert endpoint.attachment.handover == "dvccdcdcdcdcdcd"
    waiting = kernel.link("dvccdcdcdcdcdcd")
    assert waiting is not None
    assert (waiting.up, waiting.mac, waiting.mtu, waiting.master) == (False, endpoint.mac, 1400, 0)


def test_an_interface_of_that_name_in_the_sandbox_is_refused_before_anything_is_made(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network())
    join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")
    mutations = kernel.mutations

    with pytest.raises(AlreadyExists) as caught:
        join(driver, kernel, network, an_endpoint(driver, network, id="ce" * 32), "/run/netns/box")

    assert (caught.value.kind, caught.value.name) == ("interface", "eth0")
    assert kernel.mutations == mutations


def test_ipv6_is_turned_on_where_the_sandbox_has_it_off(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())
    with kernel.inside(kernel.create_netns("/run/netns/box")) as inner:
        inner.set_sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")

    join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")

    assert "nsenter --net=/run/netns/box sysctl -q -w net/ipv6/conf/eth0/disable_ipv6=0" in kernel.commands


def test_leaving_twice_and_after_the_sandbox_is_gone_is_no_error(
    driver: Driver, kernel: RecordingKernel
) -> None:
    network = create(driver, kernel, a_network())
    kernel.create_netns("/run/netns/box")
    endpoint = join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")
    assert driver.is_alive(kernel, endpoint, frozenset(link.name for link in kernel.links()))

    kernel.delete_netns("/run/netns/box")
    driver.leave(kernel, endpoint)
    driver.leave(kernel, endpoint)

    assert not driver.is_alive(kernel, endpoint, frozenset(link.name for link in kernel.links()))


def test_checking_what_is_as_it_was_made_says_nothing(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(mtu="1400"))
    endpoint = join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")
    mutations = kernel.mutations

    assert driver.check(kernel, network, endpoint, kernel.open_netns("/run/netns/box")) == []
    assert driver.check(kernel, network, endpoint, None) == []
    assert kernel.mutations == mutations


def test_checking_names_each_difference(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(mtu="1400"))
    endpoint = join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")
    sandbox = kernel.open_netns("/run/netns/box")
    kernel.set_link("dvhcdcdcdcdcdcd", master="", mtu=1300, up=False)
    kernel.set_link(network.link, up=False)
    with kernel.inside(sandbox) as inner:
        inner.set_link("eth0", mac=Mac("02:00:00:00:00:09"), mtu=1300, up=False)
        inner.delete_address("eth0", ip_interface("10.89.0.2/24"))

    assert driver.check(kernel, network, endpoint, sandbox) == [
        "bridge 'dv-abababababab' is down",
        "interface 'dvhcdcdcdcdcdcd' is down",
        "interface 'dvhcdcdcdcdcdcd' is not a port of bridge 'dv-abababababab'",
        "interface 'dvhcdcdcdcdcdcd' has MTU 1300, not 1400",
        "interface 'eth0' of the sandbox is down",
        f"interface 'eth0' has MAC 02:00:00:00:00:09, not {endpoint.mac}",
        "interface 'eth0' has MTU 1300, not 1400",
        "interface 'eth0' has lost address 10.89.0.2/24",
    ]


def test_checking_names_a_default_route_that_is_missing(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network(internal=True))
    endpoint = join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")
    assert endpoint.attachment is not None
    routed = msgspec.structs.replace(endpoint.attachment, gateways=(ip_address("10.89.0.1"),))
    endpoint = msgspec.structs.replace(endpoint, attachment=routed)

    assert driver.check(kernel, network, endpoint, kernel.open_netns("/run/netns/box")) == [
        "the default route via 10.89.0.1 dev eth0 is missing"
    ]


def test_checking_after_leaving_says_what_is_gone(driver: Driver, kernel: RecordingKernel) -> None:
    network = create(driver, kernel, a_network())
    endpoint = join(driver, kernel, network, an_endpoint(driver, network), "/run/netns/box")
    driver.leave(kernel, endpoint)
    driver.delete_network(kernel, network)

    assert driver.check(kernel, network, endpoint, kernel.open_netns("/run/netns/box")) == [
        "bridge 'dv-abababababab' is gone",
        "interface 'dvhcdcdcdcdcdcd' is gone from the host",
        "interface 'eth0' is gone from the sandbox",
    ]
