"""The keeper of leases, its interfaces and servers played by the test; the thread is real."""

from __future__ import annotations

import os
import threading
import time as real_time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from dovetail.errors import Busy, InvalidArgument, KernelError, NamespaceGone, NotFound
from dovetail.ipam.dhcp import options as o
from dovetail.ipam.dhcp.leases import Event, Leases
from dovetail.ipam.dhcp.machine import Datagram
from dovetail.ipam.dhcp.message import DISCOVER, RELEASE, REQUEST, decode
from dovetail.ipam.dhcp.message6 import RELEASE6, decode6
from dovetail.model.codec import decode as read
from dovetail.model.codec import encode as write

RAPID = ((14, b""),)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = real_time.monotonic() + 10
    while not condition():
        assert real_time.monotonic() < deadline, "not in time"
        real_time.sleep(0.002)


class Namespace:
    """A namespace, known by its path."""

    def __init__(self, path: str, inode: int) -> None:
        self.path, self.inode = path, inode
        self.closed = False

    def fileno(self) -> int:
        return -1

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> Namespace:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PortOfATest:
    """An interface with a server behind it, which answers at once or not at all."""

    mtu = 1500

    def __init__(self, network: Network, version: int, mac: bytes) -> None:
        self.network, self.version, self.mac = network, version, mac
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._arrived: deque[Datagram] = deque()
        self.closed = False

    def fileno(self) -> int:
        return self._event

    def send(self, datagram: Datagram) -> bool:
        if self.network.refuse is not None:
            raise self.network.refuse
        self.network.sent.append((self.version, datagram.payload))
        for answer in self.network.answers(self.version, datagram.payload):
            self._arrived.append(answer)
            os.eventfd_write(self._event, 1)
        return True

    def receive(self) -> Iterator[Datagram]:
        if self._arrived:
            os.eventfd_read(self._event)
        while self._arrived:
            yield self._arrived.popleft()

    def close(self) -> None:
        self.closed = True
        os.close(self._event)


class Network:
    """All interfaces and namespaces. silent: families whose server does not answer."""

    def __init__(self, server: Any, server6: Any) -> None:
        self.server, self.server6 = server, server6
        self.silent: set[int] = set()
        self.refuse: Exception | None = None
        self.sent: list[tuple[int, bytes]] = []
        self.namespaces: dict[str, int] = {}
        self.missing: Exception | None = None
        self.opened: list[PortOfATest] = []
        self.threads: set[str] = set()
        self.given = 50
        self.addresses: dict[bytes, int] = {}

    # what the keeper calls

    def open_netns(self, path: str) -> Namespace:
        if path not in self.namespaces:
            raise self.missing or NamespaceGone(f"network namespace {path} does not exist")
        return Namespace(path, self.namespaces[path])

    def duplicate(self, netns: Namespace) -> Namespace:
        self.kept = Namespace(netns.path, netns.inode)
        return self.kept

    def open(self, netns: Namespace, ifname: str, *, version: int, up: bool) -> PortOfATest:
        if ifname == "none":
            raise NotFound("link", ifname)
        self.threads.add(threading.current_thread().name)
        port = PortOfATest(self, version, bytes.fromhex("02005e10") + netns.inode.to_bytes(2, "big"))
        self.opened.append(port)
        return port

    # the servers

    def answers(self, version: int, payload: bytes) -> list[Datagram]:
        if version in self.silent:
            return []
        if version == 6:
            return [self.server6.answer(decode6(payload), more=RAPID)]
        message = decode(payload)
        client = message.options[o.CLIENT_ID]
        if client not in self.addresses:
            self.addresses[client] = self.given = self.given + 1
        self.server.given = type(self.server.given)(f"10.0.0.{self.addresses[client]}")
        if message.kind == DISCOVER:
            return [self.server.offer(message)]
        return [self.server.ack(message)] if message.kind == REQUEST else []

    # what tests ask

    def netns(self, name: str) -> Namespace:
        path = f"/run/netns/{name}"
        self.namespaces.setdefault(path, 100 + len(self.namespaces))
        return Namespace(path, self.namespaces[path])

    def kinds(self, version: int = 4) -> list[int]:
        return [decode(p).kind if v == 4 else decode6(p).kind for v, p in self.sent if v == version]

    @property
    def open_ports(self) -> int:
        return sum(not port.closed for port in self.opened)


