"""Links, addresses and routes of `LinuxKernel`, seen by ``ip``."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, InvalidArgument, KernelError, NotFound, PermissionDenied
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Kernel, LinkSpec, Netns
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac

pytestmark = pytest.mark.root

MAC = Mac("02:00:5e:10:00:01")
HOST_MAC = Mac("fe:00:5e:10:00:01")


def address(text: str) -> Any:
    return ipaddress.ip_interface(text)


def route(destination: str, gateway: str = "", **more: Any) -> Route:
    via = ipaddress.ip_address(gateway) if gateway else None
    return Route(destination=ipaddress.ip_network(destination), gateway=via, **more)


def in_threads(work: Callable[[int], None], count: int) -> None:
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


# -- links ----------------------------------------------------------------------------------------


def test_a_bridge_has_its_mac_mtu_and_alias_and_is_down(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0", mac=MAC, mtu=1400, alias="dovetail:s/network/n")

    link = host.links()["br0"]

    assert link["linkinfo"]["info_kind"] == "bridge"
    assert (link["address"], link["mtu"], link["ifalias"]) == (MAC, 1400, "dovetail:s/network/n")
    assert "UP" not in link["flags"]


def test_a_bridges_mtu_does_not_follow_its_ports(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0", mtu=1400)

    kernel.add_veth(LinkSpec("v0", master="br0", mtu=9000), LinkSpec("v1"))

    assert host.links()["br0"]["mtu"] == 1400


def test_a_veth_pair_is_born_configured_in_both_namespaces(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    kernel.add_bridge("br0")

    kernel.add_veth(
        LinkSpec(
            "v0", HOST_MAC, 1400, master="br0", hairpin=True, isolated=True, alias="dovetail:x", up=True
        ),
        LinkSpec("eth0", MAC, 1400, netns=box, alias="inside", up=True),
    )

    end, peer = host.links()["v0"], host.links(box.path)["eth0"]
    assert (end["address"], end["mtu"], end["master"], end["ifalias"]) == (
        HOST_MAC,
        1400,
        "br0",
        "dovetail:x",
    )
    assert (peer["address"], peer["mtu"], peer["ifalias"]) == (MAC, 1400, "inside")
    port = end["linkinfo"]["info_slave_data"]
    assert (port["hairpin"], port["isolated"]) == (True, True)
    assert "UP" in end["flags"]
    assert "UP" in peer["flags"]
    assert end["link_index"] == peer["ifindex"]
    for one in (end, peer):
        assert (one["num_tx_queues"], one["num_rx_queues"]) == (1, 1), "as many as the kernel would use"


@pytest.mark.parametrize("abroad", ["end", "peer", "both", "none"])
def test_either_end_of_a_pair_may_be_born_elsewhere(
    host: Any, kernel: LinuxKernel, box: Netns, abroad: str
) -> None:
    netns_of_end = box if abroad in ("end", "both") else None
    netns_of_peer = box if abroad in ("peer", "both") else None
    for netns in {netns_of_end, netns_of_peer}:
        if netns is None:
            kernel.add_bridge("br0")
        else:
            with kernel.inside(netns) as inner:
                inner.add_bridge("br0")

    kernel.add_veth(
        LinkSpec("a", netns=netns_of_end, master="br0", hairpin=True, alias="A", up=True),
        LinkSpec("b", netns=netns_of_peer, master="br0", alias="B", up=True),
    )

    for name, netns, hairpin in (("a", netns_of_end, True), ("b", netns_of_peer, False)):
        link = host.links(netns.path if netns else "")[name]
        assert (link["master"], link["ifalias"]) == ("br0", name.upper())
        assert link["linkinfo"]["info_slave_data"]["hairpin"] is hairpin
        assert "UP" in link["flags"]


def test_a_link_reads_as_ip_shows_it(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_bridge("br0")
    kernel.add_veth(LinkSpec("v0", MAC, 1400, master="br0", alias="text", up=True), LinkSpec("v1", netns=box))

    found = kernel.link("v0")

    assert found is not None
    seen = host.links()
    assert found._asdict() == {
        "name": "v0",
        "ifindex": seen["v0"]["ifindex"],
        "kind": "veth",
        "mac": MAC,
        "mtu": 1400,
        "up": True,
        "master": seen["br0"]["ifindex"],
        "alias": "text",
        "peer_ifindex": seen["v0"]["link_index"],
        "parent_ifindex": 0,
        "parent_abroad": False,
        "settings": None,
        "promisc": False,
        "allmulti": False,
        "txqueuelen": seen["v0"]["txqlen"],
        "operstate": seen["v0"]["operstate"].lower(),
        "netnsid": seen["v0"]["link_netnsid"],
    }
    assert kernel.link("v1") is None
    assert kernel.link("a-name-that-is-too-long") is None
    assert {link.name: link.ifindex for link in kernel.links()} == {n: x["ifindex"] for n, x in seen.items()}


def test_set_link_changes_only_what_is_given(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")
    kernel.add_veth(LinkSpec("v0", alias="before"), LinkSpec("v1"))

    kernel.set_link("v0", master="br0", up=True)
    kernel.set_link("v0", mtu=1300, mac=MAC)

    link = host.links()["v0"]
    assert (link["master"], link["mtu"], link["address"], link["ifalias"]) == ("br0", 1300, MAC, "before")
    assert "UP" in link["flags"]

    kernel.set_link("v0", master="", up=False, alias="")

    link = host.links()["v0"]
    assert "master" not in link
    assert "ifalias" not in link
    assert "UP" not in link["flags"]


def test_a_bridge_ports_flags_go_on_and_off(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")
    kernel.add_veth(LinkSpec("v0", master="br0"), LinkSpec("v1"))

    kernel.set_bridge_port("v0", hairpin=True, isolated=True)
    kernel.set_bridge_port("v0", isolated=False)

    port = host.links()["v0"]["linkinfo"]["info_slave_data"]
    assert (port["hairpin"], port["isolated"]) == (True, False)


def test_deleting_takes_links_of_any_number_and_forgives_missing_ones(host: Any, kernel: LinuxKernel) -> None:
    for number in range(5):
        kernel.add_veth(LinkSpec(f"a{number}"), LinkSpec(f"b{number}"))
    kernel.add_bridge("br0")

    kernel.delete_links([])
    kernel.delete_links(["missing"])
    kernel.delete_links(["a0"])
    kernel.delete_links(["a1", "b1", "b2", "missing", "br0", "br0"])

    assert set(host.links()) == {"lo", "a3", "b3", "a4", "b4"}
    assert {host.links()[name]["group"] for name in ("a3", "b4")} == {"default"}


def test_deleting_what_cannot_go_says_so_and_takes_the_rest(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_veth(LinkSpec("v0"), LinkSpec("v1"))

    with pytest.raises(KernelError, match="ip link del dev lo"):
        kernel.delete_links(["v0", "lo"])

    assert set(host.links()) == {"lo"}
    assert host.links()["lo"]["group"] == "default"


def test_concurrent_deletions_are_answered_when_the_link_is_gone(host: Any, kernel: LinuxKernel) -> None:
    for number in range(8):
        kernel.add_veth(LinkSpec(f"a{number}"), LinkSpec(f"b{number}"))

    def delete(number: int) -> None:
        kernel.delete_links([f"a{number}"])
        assert kernel.link(f"b{number}") is None

    in_threads(delete, 8)

    assert set(host.links()) == {"lo"}


# -- addresses and routes -------------------------------------------------------------------------


def test_addresses_are_there_at_once_without_duplicate_detection(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)

    kernel.add_address("br0", address("10.0.0.1/24"))
    kernel.add_address("br0", address("fd00::1/64"))
    kernel.add_address("br0", address("fd00::2/64"), dad=True)

    seen = {a["local"]: a for a in host.ip("addr", "show", "dev", "br0")[0]["addr_info"]}
    assert (seen["10.0.0.1"]["prefixlen"], seen["10.0.0.1"]["scope"]) == (24, "global")
    assert seen["fd00::1"].get("nodad") is True
    assert "tentative" not in seen["fd00::1"]
    assert "nodad" not in seen["fd00::2"]


def test_addresses_list_by_link_and_delete(host: Any, kernel: LinuxKernel) -> None:
    for name in ("br0", "br1"):
        kernel.add_bridge(name)
    kernel.add_address("br0", address("10.0.0.1/24"))
    kernel.add_address("br1", address("10.0.1.1/24"))
    kernel.add_address("br1", address("fd01::1/64"))

    assert kernel.addresses("br0") == [("br0", address("10.0.0.1/24"))]
    assert set(kernel.addresses()) >= {("br0", address("10.0.0.1/24")), ("br1", address("fd01::1/64"))}
    assert kernel.addresses("missing") == []

    kernel.delete_address("br1", address("fd01::1/64"))
    kernel.delete_address("br1", address("fd01::1/64"))
    kernel.delete_address("missing", address("fd01::1/64"))

    assert [a["local"] for a in host.ip("addr", "show", "dev", "br1")[0]["addr_info"]] == ["10.0.1.1"]


def test_routes_carry_what_they_are_given(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)
    kernel.add_address("br0", address("10.0.0.1/24"))
    kernel.add_address("br0", address("fd00::1/64"))

    kernel.add_route("br0", route("0.0.0.0/0", "10.0.0.254", mtu=1300, advmss=1200, priority=7))
    kernel.add_route("br0", route("::/0", "fd00::fe"))
    kernel.add_route("br0", route("10.9.0.0/16"))
    kernel.add_route("br0", route("10.8.0.0/16", "10.0.0.254", table=1000))
    kernel.add_route("br0", route("10.7.0.0/16", "fd00::fe"))

    seen = {r["dst"]: r for r in host.ip("route", "show")}
    default = seen["default"]
    assert (default["gateway"], default["metric"]) == ("10.0.0.254", 7)
    assert default["metrics"] == [{"mtu": 1300, "advmss": 1200}]
    assert seen["10.9.0.0/16"]["scope"] == "link"
    assert seen["10.7.0.0/16"]["via"] == {"family": "inet6", "host": "fd00::fe"}
    assert host.ip("-6", "route", "show", "default")[0]["gateway"] == "fd00::fe"
    assert host.ip("route", "show", "table", "1000")[0]["dst"] == "10.8.0.0/16"
    listed = {(str(r.destination), str(r.gateway), r.link) for r in kernel.routes()}
    assert listed >= {
        ("0.0.0.0/0", "10.0.0.254", "br0"),
        ("::/0", "fd00::fe", "br0"),
        ("10.9.0.0/16", "None", "br0"),
        ("10.7.0.0/16", "fd00::fe", "br0"),
        ("10.0.0.0/24", "None", "br0"),
    }
    assert "10.8.0.0/16" not in {destination for destination, _, _ in listed}
    assert not any(destination.startswith("127.") for destination, _, _ in listed)


def test_a_route_over_several_links_is_listed_for_each(host: Any, kernel: LinuxKernel) -> None:
    for name, subnet in (("br0", "10.0.0.1/24"), ("br1", "10.0.1.1/24")):
        kernel.add_bridge(name)
        kernel.set_link(name, up=True)
        kernel.add_address(name, address(subnet))
    host.run(
        *[
            "ip",
            "route",
            "add",
            "10.9.0.0/16",
            "nexthop",
            "via",
            "10.0.0.2",
            "dev",
            "br0",
            "nexthop",
            "via",
            "10.0.1.2",
            "dev",
            "br1",
        ]
    )
    host.run(*["ip", "route", "add", "blackhole", "10.10.0.0/16"])

    rows = [r for r in kernel.routes() if str(r.destination) in ("10.9.0.0/16", "10.10.0.0/16")]

    assert {(str(r.gateway), r.link) for r in rows} == {("10.0.0.2", "br0"), ("10.0.1.2", "br1")}


def test_an_addresss_prefix_can_be_kept_off_the_link(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)

    for text in ("10.0.0.2/24", "fd00::2/64"):
        kernel.add_address("br0", address(text), prefix_route=False)

    seen = {a["local"]: a for a in host.ip("addr", "show", "dev", "br0")[0]["addr_info"]}
    assert [seen[a].get("noprefixroute") for a in ("10.0.0.2", "fd00::2")] == [True, True]
    assert seen["fd00::2"].get("nodad") is True
    assert [row for row in kernel.routes() if not row.destination.is_link_local] == []


def test_what_cannot_be_reached_is_answered_so_until_it_is_removed(host: Any, kernel: LinuxKernel) -> None:
    subnets = {ipaddress.ip_network("10.9.0.0/16"), ipaddress.ip_network("fd09::/64")}

    for subnet in (*subnets, *subnets):
        kernel.add_unreachable(subnet)

    shown = [*host.ip("route"), *host.ip("-6", "route")]
    rows = [(row["dst"], row["type"], row["protocol"]) for row in shown if row.get("type") == "unreachable"]
    assert rows == [("10.9.0.0/16", "unreachable", "208"), ("fd09::/64", "unreachable", "208")]
    assert kernel.unreachable() == subnets
    assert subnets.isdisjoint(row.destination for row in kernel.routes())

    for subnet in (*subnets, *subnets):
        kernel.delete_unreachable(subnet)

    assert kernel.unreachable() == set()


def test_somebody_elses_route_is_left_as_it_is(host: Any, kernel: LinuxKernel) -> None:
    host.run("ip", "route", "add", "unreachable", "10.9.0.0/16")
    host.run("ip", "-6", "route", "add", "unreachable", "fd09::/64")
    before = [*host.ip("route"), *host.ip("-6", "route")]

    for text in ("10.9.0.0/16", "fd09::/64"):
        kernel.add_unreachable(ipaddress.ip_network(text))
        kernel.delete_unreachable(ipaddress.ip_network(text))

    assert [*host.ip("route"), *host.ip("-6", "route")] == before
    assert kernel.unreachable() == set()


def test_a_fresh_namespace_has_no_routes(kernel: LinuxKernel, box: Netns) -> None:
    with kernel.inside(box) as inner:
        assert inner.routes() == []


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (lambda k: k.add_bridge("br0"), AlreadyExists, "interface 'br0' already exists"),
        (lambda k: k.add_veth(LinkSpec("br0"), LinkSpec("x")), AlreadyExists, "interface 'br0'"),
        (lambda k: k.add_veth(LinkSpec("x"), LinkSpec("br0")), AlreadyExists, "interface 'br0'"),
        (lambda k: k.add_veth(LinkSpec("x", master="no"), LinkSpec("y")), NotFound, "interface: 'no'"),
        (lambda k: k.set_link("no", up=True), NotFound, "interface: 'no'"),
        (lambda k: k.set_link("br0", master="no"), NotFound, "interface: 'no'"),
        (lambda k: k.add_address("br0", address("10.0.0.1/24")), AlreadyExists, r"'10.0.0.1/24' .*on br0"),
        (lambda k: k.add_address("no", address("10.0.0.1/24")), NotFound, "interface: 'no'"),
        (lambda k: k.add_route("br0", route("10.9.0.0/16")), AlreadyExists, "route '10.9.0.0/16'"),
        (
            lambda k: k.add_route("br0", route("10.8.0.0/16", "10.77.0.1")),
            KernelError,
            r"ip route add 10.8.0.0/16 via 10.77.0.1 dev br0`: Nexthop has invalid gateway \(the gateway must",
        ),
        (lambda k: k.set_bridge_port("br0", hairpin=True), KernelError, "bridge link set dev br0 hairpin on"),
        (lambda k: k.add_bridge("br1", mtu=70000), KernelError, "mtu greater than device maximum"),
    ],
)  # fmt: skip
def test_a_refusal_names_what_was_attempted(
    host: Any, kernel: LinuxKernel, act: Callable[[LinuxKernel], None], kind: type[Exception], text: str
) -> None:
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)
    kernel.add_address("br0", address("10.0.0.1/24"))
    kernel.add_route("br0", route("10.9.0.0/16"))

    with pytest.raises(kind, match=text):
        act(kernel)

    assert set(host.links()) == {"lo", "br0"}, "something half-done was left"


def test_a_taken_name_in_the_other_namespace_is_named_with_the_place(kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_veth(LinkSpec("v0"), LinkSpec("eth0", netns=box))

    with pytest.raises(AlreadyExists, match=rf"'eth0' already exists \(in {box.path}; choose another name\)"):
        kernel.add_veth(LinkSpec("v1"), LinkSpec("eth0", netns=box))


def test_a_pair_whose_far_end_cannot_be_configured_is_not_left(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    with pytest.raises(NotFound, match="no-bridge"):
        kernel.add_veth(LinkSpec("v0"), LinkSpec("eth0", netns=box, master="no-bridge", up=True))

    assert set(host.links()) == {"lo"}


def test_an_address_where_ipv6_is_off_says_which_sysctl(kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")
    kernel.set_sysctl("net/ipv6/conf/br0/disable_ipv6", "1")

    with pytest.raises(KernelError, match="disable_ipv6"):
        kernel.add_address("br0", address("fd00::1/64"))


def test_without_privilege_reading_works_and_changing_is_denied(host: Any) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            kernel = LinuxKernel()
            assert [link.name for link in kernel.links()] == ["lo"]
            for act in (
                lambda: kernel.add_bridge("br0"),
                lambda: kernel.nft_has_table() or kernel.delete_links(["lo"]),
            ):
                try:
                    act()
                except PermissionDenied:
                    status = 0
                else:
                    status = 2
                    break
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- under load -----------------------------------------------------------------------------------


def test_lists_are_whole_while_links_come_and_go(host: Any, kernel: LinuxKernel) -> None:
    for number in range(100):
        kernel.add_bridge(f"stay{number}")
    stop = threading.Event()

    def churn() -> None:
        other = LinuxKernel()
        while not stop.is_set():
            other.add_bridge("churn", alias="x" * 200)
            other.delete_links(["churn"])
        other.close()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(30):
            names = [link.name for link in kernel.links()]
            assert len(names) == len(set(names))
            assert {f"stay{number}" for number in range(100)} <= set(names)
    finally:
        stop.set()
        thread.join()


def test_eight_threads_work_on_one_handle(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)

    def attach(number: int) -> None:
        for turn in range(3):
            name = f"{number}-{turn}"
            kernel.add_veth(
                LinkSpec(f"v{name}", master="br0", up=True, alias=name), LinkSpec(f"e{name}", netns=box)
            )
            with kernel.inside(box) as inner:
                configure(inner, f"e{name}", number, turn)
            link = kernel.link(f"v{name}")
            assert link is not None
            assert link.alias == name
            if turn:
                kernel.delete_links([f"v{name}"])

    in_threads(attach, 8)

    inside = {link["ifname"]: link for link in host.ip("addr", "show", netns=box.path)}
    assert set(inside) == {"lo", *(f"e{number}-0" for number in range(8))}
    for number in range(8):
        assert inside[f"e{number}-0"]["addr_info"][0]["local"] == f"10.{number}.0.2"


def configure(inner: Kernel, name: str, number: int, turn: int) -> None:
    with inner.batch():
        inner.add_address(name, address(f"10.{number}.{turn}.2/24"))
        inner.set_link(name, up=True)
        inner.add_route(name, route(f"10.{100 + number}.{turn}.0/24", f"10.{number}.{turn}.1"))
    assert inner.sysctl(f"net/ipv4/conf/{name}/forwarding") is not None


def test_a_name_that_is_none_is_not_found(kernel: LinuxKernel) -> None:
    with pytest.raises((NotFound, InvalidArgument, KernelError)):
        kernel.set_link("", up=True)
