from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from dovetail.errors import AlreadyExists, InvalidArgument, KernelError, NotFound
from dovetail.kernel.commands import MUTATING, describe
from dovetail.kernel.protocol import (
    BridgePort,
    BridgeSettings,
    Dummy,
    Ifb,
    Ipvlan,
    Kernel,
    KernelRoute,
    LinkSettings,
    LinkSpec,
    Macvlan,
    Redirect,
    Rule,
    Tap,
    Tbf,
    Vlan,
    VlanRange,
    Vrf,
)
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.attachment import Route
from dovetail.model.element import Element
from dovetail.model.mac import Mac

MAC = Mac("02:00:00:00:00:01")
TABLE = "table inet dovetail {\n    set a { type ifname; }\n    map m { type ifname : ifname; }\n}\n"


@pytest.fixture
def kernel() -> RecordingKernel:
    return RecordingKernel()


def test_it_has_every_verb_of_the_protocol() -> None:
    verbs = {name for name in dir(Kernel) if not name.startswith("_")}

    assert verbs <= set(dir(RecordingKernel))
    assert verbs >= MUTATING


@pytest.mark.parametrize(
    ("verb", "args", "kwargs", "lines"),
    [
        ("add_bridge", ("b",), {"mtu": 1400}, ["ip link add name b mtu 1400 type bridge"]),
        ("set_link", ("b",), {"up": False, "master": ""}, ["ip link set dev b nomaster down"]),
        ("set_link", ("b",), {}, []),
        (
            "set_link",
            ("b",),
            {"promisc": True, "allmulti": False, "txqueuelen": 0, "mtu": 1400},
            ["ip link set dev b promisc on allmulticast off txqueuelen 0 mtu 1400"],
        ),
        ("rename_link", ("b", "c"), {}, ["ip link set dev b name c"]),
        ("set_bridge_port", ("p",), {"hairpin": False}, ["bridge link set dev p hairpin off"]),
        (
            "set_bridge",
            ("b",),
            {"vlan_filtering": True, "default_pvid": 0},
            ["ip link set dev b type bridge vlan_filtering 1 vlan_default_pvid 0"],
        ),
        ("set_bridge", ("b",), {}, []),
        (
            "add_port_vlans",
            ("p", [VlanRange(10, pvid=True, untagged=True), VlanRange(20, 30), VlanRange(40, 40)]),
            {},
            [
                "bridge vlan add dev p vid 10 pvid untagged",
                "bridge vlan add dev p vid 20-30",
                "bridge vlan add dev p vid 40",
            ],
        ),
        (
            "delete_port_vlans",
            ("b", [VlanRange(1, pvid=True, untagged=True)]),
            {"on_bridge": True},
            ["bridge vlan del dev b vid 1 self"],
        ),
        ("add_address", ("b", ip_interface("fd00::1/64")), {}, ["ip addr add fd00::1/64 dev b nodad"]),
        ("add_address", ("b", ip_interface("fd00::1/64")), {"dad": True}, ["ip addr add fd00::1/64 dev b"]),
        (
            "add_address",
            ("b", ip_interface("10.0.0.2/24")),
            {"prefix_route": False},
            ["ip addr add 10.0.0.2/24 dev b noprefixroute"],
        ),
        (
            "add_link",
            (LinkSpec("i", up=True), Ifb()),
            {},
            ["ip link add name i type ifb", "ip link set dev i up"],
        ),
        (
            "set_tbf",
            ("b", Tbf(1_000_000, 100_000, 125_000)),
            {},
            ["tc qdisc replace dev b root handle 1: tbf rate 1000000bps burst 100000 limit 125000"],
        ),
        ("delete_tbf", ("b",), {}, ["tc qdisc del dev b root handle 1: tbf"]),
        (
            "add_redirect",
            ("b", "i"),
            {},
            [
                "tc qdisc add dev b ingress",
                (
                    "tc filter add dev b parent ffff: protocol all prio 1 u32 match u32 0 0 flowid 1:1"
                    " action mirred egress redirect dev i"
                ),
            ],
        ),
        ("delete_redirect", ("b",), {}, ["tc qdisc del dev b ingress"]),
        ("add_route", ("b", Route(destination=ip_network("::/0"))), {}, ["ip -6 route add default dev b"]),
        (
            "add_unreachable",
            (ip_network("fd00::/64"),),
            {},
            ["ip route add unreachable fd00::/64 proto 208"],
        ),
        (
            "add_route",
            (
                "b",
                Route(
                    destination=ip_network("10.0.0.0/8"),
                    gateway=ip_address("10.88.0.1"),
                    mtu=1400,
                    advmss=1300,
                    priority=7,
                    table=9,
                    scope=0,
                ),
            ),
            {},
            [
                "ip route add 10.0.0.0/8 via 10.88.0.1 dev b mtu 1400 advmss 1300 metric 7 table 9 scope global"
            ],
        ),
        (
            "add_route",
            ("b", Route(destination=ip_network("10.0.0.0/8"), gateway=ip_address("fd00::1"), scope=253)),
            {"append": True, "source": ip_address("10.1.0.1")},
            ["ip route append 10.0.0.0/8 via inet6 fd00::1 dev b scope link src 10.1.0.1"],
        ),
        (
            "delete_route",
            ("b", Route(destination=ip_network("fd00::/64"), mtu=1400, priority=7, table=1000)),
            {},
            ["ip -6 route del fd00::/64 dev b metric 7 table 1000"],
        ),
        (
            "add_rule",
            (Rule(4, ip_network("10.0.0.2/32"), ip_network("10.9.0.0/16"), "lo", 100, 7),),
            {},
            ["ip rule add from 10.0.0.2/32 to 10.9.0.0/16 iif lo lookup 100 priority 7"],
        ),
        ("delete_rule", (Rule(6, table=100),), {}, ["ip -6 rule del lookup 100"]),
        (
            "set_sysctl",
            ("net/ipv4/conf/a.1/forwarding", "1"),
            {},
            ["sysctl -q -w net/ipv4/conf/a.1/forwarding=1"],
        ),
        ("nft_apply", ("delete table inet dovetail\n",), {}, ["nft 'delete table inet dovetail'"]),
        ("nft_apply", ("a\nb\n",), {}, ["nft -f - <<'EOF'\na\nb\nEOF"]),
        ("iptables", ("ip6tables", "-A", "X"), {}, ["ip6tables --wait -A X"]),
        ("flush_conntrack", ("udp",), {"port": 53}, ["conntrack -D -p udp --orig-port-dst 53"]),
        (
            "flush_conntrack",
            ("udp",),
            {"address": ip_address("fd00::2")},
            ["conntrack -D -f ipv6 -p udp --reply-src fd00::2"],
        ),
        ("delete_netns", ("/tmp/box",), {}, ["umount /tmp/box", "rm /tmp/box"]),
        ("delete_netns", ("/var/run/netns/box",), {}, ["ip netns del box"]),
        ("links", (), {}, []),
    ],
)
def test_a_verb_equals_its_command(
    verb: str, args: tuple[object, ...], kwargs: dict[str, object], lines: list[str]
) -> None:
    assert describe(verb, *args, **kwargs) == lines


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Macvlan("vepa"), "type macvlan mode vepa"),
        (Macvlan("bridge", 500), "type macvlan mode bridge bcqueuelen 500"),
        (Ipvlan("l3s", "private"), "type ipvlan mode l3s private"),
        (Vlan(10), "type vlan id 10"),
    ],
)
def test_a_link_on_a_parent_equals_its_command(settings: LinkSettings, words: str) -> None:
    assert describe("add_link", LinkSpec("x", MAC, 1400, up=True, alias="a"), settings, parent="ens3") == [
        f"ip link add link ens3 name x address {MAC} mtu 1400 {words}",
        "ip link set dev x alias a",
        "ip link set dev x up",
    ]


