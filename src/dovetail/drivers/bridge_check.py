"""Comparing the kernel with what joining a bridge network made (CNI CHECK, ``dovetail doctor``)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from dovetail.drivers.protocol import Difference
from dovetail.kernel.protocol import Kernel, KernelRoute, Netns
from dovetail.model.attachment import Attachment
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
            found += _in_sandbox(inner, endpoint.attachment)
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
    if network.mtu and end.mtu != network.mtu:
        yield f"interface {name!r} has MTU {end.mtu}, not {network.mtu}"


def _in_sandbox(inner: Kernel, attachment: Attachment) -> Iterator[Difference]:
    name = attachment.ifname
    link = inner.link(name)
    if link is None:
        yield f"interface {name!r} is gone from the sandbox"
        return
    if not link.up:
        yield f"interface {name!r} of the sandbox is down"
    if attachment.mac is not None and link.mac != attachment.mac:
        yield f"interface {name!r} has MAC {link.mac}, not {attachment.mac}"
    if attachment.mtu and link.mtu != attachment.mtu:
        yield f"interface {name!r} has MTU {link.mtu}, not {attachment.mtu}"
    present = {address for _, address in inner.addresses(name)}
    for address in attachment.addresses:
        if address not in present:
            yield f"interface {name!r} has lost address {address}"
    yield from _routes(inner, attachment)


def _routes(inner: Kernel, attachment: Attachment) -> Iterator[Difference]:
    routes = set(inner.routes())
    for gateway in attachment.gateways:
        everything = ipaddress.ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
        if KernelRoute(everything, gateway, attachment.ifname) not in routes:
            yield f"the default route via {gateway} dev {attachment.ifname} is missing"
    for route in attachment.routes:
        if not route.table and KernelRoute(route.destination, route.gateway, attachment.ifname) not in routes:
            via = f" via {route.gateway}" if route.gateway is not None else ""
            yield f"the route {route.destination}{via} dev {attachment.ifname} is missing"
