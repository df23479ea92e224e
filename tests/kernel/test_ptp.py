"""The ptp driver on the real kernel: what `ip` says afterwards, and what is left when it ends or fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dovetail.drivers.bridge import BridgeDriver
from dovetail.drivers.ptp import PtpDriver
from dovetail.errors import AlreadyExists
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Netns
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet

pytestmark = pytest.mark.root

DRIVER = PtpDriver()


@pytest.fixture
def other_box(kernel: LinuxKernel, tmp_path: Path) -> Iterator[Netns]:
    path = str(tmp_path / "other")
    with kernel.create_netns(path) as netns:
        yield netns
    kernel.delete_netns(path)


def a_network(driver: str = "ptp", third: int = 88, *, internal: bool = False, **options: str) -> Network:
    return Network(
        id=f"{third:02x}" * 32,
        name=f"net{third}",
        driver=driver,
        internal=internal,
        options=options,
        subnets=(
            Subnet(subnet=ip_network(f"10.{third}.0.0/24"), gateway=ip_address(f"10.{third}.0.1")),
            Subnet(subnet=ip_network(f"fd{third}::/64"), gateway=ip_address(f"fd{third}::1")),
        ),
    )


def create(kernel: LinuxKernel, network: Network) -> Network:
    driver = DRIVER if network.driver == "ptp" else BridgeDriver()
    network = driver.plan_network(kernel, network, "store")
    with ExitStack() as undo:
        driver.create_network(kernel, network, "store", undo)
        undo.pop_all()
    return network


def join(
    kernel: LinuxKernel, network: Network, sandbox: Netns | None, last: int = 2, ifname: str = "eth0"
) -> Endpoint:
    driver = DRIVER if network.driver == "ptp" else BridgeDriver()
    endpoint = Endpoint(
        id=f"{last:02x}" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=tuple(ip_interface(f"{s.subnet[last]}/{s.subnet.prefixlen}") for s in network.subnets),
    )
    endpoint = driver.plan_endpoint(network, endpoint)
    with ExitStack() as undo:
        attachment = driver.join(
            kernel, network, endpoint, sandbox=sandbox, ifname=ifname, store_id="store", undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


def addresses(host: Any, link: str, netns: str = "") -> set[str]:
    (found,) = host.ip("addr", "show", "dev", link, netns=netns)
    return {f"{a['local']}/{a['prefixlen']}" for a in found["addr_info"] if not a.get("dynamic")}


def routes(host: Any, netns: str = "") -> dict[str, str]:
    """Give each destination with its gateway or its link, the kernel's own of link-local addresses left out."""
    rows = [row for family in ("-4", "-6") for row in host.ip(family, "route", netns=netns)]
    found = {}
    for row in rows:
        if not row["dst"].startswith(("fe80:", "ff00:", "multicast")):
            found[row["dst"]] = row.get("gateway") or row.get("dev") or row["type"]
            if row.get("type") == "unreachable":
                found[row["dst"]] = "unreachable"
    return found


