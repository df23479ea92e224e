from __future__ import annotations

from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.drivers.protocol import OnParent
from dovetail.drivers.vlan import VlanDriver
from dovetail.errors import AlreadyExists, Conflict, DovetailError, InvalidArgument, KernelError, NotFound
from dovetail.kernel.protocol import Dummy, LinkSettings, LinkSpec, Vlan
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import Network, Subnet

STORE = "store"
PARENT_MAC = Mac("02:00:00:00:00:01")
LAN = Subnet(subnet=ip_network("10.5.0.0/24"), gateway=ip_address("10.5.0.254"))
LAN6 = Subnet(subnet=ip_network("fd05::/64"), gateway=ip_address("fd05::fe"))
DRIVER = VlanDriver()


class TakenKernel(RecordingKernel):
    """A kernel in which VLAN 10 has a link in a namespace that is not looked at: this one has no 802.1Q to try it.

    times: how often it is still there when somebody asks.
    """

    times = 10**9

    def add_link(self, spec: LinkSpec, settings: LinkSettings, *, parent: str = "") -> None:
        self.times -= 1
        if self.times >= 0:
            raise AlreadyExists("VLAN", f"10 of {parent}")
        super().add_link(spec, settings, parent=parent)


@pytest.fixture
def kernel() -> RecordingKernel:
    """A host with a network card, `up0`, that is a bridge's port, and one that is no Ethernet."""
    kernel = RecordingKernel()
    kernel.add_bridge("br0")
    kernel.add_link(LinkSpec("up0", mac=PARENT_MAC, up=True, master="br0"), Dummy())
    kernel.commands.clear()
    return kernel


def a_network(*subnets: Subnet, number: str = "ab", internal: bool = False, **options: str) -> Network:
    return Network(
        id=number * 32,
        name=f"lan-{number}",
        driver="vlan",
        internal=internal,
        options={"parent": "up0", "id": "10"} | options,
        subnets=subnets or (LAN, LAN6),
    )


def create(kernel: RecordingKernel, network: Network) -> Network:
    network = DRIVER.plan_network(kernel, network, STORE)
    with ExitStack() as undo:
        DRIVER.create_network(kernel, network, STORE, undo)
        undo.pop_all()
    kernel.commands.clear()
    return msgspec.structs.replace(network, status="active")


