"""The DHCP clients against a real dnsmasq, and beside the Go plugin's daemon.

dnsmasq gives no lease of less than two minutes, so the keeper's clock is set, and dnsmasq's is not.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from dnsmasq import Dnsmasq, wait_for
from dovetail.errors import Busy
from dovetail.ipam.dhcp.lease import Held, LeaseRequest
from dovetail.ipam.dhcp.leases import Event, Leases
from dovetail.ipam.dhcp.machine import REAL_CLOCK, Clock
from dovetail.ipam.dhcp.message import DISCOVER, RELEASE, Message, decode
from dovetail.kernel.netns import open_netns
from dovetail.model.codec import decode as read
from dovetail.model.codec import encode as write

pytestmark = [pytest.mark.root, pytest.mark.interop]

GO = "/usr/lib/cni/dhcp"
RANGE = ip_network("10.9.0.0/24")


class Lan(Dnsmasq):
    """A bridge with a dnsmasq on it, and containers on its ports."""

    def __init__(self, host: Any, directory: Path) -> None:
        super().__init__(host, directory)
        self.events: list[Event] = []
        self.ahead_s = 0.0
        self._containers: list[str] = []
        self._keepers: list[Leases] = []

    # -- containers -----------------------------------------------------------------------------------

    def container(self, name: str, *, dad: bool = False) -> str:
        """Make one with an interface eth0, which is down; gives the path of its namespace."""
        self.host.run("ip", "netns", "add", name)
        self._containers.append(name)
        peer = ("type", "veth", "peer", "name", "eth0", "netns", name)
        self.host.run("ip", "link", "add", f"v{name}", *peer)
        self.host.run("ip", "link", "set", f"v{name}", "master", "br0", "up")
        if not dad:
            self.host.run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
        return f"/run/netns/{name}"

    def keeper(self) -> Leases:
        """Make a keeper whose clock is ahead by `ahead_s`."""
        clock = Clock(
            now=lambda: REAL_CLOCK.now() + self.ahead_s, wall=lambda: REAL_CLOCK.wall() + self.ahead_s
        )
        self._keepers.append(Leases(self.events.append, clock=clock))
        return self._keepers[-1]

    def acquire(self, leases: Leases, name: str, **changes: Any) -> Held:
        with open_netns(f"/run/netns/{name}") as netns:
            return leases.acquire(request(name, **changes), netns)

    def configure(self, held: Held) -> None:
        """Give a container its addresses and its default route, as its main plugin does."""
        run = ("nsenter", f"--net={held.netns}", "ip")
        for lease in held.leases:
            self.host.run(
                *run,
                "addr",
                "replace",
                str(lease.address),
                "dev",
                "eth0",
                *(["nodad"] * (lease.address.version == 6)),
            )
            for route in lease.routes:
                self.host.run(*run, "route", "replace", str(route.destination), "via", str(route.gateway))

    def settled(self, leases: Leases, name: str, **changes: Any) -> Held:
        """Acquire and configure."""
        held = self.acquire(leases, name, **changes)
        self.configure(held)
        return held

    def later(self, leases: Leases, seconds: float) -> None:
        self.ahead_s += seconds
        leases.wake()

    def event(self, number: int = 1) -> Event:
        try:
            wait_for(lambda: len(self.events) >= number)
        except AssertionError as exc:
            raise AssertionError(f"no event {number}: {self.events}\n{self.log()}") from exc
        return self.events[number - 1]

    def end(self) -> None:
        for keeper in self._keepers:
            keeper.close()
        self.silence()
        for name in self._containers:
            self.host.run("ip", "netns", "del", name, check=False)


def request(name: str, **changes: Any) -> LeaseRequest:
    return LeaseRequest(**{"container": name, "network": "lan", "ifname": "eth0", **changes})


@pytest.fixture
def lan(host: Any, tmp_path: Path) -> Iterator[Lan]:
    if shutil.which("dnsmasq", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("dnsmasq is not installed (Debian package dnsmasq-base)")
    made = Lan(host, tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def leases(lan: Lan) -> Leases:
    return lan.keeper()


class Ear:
    """Hears what clients send to DHCP servers on the bridge."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
        self._socket.bind(("br0", 3))
        self._socket.settimeout(5)

    def hear(self) -> tuple[str, str, Message]:
        """Give source, destination and message of the next."""
        while True:
            packet = self._socket.recv(4096)
            if packet[0] == 0x45 and packet[9] == 17 and packet[22:24] == b"\0\x43":
                source, destination = (socket.inet_ntoa(packet[at : at + 4]) for at in (12, 16))
                return source, destination, decode(packet[28:])

    def hear_kind(self, kind: int) -> tuple[str, str, Message]:
        while True:
            heard = self.hear()
            if heard[2].kind == kind:
                return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(lan: Lan) -> Iterator[Ear]:
    made = Ear()
    yield made
    made.close()


