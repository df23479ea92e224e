"""Attributes of links, new names, and moves between namespaces, seen by ``ip``."""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, InvalidArgument, KernelError, NotFound
from dovetail.kernel.devices import DeviceSelector, find_device
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Kernel, LinkSpec, Netns
from dovetail.model.mac import Mac

pytestmark = pytest.mark.root


def flags(host: Any, name: str) -> set[str]:
    return set(host.links()[name]["flags"])


def test_flags_and_queue_length_change_alone_and_read_back(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_veth(LinkSpec("v0"), LinkSpec("v1"))

    kernel.set_link("v0", promisc=True, txqueuelen=77)
    kernel.set_link("v0", allmulti=True, up=True)

    assert flags(host, "v0") >= {"PROMISC", "ALLMULTI", "UP"}
    assert host.links()["v0"]["txqlen"] == 77
    link = kernel.link("v0")
    assert link is not None
    assert (link.promisc, link.allmulti, link.txqueuelen, link.up) == (True, True, 77, True)

    kernel.set_link("v0", promisc=False, allmulti=False)

    assert not flags(host, "v0") & {"PROMISC", "ALLMULTI"}
    link = kernel.link("v0")
    assert link is not None
    assert (link.promisc, link.allmulti, link.txqueuelen, link.up) == (False, False, 77, True)


def test_what_a_bridge_makes_of_its_port_is_not_taken_for_what_was_asked(
    host: Any, kernel: LinuxKernel
) -> None:
    kernel.add_bridge("br0")
    kernel.add_veth(LinkSpec("v0", master="br0", up=True), LinkSpec("v1", up=True))

    link = kernel.link("v0")

    assert host.links()["v0"]["promiscuity"] == 1
    assert link is not None
    assert link.promisc is False


def test_a_bridge_may_take_all_frames(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")

    kernel.set_link("br0", promisc=True)

    assert "PROMISC" in flags(host, "br0")


def test_a_link_says_how_it_is_and_where_its_peer_is(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_veth(LinkSpec("v0", up=True), LinkSpec("v1"))
    kernel.add_veth(LinkSpec("w0", up=True), LinkSpec("w1", netns=box, up=True))

    deadline = time.monotonic() + 10
    while True:  # a carrier is noticed a moment later
        found, seen = {link.name: link for link in kernel.links()}, host.links()
        states = {name: link.operstate for name, link in found.items()}
        if states == {"lo": "unknown", "v0": "lowerlayerdown", "v1": "down", "w0": "up"}:
            break
        assert time.monotonic() < deadline, states
    assert states == {name: link["operstate"].lower() for name, link in seen.items()}
    assert (found["v0"].netnsid, found["w0"].netnsid) == (-1, seen["w0"]["link_netnsid"])


def test_a_link_gets_another_name_and_keeps_the_rest(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_veth(LinkSpec("v0", alias="text"), LinkSpec("v1"))
    kernel.add_address("v0", ipaddress.ip_interface("10.0.0.1/24"))
    before = host.links()["v0"]

    kernel.rename_link("v0", "new")

    after = host.links()
    assert "v0" not in after
    assert after["new"] == {**before, "ifname": "new"}
    assert kernel.addresses("new") == [("new", ipaddress.ip_interface("10.0.0.1/24"))]
    with pytest.raises(AlreadyExists, match="'v1'"):
        kernel.rename_link("new", "v1")
    with pytest.raises(NotFound, match="'v0'"):
        kernel.rename_link("v0", "v2")


@pytest.mark.parametrize("new_name", ["", "eth0"])
def test_a_link_goes_to_a_sandbox_and_comes_back(
    host: Any, kernel: LinuxKernel, box: Netns, new_name: str
) -> None:
    kernel.add_veth(LinkSpec("card0", up=True), LinkSpec("wire0"))
    inside = new_name or "card0"

    kernel.move_link("card0", box, new_name=new_name, alias="card0")

    assert "card0" not in host.links()
    link = host.links(box.path)[inside]
    assert (link["ifalias"], "UP" in link["flags"]) == ("card0", False)

    kernel.take_link(inside, box, new_name="card0", alias="")

    assert set(host.links(box.path)) == {"lo"}
    assert "ifalias" not in host.links()["card0"]


def test_a_sandbox_sends_a_link_itself(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with kernel.open_netns("/proc/thread-self/ns/net") as home, kernel.inside(box) as inner:
        inner.add_veth(LinkSpec("eth0"), LinkSpec("eth1"))
        inner.move_link("eth0", home, new_name="v0")

    assert host.links()["v0"]["link_index"] == host.links(box.path)["eth1"]["ifindex"]


def test_the_old_name_may_be_taken_where_a_link_goes(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_veth(LinkSpec("eth0"), LinkSpec("eth1"))
    with kernel.inside(box) as inner:
        inner.add_bridge("eth0")

    kernel.move_link("eth0", box, new_name="eth5")

    assert set(host.links(box.path)) == {"lo", "eth0", "eth5"}
    assert host.links(box.path)["eth0"]["linkinfo"]["info_kind"] == "bridge"


def test_a_link_whose_new_name_is_taken_stays(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_veth(
        LinkSpec("card0"), LinkSpec("card1")
    )  # down: the state of one that is up settles a moment later
    with kernel.inside(box) as inner:
        inner.add_bridge("eth0")
    before = host.links()["card0"]

    with pytest.raises(AlreadyExists, match=rf"'eth0' already exists \(in {box.path}; choose another"):
        kernel.move_link("card0", box, new_name="eth0")

    assert host.links()["card0"] == before
    with pytest.raises(AlreadyExists, match="'card1'"):
        kernel.take_link("eth0", box, new_name="card1")


def test_a_link_that_lost_the_race_for_its_name_is_fetched_back(
    host: Any, kernel: LinuxKernel, box: Netns, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel.add_veth(LinkSpec("card0"), LinkSpec("card1"))
    with kernel.inside(box) as inner:
        inner.add_bridge("eth0")
    monkeypatch.setattr("dovetail.kernel.linux_moving._there", lambda netns, name: False)

    with pytest.raises(AlreadyExists, match="'eth0'"):
        kernel.move_link("card0", box, new_name="eth0")

    assert set(host.links()) == {"lo", "card0", "card1"}
    assert set(host.links(box.path)) == {"lo", "eth0"}


@pytest.mark.parametrize(
    ("act", "kind", "text"),
    [
        (lambda k, box: k.move_link("no", box), NotFound, "'no'"),
        (lambda k, box: k.take_link("no", box), NotFound, "'no'"),
        (lambda k, box: k.move_link("lo", box, new_name="x"), KernelError, "ip link set dev lo netns .* name x"),
    ],
)  # fmt: skip
def test_what_cannot_move_is_named(
    kernel: LinuxKernel, box: Netns, act: Callable[[Kernel, Netns], None], kind: type[Exception], text: str
) -> None:
    with pytest.raises(kind, match=text):
        act(kernel, box)


def test_moves_are_part_of_a_train(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with kernel.batch():
        kernel.add_veth(LinkSpec("card0"), LinkSpec("card1"))
        kernel.move_link("card0", box, new_name="eth0")
        kernel.rename_link("card1", "wire")
    with kernel.batch():
        kernel.take_link("eth0", box, new_name="back")
        kernel.set_link("back", up=True)

    assert "UP" in host.links()["back"]["flags"]
    assert set(host.links()) == {"lo", "wire", "back"}


# -- announcements --------------------------------------------------------------------------------


def test_a_link_that_is_told_to_announces_its_addresses_when_it_comes_up(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    kernel.add_veth(LinkSpec("v0", up=True), LinkSpec("eth0", netns=box))
    kernel.set_sysctl("net/ipv6/conf/v0/disable_ipv6", "1")
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as wire,  # ETH_P_ALL
        kernel.inside(box) as inner,
    ):
        wire.bind(("v0", 0))
        wire.settimeout(10)
        inner.set_sysctl("net/ipv4/conf/eth0/arp_notify", "1")
        inner.set_sysctl("net/ipv6/conf/eth0/ndisc_notify", "1")
        inner.add_address("eth0", ipaddress.ip_interface("10.0.0.2/24"))
        inner.add_address("eth0", ipaddress.ip_interface("fd00::2/64"))
        inner.set_link("eth0", up=True)

        address6 = ipaddress.ip_address("fd00::2").packed
        wanted = {
            "gratuitous ARP": lambda frame: frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42],
            "unsolicited NA": lambda frame: (
                frame[12:14] == b"\x86\xdd"
                and frame[54:55] == struct.pack("B", 136)
                and frame[62:78] == address6
            ),
        }
        while wanted:  # each is seen, or the socket's time is over
            frame = wire.recv(2000)
            wanted = {name: fits for name, fits in wanted.items() if not fits(frame)}


# -- cards ----------------------------------------------------------------------------------------


@pytest.fixture
def sysfs(host: Any, tmp_path: Path) -> Iterator[str]:
    """A sysfs of the host's namespace: it shows the interfaces of the namespace that mounted it."""
    path = tmp_path / "sys"
    path.mkdir()
    host.run("mount", "-n", "-t", "sysfs", "sysfs", str(path))
    yield str(path)
    host.run("umount", "-n", str(path))


def test_a_card_is_found_in_the_kernels_tree(kernel: LinuxKernel, box: Netns, sysfs: str) -> None:
    kernel.add_veth(LinkSpec("card0", Mac("02:00:5e:10:00:01")), LinkSpec("wire0"))

    by_path = find_device(kernel, DeviceSelector(kernel_path="/sys/devices/virtual"), sysfs=sysfs)
    by_mac = find_device(kernel, DeviceSelector(mac=Mac("02:00:5e:10:00:01")))

    assert by_path == by_mac == kernel.link("card0")
    with pytest.raises(InvalidArgument, match="leads out of"):
        find_device(
            kernel, DeviceSelector(kernel_path="/sys/devices/virtual/net/card0/subsystem"), sysfs=sysfs
        )