def test_links_without_a_parent_equal_their_commands(kernel: RecordingKernel) -> None:
    box = kernel.create_netns("/run/netns/box")
    kernel.commands.clear()

    kernel.add_link(LinkSpec("v", up=True), Vrf(1000))
    kernel.add_link(LinkSpec("t0"), Tap())
    kernel.add_link(LinkSpec("t1", MAC, 1400, netns=box, up=True), Tap(multi_queue=True, owner=0, group=1000))

    assert kernel.commands == [
        "ip link add name v type vrf table 1000",
        "ip link set dev v up",
        "ip tuntap add dev t0 mode tap",
        "ip -n box tuntap add dev t1 mode tap multi_queue user 0 group 1000",
        f"ip -n box link set dev t1 address {MAC} mtu 1400",
        "ip -n box link set dev t1 up",
    ]
    with kernel.inside(box) as inner:
        link = inner.link("t1")
        assert link is not None
        assert (link.kind, link.settings) == ("tun", Tap(multi_queue=True, owner=0, group=1000))


def test_a_link_is_born_in_a_sandbox_and_goes_with_its_parent(kernel: RecordingKernel) -> None:
    box = kernel.create_netns("/run/netns/box")
    kernel.add_link(LinkSpec("d0", mtu=1300), Dummy())
    kernel.add_link(LinkSpec("d0.10"), Vlan(10), parent="d0")
    kernel.commands.clear()

    kernel.add_link(LinkSpec("eth0", mac=MAC, netns=box, alias="a", up=True), Macvlan(), parent="d0.10")

    assert kernel.commands == [
        f"ip link add link d0.10 name eth0 address {MAC} netns box type macvlan mode bridge",
        "ip -n box link set dev eth0 alias a",
        "ip -n box link set dev eth0 up",
    ]
    parent = kernel.link("d0.10")
    assert parent is not None
    with kernel.inside(box) as inner:
        link = inner.link("eth0")
        assert link is not None
        assert (link.mtu, link.mac, link.settings) == (1300, MAC, Macvlan("bridge"))
        assert (link.parent_ifindex, link.parent_abroad) == (parent.ifindex, True)
        with pytest.raises(AlreadyExists, match="eth0"):
            kernel.add_link(LinkSpec("eth0", netns=box), Macvlan(), parent="d0")

    kernel.delete_links(["d0", "d0.10"])

    assert kernel.commands[-1] == "ip link del dev d0"
    assert [link.name for link in kernel.links()] == ["lo"]
    with kernel.inside(box) as inner:
        assert inner.link("eth0") is None