@pytest.fixture
def network(server, server6) -> Network:
    return Network(server, server6)


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def make_leases(network, time, events) -> Iterator[Callable[[], Leases]]:
    made: list[Leases] = []

    def make() -> Leases:
        made.append(Leases(events.append, ports=network, clock=time.clock()))
        return made[-1]

    yield make
    for leases in made:
        leases.close()


@pytest.fixture
def leases(make_leases) -> Leases:
    return make_leases()


def test_a_lease_is_got_and_its_socket_is_closed(leases, network, make_request, events) -> None:
    held = leases.acquire(make_request(), network.netns("a"))

    assert str(held.v4.address) == "10.0.0.51/24"
    assert (held.v6, held.netns, held.netns_inode) == (None, "/run/netns/a", 100)
    assert leases.get("c1/net/eth0") == held
    assert leases.held() == [held]
    assert network.kinds() == [DISCOVER, REQUEST]
    wait_for(lambda: network.open_ports == 0)
    assert events == []


def test_both_families_are_got_together(leases, network, make_request) -> None:
    held = leases.acquire(make_request(ipv6=True), network.netns("a"))

    assert [str(lease.address) for lease in held.leases] == ["10.0.0.51/24", "fd00::50/128"]


def test_what_is_held_can_be_stored(leases, network, make_request) -> None:
    held = leases.acquire(make_request(ipv6=True, provide={12: b"\0web"}, priority=7), network.netns("a"))

    assert read(write(held), type(held)) == held


def test_asking_again_for_what_is_held_asks_no_server(leases, network, make_request) -> None:
    first = leases.acquire(make_request(), network.netns("a"))
    network.sent.clear()

    assert leases.acquire(make_request(), network.netns("a")) == first
    assert network.sent == []


def test_a_container_of_the_same_name_in_another_namespace_asks_anew(leases, network, make_request) -> None:
    first = leases.acquire(make_request(), network.netns("a"))

    second = leases.acquire(make_request(), network.netns("b"))

    assert second.netns == "/run/netns/b"
    assert second.v4.address == first.v4.address
    assert leases.held() == [second]


def test_many_leases_are_held_by_one_thread(leases, network, make_request) -> None:
    before = threading.active_count()
    for number in range(50):
        leases.acquire(make_request(container=f"c{number}"), network.netns(f"n{number}"))

    assert len({held.v4.address for held in leases.held()}) == 50
    assert threading.active_count() == before + 1
    assert network.threads == {"dhcp"}


def test_many_threads_ask_at_once(leases, network, make_request) -> None:
    results: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda n=n: results.append(
                leases.acquire(make_request(container=f"c{n % 8}"), network.netns(f"n{n % 8}"))
            )
        )
        for n in range(32)
    ]
    for number in range(8):
        network.netns(f"n{number}")
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(results) == 32
    assert len(leases.held()) == 8


def test_no_answer_is_an_error_in_time_that_says_what_to_look_at(leases, network, make_request) -> None:
    network.silent = {4}

    with pytest.raises(Busy, match="no DHCP server gave eth0 a lease within 0.05 s") as caught:
        leases.acquire(make_request(), network.netns("a"), deadline_s=0.05)

    assert "see that a DHCP server is on the network" in caught.value.hint
    assert leases.held() == []
    wait_for(lambda: network.open_ports == 0)


def test_answers_of_no_use_are_in_the_error(leases, network, make_request) -> None:
    network.server.options[o.LEASE_TIME] = bytes(4)

    with pytest.raises(Busy, match="within 0.05 s: the answer of 10.0.0.1 cannot be used: a lease of 0 s"):
        leases.acquire(make_request(), network.netns("a"), deadline_s=0.05)


def test_where_one_family_is_missing_the_other_is_given_back(leases, network, make_request) -> None:
    network.silent = {6}

    with pytest.raises(Busy, match="no DHCPv6 server gave eth0 a lease"):
        leases.acquire(make_request(ipv6=True), network.netns("a"), deadline_s=0.05)

    wait_for(lambda: network.kinds()[-1] == RELEASE)
    assert leases.held() == []
    wait_for(lambda: network.open_ports == 0)


