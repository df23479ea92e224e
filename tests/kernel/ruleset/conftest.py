"""A host with networks and containers made by the code under test, and a client outside."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

import msgspec
import pytest

from dovetail.drivers.bridge import BridgeDriver
from dovetail.drivers.ptp import PtpDriver
from dovetail.features.isolation import Isolation
from dovetail.features.masquerade import Masquerade
from dovetail.features.portmap import PortMap
from dovetail.features.ruleset import RULESET
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet
from dovetail.model.port import PortMapping

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)
_FEATURES = (Isolation(), Masquerade(), PortMap())
_DRIVERS = {driver.name: driver for driver in (BridgeDriver(), PtpDriver())}
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

    def __init__(
        self, host: Any, stack: ExitStack, kernel: LinuxKernel | RecordingKernel, driver: str = "bridge"
    ) -> None:
        self.host, self._stack = host, stack
        self.kernel, self.driver = kernel, driver
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
            driver=self.driver,
            subnets=subnets,
            internal=internal,
            options=options,
        )
        network = _DRIVERS[self.driver].plan_network(self.kernel, network, "lab")
        with ExitStack() as undo:
            _DRIVERS[self.driver].create_network(self.kernel, network, "lab", undo)
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
        driver = _DRIVERS[network.driver]
        endpoint = driver.plan_endpoint(network, endpoint)
        self.kernel.nft_add_elements([e for f in _FEATURES for e in f.link_elements(network, endpoint)])
        with ExitStack() as undo:
            with self.kernel.open_netns(space.path) as netns:
                attachment = driver.join(
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
        _DRIVERS[network.driver].leave(self.kernel, endpoint)
        self.kernel.nft_delete_elements([e for f in _FEATURES for e in f.link_elements(network, endpoint)])
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

    def serve(self, space: Space, *ports: int) -> None:
        """Let somebody in `space` answer on `ports`, TCP and UDP of both families, with who asked."""
        for version, kind, port in itertools.product((4, 6), ("tcp", "udp"), ports):
            listening = space.socket(version, kind)
            if version == 6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind(("", port))
            if kind == "tcp":
                listening.listen()
            thread = threading.Thread(target=_answer, args=(listening, kind), daemon=True)
            thread.start()
            self._stack.callback(_hang_up, listening, kind, thread)

    def probe(self, client: Space, address: str, port: int, kind: str = "tcp") -> str:
        """Let `client` ask what serves at ADDRESS:PORT; gives who it seemed to be, empty where nobody answers."""
        with client.socket(ip_address(address).version, kind) as asking:
            asking.settimeout(self.patience_s)
            try:
                asking.connect((address, port))
                if kind == "udp":
                    asking.send(b"who")
                return asking.recv(64).decode()
            except OSError:
                return ""

    def probe_all(self, probes: Sequence[tuple[Space, str, int, str]], wanted: Sequence[str]) -> list[str]:
        """Probe all at once, as silence takes its time; what should have answered and did not is asked again."""
        with ThreadPoolExecutor(len(probes)) as pool, self.impatient():
            seen = list(pool.map(lambda probe: self.probe(*probe), probes))
        return [
            self.probe(*probe) if want and not got else got
            for probe, want, got in zip(probes, wanted, seen, strict=True)
        ]

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


def _answer(listening: socket.socket, kind: str) -> None:
    while True:
        try:
            if kind == "tcp":
                accepted, peer = listening.accept()
                with accepted:
                    accepted.sendall(str(peer[0]).encode())
            else:
                _, peer = listening.recvfrom(16)
                if not peer:  # hung up
                    return
                with contextlib.suppress(OSError):  # there may be no way back
                    listening.sendto(str(peer[0]).encode(), peer)
        except OSError:
            return


def _hang_up(listening: socket.socket, kind: str, thread: threading.Thread) -> None:
    with contextlib.suppress(OSError):  # an unconnected UDP socket says ENOTCONN and wakes up all the same
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)
    listening.close()


@pytest.fixture
def driver(request: pytest.FixtureRequest) -> str:
    """The driver of the networks: bridge, or what a test is parametrised with."""
    return str(getattr(request, "param", "bridge"))


@pytest.fixture
def lab(host: Any, driver: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    with ExitStack() as stack:
        if getattr(request, "param", "linux") == "commands":
            yield Lab(host, stack, RecordingKernel(), driver)
        else:
            kernel = LinuxKernel()
            stack.callback(kernel.close)
            yield Lab(host, stack, kernel, driver)