def test_an_ipvlan_has_its_parents_mac_and_a_missing_parent_is_not_found(kernel: RecordingKernel) -> None:
    kernel.add_link(LinkSpec("d0", mac=MAC), Dummy())
    kernel.add_link(LinkSpec("i0"), Ipvlan(), parent="d0")
    link = kernel.link("i0")

    assert link is not None
    assert link.mac == MAC
    with pytest.raises(NotFound, match="d1"):
        kernel.add_link(LinkSpec("i1"), Ipvlan(), parent="d1")


def test_a_pair_lives_in_two_namespaces_and_dies_with_either_end(kernel: RecordingKernel) -> None:
    box = kernel.create_netns("/run/netns/box")
    kernel.add_bridge("b")
    kernel.add_veth(LinkSpec("h", master="b", up=True, isolated=True), LinkSpec("eth0", mac=MAC, netns=box))
    end = kernel.link("h")
    bridge = kernel.link("b")
    assert end is not None
    assert bridge is not None
    assert end.master == bridge.ifindex
    with kernel.inside(box) as inner:
        peer = inner.link("eth0")
        assert peer is not None
        assert (peer.mac, peer.peer_ifindex, end.peer_ifindex) == (MAC, end.ifindex, peer.ifindex)
        inner.delete_links(["eth0"])

    assert kernel.link("h") is None
    assert "ip -n box link del dev eth0" in kernel.commands


