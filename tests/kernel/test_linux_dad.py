"""Duplicate address detection of `LinuxKernel`, seen by ``ip``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.errors import AddressInUse, Busy, NotFound
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Kernel, LinkSpec, Netns

pytestmark = pytest.mark.root


@pytest.fixture
def boxes(kernel: LinuxKernel, tmp_path: Path) -> Iterator[list[Netns]]:
    """Two sandboxes on one bridge, whose ``eth0`` looks for duplicates and is down yet."""
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)
    made = []
    for number in range(2):
        box = kernel.create_netns(str(tmp_path / f"box{number}"))
        made.append(box)
        kernel.add_veth(LinkSpec(f"v{number}", master="br0", up=True), LinkSpec("eth0", netns=box))
        with kernel.inside(box) as inner:
            for key in ("enhanced_dad", "accept_dad"):
                inner.set_sysctl(f"net/ipv6/conf/eth0/{key}", "1")
    yield made
    for box in made:
        box.close()
        kernel.delete_netns(box.path)


def give(inner: Kernel, address: str, *, dad: bool = True) -> None:
    inner.add_address("eth0", ipaddress.ip_interface(address), dad=dad)
    inner.set_link("eth0", up=True)


def flags(host: Any, box: Netns, address: str) -> set[str]:
    (link,) = host.ip("addr", "show", "dev", "eth0", netns=box.path)
    (info,) = [a for a in link["addr_info"] if a["local"] == address]
    return {word for word in ("tentative", "dadfailed", "nodad") if info.get(word)}


def test_it_is_waited_for_until_it_is_over(host: Any, kernel: LinuxKernel, boxes: list[Netns]) -> None:
    with kernel.inside(boxes[0]) as inner:
        give(inner, "fd00::2/64")
        assert flags(host, boxes[0], "fd00::2") == {"tentative"}

        inner.wait_for_dad("eth0")

        assert flags(host, boxes[0], "fd00::2") == set()
        inner.wait_for_dad("eth0", timeout_s=0)


def test_an_address_that_somebody_has_is_named(host: Any, kernel: LinuxKernel, boxes: list[Netns]) -> None:
    with kernel.inside(boxes[0]) as inner:
        give(inner, "fd00::2/64", dad=False)
        inner.wait_for_dad("eth0")  # of its link-local address
    with kernel.inside(boxes[1]) as inner:
        give(inner, "fd00::2/64")

        with pytest.raises(AddressInUse, match="fd00::2 of eth0 is somebody's on its wire already"):
            inner.wait_for_dad("eth0")

    assert flags(host, boxes[1], "fd00::2") == {"tentative", "dadfailed"}


def test_a_link_without_a_carrier_is_not_waited_for_for_ever(kernel: LinuxKernel, boxes: list[Netns]) -> None:
    kernel.set_link("v0", up=False)
    with kernel.inside(boxes[0]) as inner:
        give(inner, "fd00::2/64")

        with pytest.raises(Busy, match=r"detection of fd00::2 on eth0 took longer than 0.1 s .*carrier"):
            inner.wait_for_dad("eth0", timeout_s=0.1)


def test_where_nothing_is_looked_for_there_is_nothing_to_wait_for(
    kernel: LinuxKernel, boxes: list[Netns]
) -> None:
    with kernel.inside(boxes[0]) as inner:
        inner.set_sysctl("net/ipv6/conf/eth0/accept_dad", "0")
        give(inner, "fd00::2/64")

        inner.wait_for_dad(
            "eth0", timeout_s=0.9
        )  # less than a detection takes; the kernel says so a moment later
        inner.wait_for_dad("lo", timeout_s=0)

        with pytest.raises(NotFound, match="'eth1'"):
            inner.wait_for_dad("eth1")
