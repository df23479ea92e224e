"""The ruleset and the bridge driver on the real kernel, with real packets.

The driver and the features run on `LinuxKernel`; some tests run on a `RecordingKernel` as well, whose
commands are carried out: so they say that a command equals the verb. Host, containers and a client
outside are namespaces::

    outside (192.0.2.2, fd00:2::2) ── up0 host ── dv-… ── containers (10.88.N.x, fd88:N::x)
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

import msgspec
import pytest

from dovetail.drivers.bridge import BridgeDriver
from dovetail.features.isolation import Isolation
from dovetail.features.masquerade import Masquerade
from dovetail.features.portmap import PortMap
from dovetail.features.ruleset import RULESET
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet
from dovetail.model.port import PortMapping

pytestmark = pytest.mark.root

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
_FEATURES = (Isolation(), Masquerade(), PortMap())
_YES_S = 5.0
_NO_S = 0.5
T = TypeVar("T")


class Space:
    """A namespace held by a descriptor; nothing is mounted and no process lives in it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.path = f"/proc/{os.getpid()}/fd/{fd}"

    def do(self, action: Callable[[], T]) -> T:
        """Run `action` on a thread inside the namespace; sockets made there stay there."""
        result: list[T] = []

        def inside() -> None:
            if _libc.setns(self.fd, _CLONE_NEWNET) == 0:
                result.append(action())

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        return result[0]

    def socket(self, version: int, kind: str) -> socket.socket:
        """Make a socket of this namespace."""
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        types = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
        return self.do(lambda: socket.socket(family, types[kind]))


