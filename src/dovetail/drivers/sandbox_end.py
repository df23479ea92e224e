"""The sandbox's end of an attachment, which is the same whatever link leads there: addresses, routes, comparison."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from errno import EADDRINUSE
from ipaddress import ip_network

import msgspec

from dovetail.drivers.protocol import Difference
from dovetail.errors import AlreadyExists, InvalidArgument, KernelError, NamespaceGone, NotFound
from dovetail.kernel.protocol import Kernel, KernelRoute, Netns
from dovetail.model.addresses import EVERYWHERE, IPAddress, IPNetwork
from dovetail.model.attachment import Attachment, HostInterface, Route
from dovetail.model.endpoint import Endpoint
from dovetail.model.mac import Mac
from dovetail.model.names import handover_link, parse_alias
from dovetail.model.network import Network
from dovetail.model.sysctls import sysctl_path

__all__ = [
    "attachment",
    "configure",
    "delete_endpoint_link",
    "differences",
    "endpoint_link",
    "gateways",
    "mac_of",
    "routes",
]

_V6 = 6
_CLEANUP_S = 5.0  # it takes some 20 ms, and longer where many namespaces end at once
_POLL_S = 0.01
_BEHIND = 2048  # a metric beyond IPv6's default, IP6_RT_PRIO_USER (1024) of include/uapi/linux/ipv6_route.h


def attachment(
    network: Network,
    endpoint: Endpoint,
    *,
    ifname: str,
    sandbox: Netns | None,
    mtu: int = 0,
    host_interfaces: tuple[HostInterface, ...] = (),
) -> Attachment:
    """Put together what joining gives on every driver with addresses; it is handed over where `sandbox` is None."""
    ways_out = gateways(network, endpoint)
    return Attachment(
        ifname=ifname,
        mac=endpoint.mac,
        mtu=mtu,
        addresses=endpoint.addresses,
        gateways=ways_out,
        routes=routes(network, endpoint, ways_out),
        dns=endpoint.dns,
        sysctls=endpoint.sysctls,
        host_interfaces=host_interfaces,
        handover=handover_link(endpoint.id) if sandbox is None else "",
        sandbox=sandbox.path if sandbox is not None else "",
    )


def mac_of(network: Network, endpoint: Endpoint) -> Mac:
    """Give the MAC that was asked for, or the one that goes with the endpoint's first address, IPv4 before IPv6.

    Who has the address next has its MAC as well, be it the same container started anew or another. The host and the
    neighbours keep the old MAC of an address for up to a minute, send to it and are not answered meanwhile: nobody tells
    them, as Docker before 28 announces no address that it configures (RFC 5227 section 2.3), and by then the interface
    is not ours to announce. Without an address it goes with the endpoint.
    """
    if endpoint.mac is not None:
        return endpoint.mac
    addresses = sorted(endpoint.addresses, key=lambda address: address.version)
    return Mac.derived(f"address/{network.id}/{addresses[0].ip}" if addresses else f"endpoint/{endpoint.id}")


def gateways(network: Network, endpoint: Endpoint) -> tuple[IPAddress, ...]:
    """Give for each family the gateway of the network's own default route, or of the first address's subnet.

    An internal network has none, nor has a family whose default route is on the link, nor the gateway itself.
    """
    if network.internal:
        return ()
    found: dict[int, IPAddress | None] = {}
    own = {address.ip for address in endpoint.addresses}
    versions = {address.version for address in own}
    for route in network.routes:
        if not route.destination.prefixlen and route.destination.version in versions:
            found.setdefault(route.destination.version, None if route.gateway in own else route.gateway)
    for address in endpoint.addresses:
        for subnet in network.subnets:
            gateway = subnet.default_gateway
            if gateway is not None and address.ip in subnet.subnet and gateway not in own:
                found.setdefault(address.version, gateway)
    return tuple(gateway for gateway in found.values() if gateway is not None)


def routes(network: Network, endpoint: Endpoint, ways_out: Iterable[IPAddress]) -> tuple[Route, ...]:
    """Give the network's routes that `endpoint` can have, those on the link first: others lead by them.

    Left out are routes of families that it has no address of, those that lead to itself, and default routes with
    a gateway, which are `ways_out`. One of those that is in none of its subnets gets a route on the link.
    """
    own = {address.ip for address in endpoint.addresses}
    versions = {address.version for address in own}
    mine = [
        route
        for route in network.routes
        if route.destination.version in versions
        and route.gateway not in own
        and (route.gateway is None or route.destination.prefixlen)
    ]
    on_link = [route for route in mine if route.gateway is None]
    reached = [
        *(route.destination for route in on_link),
        *(address.network for address in endpoint.addresses),
    ]
    for gateway in (*ways_out, *(route.gateway for route in mine if route.gateway is not None)):
        if not any(gateway in subnet for subnet in reached):
            on_link.append(Route(destination=ip_network(gateway)))
            reached.append(ip_network(gateway))
    return (*on_link, *(route for route in mine if route.gateway is not None))


def configure(inner: Kernel, attachment: Attachment, *, loopback: bool = True, dad: bool = False) -> None:
    """Address and route the interface ``attachment.ifname`` of `inner` and bring it and, with `loopback`, ``lo`` up.

    Where the sandbox has a route to the same destination already, the new one stands behind it. Raises NotFound
    for a sysctl that the kernel has not.
    """
    _set_sysctls(inner, attachment)
    try:
        with inner.batch():
            if loopback:
                inner.set_link("lo", up=True)
            for address in attachment.addresses:
                inner.add_address(attachment.ifname, address, dad=dad, prefix_route=attachment.prefix_on_link)
            inner.set_link(attachment.ifname, up=True)
            for route in _all_routes(attachment):
                inner.add_route(attachment.ifname, route)
    except AlreadyExists as exc:
        if exc.kind != "route":
            raise
        _stand_behind(inner, attachment)
    except KernelError as exc:
        if exc.errno != EADDRINUSE:
            raise
        _bring_up(inner, attachment.ifname)
        _stand_behind(inner, attachment)


def _set_sysctls(inner: Kernel, attachment: Attachment) -> None:
    if any(address.version == _V6 for address in attachment.addresses):
        key = f"net/ipv6/conf/{attachment.ifname}/disable_ipv6"
        if inner.sysctl(key) == "1":  # Docker and podman turn IPv6 off where a network of theirs has none
            inner.set_sysctl(key, "0")
    for name, value in attachment.sysctls.items():
        inner.set_sysctl(sysctl_path(name, attachment.ifname), value)


def _bring_up(inner: Kernel, ifname: str) -> None:
    """Bring an interface up whose MAC another one has on the same parent, once that is gone.

    That is the one of the same endpoint in a namespace that has ended: the kernel clears those away in the
    background (cleanup_net, net/core/net_namespace.c). Raises KernelError where it stays.
    """
    deadline = time.monotonic() + _CLEANUP_S
    while True:
        try:
            inner.set_link(ifname, up=True)
        except KernelError as exc:
            if exc.errno != EADDRINUSE or time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
        else:
            return


def _all_routes(attachment: Attachment) -> Iterator[Route]:
    yield from attachment.routes
    for gateway in attachment.gateways:
        yield Route(destination=EVERYWHERE[gateway.version], gateway=gateway)


def _stand_behind(inner: Kernel, attachment: Attachment) -> None:
    """Add the routes that could not be added, behind those there are: the sandbox has another network.

    That one stays the way, and this one is when that is left, as the kernel takes the least metric. The
    link's index makes the metric one that no other of our routes here has.
    """
    name = attachment.ifname
    present, link = inner.routes(), inner.link(name)
    for route in _all_routes(attachment):
        if KernelRoute(route.destination, route.gateway, name) not in present:
            taken = any(there.destination == route.destination for there in present)
            metric = _BEHIND + link.ifindex if taken and link is not None else route.priority
            inner.add_route(name, msgspec.structs.replace(route, priority=metric))


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
    for key, value in attachment.sysctls.items():
        present_value = inner.sysctl(sysctl_path(key, name))
        if present_value != value:
            yield f"sysctl {key} of interface {name!r} is {present_value}, not {value}"
    yield from _routes(inner, attachment)


def _routes(inner: Kernel, attachment: Attachment) -> Iterator[Difference]:
    wanted: list[tuple[IPNetwork, IPAddress | None, str]] = [
        (EVERYWHERE[gateway.version], gateway, attachment.ifname) for gateway in attachment.gateways
    ]
    wanted += [(r.destination, r.gateway, attachment.ifname) for r in attachment.routes if not r.table]
    present: set[tuple[object, ...]] = {route[:3] for route in inner.routes()}
    if not present.issuperset(wanted):  # CNI's types sbr and vrf move them into another table
        present = {route[:3] for route in inner.table_routes()}
    for destination, gateway, link in wanted:
        if (destination, gateway, link) not in present:
            what = f"route {destination}" if destination.prefixlen else "default route"
            via = f" via {gateway}" if gateway is not None else ""
            yield f"the {what}{via} dev {link} is missing"


# -- links without an end on the host -----------------------------------------------------------------


def endpoint_link(kernel: Kernel, endpoint: Endpoint, sandbox: str) -> str:
    """Say where the only link of `endpoint` is: ``host``, ``sandbox``, ``hidden``, or an empty string where it is gone.

    sandbox: the path of the namespace it joined. The alias tells the link from another of the same name, and
    stays with it when dockerd moves and renames it. Hidden is one in a namespace that cannot be seen from here, as
    from the file system of a managed plugin: it may well live, and its addresses with it.
    """
    waiting = kernel.link(handover_link(endpoint.id))
    if waiting is not None:
        return "host"
    if not sandbox:
        return ""
    try:
        with kernel.open_netns(sandbox) as netns, kernel.inside(netns) as inner:
            return "sandbox" if _owned(inner, endpoint) else ""
    except (NamespaceGone, NotFound):
        return ""  # and the link with it
    except InvalidArgument:
        return "hidden"


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
