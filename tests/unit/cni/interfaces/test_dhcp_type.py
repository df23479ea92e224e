"""Type ``dhcp`` behind a bridge, over a recording kernel and a keeper of leases that answers as a test has it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import msgspec
import pytest

from dovetail.errors import Busy
from dovetail.ipam import dhcp_parts
from dovetail.ipam.dhcp.lease import Held, Lease, LeaseRequest
from dovetail.ipam.dhcp.leases import Event
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Route

CONFIG = {"type": "bridge", "bridge": "br0", "ipMasq": True, "ipam": {"type": "dhcp"}}
IN_CONTAINER = re.compile(r"^ip -n \S+ (addr|route) (?:add|del) (\S+)")


def lease(address: str = "10.9.0.10/24", gateway: str = "10.9.0.1", **changes: Any) -> Lease:
    default = Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address(gateway))
    given: dict[str, Any] = {
        "address": ip_interface(address),
        "gateway": ip_address(gateway),
        "routes": (default,),
        "server": gateway,
        "obtained_at": 4e9,
        "lease_s": 120.0,
        "renew_s": 60.0,
        "rebind_s": 105.0,
    }
    return Lease(**given | changes)


class Keeper:
    """Stands for the keeper of leases."""

    def __init__(self, on_event: Callable[[Event], None]) -> None:
        self.on_event = on_event
        self.asked: list[LeaseRequest] = []
        self.held: dict[str, Held] = {}
        self.released: list[str] = []
        self.closed = False
        self.answer: Lease | Exception = lease()
        self.while_asked: Callable[[], None] = lambda: None

    def acquire(self, request: LeaseRequest, netns: Netns, *, deadline_s: float) -> Held:
        self.asked.append(request)
        self.while_asked()
        if isinstance(self.answer, Exception):
            raise self.answer
        held = Held(request=request, netns=netns.path, netns_inode=netns.inode, v4=self.answer)
        self.held[held.key] = held
        return held

    def release(self, key: str) -> None:
        if self.held.pop(key, None) is not None:
            self.released.append(key)

    def restore(self, held: Iterable[Held]) -> None:
        for one in held:
            self.held.setdefault(one.key, one)

    def close(self) -> None:
        self.closed = True

    def tell(self, kind: Any, **changes: Any) -> None:
        """Let something become of what is held."""
        ((key, before),) = self.held.items()
        now = msgspec.structs.replace(before, **changes)
        self.held = {} if kind == "gone" else {key: now}
        self.on_event(Event(kind, now, before))


@pytest.fixture
def keeper(plugins: Any, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    """Put it in place of the real one."""
    monkeypatch.setattr(dhcp_parts, "Leases", Keeper)
    found: Keeper = plugins.engine.core.part_kind("dhcp")._leases()
    return found


def given(plugins: Any) -> list[str]:
    """Give what was done to addresses and routes of the container, and forget all commands."""
    done = []
    for command in plugins.kernel.commands:
        found = IN_CONTAINER.match(command)
        if found is not None:
            done.append(f"{found[1]} {'-' if ' del ' in command else '+'}{found[2]}")
    plugins.kernel.commands.clear()
    return done


def leaving(plugins: Any) -> list[str]:
    return [e.text for e in plugins.kernel.nft_elements() if e.set == "leaving4"]


def followed(plugins: Any, keeper: Keeper, kind: Any, **changes: Any) -> list[str]:
    """Let something become of the lease; gives what was done, when it is."""
    taken_up = threading.Event()
    plugins.engine.tracer.add_sink(lambda step: taken_up.set() if step.name == "follow dhcp" else None)
    plugins.kernel.commands.clear()
    keeper.tell(kind, **changes)
    assert taken_up.wait(10)
    plugins.engine.tending.stop(10)
    return given(plugins)


# -- the order --------------------------------------------------------------------------------------------


def test_the_interface_is_there_and_up_when_the_server_is_asked(plugins: Any, keeper: Keeper) -> None:
    seen: list[Any] = []
    keeper.while_asked = lambda: seen.extend([plugins.link(), *given(plugins)])

    result = plugins.add(CONFIG)

    assert (seen[0].name, seen[0].up) == ("eth0", True)
    assert seen[1:] == []
    assert given(plugins) == ["addr +10.9.0.10/24", "route +default"]
    assert [ip["address"] for ip in result["ips"]] == ["10.9.0.10/24"]
    assert leaving(plugins) == ["10.9.0.10"]
    assert [(part.kind, part.status) for part in plugins.engine.parts.all()] == [
        ("bridge", "made"),
        ("dhcp", "made"),
    ]


def test_without_a_lease_nothing_is_left(plugins: Any, keeper: Keeper) -> None:
    keeper.answer = Busy("no DHCP server gave eth0 a lease within 25 s")

    status, error = plugins.call("ADD", CONFIG)

    assert (status, error["msg"]) == (1, "no DHCP server gave eth0 a lease within 25 s")
    assert plugins.link() is None
    assert plugins.engine.parts.all() == []
    assert leaving(plugins) == []


def test_a_lease_whose_address_cannot_be_given_is_given_back(plugins: Any, keeper: Keeper) -> None:
    keeper.answer = lease("10.9.0.10/24", "10.9.0.1")
    plugins.kernel.add_bridge("br0")
    plugins.kernel.add_address("br0", ip_interface("10.77.0.1/24"))

    status, error = plugins.call("ADD", {**CONFIG, "isGateway": True})

    assert (status, "already has an IP address" in error["msg"]) == (1, True)
    assert keeper.released == ["c1/pods/eth0"]
    assert plugins.engine.parts.all() == []


def test_while_the_server_is_asked_the_interface_counts_as_half_made(plugins: Any, keeper: Keeper) -> None:
    seen: list[tuple[str, str]] = []
    keeper.while_asked = lambda: seen.extend((p.kind, p.status) for p in plugins.engine.parts.all())

    plugins.add(CONFIG)

    assert seen == [("bridge", "making"), ("dhcp", "making")]


def test_del_gives_the_lease_back_before_the_interface_goes(plugins: Any, keeper: Keeper) -> None:
    plugins.add(CONFIG)
    order: list[str] = []
    release = keeper.release
    keeper.release = lambda key: (order.append(str(plugins.link() is not None)), release(key))[1]  # type: ignore[method-assign]

    assert plugins.call("DEL", CONFIG) == (0, None)
    assert plugins.call("DEL", CONFIG) == (0, None)

    assert order == ["True"]
    assert (keeper.released, plugins.link()) == (["c1/pods/eth0"], None)


def test_an_ipvlan_is_answered_by_broadcast(plugins: Any, keeper: Keeper) -> None:
    status, _ = plugins.call("ADD", {"type": "dhcp", "ipam": {"type": "dhcp"}})
    assert (status, keeper.asked[0].broadcast) == (0, False)

    from dovetail.cni.plugin import run

    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c2",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": "/run/netns/c1",
        "CNI_PATH": "/opt/cni/bin",
    }
    body = b'{"cniVersion": "1.0.0", "name": "pods", "type": "ipvlan", "ipam": {"type": "dhcp"}}'
    assert run(environment, body, lambda: plugins.engine, plugin="dhcp").status == 0
    assert keeper.asked[1].broadcast


def test_ptp_has_no_interface_to_ask_by(plugins: Any, keeper: Keeper) -> None:
    code, said = plugins.refusal({"type": "ptp", "ipam": {"type": "dhcp"}})

    assert (code, "take bridge or macvlan" in said) == (7, True)


def test_a_bad_section_is_refused_before_anything_is_made(plugins: Any, keeper: Keeper) -> None:
    status, error = plugins.call("ADD", {**CONFIG, "ipam": {"type": "dhcp", "priority": -1}})

    assert (status, error["code"], error["msg"]) == (1, 7, "$.ipam.priority: -1 is no metric")
    assert plugins.engine.parts.all() == []


# -- what becomes of leases -------------------------------------------------------------------------------


def test_a_renewal_is_written_down_and_nothing_else(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    plugins.add(CONFIG)

    assert followed(plugins, keeper, "renewed", v4=lease(obtained_at=5e9)) == []

    assert plugins.kernel.commands == []
    assert plugins.engine.parts.known("dhcp", plugins.engine.parts.all()[0].owner).v4.obtained_at == 5e9
    assert keeper.closed


def test_another_lease_takes_the_place_of_the_first(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    plugins.add(CONFIG)

    done = followed(plugins, keeper, "changed", v4=lease("10.9.0.77/24", "10.9.0.2"))

    assert done == ["route -default", "addr -10.9.0.10/24", "addr +10.9.0.77/24", "route +default"]
    assert leaving(plugins) == ["10.9.0.77"]
    bridge = plugins.engine.parts.known("bridge", plugins.engine.parts.all()[0].owner)
    assert list(map(str, bridge.attachment.addresses)) == ["10.9.0.77/24"]
    assert [str(route.gateway) for route in bridge.attachment.routes] == ["10.9.0.2"]


def test_other_routes_leave_the_address_alone(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    plugins.add(CONFIG)

    done = followed(plugins, keeper, "changed", v4=lease(gateway="10.9.0.2"))

    assert done == ["route -default", "route +default"]


def test_a_lost_lease_takes_the_address_and_comes_back(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    plugins.add(CONFIG)

    assert followed(plugins, keeper, "lost", v4=None) == ["route -default", "addr -10.9.0.10/24"]
    assert leaving(plugins) == []


def test_what_is_gone_is_forgotten(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    plugins.add(CONFIG)

    assert followed(plugins, keeper, "gone") == []

    assert [part.kind for part in plugins.engine.parts.all()] == ["bridge"]


def test_what_another_process_has_deleted_is_held_no_longer(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    plugins.add(CONFIG)
    part = plugins.engine.core.store.parts(kind="dhcp")[0]
    plugins.engine.core.store.delete_part(part.attachment, "dhcp")

    followed(plugins, keeper, "renewed", v4=lease(obtained_at=5e9))

    assert keeper.released == ["c1/pods/eth0"]
    assert plugins.engine.core.store.parts(kind="dhcp") == []


def test_news_of_a_container_that_had_the_name_before_change_nothing(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    plugins.add(CONFIG)

    assert followed(plugins, keeper, "lost", v4=None, netns_inode=1) == []

    assert leaving(plugins) == ["10.9.0.10"]


def test_a_start_goes_on_with_what_is_written_down(plugins: Any, keeper: Keeper) -> None:
    plugins.add(CONFIG)
    held = dict(keeper.held)
    keeper.held.clear()

    plugins.engine.tending.start("dhcp")

    assert keeper.held == held


def test_check_says_what_is_lost(plugins: Any, keeper: Keeper) -> None:
    plugins.engine.tending.start("dhcp")
    result = plugins.add(CONFIG)
    assert plugins.call("CHECK", {**CONFIG, "prevResult": result}) == (0, None)
    followed(plugins, keeper, "lost", v4=None)

    status, error = plugins.call("CHECK", {**CONFIG, "prevResult": result})

    assert (status, error["code"]) == (1, 105)
    assert "the DHCP lease of interface 'eth0' is lost" in error["msg"]


def test_check_says_that_nobody_renewed_a_lease(plugins: Any, keeper: Keeper) -> None:
    keeper.answer = lease(obtained_at=1e9)
    result = plugins.add(CONFIG)

    _, error = plugins.call("CHECK", {**CONFIG, "prevResult": result})

    assert "has run out, nobody renewed it" in error["msg"]