def join(
    kernel: RecordingKernel, network: Network, path: str = "/run/netns/box", mac: Mac | None = None
) -> Endpoint:
    addresses = (ip_interface("10.5.0.2/24"), ip_interface("fd05::2/64"))
    endpoint = Endpoint(
        id="cd" * 32, network_id=network.id, owner=Owner(face="cli"), addresses=addresses, mac=mac
    )
    endpoint = DRIVER.plan_endpoint(network, endpoint)
    sandbox = kernel.open_netns(path) if path else None
    with ExitStack() as undo:
        attachment = DRIVER.join(
            kernel, network, endpoint, sandbox=sandbox, ifname="eth0", store_id=STORE, undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


def test_planning_changes_nothing_and_says_that_there_is_one_endpoint(kernel: RecordingKernel) -> None:
    network = DRIVER.plan_network(kernel, a_network(mtu="1400"), STORE)

    assert (network.parent, network.parent_made, network.one_endpoint) == ("up0.10", False, True)
    assert (network.link, network.mtu, network.firewall) == ("", 1400, None)
    assert kernel.commands == []
    assert isinstance(DRIVER, OnParent)


def test_the_vlan_is_tried_when_its_network_is_made_and_not_again(kernel: RecordingKernel) -> None:
    network = DRIVER.plan_network(kernel, a_network(), STORE)
    with ExitStack() as undo:
        DRIVER.create_network(kernel, network, STORE, undo)
        undo.pop_all()

    link = "dv-abababababab"
    assert kernel.commands == [
        f"ip link add link up0 name {link} type vlan id 10",
        f"ip link set dev {link} alias dovetail:store/network/{network.id}",
        f"ip link del dev {link}",
    ]
    kernel.commands.clear()
    with ExitStack() as undo:
        DRIVER.create_network(kernel, msgspec.structs.replace(network, status="active"), STORE, undo)
    DRIVER.delete_network(kernel, network)
    DRIVER.release_parent(kernel, network, ())
    assert kernel.commands == []


@pytest.mark.parametrize("step", range(1, 5))
def test_a_network_that_fails_at_any_step_leaves_no_link(kernel: RecordingKernel, step: int) -> None:
    network = DRIVER.plan_network(kernel, a_network(), STORE)
    before = {link.name for link in kernel.links()}
    kernel.fail(at=step)

    try:
        with ExitStack() as undo:
            DRIVER.create_network(kernel, network, STORE, undo)
            undo.pop_all()
    except KernelError:
        kernel.fail()
    else:
        assert kernel.mutations < step
    assert {link.name for link in kernel.links()} == before


def test_the_link_is_born_in_the_sandbox_with_its_tag(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network(mtu="1400"))
    kernel.create_netns("/run/netns/box")
    kernel.commands.clear()

    endpoint = join(kernel, network)

    assert kernel.commands == [
        "ip link add link up0 name eth0 mtu 1400 netns box type vlan id 10",
        f"ip -n box link set dev eth0 alias dovetail:store/endpoint/{endpoint.id}",
        "nsenter --net=/run/netns/box sysctl -q -w net/ipv4/conf/eth0/arp_notify=1",
        "nsenter --net=/run/netns/box sysctl -q -w net/ipv6/conf/eth0/ndisc_notify=1",
        "ip -n box link set dev lo up",
        "ip -n box addr add 10.5.0.2/24 dev eth0",
        "ip -n box addr add fd05::2/64 dev eth0 nodad",
        "ip -n box link set dev eth0 up",
        "ip -n box route add default via 10.5.0.254 dev eth0",
        "ip -n box -6 route add default via fd05::fe dev eth0",
    ]
    attachment = endpoint.attachment
    assert attachment is not None
    assert (endpoint.mac, attachment.mac, attachment.mtu) == (None, PARENT_MAC, 1400)
    assert DRIVER.is_alive(kernel, endpoint, frozenset(), sandbox="/run/netns/box")


def test_a_mac_that_is_asked_for_is_given(kernel: RecordingKernel) -> None:
    mac = Mac("02:00:5e:10:00:01")
    network = create(kernel, a_network())

    endpoint = join(kernel, network, mac=mac)

    assert endpoint.attachment is not None
    assert endpoint.attachment.mac == mac
    with kernel.inside(kernel.open_netns("/run/netns/box")) as inner:
        link = inner.link("eth0")
    assert link is not None
    assert link.mac == mac
    assert DRIVER.check(kernel, network, endpoint, kernel.open_netns("/run/netns/box")) == []


def test_without_a_gateway_and_on_an_internal_network_there_is_no_default_route(
    kernel: RecordingKernel,
) -> None:
    bare = Subnet(subnet=LAN.subnet), Subnet(subnet=LAN6.subnet)
    for number, network in enumerate((a_network(*bare), a_network(internal=True), a_network(gateway="none"))):
        path = f"/run/netns/box{number}"
        subnets = (
            network.subnets if network.options.get("gateway") != "none" else bare
        )  # the engine takes none
        made = create(kernel, msgspec.structs.replace(network, subnets=subnets))
        endpoint = join(kernel, made, path)

        assert endpoint.attachment is not None
        assert endpoint.attachment.gateways == ()
        DRIVER.leave(kernel, endpoint, sandbox=path)


def test_handed_over_it_waits_on_the_host_and_can_be_deleted_anywhere(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network())

    endpoint = join(kernel, network, path="")

    assert kernel.commands == [
        "ip link add link up0 name dvccdcdcdcdcdcd type vlan id 10",
        f"ip link set dev dvccdcdcdcdcdcd alias dovetail:store/endpoint/{endpoint.id}",
    ]
    assert DRIVER.is_alive(kernel, endpoint, frozenset({"dvccdcdcdcdcdcd"}))
    DRIVER.leave(kernel, endpoint)
    DRIVER.leave(kernel, endpoint)
    assert kernel.link("dvccdcdcdcdcdcd") is None


@pytest.mark.parametrize("path", ["/run/netns/box", ""])
@pytest.mark.parametrize("step", range(1, 14))
def test_a_join_that_fails_at_any_step_leaves_nothing(kernel: RecordingKernel, step: int, path: str) -> None:
    network = create(kernel, a_network())

    def links() -> set[str]:
        with kernel.inside(kernel.open_netns("/run/netns/box")) as inner:
            return {link.name for link in (*kernel.links(), *inner.links())}

    before = links()
    kernel.fail(at=step)
    try:
        endpoint = join(kernel, network, path)
    except KernelError:
        kernel.fail()
    else:
        assert kernel.mutations < step
        kernel.fail()
        DRIVER.leave(kernel, endpoint, sandbox=path)
    assert links() == before


REFUSED: list[tuple[dict[str, str], type[DovetailError], str, str]] = [
    ({"parent": ""}, InvalidArgument, "$.options.parent", "needs the option 'parent'"),
    ({"id": ""}, InvalidArgument, "$.options.id", "needs the option 'id'"),
    ({"id": "0"}, InvalidArgument, "$.options.id", "1 to 4094"),
    ({"id": "4095"}, InvalidArgument, "$.options.id", "1 to 4094"),
    ({"id": "ten"}, InvalidArgument, "$.options.id", "'ten'"),
    ({"parent": "lo"}, InvalidArgument, "$.options.parent", "leads nowhere"),
    ({"parent": "eth9"}, NotFound, "$.options.parent", "'eth9'"),
    ({"parent": "tun0"}, InvalidArgument, "$.options.parent", "no Ethernet"),
    ({"parent": "a/b"}, InvalidArgument, "$.options.parent", "'a/b'"),
    ({"mtu": "9000"}, InvalidArgument, "$.options.mtu", "1500"),
    ({"mtu": "1000"}, InvalidArgument, "$.options.mtu", "IPv6"),
    ({"host_access": "true"}, InvalidArgument, "$.options.host_access", "not an option of a vlan network"),
    ({"id": "11"}, Conflict, "$.options.id", "parent=up0.11"),
]


@pytest.mark.parametrize(("options", "error", "where", "words"), REFUSED)
def test_what_cannot_be_is_refused_where_it_was_given(
    kernel: RecordingKernel, options: dict[str, str], error: type[DovetailError], where: str, words: str
) -> None:
    kernel.add_link(LinkSpec("up0.11"), Vlan(11), parent="up0")
    kernel._space.links["tun0"] = without_a_mac(kernel)

    with pytest.raises(error) as refused:
        DRIVER.plan_network(kernel, a_network(**options), STORE)

    assert refused.value.where == where
    assert words in f"{refused.value}"


def without_a_mac(kernel: RecordingKernel) -> Any:
    lo = kernel.link("lo")
    assert lo is not None
    return lo._replace(name="tun0", ifindex=77, kind="tun", mac="")


def test_a_vlan_is_of_one_network_whatever_its_driver(kernel: RecordingKernel) -> None:
    network = DRIVER.plan_network(kernel, a_network(), STORE)
    other = msgspec.structs.replace(a_network(number="ef"), driver="macvlan", options={"parent": "up0.10"})
    assert DRIVER.shared_parent(network) == "up0.10"

    DRIVER.check_beside(kernel, network, ())
    with pytest.raises(Conflict, match="VLAN 10 of up0 belongs to the macvlan network 'lan-ef'"):
        DRIVER.check_beside(kernel, network, (other,))


def test_a_link_in_a_namespace_that_is_not_seen_is_told_by_the_kernel(
    kernel: RecordingKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dovetail.drivers.carried._CLEANUP_S", 0.0)
    taken = TakenKernel(kernel)
    network = DRIVER.plan_network(taken, a_network(), STORE)

    with ExitStack() as undo, pytest.raises(Conflict, match="VLAN 10 of up0 has a link already"):
        DRIVER.create_network(taken, network, STORE, undo)
    with pytest.raises(Conflict, match="VLAN 10 of up0 has a link already"):
        join(taken, create(kernel, a_network()))


def test_a_link_that_goes_with_its_namespace_is_waited_for(kernel: RecordingKernel) -> None:
    going = TakenKernel(kernel)
    going.times = 3

    join(going, create(kernel, a_network()), path="")

    assert going.link("dvccdcdcdcdcdcd") is not None


def test_a_name_that_is_taken_in_the_sandbox_is_that(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network())
    with kernel.inside(kernel.open_netns("/run/netns/box")) as inner:
        inner.add_bridge("eth0")

    with pytest.raises(AlreadyExists, match="'eth0'"):
        join(kernel, network)


def test_on_a_parent_that_is_down_or_gone_nothing_is_made(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network())
    kernel.set_link("up0", up=False)
    with pytest.raises(Conflict, match="is down") as refused:
        join(kernel, network)
    assert "ip link set up0 up" in refused.value.hint

    kernel.delete_links(["up0"])
    with pytest.raises(NotFound, match="'up0'"):
        join(kernel, network)
    with ExitStack() as undo, pytest.raises(NotFound, match="'up0'"):
        DRIVER.create_network(kernel, network, STORE, undo)


def test_checking_sees_what_somebody_changed(kernel: RecordingKernel) -> None:
    network = create(kernel, a_network())
    endpoint = join(kernel, network)
    box = kernel.open_netns("/run/netns/box")
    assert DRIVER.check(kernel, network, endpoint, box) == []

    kernel.set_link("up0", up=False)
    with kernel.inside(box) as inner:
        inner.delete_links(["eth0"])
        inner.delete_address("eth0", ip_interface("10.5.0.2/24"))
    kernel.add_link(LinkSpec("eth0", netns=box, mac=PARENT_MAC, up=True), Vlan(12), parent="up0")

    found = DRIVER.check(kernel, network, endpoint, box)

    assert found[0] == "the parent 'up0' is down"
    assert found[-1] == "interface 'eth0' is VLAN 12, not VLAN 10"
