"""What a verb is recorded as does the same: the commands are run, and the two hosts are alike for ``ip`` and ``bridge``."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Kernel, LinkSpec, Macvlan, Netns, Rule, Tap
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac

pytestmark = pytest.mark.root

TOWN, BOX = "/run/town", "/run/netns/box"  # the first `ip netns add` mounts over what is in its directory


def mac(last: int) -> Mac:
    return Mac(f"02:00:5e:10:00:{last:02x}")


def route(destination: str, gateway: str = "", **more: Any) -> Route:
    via = ipaddress.ip_address(gateway) if gateway else None
    return Route(destination=ipaddress.ip_network(destination), gateway=via, **more)


def routed(kernel: Kernel, box: Netns) -> None:
    kernel.add_bridge("br0", mac=mac(1))
    kernel.set_link("br0", up=True)
    for text in ("10.0.0.1/24", "fd00::1/64"):
        kernel.add_address("br0", ipaddress.ip_interface(text))
    kernel.add_route("br0", route("10.9.0.0/16", "10.0.0.2", mtu=1300, advmss=1200, priority=7, table=1000))
    kernel.add_route("br0", route("fd09::/64", "fd00::2", mtu=1300))
    kernel.add_route("br0", route("fd09::/64", "fd00::3", mtu=1300), append=True)
    kernel.add_route("br0", route("10.8.0.0/16", "fd00::2"))
    kernel.add_route("br0", route("10.7.0.0/16", scope=254), source=ipaddress.ip_address("10.0.0.1"))
    kernel.add_route("br0", route("10.6.0.0/16", priority=5))
    kernel.add_route("br0", route("10.6.0.0/16", priority=6))
    kernel.delete_route("br0", route("10.6.0.0/16", priority=6))
    kernel.add_rule(Rule(4, ipaddress.ip_network("10.0.0.1/32"), table=1000))
    kernel.add_rule(Rule(6, destination=ipaddress.ip_network("fd09::/64"), iif="lo", table=100, priority=9))
    kernel.add_rule(Rule(4, table=77))
    kernel.delete_rule(Rule(4, table=77))


def moved(kernel: Kernel, box: Netns) -> None:
    kernel.add_veth(LinkSpec("v0", mac(1), alias="text"), LinkSpec("v1", mac(2)))
    kernel.add_veth(LinkSpec("w0", mac(3)), LinkSpec("w1", mac(4)))
    kernel.move_link("v0", box, new_name="eth0", alias="v0")
    kernel.move_link("w0", box)
    kernel.rename_link("v1", "wire")
    kernel.set_link("wire", promisc=True, allmulti=True, txqueuelen=77, mtu=1400, up=True)
    kernel.set_link("w1", promisc=True)
    kernel.set_link("w1", promisc=False)
    with kernel.inside(box) as inner:
        inner.set_link("eth0", up=True)
        inner.set_link("w0", alias="x")
        inner.set_link("w0", alias="")


def born(kernel: Kernel, box: Netns) -> None:
    kernel.add_veth(LinkSpec("up0", mac(1), up=True), LinkSpec("up1", mac(2), up=True))
    kernel.add_link(LinkSpec("m0", mac(3)), Macvlan("private", 500), parent="up0")
    kernel.add_link(LinkSpec("eth0", mac(4), 1300, netns=box, up=True), Macvlan(), parent="up0")
    kernel.add_link(LinkSpec("tap0", mac(5)), Tap())
    kernel.add_link(
        LinkSpec("tap1", mac(6), 1400, netns=box, alias="a", up=True),
        Tap(multi_queue=True, owner=0, group=1000),
    )
    kernel.add_bridge("br0", mac=mac(7))
    kernel.add_link(LinkSpec("tap2", mac(8), master="br0", hairpin=True, isolated=True), Tap())
    kernel.set_bridge_port("tap2", isolated=False)


SCENES = [routed, moved, born]
BY_CHANCE = {"ifindex", "link_index", "link_netnsid", "bridge_id", "root_id", "valid_life_time"}
BY_CHANCE |= {"hello_timer", "tcn_timer", "gc_timer", "topology_change_timer"}
BY_CHANCE |= {"operstate", "state", "tentative"}  # a carrier is noticed a moment later


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__)
def test_the_commands_do_the_same(
    host: Any, kernel: LinuxKernel, scene: Callable[[Kernel, Netns], None]
) -> None:
    recording = RecordingKernel()
    scene(recording, recording.create_netns(BOX))
    with town(kernel):
        host.run("nsenter", f"--net={TOWN}", "sh", "-ec", "\n".join(recording.commands))
        theirs = seen(host)

    with town(kernel) as inner, inner.create_netns(BOX) as box:
        scene(inner, box)
        ours = seen(host)

    assert ours == theirs
    assert set(host.links()) == {"lo"}


@contextmanager
def town(kernel: LinuxKernel) -> Iterator[Kernel]:
    """Make a namespace that plays the host, with room for a box of its own."""
    try:
        with kernel.create_netns(TOWN) as netns, kernel.inside(netns) as inner:
            yield inner
    finally:
        kernel.delete_netns(BOX)
        kernel.delete_netns(TOWN)


def seen(host: Any) -> dict[str, Any]:
    """Give what ``ip`` and ``bridge`` say of the town and the box, without what differs by chance."""
    ports = host.run("nsenter", f"--net={TOWN}", "bridge", "-j", "-d", "link")
    said: dict[str, Any] = {"ports": json.loads(ports)}
    for netns in (TOWN, BOX):
        for words in ("addr", "rule", "-6 rule", "-4 route show table all", "-6 route show table all"):
            said[f"{netns} {words}"] = host.ip(*words.split(), netns=netns)
    return without(said, BY_CHANCE)


def without(value: Any, names: set[str]) -> Any:
    match value:
        case dict():
            return {key: without(one, names) for key, one in value.items() if key not in names}
        case list():
            return [without(one, names) for one in value if not in_its_own_time(one)]
        case _:
            return value


def in_its_own_time(row: object) -> bool:
    """Say whether it comes or goes with a carrier: a flag, or a link-local address and its routes."""
    if isinstance(row, dict):
        return str(row.get("local") or row.get("dst")).startswith(("fe80", "ff00"))
    return row in {"NO-CARRIER", "LOWER_UP", "M-DOWN", "linkdown"}
