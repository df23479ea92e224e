"""Comparing the kernel with what joining a ptp network made (CNI CHECK, ``dovetail doctor``)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network

from dovetail.drivers import forwarding, sandbox_end
from dovetail.drivers.protocol import Difference
from dovetail.kernel.protocol import Kernel, KernelRoute, Netns
from dovetail.model.addresses import IPInterface
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import host_link
from dovetail.model.network import Network

__all__ = ["differences"]


def differences(
    kernel: Kernel,
    network: Network,
    endpoint: Endpoint,
    sandbox: Netns | None,
    host_addresses: Iterable[IPInterface],
) -> list[Difference]:
    """Give a sentence for each difference; without `sandbox` only the host's side is looked at."""
    found = [
        *_on_host(kernel, network, endpoint, host_addresses),
        *forwarding.differences(kernel, network.versions),
    ]
    if endpoint.attachment is not None and sandbox is not None:
        with kernel.inside(sandbox) as inner:
            found += sandbox_end.differences(inner, endpoint.attachment)
    return found


def _on_host(
    kernel: Kernel, network: Network, endpoint: Endpoint, host_addresses: Iterable[IPInterface]
) -> Iterator[Difference]:
    name = host_link(endpoint.id)
    end = kernel.link(name)
    if end is None:
        yield f"interface {name!r} is gone from the host"
        return
    if end.kind != "veth":
        yield f"interface {name!r} is a {end.kind or 'network card'}, not a veth"
    if not end.up:
        yield f"interface {name!r} is down"
    if network.mtu and end.mtu != network.mtu:
        yield f"interface {name!r} has MTU {end.mtu}, not {network.mtu}"
    present = {address for _, address in kernel.addresses(name)}
    for address in host_addresses:
        if address not in present:
            yield f"interface {name!r} has lost address {address}"
    routes = set(kernel.routes())
    for address in endpoint.addresses:
        if KernelRoute(ip_network(address.ip), None, name) not in routes:
            yield f"the host's route to {address.ip} dev {name} is missing"