def test_a_link_moves_with_its_pair_and_comes_back_by_another_name(kernel: RecordingKernel) -> None:
    box = kernel.create_netns("/run/netns/box")
    kernel.add_veth(LinkSpec("card0", up=True), LinkSpec("wire0"))
    kernel.add_address("card0", ip_interface("10.0.0.1/24"))
    kernel.commands.clear()

    kernel.move_link("card0", box, new_name="eth0", alias="card0")

    assert (kernel.link("card0"), kernel.addresses()) == (None, [])
    with kernel.inside(box) as inner:
        link = inner.link("eth0")
        assert link is not None
        assert (link.up, link.alias) == (False, "card0")
        with pytest.raises(AlreadyExists, match="eth0"):
            kernel.move_link("wire0", box, new_name="eth0")
    with pytest.raises(AlreadyExists, match="wire0"):
        kernel.take_link("eth0", box, new_name="wire0")
    with pytest.raises(NotFound, match="eth1"):
        kernel.take_link("eth1", box)

    kernel.take_link("eth0", box, new_name="card0", alias="")
    kernel.rename_link("card0", "card1")
    kernel.delete_links(["wire0"])

    assert [link.name for link in kernel.links()] == ["lo"]
    assert kernel.commands == [
        "ip link set dev card0 netns box name eth0 alias card0",
        "ip -n box link set dev eth0 netns 1 name card0 alias ''",
        "ip link set dev card0 name card1",
        "ip link del dev wire0",
    ]


def test_a_new_name_goes_for_addresses_and_routes_too(kernel: RecordingKernel) -> None:
    kernel.add_bridge("a")
    kernel.add_address("a", ip_interface("10.0.0.1/24"))
    kernel.add_route("a", Route(destination=ip_network("10.9.0.0/16")))

    kernel.rename_link("a", "b")

    assert kernel.addresses() == [("b", ip_interface("10.0.0.1/24"))]
    assert [route.link for route in kernel.routes()] == ["b"]


def test_a_port_and_its_vlans_are_read_back(kernel: RecordingKernel) -> None:
    kernel.add_bridge("b")
    kernel.add_veth(LinkSpec("h", master="b", hairpin=True, up=True), LinkSpec("c"))
    first = VlanRange(1, pvid=True, untagged=True)
    assert kernel.port_vlans() == {"b": [first], "h": [first]}
    assert kernel.bridge_settings("b") == BridgeSettings(vlan_filtering=False, default_pvid=1)
    kernel.commands.clear()

    kernel.set_bridge("b", vlan_filtering=True)
    kernel.set_bridge_port("h", isolated=True)
    kernel.add_port_vlans("h", [VlanRange(10, pvid=True, untagged=True), VlanRange(20, 22), VlanRange(23)])
    for _ in range(2):
        kernel.delete_port_vlans("h", [VlanRange(1), VlanRange(21)])

    assert kernel.commands == [
        "ip link set dev b type bridge vlan_filtering 1",
        "bridge link set dev h isolated on",
        "bridge vlan add dev h vid 10 pvid untagged",
        "bridge vlan add dev h vid 20-22",
        "bridge vlan add dev h vid 23",
        "bridge vlan del dev h vid 1",
        "bridge vlan del dev h vid 21",
    ]
    assert kernel.bridge_port("h") == BridgePort("b", "forwarding", hairpin=True, isolated=True)
    vlans = [VlanRange(10, pvid=True, untagged=True), VlanRange(20), VlanRange(22, 23)]
    assert kernel.port_vlans() == {"b": [first], "h": vlans}
    assert RecordingKernel(kernel).port_vlans() == kernel.port_vlans()
    assert RecordingKernel(kernel).bridge_port("h") == kernel.bridge_port("h")

    kernel.rename_link("h", "new")
    assert kernel.port_vlans() == {"b": [first], "new": vlans}
    kernel.set_link("new", master="")

    assert kernel.bridge_port("new") is None
    assert kernel.port_vlans() == {"b": [first]}
    for name, on_bridge in (("new", False), ("c", True)):
        with pytest.raises(InvalidArgument, match="so it has no VLANs"):
            kernel.add_port_vlans(name, [VlanRange(10)], on_bridge=on_bridge)
    with pytest.raises(InvalidArgument, match="'c' is no bridge"):
        kernel.set_bridge("c", vlan_filtering=True)