class Lab:
    """A host with an uplink to a client outside, and networks and containers made by the code under test."""

    def __init__(self, host: Any, stack: ExitStack, kernel: LinuxKernel | RecordingKernel) -> None:
        self.host, self._stack = host, stack
        self.kernel = kernel
        self.driver = BridgeDriver()
        self._joined: dict[str, tuple[Network, Endpoint]] = {}
        self.here = self._adopt(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))
        self.outside = self.space()
        self.sh(
            f"""
            ip link add up0 type veth peer name eth0 netns {self.outside.path}
            ip addr add 192.0.2.1/24 dev up0; ip addr add fd00:2::1/64 dev up0 nodad; ip link set up0 up
            """
        )
        self.sh(
            """
            ip link set lo up; ip addr add 192.0.2.2/24 dev eth0; ip addr add fd00:2::2/64 dev eth0 nodad
            ip link set eth0 up; ip route add default via 192.0.2.1; ip route add default via fd00:2::1
            """,
            self.outside,
        )
        self.kernel.nft_apply(RULESET)

    def _adopt(self, fd: int) -> Space:
        self._stack.callback(os.close, fd)
        return Space(fd)

    def space(self) -> Space:
        """Make a namespace."""
        fds: list[int] = []

        def make() -> None:
            if _libc.unshare(_CLONE_NEWNET) == 0:
                fds.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        return self._adopt(fds[0])

    def sh(self, script: str, space: Space | None = None) -> str:
        """Run shell lines in the host's namespace or in `space`; the first that fails fails."""
        prefix = ("nsenter", f"--net={space.path}") if space is not None else ()
        return self.host.run(*prefix, "bash", "-e", stdin=script)

    def carry_out(self) -> None:
        """Run what was recorded since last time; a real kernel has done it already."""
        if isinstance(self.kernel, RecordingKernel):
            self.sh("\n".join(self.kernel.commands))
            self.kernel.commands.clear()

    def network(self, number: int = 1, *, internal: bool = False, **options: str) -> Network:
        """Make a dual-stack network 10.88.NUMBER.0/24, fd88:NUMBER::/64."""
        subnets = tuple(
            Subnet(subnet=ip_network(s), gateway=ip_address(g))
            for s, g in (
                (f"10.88.{number}.0/24", f"10.88.{number}.1"),
                (f"fd88:{number}::/64", f"fd88:{number}::1"),
            )
        )
        network = Network(
            id=f"{number:02x}" * 32,
            name=f"net{number}",
            driver="bridge",
            subnets=subnets,
            internal=internal,
            options=options,
        )
        network = self.driver.plan_network(self.kernel, network, "lab")
        with ExitStack() as undo:
            self.driver.create_network(self.kernel, network, "lab", undo)
            undo.pop_all()
        self.kernel.nft_add_elements([e for f in _FEATURES for e in f.network_elements(network)])
        self.carry_out()
        return network

    def container(self, network: Network, last: int, *ports: PortMapping) -> Space:
        """Join a new container with host part `last` to `network`."""
        space = self.space()
        addresses = tuple(
            ip_interface(f"{s.subnet.network_address + last}/{s.subnet.prefixlen}") for s in network.subnets
        )
        endpoint = Endpoint(
            id=f"{network.id[:2]}{last:02x}" * 16,
            network_id=network.id,
            owner=Owner(face="cli"),
            addresses=addresses,
            ports=ports,
        )
        endpoint = self.driver.plan_endpoint(network, endpoint)
        with ExitStack() as undo:
            with self.kernel.open_netns(space.path) as netns:
                attachment = self.driver.join(
                    self.kernel, network, endpoint, sandbox=netns, ifname="eth0", store_id="lab", undo=undo
                )
            undo.pop_all()
        endpoint = msgspec.structs.replace(endpoint, attachment=attachment)
        self.kernel.nft_add_elements([e for f in _FEATURES for e in f.endpoint_elements(network, endpoint)])
        self._joined[space.path] = network, endpoint
        self.carry_out()
        return space

    def leave(self, space: Space) -> None:
        """Take a container off its network."""
        network, endpoint = self._joined.pop(space.path)
        self.kernel.nft_delete_elements(
            [e for f in _FEATURES for e in f.endpoint_elements(network, endpoint)]
        )
        self.driver.leave(self.kernel, endpoint)
        self.carry_out()

    def ask(
        self,
        client: Space,
        address: str,
        port: int,
        server: Space,
        *,
        kind: str = "tcp",
        listen: int = 80,
        bind: str = "",
    ) -> str:
        """Let `client` ask ADDRESS:PORT and `server` answer on `listen`; give who the server thinks asked.

        Empty where nothing comes through.
        """
        for _ in range(3 if self.patience_s == _YES_S else 1):  # a loaded machine may drop the first packets
            asked_by = self._ask_once(client, address, port, server, kind, listen, bind)
            if asked_by:
                break
        return asked_by

    def _ask_once(
        self, client: Space, address: str, port: int, server: Space, kind: str, listen: int, bind: str
    ) -> str:
        version = ip_address(address).version
        with server.socket(version, kind) as listening, client.socket(version, kind) as asking:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((bind, listen))
            listening.settimeout(self.patience_s)
            asking.settimeout(self.patience_s)
            return (
                self._tcp(asking, listening, address, port)
                if kind == "tcp"
                else self._udp(asking, listening, address, port)
            )

    patience_s = _YES_S

    @contextlib.contextmanager
    def impatient(self) -> Iterator[None]:
        """Wait only briefly, where nothing is expected."""
        self.patience_s = _NO_S
        try:
            yield
        finally:
            self.patience_s = _YES_S

    @staticmethod
    def _tcp(asking: socket.socket, listening: socket.socket, address: str, port: int) -> str:
        listening.listen()
        try:
            asking.connect((address, port))
            accepted, peer = listening.accept()
        except OSError:
            return ""
        with accepted:
            accepted.sendall(b"answer")
            assert asking.recv(16) == b"answer"
        return str(peer[0])

    @staticmethod
    def _udp(asking: socket.socket, listening: socket.socket, address: str, port: int) -> str:
        try:
            asking.connect((address, port))
            asking.send(b"question")
            _, peer = listening.recvfrom(16)
            listening.sendto(b"answer", peer)
            assert asking.recv(16) == b"answer"
        except OSError:
            return ""
        return str(peer[0])

    def hand_frames_to_firewall(self, *, on: bool) -> None:
        """Set what br_netfilter sets to 1 when it is loaded, and Docker keeps there."""
        for name in ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables"):
            if os.path.exists(f"/proc/sys/net/bridge/{name}"):
                self.sh(f"sysctl -q -w net/bridge/{name}={int(on)}")
            elif on:
                pytest.skip("this kernel has no br_netfilter")

    def refused(self, *args: Any, **kwargs: Any) -> bool:
        """Say whether `ask` gets no answer."""
        with self.impatient():
            return self.ask(*args, **kwargs) == ""

    def pings(self, client: Space, address: str, *, wait_s: float = 2) -> bool:
        """Say whether an echo request is answered."""
        command = ("nsenter", f"--net={client.path}", "ping", "-c1", f"-W{wait_s}", address)
        return " 1 received" in self.host.run(*command, check=False)


