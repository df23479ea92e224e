"""A macvlan that is handed over to dockerd: found and removed wherever dockerd has put it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dovetail.drivers.macvlan import MacvlanDriver
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import LinkSpec, Netns
from dovetail.model.addresses import parse_interface
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network

pytestmark = pytest.mark.root


@pytest.fixture
def handed_over(host: Any, kernel: LinuxKernel, box: Netns) -> Iterator[tuple[Network, Endpoint]]:
    """An endpoint that waits in the host's namespace, as for dockerd. `box` is the container."""
    kernel.add_veth(LinkSpec("up0", up=True), LinkSpec("wire0", up=True))
    driver = MacvlanDriver()
    network = Network(id="ab" * 32, name="lan", driver="macvlan", options={"parent": "up0"})
    network = driver.plan_network(kernel, network, "store")
    endpoint = Endpoint(
        id="cd" * 32,
        network_id=network.id,
        owner=Owner(face="docker"),
        addresses=(parse_interface("10.5.0.2/24"),),
    )
    endpoint = driver.plan_endpoint(network, endpoint)
    with ExitStack() as undo:
        driver.join(kernel, network, endpoint, sandbox=None, ifname="eth", store_id="store", undo=undo)
        undo.pop_all()
    yield network, endpoint
    driver.leave(kernel, endpoint, sandbox=box.path)


def names(kernel: LinuxKernel) -> frozenset[str]:
    return frozenset(link.name for link in kernel.links())


def test_it_is_found_wherever_dockerd_has_moved_it(
    host: Any, kernel: LinuxKernel, box: Netns, handed_over: tuple[Network, Endpoint]
) -> None:
    _, endpoint = handed_over
    driver, waiting = MacvlanDriver(), f"dvc{'cd' * 6}"
    link = host.links()[waiting]
    assert (link["address"], "UP" in link["flags"]) == (endpoint.mac, False)
    assert link["ifalias"] == f"dovetail:store/endpoint/{endpoint.id}"
    assert driver.is_alive(kernel, endpoint, names(kernel), sandbox=box.path)

    host.run("ip", "link", "set", waiting, "netns", box.path)
    host.run("nsenter", f"--net={box.path}", "ip", "link", "set", waiting, "name", "eth0", "up")
    assert driver.is_alive(kernel, endpoint, names(kernel), sandbox=box.path)
    assert not driver.is_alive(kernel, endpoint, names(kernel), sandbox="/run/gone")

    host.run("nsenter", f"--net={box.path}", "ip", "link", "set", "eth0", "down")
    host.run("nsenter", f"--net={box.path}", "ip", "link", "set", "eth0", "name", waiting)
    host.run("nsenter", f"--net={box.path}", "ip", "link", "set", waiting, "netns", str(os.getpid()))
    assert driver.is_alive(kernel, endpoint, names(kernel), sandbox=box.path)

    driver.leave(kernel, endpoint)
    assert set(host.links()) == {"lo", "up0", "wire0"}
    assert not driver.is_alive(kernel, endpoint, names(kernel), sandbox=box.path)


def test_one_that_cannot_be_seen_counts_as_alive(
    host: Any, kernel: LinuxKernel, box: Netns, tmp_path: Path, handed_over: tuple[Network, Endpoint]
) -> None:
    """A managed plugin has a file system of its own, in which dockerd's namespaces need not be."""
    _, endpoint = handed_over
    driver = MacvlanDriver()
    host.run("ip", "link", "set", f"dvc{'cd' * 6}", "netns", box.path)
    (tmp_path / "plain").touch()

    alive = {
        path: driver.is_alive(kernel, endpoint, names(kernel), sandbox=path)
        for path in (
            box.path,
            "/run/elsewhere/netns/box",
            f"{tmp_path}/plain",
            f"{tmp_path}/gone",
            "/proc/0/ns/net",
            "",
        )
    }

    assert list(alive.values()) == [True, True, True, False, False, False], alive


def test_it_is_removed_from_inside_the_container_too(
    host: Any, kernel: LinuxKernel, box: Netns, handed_over: tuple[Network, Endpoint]
) -> None:
    _, endpoint = handed_over
    host.run("ip", "link", "set", f"dvc{'cd' * 6}", "netns", box.path)

    MacvlanDriver().leave(kernel, endpoint, sandbox=box.path)

    assert set(host.links(box.path)) == {"lo"}
