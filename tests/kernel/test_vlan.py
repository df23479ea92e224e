"""The vlan driver on the real kernel, where that has 802.1Q VLANs; what it does is seen by ``ip`` on both wires."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dovetail.drivers.vlan import VlanDriver
from dovetail.errors import Conflict, Unsupported
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import LinkSpec, Netns, Vlan
from dovetail.model.endpoint import Endpoint, Owner
from dovetail.model.network import Network, Subnet

pytestmark = pytest.mark.root
DRIVER = VlanDriver()


@pytest.fixture
def kernel(host: Any) -> Iterator[LinuxKernel]:
    """A kernel with ``up0``, which plays the network card, on a wire to ``far0``; VLAN 10 has a router on that side."""
    handle = LinuxKernel()
    handle.add_veth(LinkSpec("up0", up=True), LinkSpec("far0", up=True))
    try:
        handle.add_link(LinkSpec("far0.10", up=True), Vlan(10), parent="far0")
    except Unsupported:
        pytest.skip("this kernel has no 802.1Q VLANs (module 8021q)")
    handle.add_address("far0.10", ip_interface("10.5.0.254/24"))
    yield handle
    handle.close()


@pytest.fixture
def boxes(kernel: LinuxKernel, tmp_path: Path) -> Iterator[list[Netns]]:
    paths = [str(tmp_path / name) for name in ("one", "two")]
    with ExitStack() as stack:
        yield [stack.enter_context(kernel.create_netns(path)) for path in paths]
    for path in paths:
        kernel.delete_netns(path)


def create(kernel: LinuxKernel) -> Network:
    subnet = Subnet(subnet=ip_network("10.5.0.0/24"), gateway=ip_address("10.5.0.254"))
    options = {"parent": "up0", "id": "10", "mtu": "1400"}
    network = Network(id="ab" * 32, name="lan", driver="vlan", options=options, subnets=(subnet,))
    network = DRIVER.plan_network(kernel, network, "store")
    with ExitStack() as undo:
        DRIVER.create_network(kernel, network, "store", undo)
        undo.pop_all()
    return network


def join(kernel: LinuxKernel, network: Network, sandbox: Netns | None, last: int = 2) -> Endpoint:
    endpoint = Endpoint(
        id=f"{last:02x}" * 32,
        network_id=network.id,
        owner=Owner(face="cli"),
        addresses=(ip_interface(f"10.5.0.{last}/24"),),
    )
    endpoint = DRIVER.plan_endpoint(network, endpoint)
    with ExitStack() as undo:
        attachment = DRIVER.join(
            kernel, network, endpoint, sandbox=sandbox, ifname="eth0", store_id="store", undo=undo
        )
        undo.pop_all()
    return msgspec.structs.replace(endpoint, attachment=attachment)


def test_the_sandbox_has_the_vlan_and_reaches_its_router(
    host: Any, kernel: LinuxKernel, boxes: list[Netns]
) -> None:
    network = create(kernel)
    before = set(host.links())

    endpoint = join(kernel, network, boxes[0])

    link = host.links(boxes[0].path)["eth0"]
    assert (link["linkinfo"]["info_kind"], link["linkinfo"]["info_data"]["id"]) == ("vlan", 10)
    assert (link["mtu"], link["address"]) == (1400, host.links()["up0"]["address"])
    host.run("nsenter", f"--net={boxes[0].path}", "ping", "-c1", "-W5", "10.5.0.254")
    assert DRIVER.check(kernel, network, endpoint, boxes[0]) == []
    assert DRIVER.is_alive(kernel, endpoint, frozenset(), sandbox=boxes[0].path)
    DRIVER.leave(kernel, endpoint, sandbox=boxes[0].path)
    DRIVER.leave(kernel, endpoint, sandbox=boxes[0].path)
    assert set(host.links()) == before
    assert set(host.links(boxes[0].path)) == {"lo"}


def test_a_second_link_of_the_vlan_is_a_conflict_wherever_the_first_is(
    host: Any, kernel: LinuxKernel, boxes: list[Netns]
) -> None:
    network = create(kernel)
    join(kernel, network, boxes[0])

    with pytest.raises(Conflict, match="VLAN 10 of up0 has a link already"):
        join(kernel, network, boxes[1], 3)

    assert set(host.links(boxes[1].path)) == {"lo"}


def test_handed_over_it_can_be_moved_and_deleted_from_anywhere(
    host: Any, kernel: LinuxKernel, boxes: list[Netns]
) -> None:
    network = create(kernel)
    endpoint = join(kernel, network, None)
    assert endpoint.attachment is not None

    host.run("ip", "link", "set", endpoint.attachment.handover, "netns", boxes[0].path, "name", "eth7")
    DRIVER.leave(kernel, endpoint, sandbox=boxes[0].path)

    assert set(host.links(boxes[0].path)) == {"lo"}