def destinations(held: Held) -> list[tuple[str, str]]:
    assert held.v4 is not None
    return [(str(route.destination), str(route.gateway)) for route in held.v4.routes]


def test_a_container_gets_a_lease_with_all_that_the_server_says(lan, leases) -> None:
    lan.serve(
        "--dhcp-option=6,10.9.0.1,9.9.9.9",
        "--domain=example.test",
        "--dhcp-option=119,eng.example.test,example.test",
        "--dhcp-option=26,1400",
    )
    lan.container("c1")

    held = lan.acquire(leases, "c1")

    lease = held.v4
    assert lease.address.ip in RANGE
    assert (lease.address.network, str(lease.gateway), lease.mtu) == (RANGE, "10.9.0.1", 1400)
    assert lease.dns.nameservers == ("10.9.0.1", "9.9.9.9")
    assert (lease.dns.domain, lease.dns.search) == ("example.test", ("eng.example.test", "example.test"))
    assert (lease.server, lease.lease_s, lease.renew_s, lease.rebind_s) == ("10.9.0.1", 120, 60, 105)
    assert destinations(held) == [("0.0.0.0/0", "10.9.0.1")]
    wait_for(lambda: lan.given() == {str(lease.address.ip): "00:" + b"c1/lan/eth0".hex(":")})
    assert read(write(held), Held) == held


def test_the_address_carries_traffic(lan, leases) -> None:
    lan.serve()
    netns = lan.container("c1")
    held = lan.acquire(leases, "c1")

    lan.configure(held)

    lan.host.run("nsenter", f"--net={netns}", "ping", "-c1", "-W5", "10.9.0.1")


STATIC = "--dhcp-option=33,192.168.7.0,10.9.0.9"
CLASSLESS = "--dhcp-option=121,192.168.8.0/25,10.9.0.8,0.0.0.0/0,10.9.0.7"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), [("0.0.0.0/0", "10.9.0.1")]),
        ((STATIC,), [("192.168.7.0/24", "10.9.0.9"), ("0.0.0.0/0", "10.9.0.1")]),
        ((STATIC, CLASSLESS), [("192.168.8.0/25", "10.9.0.8"), ("0.0.0.0/0", "10.9.0.7")]),
        ((STATIC, "--dhcp-option=3"), [("192.168.7.0/24", "10.9.0.9")]),
    ],
)
def test_classless_routes_count_before_static_ones_and_routers(lan, leases, options, expected) -> None:
    lan.serve(*options)
    lan.container("c1")

    held = lan.acquire(leases, "c1", priority=100)

    assert destinations(held) == expected
    assert {route.priority for route in held.v4.routes} == {100}