def test_deleting_both_ends_is_one_deletion_and_a_missing_one_none(kernel: RecordingKernel) -> None:
    kernel.add_veth(LinkSpec("h"), LinkSpec("c"))
    kernel.commands.clear()

    kernel.delete_links(["h", "c", "nothing"])
    kernel.delete_links(["h", "c"])

    assert kernel.commands == ["ip link del dev h"]


def test_a_namespace_takes_the_pairs_with_an_end_in_it_along(kernel: RecordingKernel) -> None:
    box = kernel.create_netns("/run/netns/box")
    kernel.add_veth(LinkSpec("h"), LinkSpec("eth0", netns=box))

    kernel.delete_netns("/run/netns/box")

    assert kernel.link("h") is None
    with pytest.raises(NotFound):
        kernel.open_netns("/run/netns/box")


def test_a_path_outside_run_netns_is_entered_with_nsenter(kernel: RecordingKernel) -> None:
    with kernel.inside(kernel.open_netns("/proc/7/ns/net")) as inner:
        inner.set_link("lo", up=True)

    assert kernel.commands == ["nsenter --net=/proc/7/ns/net ip link set dev lo up"]


def test_addresses_and_routes_are_read_back(kernel: RecordingKernel) -> None:
    kernel.add_bridge("b")
    kernel.add_address("b", ip_interface("10.0.0.1/24"))
    assert kernel.routes() == []

    kernel.set_link("b", up=True)
    default = Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.0.0.254"))
    kernel.add_route("b", default)

    assert kernel.addresses("b") == [("b", ip_interface("10.0.0.1/24"))]
    assert kernel.routes() == [
        KernelRoute(ip_network("10.0.0.0/24"), None, "b"),
        KernelRoute(ip_network("0.0.0.0/0"), ip_address("10.0.0.254"), "b"),
    ]
    with pytest.raises(AlreadyExists):
        kernel.add_route("b", default)
    with pytest.raises(AlreadyExists):
        kernel.add_address("b", ip_interface("10.0.0.1/24"))


def test_routes_of_a_table_are_appended_moved_and_deleted(kernel: RecordingKernel) -> None:
    kernel.add_bridge("b")
    kernel.set_link("b", up=True)
    kernel.add_address("b", ip_interface("10.0.0.1/24"))
    default, first, second = ip_network("0.0.0.0/0"), ip_address("10.0.0.2"), ip_address("10.0.0.3")
    kernel.add_route("b", Route(destination=default, gateway=first))
    with pytest.raises(AlreadyExists):
        kernel.add_route("b", Route(destination=default, gateway=second))
    kernel.add_route("b", Route(destination=default, gateway=second), append=True)
    kernel.commands.clear()

    for route in kernel.table_routes(254):
        kernel.add_route("b", route.route(table=1000), source=route.source, append=True)
        kernel.delete_route("b", route.route())
        kernel.delete_route("b", route.route())

    assert kernel.commands == [
        "ip route append 10.0.0.0/24 dev b table 1000 scope link src 10.0.0.1",
        "ip route del 10.0.0.0/24 dev b table 254 scope link",
        "ip route append default via 10.0.0.2 dev b table 1000 scope global",
        "ip route del default via 10.0.0.2 dev b table 254 scope global",
        "ip route append default via 10.0.0.3 dev b table 1000 scope global",
        "ip route del default via 10.0.0.3 dev b table 254 scope global",
    ]
    assert kernel.routes() == []
    assert [r.gateway for r in kernel.table_routes(1000)] == [None, first, second]
    assert kernel.table_routes() == kernel.table_routes(1000)


