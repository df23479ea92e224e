"""The sandbox's end of an attachment, which is the same whatever link leads there: addresses, routes, comparison."""

from __future__ import annotations

from collections.abc import Iterator

from dovetail.drivers.protocol import Difference
from dovetail.errors import AlreadyExists, InvalidArgument, NotFound
from dovetail.kernel.protocol import Kernel, KernelRoute
from dovetail.model.addresses import EVERYWHERE, IPAddress
from dovetail.model.attachment import Attachment, Route
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import handover_link, parse_alias
from dovetail.model.network import Network

__all__ = ["configure", "delete_endpoint_link", "differences", "endpoint_link", "gateways"]

_V6 = 6
_BEHIND = 2048  # a metric beyond IPv6's default, IP6_RT_PRIO_USER (1024) of include/uapi/linux/ipv6_route.h


def gateways(network: Network, endpoint: Endpoint) -> tuple[IPAddress, ...]:
    """Give for each family the gateway of the first of the endpoint's addresses whose subnet has one."""
    found: dict[int, IPAddress] = {}
    for address in endpoint.addresses:
        for subnet in network.subnets:
            if subnet.gateway is not None and address.ip in subnet.subnet and subnet.gateway != address.ip:
                found.setdefault(address.version, subnet.gateway)
    return tuple(found.values())


def configure(inner: Kernel, attachment: Attachment) -> None:
    """Address and route the interface ``attachment.ifname`` of `inner` and bring it and ``lo`` up.

    Where the sandbox has a default route already, the new one stands behind it.
    """
    if any(address.version == _V6 for address in attachment.addresses):
        key = f"net/ipv6/conf/{attachment.ifname}/disable_ipv6"
        if inner.sysctl(key) == "1":  # Docker and podman turn IPv6 off where a network of theirs has none
            inner.set_sysctl(key, "0")
    try:
        with inner.batch():
            inner.set_link("lo", up=True)
            for address in attachment.addresses:
                inner.add_address(attachment.ifname, address)
            inner.set_link(attachment.ifname, up=True)
            for route in attachment.routes:
                inner.add_route(attachment.ifname, route)
            for gateway in attachment.gateways:
                route = Route(destination=EVERYWHERE[gateway.version], gateway=gateway)
                inner.add_route(attachment.ifname, route)
    except AlreadyExists as exc:
        if exc.kind != "route":
            raise
        _stand_behind(inner, attachment)


def _stand_behind(inner: Kernel, attachment: Attachment) -> None:
    """Add the default routes that could not be added, behind those there are: the sandbox has another network.

    That one stays the way out, and this one is when that is left, as the kernel takes the least metric. The
    link's index makes the metric one that no other of our routes here has.
    """
    name = attachment.ifname
    present, link = inner.routes(), inner.link(name)
    for gateway in attachment.gateways:
        everywhere = EVERYWHERE[gateway.version]
        if KernelRoute(everywhere, gateway, name) not in present:
            taken = any(route.destination == everywhere for route in present)
            metric = _BEHIND + link.ifindex if taken and link is not None else 0
            inner.add_route(name, Route(destination=everywhere, gateway=gateway, priority=metric))


def differences(inner: Kernel, attachment: Attachment) -> Iterator[Difference]:
    """Give a sentence for each thing in `inner` that is not as `configure` made it."""
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
        if KernelRoute(EVERYWHERE[gateway.version], gateway, attachment.ifname) not in routes:
            yield f"the default route via {gateway} dev {attachment.ifname} is missing"
    for route in attachment.routes:
        if not route.table and KernelRoute(route.destination, route.gateway, attachment.ifname) not in routes:
            via = f" via {route.gateway}" if route.gateway is not None else ""
            yield f"the route {route.destination}{via} dev {attachment.ifname} is missing"


# -- links without an end on the host -----------------------------------------------------------------


def endpoint_link(kernel: Kernel, endpoint: Endpoint, sandbox: str) -> str:
    """Say where the only link of `endpoint` is: ``host``, ``sandbox``, or an empty string where it is gone.

    sandbox: the path of the namespace it joined. The alias tells the link from another of the same name, and
    stays with it when dockerd moves and renames it.
    """
    waiting = kernel.link(handover_link(endpoint.id))
    if waiting is not None:
        return "host"
    try:
        with kernel.open_netns(sandbox) as netns, kernel.inside(netns) as inner:
            return "sandbox" if _owned(inner, endpoint) else ""
    except (InvalidArgument, NotFound):
        return ""  # the namespace is gone, and the link with it


def delete_endpoint_link(kernel: Kernel, endpoint: Endpoint, sandbox: str) -> None:
    """Delete the only link of `endpoint`, in the host's namespace or in that of `sandbox`; none is no error."""
    kernel.delete_links([handover_link(endpoint.id)])
    if not sandbox:
        return
    try:
        with kernel.open_netns(sandbox) as netns, kernel.inside(netns) as inner:
            inner.delete_links(_owned(inner, endpoint))
    except (InvalidArgument, NotFound):
        return


def _owned(inner: Kernel, endpoint: Endpoint) -> list[str]:
    return [
        link.name
        for link in inner.links()
        if (alias := parse_alias(link.alias)) is not None and alias[1:] == ("endpoint", endpoint.id)
    ]