@pytest.fixture
def lab(host: Any, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with ExitStack() as stack:
        if getattr(request, "param", "linux") == "commands":
            yield Lab(host, stack, RecordingKernel())
        else:
            kernel = LinuxKernel()
            stack.callback(kernel.close)
            yield Lab(host, stack, kernel)


def published(port: int = 8080, to: int = 80, *, protocol: str = "tcp", host_ip: str = "") -> PortMapping:
    return PortMapping(
        container_port=to,
        host_port=port,
        protocol=protocol,  # type: ignore[arg-type]
        host_ip=ip_address(host_ip) if host_ip else None,
    )


def wait_for(condition: Callable[[], object], *, timeout_s: float = 10.0, what: str = "") -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.02)


OUTSIDE = {4: "192.0.2.2", 6: "fd00:2::2"}
HOST = {4: "192.0.2.1", 6: "fd00:2::1"}
GATEWAY = {4: "10.88.1.1", 6: "fd88:1::1"}


def at(number: int, last: int, version: int) -> str:
    return f"10.88.{number}.{last}" if version == 4 else f"fd88:{number}::{last:x}"


both = pytest.mark.parametrize("version", [4, 6])
kinds = pytest.mark.parametrize("kind", ["tcp", "udp"])
by_commands_too = pytest.mark.parametrize("lab", ["linux", "commands"], indirect=True)


@both
@kinds
def test_who_leaves_a_network_takes_the_hosts_address(lab: Lab, version: int, kind: str) -> None:
    inside = lab.container(lab.network(), 2)

    assert lab.ask(inside, OUTSIDE[version], 80, lab.outside, kind=kind) == HOST[version]


@by_commands_too
@both
def test_without_masquerade_the_container_is_seen_as_it_is_and_can_be_reached(lab: Lab, version: int) -> None:
    inside = lab.container(lab.network(masquerade="false"), 2)

    assert lab.ask(inside, OUTSIDE[version], 80, lab.outside) == at(1, 2, version)
    assert lab.ask(lab.outside, at(1, 2, version), 80, inside) == OUTSIDE[version]


@by_commands_too
@both
def test_a_protected_network_is_reached_by_published_ports_only(lab: Lab, version: int) -> None:
    inside = lab.container(lab.network(), 2, published())
    other = lab.container(lab.network(2), 2)

    assert lab.refused(lab.outside, at(1, 2, version), 80, inside)
    assert lab.refused(other, at(1, 2, version), 80, inside)
    assert not lab.pings(lab.outside, at(1, 2, version), wait_s=0.5)
    assert lab.ask(lab.outside, HOST[version], 8080, inside) == OUTSIDE[version]
    assert lab.ask(other, HOST[version], 8080, inside) == at(2, 2, version)


@both
def test_a_network_can_be_masqueraded_and_open(lab: Lab, version: int) -> None:
    inside = lab.container(lab.network(protected="false"), 2)

    assert lab.ask(lab.outside, at(1, 2, version), 80, inside) == OUTSIDE[version]
    assert lab.ask(inside, OUTSIDE[version], 80, lab.outside) == HOST[version]