def test_rules_lie_over_the_bases_and_over_those_of_a_fresh_namespace(kernel: RecordingKernel) -> None:
    one, two = Rule(4, ip_network("10.0.0.2/32"), table=100), Rule(6, table=100, priority=5)
    kernel.add_rule(one)
    over = RecordingKernel(kernel)

    over.add_rule(two)
    over.delete_rule(one)
    over.delete_rule(one)

    assert [rule.priority for rule in kernel.routing_rules()] == [0, 32765, 32766, 32767, 0, 32766]
    assert [rule.priority for rule in over.routing_rules()] == [0, 32766, 32767, 0, 5, 32766]
    assert len(over.commands) == 2
    with pytest.raises(AlreadyExists):
        over.add_rule(two)


def test_an_address_without_its_prefix_and_one_that_is_all_of_it_bring_no_route(
    kernel: RecordingKernel,
) -> None:
    kernel.add_bridge("b")
    kernel.set_link("b", up=True)

    kernel.add_address("b", ip_interface("10.0.0.2/24"), prefix_route=False)
    kernel.add_address("b", ip_interface("10.0.1.1/32"))

    assert kernel.routes() == []


def test_nobody_else_has_an_address(kernel: RecordingKernel) -> None:
    kernel.wait_for_dad("lo", timeout_s=0)
    with pytest.raises(NotFound):
        kernel.wait_for_dad("eth0")


def test_unreachable_destinations_are_read_back_and_laid_over_the_base(kernel: RecordingKernel) -> None:
    one, two = ip_network("10.0.0.0/24"), ip_network("fd00::/64")
    kernel.add_unreachable(one)
    kernel.add_unreachable(one)
    assert (kernel.unreachable(), len(kernel.commands)) == ({one}, 1)
    over = RecordingKernel(kernel)

    over.add_unreachable(two)
    over.delete_unreachable(one)
    over.delete_unreachable(one)

    assert (over.unreachable(), len(over.commands)) == ({two}, 2)
    assert kernel.unreachable() == {one}


def test_what_is_missing_or_there_already_is_said_as_the_kernel_does(kernel: RecordingKernel) -> None:
    kernel.add_bridge("b")
    with pytest.raises(AlreadyExists):
        kernel.add_bridge("b")
    with pytest.raises(NotFound):
        kernel.set_link("c", up=True)
    with pytest.raises(NotFound):
        kernel.add_veth(LinkSpec("h", master="c"), LinkSpec("p"))


def test_a_sysctl_is_written_only_where_it_differs(kernel: RecordingKernel) -> None:
    kernel.set_sysctl("net/ipv4/ip_forward", "1")
    kernel.set_sysctl("net/ipv4/ip_forward", "1")
    kernel.set_sysctl("net/ipv6/conf/all/forwarding", "0")

    assert kernel.commands == ["sysctl -q -w net/ipv4/ip_forward=1"]


def test_elements_need_the_table_and_their_set_and_are_added_once(kernel: RecordingKernel) -> None:
    element = Element("a", ("dv-1",))
    with pytest.raises(NotFound):
        kernel.nft_add_elements([element])
    kernel.nft_apply(TABLE)
    with pytest.raises(NotFound):
        kernel.nft_add_elements([Element("b", ("dv-1",))])
    kernel.commands.clear()

    kernel.nft_add_elements([element])
    kernel.nft_add_elements([element])
    assert kernel.nft_elements() == {element}
    kernel.nft_delete_elements([element])
    kernel.nft_delete_elements([element])

    assert kernel.commands == [
        "nft 'add element inet dovetail a { \"dv-1\" }'",
        "nft 'delete element inet dovetail a { \"dv-1\" }'",
    ]
    kernel.nft_apply("delete table inet dovetail\n")
    assert not kernel.nft_has_table()
    kernel.nft_delete_elements([element])


def test_a_key_with_other_data_is_refused(kernel: RecordingKernel) -> None:
    kernel.nft_apply(TABLE)
    kernel.nft_add_elements([Element("m", ("x",), ("y",))])

    with pytest.raises(AlreadyExists):
        kernel.nft_add_elements([Element("m", ("x",), ("z",))])


