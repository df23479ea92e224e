"""Several verbs of `LinuxKernel` in one send."""

from __future__ import annotations

import ipaddress
import threading
from typing import Any

import pytest

from dovetail.errors import AlreadyExists
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import LinkSpec, Netns
from dovetail.model.attachment import Route

pytestmark = pytest.mark.root


def address(text: str) -> Any:
    return ipaddress.ip_interface(text)


def route(destination: str, gateway: str = "", **more: Any) -> Route:
    via = ipaddress.ip_address(gateway) if gateway else None
    return Route(destination=ipaddress.ip_network(destination), gateway=via, **more)


def test_a_batch_may_use_the_links_it_makes(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with kernel.batch():
        kernel.add_bridge("br0", mtu=1400)
        kernel.set_link("br0", up=True)
        kernel.add_address("br0", address("10.0.0.1/24"))
        kernel.add_veth(LinkSpec("v0", master="br0", up=True), LinkSpec("eth0", netns=box, up=True))
        kernel.add_route("br0", route("10.9.0.0/16", "10.0.0.2"))
        kernel.add_veth(LinkSpec("gone"), LinkSpec("gone-too"))
        kernel.delete_links(["gone"])
        assert set(host.links()) == {"lo"}

    assert set(host.links()) == {"lo", "br0", "v0"}
    assert host.links()["v0"]["master"] == "br0"
    assert "UP" in host.links(box.path)["eth0"]["flags"]
    assert host.ip("route", "show", "10.9.0.0/16")[0]["gateway"] == "10.0.0.2"


def test_a_batch_goes_on_past_a_failure_and_raises_the_first(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")

    def queue() -> None:
        with kernel.batch():
            kernel.add_bridge("br0")
            kernel.add_address("missing", address("10.0.0.1/24"))
            kernel.add_bridge("br1")

    with pytest.raises(AlreadyExists, match="br0"):
        queue()

    assert set(host.links()) == {"lo", "br0", "br1"}


def test_a_batch_whose_block_fails_sends_nothing(host: Any, kernel: LinuxKernel) -> None:
    def queue() -> None:
        with kernel.batch():
            kernel.add_bridge("br0")
            raise LookupError

    with pytest.raises(LookupError):
        queue()
    kernel.add_bridge("br1")

    assert set(host.links()) == {"lo", "br1"}


def test_a_batch_within_a_batch_is_part_of_it(host: Any, kernel: LinuxKernel) -> None:
    with kernel.batch():
        with kernel.batch():
            kernel.add_bridge("br0")
        assert set(host.links()) == {"lo"}

    assert set(host.links()) == {"lo", "br0"}


def test_a_batch_belongs_to_its_thread(host: Any, kernel: LinuxKernel) -> None:
    with kernel.batch():
        kernel.add_bridge("br0")
        other = threading.Thread(target=kernel.add_bridge, args=("other0",))
        other.start()
        other.join()
        assert set(host.links()) == {"lo", "other0"}


def test_a_train_of_hundreds_arrives(host: Any, kernel: LinuxKernel) -> None:
    kernel.add_bridge("br0")

    with kernel.batch():
        for number in range(1500):
            kernel.add_address("br0", address(f"10.1.{number // 250}.{number % 250 + 1}/16"))

    assert len(host.ip("addr", "show", "dev", "br0")[0]["addr_info"]) == 1500
    assert len(kernel.addresses("br0")) == 1500