@both
@kinds
@pytest.mark.parametrize("frames_to_firewall", [False, True])
def test_a_published_port_is_reached_from_everywhere(
    lab: Lab, version: int, kind: str, frames_to_firewall: bool
) -> None:
    lab.hand_frames_to_firewall(on=frames_to_firewall)
    network = lab.network()
    inside = lab.container(network, 2, published(protocol=kind))
    neighbour = lab.container(network, 3)

    assert lab.ask(lab.outside, HOST[version], 8080, inside, kind=kind) == OUTSIDE[version]
    assert lab.ask(lab.here, HOST[version], 8080, inside, kind=kind) == HOST[version]
    assert lab.ask(neighbour, HOST[version], 8080, inside, kind=kind) == GATEWAY[version]
    assert lab.ask(neighbour, GATEWAY[version], 8080, inside, kind=kind) == GATEWAY[version]
    assert lab.ask(inside, HOST[version], 8080, inside, kind=kind) == GATEWAY[version], "hairpin"


@kinds
def test_a_published_port_is_reached_on_the_hosts_loopback(lab: Lab, kind: str) -> None:
    inside = lab.container(lab.network(), 2, published(protocol=kind))

    assert lab.ask(lab.here, "127.0.0.1", 8080, inside, kind=kind) == GATEWAY[4]


@by_commands_too
def test_a_port_of_one_address_goes_before_one_of_all_and_is_not_on_others(lab: Lab) -> None:
    network = lab.network()
    general = lab.container(network, 2, published(8080))
    special = lab.container(network, 3, published(8080, host_ip=HOST[4]), published(9090, host_ip=HOST[6]))
    local = lab.container(network, 4, published(7070, host_ip="127.0.0.1"))

    assert lab.ask(lab.outside, HOST[4], 8080, special) == OUTSIDE[4]
    assert lab.ask(lab.here, "127.0.0.1", 8080, general)
    assert lab.ask(lab.outside, HOST[6], 8080, general) == OUTSIDE[6]
    assert lab.ask(lab.outside, HOST[6], 9090, special) == OUTSIDE[6]
    assert lab.ask(lab.here, "127.0.0.1", 7070, local)
    assert lab.refused(lab.outside, HOST[4], 7070, local)
    assert lab.refused(lab.outside, HOST[4], 9090, special)


@by_commands_too
def test_a_port_that_is_withdrawn_leads_nowhere(lab: Lab) -> None:
    network = lab.network()
    first = lab.container(network, 2, published())
    assert lab.ask(lab.outside, HOST[4], 8080, first)

    lab.leave(first)
    second = lab.container(network, 3, published())

    assert lab.ask(lab.outside, HOST[4], 8080, second) == OUTSIDE[4]
    lab.leave(second)
    assert not [e for e in lab.host.nft("list", "map", "inet", "dovetail", "publish4") if "elem" in str(e)]


@both
def test_an_internal_network_is_entered_and_left_by_nobody_but_the_host(lab: Lab, version: int) -> None:
    closed = lab.network(internal=True)
    inside, neighbour = lab.container(closed, 2), lab.container(closed, 3)
    other = lab.container(lab.network(2, masquerade="false"), 2)
    assert "default" not in lab.sh("ip route; ip -6 route", inside)
    lab.sh(f"ip route add default via {GATEWAY[version]}", inside)

    assert lab.refused(inside, OUTSIDE[version], 80, lab.outside)
    assert lab.refused(lab.outside, at(1, 2, version), 80, inside)
    assert lab.refused(inside, at(2, 2, version), 80, other)
    assert lab.refused(other, at(1, 2, version), 80, inside)
    assert lab.ask(inside, at(1, 3, version), 80, neighbour) == at(1, 2, version)
    assert lab.ask(lab.here, at(1, 2, version), 80, inside) == GATEWAY[version]


@both
def test_without_icc_neighbours_reach_published_ports_only(lab: Lab, version: int) -> None:
    lab.hand_frames_to_firewall(on=False)
    network = lab.network(icc="false")
    one, other = lab.container(network, 2), lab.container(network, 3, published())
    target = at(1, 3, version)
    assert not lab.pings(one, target, wait_s=0.5), "the bridge carried it"

    length = 32 if version == 4 else 128
    lab.sh(f"ip route add {target}/{length} via {GATEWAY[version]}", one)

    assert not lab.pings(one, target, wait_s=0.5), "the host carried it"
    assert lab.refused(one, target, 80, other)
    assert lab.ask(one, HOST[version], 8080, other) == GATEWAY[version]
    assert lab.ask(one, OUTSIDE[version], 80, lab.outside) == HOST[version]