def test_the_nth_verb_fails_and_is_not_recorded(kernel: RecordingKernel) -> None:
    kernel.fail(at=2)
    kernel.add_bridge("a")
    with pytest.raises(KernelError, match="add_bridge"):
        kernel.add_bridge("b")
    kernel.add_bridge("c")

    assert [link.name for link in kernel.links()] == ["lo", "a", "c"]
    assert kernel.mutations == 3


def test_verbs_can_fail_by_name(kernel: RecordingKernel) -> None:
    kernel.fail(on=lambda verb: verb == "set_link")
    kernel.add_bridge("a")

    with pytest.raises(KernelError):
        kernel.set_link("a", up=True)


def test_over_a_base_it_reads_the_base_and_changes_only_itself(kernel: RecordingKernel) -> None:
    kernel.add_bridge("a")
    kernel.add_bridge("b")
    kernel.add_address("a", ip_interface("10.0.0.1/24"))
    kernel.nft_apply(TABLE)
    kernel.nft_add_elements([Element("a", ("dv-1",)), Element("a", ("dv-2",))])
    kernel.commands.clear()
    over = RecordingKernel(kernel)

    over.delete_links(["a"])
    over.set_link("b", up=True)
    over.add_address("b", ip_interface("10.0.1.1/24"))
    over.nft_delete_elements([Element("a", ("dv-1",))])

    assert [(link.name, link.up) for link in over.links()] == [("lo", False), ("b", True)]
    assert over.nft_elements() == {Element("a", ("dv-2",))}
    assert len(over.commands) == 4
    assert kernel.commands == []
    assert kernel.link("a") is not None
    assert KernelRoute(ip_network("10.0.1.0/24"), None, "b") in over.routes()


TBF = Tbf(1_000_000, 100_000, 125_000)


def test_token_buckets_and_redirects_are_read_back_until_their_links_go(kernel: RecordingKernel) -> None:
    kernel.add_veth(LinkSpec("v"), LinkSpec("p"))
    kernel.add_link(LinkSpec("i"), Ifb())
    kernel.set_tbf("v", TBF)
    kernel.set_tbf("i", TBF)
    kernel.add_redirect("v", "i")

    assert kernel.tbfs() == {"v": TBF, "i": TBF}
    assert kernel.tbfs("v") == {"v": TBF}
    assert kernel.redirects() == kernel.redirects("v") == [Redirect("v", "i")]
    with pytest.raises(AlreadyExists):
        kernel.add_redirect("v", "i")

    kernel.delete_links(["i"])
    assert kernel.tbfs() == {"v": TBF}
    assert kernel.redirects() == [Redirect("v", "")]

    kernel.delete_links(["p"])
    assert kernel.tbfs() == {}
    assert kernel.redirects() == []


def test_traffic_control_that_is_not_there_is_deleted_without_a_command(kernel: RecordingKernel) -> None:
    kernel.add_bridge("b")
    kernel.commands.clear()

    for name in ("b", "nowhere"):
        kernel.delete_tbf(name)
        kernel.delete_redirect(name)

    assert kernel.commands == []
    for act in (lambda: kernel.set_tbf("nowhere", TBF), lambda: kernel.add_redirect("b", "nowhere")):
        with pytest.raises(NotFound):
            act()


def test_traffic_control_of_the_base_shows_through_what_is_recorded() -> None:
    base = RecordingKernel()
    base.add_bridge("b")
    base.add_link(LinkSpec("i"), Ifb())
    base.set_tbf("b", TBF)
    base.add_redirect("b", "i")
    kernel = RecordingKernel(base)

    assert kernel.tbfs("b") == {"b": TBF}
    assert kernel.redirects() == [Redirect("b", "i")]
    kernel.delete_tbf("b")
    kernel.delete_redirect("b")

    assert kernel.tbfs() == {}
    assert kernel.redirects("b") == []
    assert base.tbfs() == {"b": TBF}