def test_a_joined_sandbox_has_everything_behind_its_gateway(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    network = create(kernel, a_network(mtu="1400"))

    endpoint = join(kernel, network, box)

    link = endpoint.link
    assert {"10.88.0.1/32", "fd88::1/128", "fe80::1/64"} <= addresses(host, link)
    waiting = [a["local"] for a in host.ip("addr", "show", "dev", link)[0]["addr_info"] if a.get("tentative")]
    assert {"fd88::1", "fe80::1"}.isdisjoint(waiting), "by these the kernel asks for neighbours, at once"
    assert routes(host) == {
        "10.88.0.2": link,
        "fd88::1": link,  # the kernel's, of the address itself
        "fd88::2": link,
        "10.88.0.0/24": "unreachable",
        "fd88::/64": "unreachable",
    }
    ends = host.links()[link], host.links(box.path)["eth0"]
    assert [(end["mtu"], "UP" in end["flags"]) for end in ends] == [(1400, True), (1400, True)]
    assert ends[0]["ifalias"] == f"dovetail:store/endpoint/{endpoint.id}"
    assert "master" not in ends[0]
    assert {"10.88.0.2/24", "fd88::2/64"} <= addresses(host, "eth0", box.path)
    assert routes(host, box.path) == {
        "default": "fd88::1",
        "10.88.0.1": "eth0",
        "10.88.0.0/24": "10.88.0.1",
        "fd88::1": "eth0",
        "fd88::/64": "fd88::1",
    }
    assert host.ip("route", "show", "default", netns=box.path)[0]["gateway"] == "10.88.0.1"
    assert DRIVER.check(kernel, network, endpoint, box) == []
    settings = [f"net.ipv6.conf.{link}.accept_ra", f"net.ipv4.conf.{link}.route_localnet"]
    forwarding = ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"]
    assert host.run("sysctl", "-n", *settings, *forwarding).split() == ["0", "1", "1", "1"]

    DRIVER.leave(kernel, endpoint)
    DRIVER.leave(kernel, endpoint)
    DRIVER.delete_network(kernel, network)
    DRIVER.delete_network(kernel, network)

    assert set(host.links()) == {"lo"}
    assert set(host.links(box.path)) == {"lo"}
    assert routes(host) == {}


def test_every_end_on_the_host_has_the_same_gateway(
    host: Any, kernel: LinuxKernel, box: Netns, other_box: Netns
) -> None:
    network = create(kernel, a_network())
    one, other = join(kernel, network, box), join(kernel, network, other_box, 3)

    assert addresses(host, one.link) >= {"10.88.0.1/32"} <= addresses(host, other.link)
    for address in ("10.88.0.3", "fd88::3"):
        host.run("nsenter", f"--net={box.path}", "ping", "-c1", "-W5", address)
    DRIVER.leave(kernel, one)
    host.run("nsenter", f"--net={other_box.path}", "ping", "-c1", "-W5", "10.88.0.1")
    assert DRIVER.check(kernel, network, other, other_box) == []


def test_an_internal_network_has_no_way_out(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    network = create(kernel, a_network(internal=True))

    endpoint = join(kernel, network, box)

    assert "default" not in routes(host, box.path)
    assert routes(host, box.path)["10.88.0.0/24"] == "10.88.0.1"
    assert host.run("sysctl", "-n", f"net.ipv4.conf.{endpoint.link}.route_localnet").strip() == "0"


def test_beside_a_bridge_network_the_first_one_is_the_way_out(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    web, back = create(kernel, a_network("bridge", 89)), create(kernel, a_network())
    first = join(kernel, web, box, 4, "eth0")
    second = join(kernel, back, box, 2, "eth1")

    def ways_out() -> list[str]:
        return [
            host.ip(family, "route", "get", address, netns=box.path)[0]["gateway"]
            for family, address in (("-4", "192.0.2.1"), ("-6", "2001:db8::1"))
        ]

    assert ways_out() == ["10.89.0.1", "fd89::1"]
    assert DRIVER.check(kernel, back, second, box) == []
    BridgeDriver().leave(kernel, first)
    assert ways_out() == ["10.88.0.1", "fd88::1"]


def test_where_ipv6_is_off_by_default_it_is_on_for_a_network_that_has_it(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    for prefix in ((), ("nsenter", f"--net={box.path}")):
        host.run(*prefix, "sysctl", "-q", "-w", "net.ipv6.conf.default.disable_ipv6=1")
    network = create(kernel, a_network())

    join(kernel, network, box)

    host.run("nsenter", f"--net={box.path}", "ping", "-c1", "-W5", "fd88::1")


def test_checking_sees_what_somebody_changed(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    network = create(kernel, a_network())
    endpoint = join(kernel, network, box)
    for command in (
        f"ip route del 10.88.0.2 dev {endpoint.link}",
        f"ip addr del fd88::1/128 dev {endpoint.link}",
        "sysctl -q -w net.ipv4.ip_forward=0",
        f"nsenter --net={box.path} ip route del 10.88.0.0/24",
    ):
        host.run(*command.split())

    assert DRIVER.check(kernel, network, endpoint, box) == [
        f"interface '{endpoint.link}' has lost address fd88::1/128",
        f"the host's route to 10.88.0.2 dev {endpoint.link} is missing",
        "the host forwards no IPv4: sysctl net.ipv4.ip_forward is off",
        "the route 10.88.0.0/24 via 10.88.0.1 dev eth0 is missing",
    ]


def test_a_handed_over_interface_can_be_moved_and_leaves_from_anywhere(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    network = create(kernel, a_network(mtu="1400"))
    endpoint = join(kernel, network, None)
    assert endpoint.attachment is not None
    waiting = host.links()[endpoint.attachment.handover]
    assert (waiting["address"], waiting["mtu"], "UP" in waiting["flags"]) == (endpoint.mac, 1400, False)

    host.run("ip", "link", "set", endpoint.attachment.handover, "netns", box.path, "name", "eth7")
    DRIVER.leave(kernel, endpoint)

    assert set(host.links()) == {"lo"}
    assert set(host.links(box.path)) == {"lo"}


def test_a_name_taken_in_the_sandbox_is_refused_and_nothing_is_made(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    network = create(kernel, a_network())
    join(kernel, network, box)
    before = (set(host.links()), routes(host))

    with pytest.raises(AlreadyExists, match="'eth0'"):
        join(kernel, network, box, 3)

    assert (set(host.links()), routes(host)) == before


def test_creating_again_restores_what_somebody_removed(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    network = create(kernel, a_network())
    join(kernel, network, box)
    for subnet in ("10.88.0.0/24", "fd88::/64"):
        host.run("ip", "route", "del", "unreachable", subnet)
    host.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")

    create(kernel, network)

    assert routes(host)["10.88.0.0/24"] == routes(host)["fd88::/64"] == "unreachable"
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward").strip() == "1"