@both
def test_without_icc_frames_stay_apart_where_the_bridge_hands_them_to_the_firewall(
    lab: Lab, version: int
) -> None:
    lab.hand_frames_to_firewall(on=True)
    network = lab.network(icc="false")
    one, other = lab.container(network, 2), lab.container(network, 3, published())

    assert not lab.pings(one, at(1, 3, version), wait_s=0.5)
    assert lab.refused(one, at(1, 3, version), 80, other)
    assert lab.ask(lab.outside, HOST[version], 8080, other) == OUTSIDE[version]


def test_hairpin_does_not_make_duplicate_addresses(lab: Lab) -> None:
    inside = lab.container(lab.network(), 2)

    wait_for(lambda: "tentative" not in lab.sh("ip -6 addr show dev eth0", inside), what="DAD ends")

    assert "dadfailed" not in lab.sh("ip -6 addr show dev eth0", inside)


@both
def test_with_icc_neighbours_reach_each_other(lab: Lab, version: int) -> None:
    network = lab.network()
    one, other = lab.container(network, 2), lab.container(network, 3)

    assert lab.pings(one, at(1, 3, version))
    assert lab.ask(one, at(1, 3, version), 80, other) == at(1, 2, version)


@both
def test_icmp_and_its_errors_pass(lab: Lab, version: int) -> None:
    inside = lab.container(lab.network(), 2)

    assert lab.pings(inside, OUTSIDE[version])
    with inside.socket(version, "udp") as asking:
        asking.settimeout(_YES_S)
        asking.connect((OUTSIDE[version], 7))
        asking.send(b"nobody listens")
        with pytest.raises(ConnectionRefusedError):
            asking.recv(1)


def test_nobody_on_a_network_reaches_or_imitates_the_hosts_loopback(lab: Lab) -> None:
    inside = lab.container(lab.network(), 2)
    lab.sh(
        """
        ip link set lo down; ip addr del 127.0.0.1/8 dev lo
        sysctl -q -w net/ipv4/conf/eth0/route_localnet=1; ip route add 127.0.0.1 via 10.88.1.1
        """,
        inside,
    )

    assert lab.refused(inside, "127.0.0.1", 5432, lab.here, listen=5432, bind="127.0.0.1")
    lab.sh("nft flush chain inet dovetail guard")
    assert lab.ask(inside, "127.0.0.1", 5432, lab.here, listen=5432, bind="127.0.0.1"), (
        "the guard was not needed"
    )


@by_commands_too
def test_applying_the_ruleset_again_replaces_it(lab: Lab) -> None:
    lab.network()
    lab.kernel.nft_apply(RULESET)
    lab.carry_out()

    tables = [entry for entry in lab.host.nft("list", "ruleset") if "table" in entry]
    assert len(tables) == 1
    assert not [e for e in lab.host.nft("list", "set", "inet", "dovetail", "bridges") if "elem" in str(e)]


@by_commands_too
def test_sctp_ports_fit_the_maps(lab: Lab) -> None:
    lab.container(lab.network(), 2, published(protocol="sctp"))

    assert "sctp . 8080 : 10.88.1.2 . 80" in lab.host.run(
        "nft", "list", "map", "inet", "dovetail", "publish4"
    )


@both
def test_frames_that_the_bridge_hands_to_the_firewall_pass_within_a_network(lab: Lab, version: int) -> None:
    lab.hand_frames_to_firewall(on=True)
    network = lab.network()
    one, other = lab.container(network, 2, published()), lab.container(network, 3)

    assert lab.ask(one, at(1, 3, version), 80, other) == at(1, 2, version)
    assert lab.ask(other, HOST[version], 8080, one) == GATEWAY[version]
