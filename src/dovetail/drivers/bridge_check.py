"""Comparing the kernel with what joining a bridge network made (CNI CHECK, ``dovetail doctor``)."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail.drivers import sandbox_end
from dovetail.drivers.protocol import Difference
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import host_link
from dovetail.model.network import Network

__all__ = ["differences"]


def differences(
    kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
) -> list[Difference]:
    """Give a sentence for each difference; without `sandbox` only the host's side is looked at."""
    found = list(_on_host(kernel, network, endpoint))
    if endpoint.attachment is not None and sandbox is not None:
        with kernel.inside(sandbox) as inner:
            found += sandbox_end.differences(inner, endpoint.attachment)
    return found


def _on_host(kernel: Kernel, network: Network, endpoint: Endpoint) -> Iterator[Difference]:
    bridge = kernel.link(network.link)
    if bridge is None:
        yield f"bridge {network.link!r} is gone"
    elif bridge.kind != "bridge":
        yield f"link {network.link!r} is a {bridge.kind or 'network card'}, not a bridge"
    elif not bridge.up:
        yield f"bridge {network.link!r} is down"
    name = host_link(endpoint.id)
    end = kernel.link(name)
    if end is None:
        yield f"interface {name!r} is gone from the host"
        return
    if end.kind != "veth":
        yield f"interface {name!r} is a {end.kind or 'network card'}, not a veth"
    if not end.up:
        yield f"interface {name!r} is down"
    if bridge is not None and end.master != bridge.ifindex:
        yield f"interface {name!r} is not a port of bridge {network.link!r}"
    mtu = endpoint.attachment.mtu if endpoint.attachment is not None else network.mtu
    if mtu and end.mtu != mtu:
        yield f"interface {name!r} has MTU {end.mtu}, not {mtu}"