def test_an_interface_that_is_not_there_is_said_at_once(leases, network, make_request) -> None:
    with pytest.raises(NotFound, match="no such link: 'none'"):
        leases.acquire(make_request(ifname="none"), network.netns("a"))

    assert leases.held() == []


def test_a_socket_that_refuses_is_said_at_once(leases, network, make_request) -> None:
    network.refuse = KernelError("DHCP cannot use eth0: no", 22)

    with pytest.raises(KernelError, match="DHCP cannot use eth0"):
        leases.acquire(make_request(), network.netns("a"))


def test_a_lease_is_renewed_in_time_and_told(leases, network, make_request, time, events) -> None:
    held = leases.acquire(make_request(), network.netns("a"))

    time.go(1800)
    leases.wake()
    wait_for(lambda: events)

    (event,) = events
    assert (event.kind, event.before) == ("renewed", held)
    assert event.held.v4.obtained_at == held.v4.obtained_at + 1800
    assert leases.held() == [event.held]
    assert network.kinds() == [DISCOVER, REQUEST, REQUEST]
    assert network.open_ports == 0


def test_a_renewal_with_other_routes_is_a_change(leases, network, make_request, time, events) -> None:
    leases.acquire(make_request(), network.netns("a"))
    network.server.options[o.ROUTERS] = bytes((10, 0, 0, 9))

    time.go(1800)
    leases.wake()
    wait_for(lambda: events)

    assert events[0].kind == "changed"
    assert str(events[0].held.v4.default_gateway) == "10.0.0.9"


def test_a_lease_that_runs_out_is_told_and_comes_back(leases, network, make_request, time, events) -> None:
    held = leases.acquire(make_request(), network.netns("a"))
    network.silent = {4}
    time.go(3600)
    leases.wake()
    wait_for(lambda: events)
    assert (events[0].kind, events[0].held.v4, events[0].before) == ("lost", None, held)
    assert leases.get(held.key) == events[0].held

    network.silent = set()
    time.go(100)
    leases.wake()
    wait_for(lambda: len(events) == 2)

    assert events[1].kind == "changed"
    assert events[1].held.v4.address == held.v4.address


def test_a_container_that_has_gone_ends_its_lease(leases, network, make_request, time, events) -> None:
    held = leases.acquire(make_request(), network.netns("a"))
    del network.namespaces["/run/netns/a"]

    time.go(1800)
    leases.wake()
    wait_for(lambda: events)

    assert events == [Event("gone", held, held)]
    assert leases.held() == []


def test_another_namespace_at_the_same_path_is_not_the_container(
    leases, network, make_request, time, events
) -> None:
    leases.acquire(make_request(), network.netns("a"))
    network.namespaces["/run/netns/a"] = 999

    time.go(1800)
    leases.wake()
    wait_for(lambda: events)

    assert events[0].kind == "gone"
    assert network.kinds() == [DISCOVER, REQUEST]


def test_a_path_that_cannot_be_looked_at_does_not_end_the_lease(
    leases, network, make_request, time, events
) -> None:
    held = leases.acquire(make_request(), network.netns("a"))
    network.missing = InvalidArgument("the directory is missing")
    inode = network.namespaces.pop("/run/netns/a")
    time.go(1800)
    leases.wake()
    leases.restore([])  # the thread has looked when it has done this
    assert events == []

    network.namespaces["/run/netns/a"] = inode
    time.go(61)
    leases.wake()
    wait_for(lambda: events)

    assert events[0].kind == "renewed"
    assert leases.get(held.key) is not None


@pytest.mark.parametrize("path", ["", "/proc/self/fd/7", "relative"])
def test_a_namespace_without_a_path_of_its_own_is_kept_open_until_release(
    leases, network, make_request, time, events, path
) -> None:
    held = leases.acquire(make_request(), Namespace(path, 5))
    time.go(1800)
    leases.wake()
    wait_for(lambda: events)
    assert events[0].kind == "renewed"
    assert not network.kept.closed

    leases.release(held.key)

    assert network.kept.closed


