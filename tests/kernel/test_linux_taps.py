"""Tap devices of `LinuxKernel`, seen by ``ip`` and by the process at their other end."""

from __future__ import annotations

import fcntl
import os
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, InvalidArgument, KernelError, NotFound, PermissionDenied
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import LinkSpec, Netns, Tap
from dovetail.model.mac import Mac

pytestmark = pytest.mark.root

MAC = Mac("02:00:5e:10:00:01")


@pytest.fixture(autouse=True)
def _device() -> None:
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("this kernel has no CONFIG_TUN, or /dev/net/tun is missing")


def tun_data(link: Any) -> Any:
    assert link["linkinfo"]["info_kind"] == "tun"
    return link["linkinfo"]["info_data"]


def test_a_tap_is_as_ip_tuntap_makes_it(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_link(LinkSpec("ours0"), Tap())
    host.run("ip", "tuntap", "add", "dev", "theirs0", "mode", "tap")
    kernel.add_link(LinkSpec("ours1"), Tap(multi_queue=True, owner=0, group=1000))
    host.run(
        *["ip", "tuntap", "add", "dev", "theirs1", "mode", "tap", "multi_queue", "user", "0", "group", "1000"]
    )

    links = host.links()
    assert tun_data(links["ours0"]) == tun_data(links["theirs0"])
    assert tun_data(links["ours1"]) == tun_data(links["theirs1"])
    assert (tun_data(links["ours0"])["type"], tun_data(links["ours0"])["persist"]) == ("tap", True)
    assert links["ours0"]["flags"] == links["theirs0"]["flags"]
    found = {link.name: (link.kind, link.settings) for link in kernel.links()}
    assert found["ours0"] == found["theirs0"] == ("tun", Tap())
    kernel.add_link(LinkSpec("ours2"), Tap(owner=0xFFFFFFFE))
    assert tun_data(host.links()["ours2"])["user"] == 0xFFFFFFFE
    assert found["ours1"] == found["theirs1"] == ("tun", Tap(multi_queue=True, owner=0, group=1000))


def test_a_tap_is_born_configured_in_a_sandbox(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with kernel.inside(box) as inner:
        inner.add_bridge("br0")

    spec = LinkSpec("eth0", MAC, 1400, netns=box, master="br0", hairpin=True, alias="text", up=True)
    kernel.add_link(spec, Tap())

    link = host.links(box.path)["eth0"]
    assert (link["address"], link["mtu"], link["master"], link["ifalias"]) == (MAC, 1400, "br0", "text")
    assert link["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert "UP" in link["flags"]
    assert set(host.links()) == {"lo"}


@pytest.fixture
def opened(host: Any) -> Iterator[Any]:
    descriptors: list[int] = []

    def attach(name: str, flags: int) -> int:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        descriptors.append(fd)
        fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", name.encode(), flags))  # TUNSETIFF
        return fd

    yield attach
    for fd in descriptors:
        os.close(fd)


def test_a_process_gets_the_frames_of_a_tap(host: Any, kernel: LinuxKernel, opened: Any) -> None:
    kernel.add_link(LinkSpec("tap0", MAC, up=True), Tap())

    opened("tap0", 0x1002)  # IFF_TAP | IFF_NO_PI

    deadline = time.monotonic() + 10
    while host.links()["tap0"]["operstate"] != "UP":
        assert time.monotonic() < deadline, host.links()["tap0"]


def test_a_tap_of_several_queues_is_opened_as_often(kernel: LinuxKernel, opened: Any) -> None:
    kernel.add_link(LinkSpec("many", up=True), Tap(multi_queue=True))
    kernel.add_link(LinkSpec("one", up=True), Tap())

    opened("many", 0x1102)  # and IFF_MULTI_QUEUE
    opened("many", 0x1102)
    opened("one", 0x1002)
    with pytest.raises(OSError):
        opened("one", 0x1002)


def test_a_tap_goes_as_any_link_and_is_made_at_its_place_in_a_train(
    host: Any, kernel: LinuxKernel, box: Netns
) -> None:
    with kernel.batch():
        kernel.add_bridge("br0")
        kernel.add_link(LinkSpec("tap0", master="br0"), Tap())
        kernel.set_link("tap0", mtu=1300)

    assert (host.links()["tap0"]["master"], host.links()["tap0"]["mtu"]) == ("br0", 1300)

    kernel.delete_links(["tap0"])

    assert set(host.links()) == {"lo", "br0"}


def test_what_cannot_be_made_leaves_nothing(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    kernel.add_bridge("br0")

    with pytest.raises(AlreadyExists, match="'br0'"):
        kernel.add_link(LinkSpec("br0"), Tap())
    with pytest.raises(NotFound, match="no-bridge"):
        kernel.add_link(LinkSpec("tap0", netns=box, master="no-bridge"), Tap())
    with pytest.raises(KernelError, match="ip tuntap add dev tap0 mode tap"):
        kernel.add_link(LinkSpec("tap0"), Tap(owner=0xFFFFFFFF))
    with pytest.raises(InvalidArgument, match="sixteen-letters-"):
        kernel.add_link(LinkSpec("sixteen-letters-"), Tap())
    with pytest.raises(KernelError, match="mtu"):
        kernel.add_link(LinkSpec("tap0", mtu=70000), Tap())

    assert set(host.links()) == {"lo", "br0"}
    assert set(host.links(box.path)) == {"lo"}


def test_without_privilege_it_is_denied(host: Any, kernel: LinuxKernel) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            LinuxKernel().add_link(LinkSpec("tap0"), Tap())
        except PermissionDenied:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
