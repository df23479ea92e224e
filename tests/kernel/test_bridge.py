"""The bridge driver on the real kernel: what `ip` says afterwards, and what is left when it ends or fails."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.drivers.bridge import BridgeDriver
from dovetail.errors import AlreadyExists, Conflict
from dovetail.features.coexistence import accept_forwarding, withdraw_forwarding
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Netns
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet

pytestmark = pytest.mark.root

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
DRIVER = BridgeDriver()


@pytest.fixture
def box(kernel: LinuxKernel) -> Iterator[Netns]:
    """Give an empty namespace to join."""
    fds: list[int] = []

    def make() -> None:
        if _libc.unshare(_CLONE_NEWNET) == 0:
            fds.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    with kernel.netns_from_fd(fds[0], f"/proc/{os.getpid()}/fd/{fds[0]}") as netns:
        yield netns


def a_network(*, internal: bool = False, **options: str) -> Network:
    return Network(
        id="ab" * 32,
        name="web",
        driver="bridge",
        internal=internal,
        options=options,
        subnets=(
            Subnet(subnet=ip_network("10.88.0.0/24"), gateway=ip_address("10.88.0.1")),
            Subnet(subnet=ip_network("fd88::/64"), gateway=ip_address("fd88::1")),
        ),
    )


def create(kernel: LinuxKernel, network: Network) -> Network:
    network = DRIVER.plan_network(kernel, network, "store")
    with ExitStack() as undo:
        DRIVER.create_network(kernel, network, "store", undo)
        undo.pop_all()
    return network


def an_endpoint(network: Network, last: int = 2) -> Endpoint:
    endpoint = Endpoint(
        id=f"{last:02x}" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=(ip_interface(f"10.88.0.{last}/24"), ip_interface(f"fd88::{last:x}/64")),
    )
    return DRIVER.plan_endpoint(network, endpoint)


def join(
    kernel: LinuxKernel, network: Network, endpoint: Endpoint, sandbox: Netns | None, ifname: str = "eth0"
) -> Endpoint:
    with ExitStack() as undo:
        attachment = DRIVER.join(
            kernel, network, endpoint, sandbox=sandbox, ifname=ifname, store_id="store", undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


def addresses(host: Any, link: str, netns: str = "") -> set[str]:
    """Give global addresses as `ip` prints them."""
    (found,) = host.ip("addr", "show", "dev", link, netns=netns)
    return {f"{a['local']}/{a['prefixlen']}" for a in found["addr_info"] if a["scope"] == "global"}


def test_a_network_is_a_bridge_with_its_gateways(host: Any, kernel: LinuxKernel) -> None:
    network = create(kernel, a_network(mtu="1400"))

    link = host.links()[network.link]
    assert link["linkinfo"]["info_kind"] == "bridge"
    assert (link["mtu"], "UP" in link["flags"]) == (1400, True)
    assert link["ifalias"] == f"dovetail:store/network/{network.id}"
    assert addresses(host, network.link) == {"10.88.0.1/24", "fd88::1/64"}
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding").split() == [
        "1",
        "1",
    ]

    DRIVER.delete_network(kernel, network)
    DRIVER.delete_network(kernel, network)

    assert set(host.links()) == {"lo"}


def test_the_bridge_keeps_its_mac_whoever_joins(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    network = create(kernel, a_network())
    before = host.links()[network.link]["address"]

    endpoint = join(kernel, network, an_endpoint(network), box)

    assert host.links()[network.link]["address"] == before
    assert endpoint.attachment is not None
    assert [interface.mac for interface in endpoint.attachment.host_interfaces] == [
        before,
        host.links()[endpoint.link]["address"],
    ]


def test_an_adopted_bridge_keeps_its_mac_its_addresses_and_itself(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    host.run("ip", "link", "add", "br0", "type", "bridge")
    host.run("ip", "link", "add", "up0", "mtu", "1450", "type", "veth", "peer", "name", "up1")
    host.run("ip", "link", "set", "up0", "master", "br0")
    host.run("ip", "addr", "add", "10.88.0.1/24", "dev", "br0")
    mac = host.links()["br0"]["address"]

    network = create(kernel, a_network(bridge="br0"))
    endpoint = join(kernel, network, an_endpoint(network), box)

    assert host.links()["br0"]["address"] == mac
    assert host.links()[endpoint.link]["mtu"] == 1450
    assert addresses(host, "br0") == {"10.88.0.1/24", "fd88::1/64"}
    DRIVER.leave(kernel, endpoint)
    DRIVER.delete_network(kernel, network)
    assert addresses(host, "br0") == {"10.88.0.1/24"}
    assert set(host.links()) == {"lo", "br0", "up0", "up1"}


def test_a_joined_sandbox_has_its_interface_its_routes_and_its_loopback(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    network = create(kernel, a_network(icc="false", mtu="1400"))
    endpoint = join(kernel, network, an_endpoint(network), box)

    inside = host.links(netns=box.path)
    assert (inside["eth0"]["address"], inside["eth0"]["mtu"]) == (endpoint.mac, 1400)
    assert "UP" in inside["lo"]["flags"]
    assert addresses(host, "eth0", box.path) == {"10.88.0.2/24", "fd88::2/64"}
    defaults = [
        route["gateway"]
        for family in ("-4", "-6")
        for route in host.ip(family, "route", "show", "default", netns=box.path)
    ]
    assert defaults == ["10.88.0.1", "fd88::1"]
    port = host.links()[endpoint.link]
    assert (port["master"], port["ifalias"]) == (network.link, f"dovetail:store/endpoint/{endpoint.id}")
    data = port["linkinfo"]["info_slave_data"]
    assert (data["hairpin"], data["isolated"]) == (True, True)
    assert DRIVER.check(kernel, network, endpoint, box) == []

    DRIVER.leave(kernel, endpoint)
    DRIVER.leave(kernel, endpoint)

    assert set(host.links()) == {"lo", network.link}
    assert set(host.links(netns=box.path)) == {"lo"}


def test_the_network_joined_first_is_the_way_out_and_the_next_when_it_is_left(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    subnets = (
        Subnet(subnet=ip_network("10.89.0.0/24"), gateway=ip_address("10.89.0.1")),
        Subnet(subnet=ip_network("fd89::/64"), gateway=ip_address("fd89::1")),
    )
    web, back = create(kernel, a_network()), msgspec.structs.replace(a_network(), id="ef" * 32, name="back")
    back = create(kernel, msgspec.structs.replace(back, subnets=subnets))
    both = (ip_interface("10.89.0.2/24"), ip_interface("fd89::2/64"))
    first = join(kernel, web, an_endpoint(web), box)

    second = join(
        kernel, back, msgspec.structs.replace(an_endpoint(back, 3), addresses=both), box, ifname="eth1"
    )

    def ways_out() -> list[str]:
        return [
            host.ip(family, "route", "get", address, netns=box.path)[0]["gateway"]
            for family, address in (("-4", "192.0.2.1"), ("-6", "2001:db8::1"))
        ]

    assert ways_out() == ["10.88.0.1", "fd88::1"]
    assert DRIVER.check(kernel, web, first, box) == DRIVER.check(kernel, back, second, box) == []
    assert addresses(host, "eth1", box.path) == {"10.89.0.2/24", "fd89::2/64"}
    DRIVER.leave(kernel, first)
    assert ways_out() == ["10.89.0.1", "fd89::1"]
    assert DRIVER.check(kernel, back, second, box) == []


def test_a_way_out_that_somebody_else_made_stays_the_way_out(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    inside = ("nsenter", f"--net={box.path}", "ip")
    host.run(*inside, "link", "add", "other0", "type", "veth", "peer", "name", "other1")
    host.run(*inside, "addr", "add", "203.0.113.2/24", "dev", "other0")
    host.run(*inside, "link", "set", "other0", "up")
    host.run(*inside, "route", "add", "default", "via", "203.0.113.1")
    network = create(kernel, a_network())

    endpoint = join(kernel, network, an_endpoint(network), box)

    (route,) = host.ip("route", "get", "192.0.2.1", netns=box.path)
    assert route["dev"] == "other0"
    (route,) = host.ip("-6", "route", "get", "2001:db8::1", netns=box.path)
    assert route["dev"] == "eth0", "there is no other for IPv6"
    assert DRIVER.check(kernel, network, endpoint, box) == []


def test_checking_sees_what_somebody_changed(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    network = create(kernel, a_network())
    endpoint = join(kernel, network, an_endpoint(network), box)
    for command in (
        "ip addr del 10.88.0.2/24 dev eth0",
        "ip link set eth0 mtu 1300",
        "ip -6 route del default",
    ):
        host.run("nsenter", f"--net={box.path}", *command.split())
    host.run("ip", "link", "set", endpoint.link, "nomaster")

    assert DRIVER.check(kernel, network, endpoint, box) == [
        f"interface '{endpoint.link}' is not a port of bridge '{network.link}'",
        "interface 'eth0' has MTU 1300, not 1500",
        "interface 'eth0' has lost address 10.88.0.2/24",
        "the default route via 10.88.0.1 dev eth0 is missing",
        "the default route via fd88::1 dev eth0 is missing",
    ]


def test_a_handed_over_interface_can_be_moved_and_leaves_from_anywhere(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    network = create(kernel, a_network(mtu="1400"))
    endpoint = join(kernel, network, an_endpoint(network), None)
    assert endpoint.attachment is not None
    waiting = host.links()[endpoint.attachment.handover]
    assert (waiting["address"], waiting["mtu"], "UP" in waiting["flags"]) == (endpoint.mac, 1400, False)

    host.run("ip", "link", "set", endpoint.attachment.handover, "netns", box.path, "name", "eth7")
    assert "eth7" in host.links(netns=box.path)
    DRIVER.leave(kernel, endpoint)

    assert set(host.links()) == {"lo", network.link}
    assert set(host.links(netns=box.path)) == {"lo"}


def test_a_name_taken_in_the_sandbox_is_refused_and_nothing_is_made(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    network = create(kernel, a_network())
    join(kernel, network, an_endpoint(network), box)
    before = set(host.links())

    with pytest.raises(AlreadyExists, match="'eth0'"):
        join(kernel, network, an_endpoint(network, 3), box)

    assert set(host.links()) == before


def test_a_link_of_another_kind_is_a_conflict(host: Any, kernel: LinuxKernel) -> None:
    host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")

    with pytest.raises(Conflict, match="'up0' is a veth"):
        create(kernel, a_network(bridge="up0"))


def test_creating_again_restores_what_somebody_removed(host: Any, kernel: LinuxKernel) -> None:
    network = create(kernel, a_network())
    host.run("ip", "addr", "flush", "dev", network.link)
    host.run("ip", "link", "set", network.link, "down")

    create(kernel, network)

    assert addresses(host, network.link) == {"10.88.0.1/24", "fd88::1/64"}
    assert "UP" in host.links()[network.link]["flags"]


def test_an_uplink_goes_on_learning_ipv6_though_the_host_forwards(host: Any, kernel: LinuxKernel) -> None:
    host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
    host.run("sysctl", "-q", "-w", "net.ipv6.conf.up1.accept_ra=0")

    network = create(kernel, a_network())

    def accept_ra(link: str) -> str:
        return host.run("sysctl", "-n", f"net.ipv6.conf.{link}.accept_ra").strip()

    assert [accept_ra(link) for link in ("up0", "up1", network.link)] == ["2", "0", "0"]


def rules(host: Any, program: str) -> list[str]:
    return [line for line in host.run(program, "-S").splitlines() if not line.startswith("-P")]


def test_our_bridges_pass_a_forward_chain_that_drops(host: Any, kernel: LinuxKernel) -> None:
    host.run("iptables", "-P", "FORWARD", "DROP")
    host.run("ip6tables", "-P", "FORWARD", "ACCEPT")
    before = {program: rules(host, program) for program in ("iptables", "ip6tables")}

    accept_forwarding(kernel, ["dv-1"])
    accept_forwarding(kernel, ["dv-1"])

    assert rules(host, "iptables") == [
        "-N DOVETAIL",
        "-A FORWARD -m comment --comment dovetail -j DOVETAIL",
        "-A DOVETAIL -i dv-+ -j ACCEPT",
        "-A DOVETAIL -o dv-+ -j ACCEPT",
        "-A DOVETAIL -i dvh+ -j ACCEPT",
        "-A DOVETAIL -o dvh+ -j ACCEPT",
    ]
    withdraw_forwarding(kernel)
    assert {program: rules(host, program) for program in before} == before


def test_our_rule_stays_the_last_of_forward_but_for_one_that_drops_all(
    host: Any, kernel: LinuxKernel
) -> None:
    def forward() -> list[str]:
        return [line.removeprefix("-A FORWARD ") for line in rules(host, "iptables") if "-A FORWARD" in line]

    jump = "-m comment --comment dovetail -j DOVETAIL"
    host.run("iptables", "-P", "FORWARD", "DROP")
    host.run("iptables", "-A", "FORWARD", "-i", "eth9", "-j", "DROP")
    accept_forwarding(kernel, ["dv-1"])
    host.run("iptables", "-A", "FORWARD", "-i", "eth8", "-j", "DROP")
    accept_forwarding(kernel, ["dv-1"])
    assert forward() == ["-i eth9 -j DROP", "-i eth8 -j DROP", jump]

    host.run("iptables", "-P", "FORWARD", "ACCEPT")
    host.run("iptables", "-A", "FORWARD", "-j", "REJECT")
    accept_forwarding(kernel, ["dv-1"])
    accept_forwarding(kernel, ["dv-1"])
    assert forward()[2:] == [jump, "-j REJECT --reject-with icmp-port-unreachable"]
    withdraw_forwarding(kernel)
    assert jump not in forward()


def test_our_rules_stand_between_the_users_and_dockers(host: Any, kernel: LinuxKernel) -> None:
    dockers = ("-A FORWARD -j DOCKER-USER", "-A DOCKER ! -i docker0 -o docker0 -j DROP")
    for words in ("-P FORWARD DROP", "-N DOCKER", "-N DOCKER-USER", *dockers):
        host.run("iptables", *words.split())
    for words in ("-A DOCKER-USER -s 198.51.100.0/24 -j DROP", "-A DOCKER-USER -j RETURN"):
        host.run("iptables", *words.split())
    before = rules(host, "iptables")

    accept_forwarding(kernel, ["dv-1", "br0"])
    accept_forwarding(kernel, ["dv-1", "br0"])

    assert [line for line in rules(host, "iptables") if "-A DOCKER-USER" in line] == [
        "-A DOCKER-USER -s 198.51.100.0/24 -j DROP",
        "-A DOCKER-USER -m comment --comment dovetail -j DOVETAIL",
        "-A DOCKER-USER -j RETURN",
    ]
    chain = [line for line in rules(host, "iptables") if "-A DOVETAIL" in line]
    assert {"docker0 -j RETURN" in line for line in chain[:2]} == {True}
    assert [line.split()[3] for line in chain[2:]] == ["dv-+", "dv-+", "dvh+", "dvh+", "br0", "br0"]
    withdraw_forwarding(kernel)
    assert rules(host, "iptables") == before