def test_release_tells_the_servers_and_forgets(leases, network, make_request, events) -> None:
    held = leases.acquire(make_request(ipv6=True), network.netns("a"))

    leases.release(held.key)

    assert network.kinds()[-1] == RELEASE
    assert network.kinds(6)[-1] == RELEASE6
    assert leases.held() == []
    assert events == []
    assert network.open_ports == 0


def test_release_of_what_is_not_held_is_no_error(leases) -> None:
    leases.release("a/b/c")


def test_release_of_a_container_that_has_gone_is_no_error(leases, network, make_request, events) -> None:
    held = leases.acquire(make_request(), network.netns("a"))
    network.namespaces.clear()

    leases.release(held.key)

    assert leases.held() == []
    assert events == []


def test_release_while_it_is_asked_for_ends_the_asking(leases, network, make_request) -> None:
    network.silent = {4}
    outcome: list[Exception] = []

    def ask() -> None:
        try:
            leases.acquire(make_request(), network.netns("a"))
        except Busy as exc:
            outcome.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    wait_for(lambda: network.kinds() == [DISCOVER])
    leases.release("c1/net/eth0")
    thread.join(10)

    assert "was released while it was asked for" in str(outcome[0])


def test_a_restart_loses_no_lease(make_leases, network, make_request, time, events) -> None:
    first = make_leases()
    held = [
        first.acquire(make_request(container=f"c{n}", ipv6=True), network.netns(f"n{n}")) for n in range(3)
    ]
    first.close()
    network.sent.clear()
    stored = [read(write(one), type(one)) for one in held]
    time.go(900)
    second = make_leases()

    second.restore(stored)
    assert second.held() == held
    assert network.sent == []
    time.go(900)
    second.wake()
    wait_for(lambda: len(events) == 6)

    assert {event.kind for event in events} == {"renewed"}


def test_leases_that_ran_out_during_the_restart_are_lost(
    make_leases, network, make_request, time, events
) -> None:
    first = make_leases()
    held = first.acquire(make_request(), network.netns("a"))
    first.close()
    time.go(4000)

    second = make_leases()
    second.restore([held])
    wait_for(lambda: len(events) == 2)

    assert [event.kind for event in events] == ["lost", "changed"]
    assert second.get(held.key).v4.address == held.v4.address


def test_a_family_that_was_lost_before_the_restart_is_asked_for_again(
    make_leases, network, make_request, events
) -> None:
    first = make_leases()
    held = first.acquire(make_request(ipv6=True), network.netns("a"))
    first.close()

    second = make_leases()
    second.restore([msgspec.structs.replace(held, v6=None)])
    wait_for(lambda: events)

    assert events[0].held.v6.address == held.v6.address


def test_an_owner_who_fails_to_store_does_not_end_the_renewals(network, make_request, time) -> None:
    def fail(event: Event) -> None:
        raise OSError("disk full")

    leases = Leases(fail, ports=network, clock=time.clock())
    held = leases.acquire(make_request(), network.netns("a"))
    for _ in range(2):
        sent = len(network.sent)
        time.go(1800)
        leases.wake()
        wait_for(lambda sent=sent: len(network.sent) > sent)

    wait_for(lambda: leases.get(held.key).v4.obtained_at == held.v4.obtained_at + 3600)
    leases.close()


def test_a_socket_that_refuses_at_renewal_is_tried_again(leases, network, make_request, time, events) -> None:
    leases.acquire(make_request(), network.netns("a"))
    network.refuse = KernelError("DHCP cannot use eth0: no", 22)
    time.go(1800)
    leases.wake()
    leases.restore([])

    network.refuse = None
    time.go(61)
    leases.wake()
    wait_for(lambda: events)

    assert events[0].kind == "renewed"


def test_closing_releases_nothing_and_ends_the_thread(make_leases, network, make_request) -> None:
    leases = make_leases()
    leases.acquire(make_request(), network.netns("a"))

    leases.close()
    leases.close()

    assert RELEASE not in network.kinds()
    assert "dhcp" not in {thread.name for thread in threading.enumerate()}
    with pytest.raises(Busy, match="has stopped"):
        leases.acquire(make_request(), network.netns("a"))