def test_two_containers_have_two_addresses(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    lan.container("c2")

    first, second = lan.acquire(leases, "c1"), lan.acquire(leases, "c2")

    assert first.v4.address != second.v4.address
    wait_for(lambda: len(lan.given()) == 2)


def test_release_gives_the_address_back_and_the_same_client_gets_it_again(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    lan.container("c2")
    first = lan.acquire(leases, "c1")
    wait_for(lan.given)

    leases.release(first.key)
    wait_for(lambda: not lan.given(), "the release is in dnsmasq's file")
    lan.acquire(leases, "c2")
    again = lan.acquire(leases, "c1")

    assert again.v4.address == first.v4.address


def test_a_lease_is_renewed_by_one_question_to_its_server(lan, leases, ear) -> None:
    lan.serve()
    lan.container("c1")
    held = lan.settled(leases, "c1")
    asked = lan.said("DHCPREQUEST"), lan.said("DHCPDISCOVER")
    ear.hear(), ear.hear()

    lan.later(leases, 61)

    event = lan.event()
    assert (event.kind, event.held.v4.address) == ("renewed", held.v4.address)
    assert event.held.v4.obtained_at > held.v4.obtained_at + 60
    assert (lan.said("DHCPREQUEST"), lan.said("DHCPDISCOVER")) == (asked[0] + 1, asked[1])
    source, destination, message = ear.hear()
    assert (source, destination) == (str(held.v4.address.ip), "10.9.0.1")
    assert str(message.ciaddr) == source


def test_a_server_that_has_another_mac_address_now_still_renews(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    lan.settled(leases, "c1")
    lan.host.run("ip", "link", "set", "br0", "address", "02:00:5e:10:00:99")
    lan.host.run("ip", "-n", "c1", "neigh", "flush", "all")

    lan.later(leases, 61)

    assert lan.event().kind == "renewed", lan.log()


def test_a_release_reaches_a_server_that_has_another_mac_address_now(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    held = lan.settled(leases, "c1")
    lan.host.run("ip", "link", "set", "br0", "address", "02:00:5e:10:00:99")
    lan.host.run("ip", "-n", "c1", "neigh", "flush", "all")
    wait_for(lan.given)

    leases.release(held.key)

    wait_for(lambda: not lan.given(), "the release is in dnsmasq's file")


def test_a_lease_whose_server_moved_is_rebound(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    lan.settled(leases, "c1")
    wait_for(lan.given)
    lan.silence()
    lan.host.run("ip", "link", "set", "br0", "address", "02:00:5e:10:00:99")
    lan.serve()

    lan.later(leases, 106)

    event = lan.event()
    assert event.kind == "renewed", lan.log()
    assert event.held.v4.server_mac == "02:00:5e:10:00:99"


def test_a_lease_that_runs_out_is_lost_and_comes_back_with_the_server(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    held = lan.settled(leases, "c1")
    lan.silence()

    lan.later(leases, 121)
    assert (lan.event().kind, lan.event().held.v4) == ("lost", None)
    lan.serve()
    lan.later(leases, 64)

    assert lan.event(2).kind == "changed"
    assert lan.event(2).held.v4.address == held.v4.address


def test_a_server_that_refuses_the_address_gives_another(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    held = lan.settled(leases, "c1")
    wait_for(lan.given)
    lan.silence()
    lan.forget()
    lan.serve(first="10.9.0.100", last="10.9.0.110")

    lan.later(leases, 106)

    assert [lan.event(1).kind, lan.event(2).kind] == ["lost", "changed"]
    assert lan.said("DHCPNAK") == 1
    assert lan.event(2).held.v4.address.ip >= ip_address("10.9.0.100")
    assert lan.event(2).held.v4.address != held.v4.address


def test_a_restart_of_the_keeper_loses_nothing(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    stored = write(lan.settled(leases, "c1", ipv6=True))
    leases.close()

    lan.ahead_s += 30
    second = lan.keeper()
    second.restore([read(stored, Held)])
    lan.later(second, 31)

    lan.event(2)
    assert {event.kind for event in lan.events} == {"renewed"}
    assert [lease.address for lease in second.held()[0].leases] == [
        lease.address for lease in read(stored, Held).leases
    ]


def test_a_container_that_has_gone_ends_its_lease(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    held = lan.settled(leases, "c1")
    lan.host.run("ip", "netns", "del", "c1")

    lan.later(leases, 61)

    assert lan.event() == Event("gone", held, held)
    leases.release(held.key)


def test_an_interface_that_has_gone_ends_its_lease(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    lan.acquire(leases, "c1")
    lan.host.run("ip", "link", "del", "vc1")

    lan.later(leases, 61)

    assert lan.event().kind == "gone"


def test_without_a_server_the_error_says_so(lan, leases) -> None:
    lan.container("c1")

    with open_netns("/run/netns/c1") as netns, pytest.raises(Busy, match="no DHCP server gave eth0 a lease"):
        leases.acquire(request("c1"), netns, deadline_s=0.3)


def test_a_macvlan_gets_a_lease_and_answers_may_be_broadcast(lan, leases, ear) -> None:
    lan.serve()
    lan.host.run("ip", "netns", "add", "c1")
    lan._containers.append("c1")
    lan.host.run("ip", "link", "add", "port", "type", "veth", "peer", "name", "parent")
    lan.host.run("ip", "link", "set", "port", "master", "br0", "up")
    lan.host.run("ip", "link", "set", "parent", "up")
    macvlan = ("link", "parent", "name", "eth0", "netns", "c1", "type", "macvlan", "mode", "bridge")
    lan.host.run("ip", "link", "add", *macvlan)

    held = lan.acquire(leases, "c1", broadcast=True)

    assert held.v4.address.ip in RANGE
    assert ear.hear()[2].broadcast


def test_dhcpv6_gives_an_address_renews_it_and_takes_it_back(lan, leases) -> None:
    lan.serve(
        "--dhcp-option=option6:dns-server,[fd09::1]", "--dhcp-option=option6:domain-search,example.test"
    )
    netns = lan.container("c1")

    held = lan.acquire(leases, "c1", ipv6=True)
    lease = held.v6
    assert lease.address.ip in ip_network("fd09::100/120")
    assert (lease.address.network.prefixlen, lease.routes) == (128, ())
    assert (lease.dns.nameservers, lease.dns.search) == (("fd09::1",), ("example.test",))
    assert (lease.lease_s, lease.renew_s, lease.rebind_s) == (120, 60, 105)
    wait_for(lambda: set(lan.given()) == {str(held.v4.address.ip), str(lease.address.ip)})
    lan.configure(held)
    lan.host.run("nsenter", f"--net={netns}", "ip", "route", "add", "fd09::/64", "dev", "eth0")
    lan.host.run("nsenter", f"--net={netns}", "ping", "-c1", "-W5", "fd09::1")

    lan.later(leases, 61)
    lan.event(2)
    assert lan.said("DHCPRENEW") == 1
    assert {event.kind for event in lan.events} == {"renewed"}

    leases.release(held.key)
    wait_for(lambda: not lan.given(), "both releases are in dnsmasq's file")
    again = lan.acquire(leases, "c1", ipv6=True)
    assert again.v6.address == lease.address


def test_dhcpv6_rebinds_with_a_server_that_has_restarted(lan, leases) -> None:
    lan.serve()
    lan.container("c1")
    held = lan.acquire(leases, "c1", ipv6=True)

    lan.later(leases, 106)

    lan.event(2)
    assert lan.said("DHCPREBIND") == 1
    assert {event.kind for event in lan.events} == {"renewed"}
    assert leases.get(held.key).v6.address == held.v6.address


def test_dhcpv6_waits_for_the_link_local_address(lan, leases) -> None:
    lan.serve()
    lan.container("c1", dad=True)

    assert lan.acquire(leases, "c1", ipv6=True).v6 is not None


def test_where_dhcpv6_has_no_server_nothing_is_kept(lan, leases) -> None:
    lan.serve("--dhcp-ignore=tag:dhcpv6")
    lan.container("c1")

    with open_netns("/run/netns/c1") as netns, pytest.raises(Busy, match="no DHCPv6 server gave eth0"):
        leases.acquire(request("c1", ipv6=True), netns, deadline_s=2)

    wait_for(lambda: not lan.given(), "the IPv4 address is given back")
    assert leases.held() == []


def test_what_the_configuration_provides_reaches_the_server(lan, leases) -> None:
    lan.serve("--dhcp-userclass=set:blue,blue", "--dhcp-option=tag:blue,6,9.9.9.9")
    lan.container("c1")

    held = lan.acquire(leases, "c1", provide={12: b"web", 77: b"blue"})

    assert held.v4.dns.nameservers == ("9.9.9.9",)
    wait_for(lambda: " web " in (lan.directory / "leases").read_text(encoding="utf-8"))


def test_twenty_leases_are_renewed_together(lan, leases) -> None:
    lan.serve(last="10.9.0.90")
    names = [f"c{number}" for number in range(20)]
    for name in names:
        lan.container(name)
        lan.settled(leases, name)
    wait_for(lambda: len(lan.given()) == 20)

    lan.later(leases, 61)

    lan.event(20)
    assert {event.kind for event in lan.events} == {"renewed"}
    assert len({event.held.key for event in lan.events}) == 20


class GoPlugin:
    """The reference plugin and its daemon."""

    def __init__(self, directory: Path) -> None:
        self._socket = str(directory / "go.sock")
        self._daemon = subprocess.Popen(
            [GO, "daemon", "-socketpath", self._socket], stderr=subprocess.DEVNULL
        )
        wait_for(lambda: os.path.exists(self._socket), "the Go daemon")

    def call(self, verb: str, name: str) -> Any:
        """Call it for a container; it must succeed."""
        provide = [{"option": "host-name", "value": "web"}]
        ipam = {"type": "dhcp", "daemonSocketPath": self._socket, "provide": provide}
        done = subprocess.run(
            [GO],
            input=json.dumps({"cniVersion": "1.0.0", "name": "lan", "type": "bridge", "ipam": ipam}),
            env={
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": name,
                "CNI_NETNS": f"/run/netns/{name}",
                "CNI_IFNAME": "eth0",
                "CNI_PATH": "/usr/lib/cni",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None

    def end(self) -> None:
        self._daemon.kill()
        self._daemon.wait()


@pytest.fixture
def go(lan: Lan, tmp_path: Path) -> Iterator[GoPlugin]:
    if not os.path.exists(GO):
        pytest.skip(f"{GO} is not installed (Debian package containernetworking-plugins)")
    made = GoPlugin(tmp_path)
    yield made
    made.end()


def test_a_switch_from_the_go_plugin_and_back_keeps_the_address(lan, leases, go) -> None:
    lan.serve()
    lan.container("c1")
    lan.host.run("ip", "-n", "c1", "link", "set", "eth0", "up")  # it takes seconds where it must do so
    theirs = go.call("ADD", "c1")["ips"][0]

    ours = lan.acquire(leases, "c1")

    assert (str(ours.v4.address), str(ours.v4.gateway)) == (theirs["address"], theirs["gateway"])
    leases.release(ours.key)
    wait_for(lambda: not lan.given())
    assert go.call("ADD", "c1")["ips"][0] == theirs
    go.call("DEL", "c1")


def test_our_discover_says_what_the_go_plugins_does_and_asks_for_more(lan, leases, go, ear) -> None:
    lan.serve()
    lan.container("c1")
    lan.host.run("ip", "-n", "c1", "link", "set", "eth0", "up")
    go.call("ADD", "c1")
    theirs = ear.hear_kind(DISCOVER)
    go.call("DEL", "c1")
    their_release = ear.hear_kind(RELEASE)
    held = lan.acquire(leases, "c1", provide={12: b"web"})
    ours = ear.hear_kind(DISCOVER)
    leases.release(held.key)
    our_release = ear.hear_kind(RELEASE)

    assert ours[:2] == theirs[:2] == ("0.0.0.0", "255.255.255.255")
    same = {code: value for code, value in ours[2].options.items() if code not in (55, 57)}
    assert same == {code: value for code, value in theirs[2].options.items() if code != 55}
    assert set(theirs[2].options[55]) == {1, 3}
    assert set(ours[2].options[55]) > {1, 3, 121, 33, 6}
    assert our_release[2].options == their_release[2].options
    assert our_release[2].ciaddr == their_release[2].ciaddr
    assert our_release[1] == "10.9.0.1"  # theirs goes to everybody
    assert their_release[1] == "255.255.255.255"
