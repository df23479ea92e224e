"""The host's own interface on a parent, by which it and the endpoints reach each other.

The kernel lets no frame pass between a parent and what sits on it; between two that sit on it, it does. So the
host gets one of them, with an address of its own in each subnet and a route to where the endpoints are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from dovetail.drivers.parent import refuse_foreign
from dovetail.drivers.parent_options import ParentOptions
from dovetail.drivers.protocol import Difference
from dovetail.errors import Conflict, InvalidArgument
from dovetail.kernel.protocol import Ipvlan, Kernel, LinkSpec, Macvlan
from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac
from dovetail.model.names import link_alias
from dovetail.model.network import HOST, Network

__all__ = ["differences", "make", "plan", "remove"]

_WHERE = "$.options.host_access"
_V6 = 6


def plan(kernel: Kernel, network: Network, options: ParentOptions, where: str = _WHERE) -> None:
    """Check that the host can have an interface on the network; changes nothing.

    Raises InvalidArgument for a mode in which endpoints keep apart, or an address that is in no subnet;
    Conflict where a route of the host leads to the endpoints already.
    """
    settings = options.settings
    apart = settings.mode if isinstance(settings, Macvlan) else settings.flag
    if apart != "bridge":
        raise InvalidArgument(
            f"{apart} keeps the links of a parent apart, the host's too",
            where=where,
            hint="only bridge lets them meet",
        )
    for address in options.host_addresses:
        if not any(address in subnet.subnet for subnet in network.subnets):
            raise InvalidArgument(f"{address} is in no subnet of the network", where=where)
    if not _reached(network):
        raise InvalidArgument(
            "another IPAM gives the addresses of this network, so the host's is not known",
            where=where,
            hint="reserve one for it by the name host: --aux-address host=ADDRESS",
        )
    for route in kernel.routes():
        if route.link != network.link and route.destination in _reached(network):
            raise Conflict(
                f"the host has a route to {route.destination} by {route.link}, so it could not tell the endpoints"
                " from others there",
                where=where,
                hint="give the network an --ip-range: only that is led to the endpoints then",
            )


def make(
    kernel: Kernel, network: Network, settings: Macvlan | Ipvlan, store_id: str, undo: ExitStack
) -> None:
    """Make the interface with its addresses and routes, up; what is there already stays.

    No router on the wire may configure the host by it. It speaks ARP for its own address alone
    (Documentation/networking/ip-sysctl.rst): otherwise it speaks for the parent's too, and the wire learns a
    MAC for that from which a host that filters by reverse path takes nothing.
    """
    name = network.link
    refuse_foreign(kernel, name, network)
    there = kernel.link(name)
    if there is None:
        undo.callback(kernel.delete_links, [name])
        kernel.add_link(_spec(network, settings, store_id), settings, parent=network.parent)
    versions = {subnet.subnet.version for subnet in network.subnets}
    if _V6 in versions:
        kernel.set_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0")
    kernel.set_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    kernel.set_sysctl(f"net/ipv4/conf/{name}/arp_ignore", "1")
    kernel.set_sysctl(f"net/ipv4/conf/{name}/arp_announce", "2")
    present = {address for _, address in kernel.addresses(name)}
    led = {route.destination for route in kernel.routes() if route.link == name}
    with kernel.batch():
        for address in _addresses(network):
            if address not in present:
                undo.callback(kernel.delete_address, name, address)
                kernel.add_address(name, address)
        if there is None or not there.up:
            kernel.set_link(name, up=True)
        for destination in _reached(network):
            if destination not in led:
                kernel.add_route(name, Route(destination=destination))


def remove(kernel: Kernel, network: Network) -> None:
    """Remove it, with its addresses and routes."""
    there = kernel.link(network.link) if network.link else None
    if there is not None and there.kind in {"macvlan", "ipvlan"}:
        kernel.delete_links([network.link])


def differences(kernel: Kernel, network: Network) -> Iterator[Difference]:
    """Give a sentence for each thing that is not as `make` made it."""
    name = network.link
    if not name:
        return
    link = kernel.link(name)
    if link is None:
        yield f"the host's interface {name!r} is gone"
        return
    if not link.up:
        yield f"the host's interface {name!r} is down"
    present = {address for _, address in kernel.addresses(name)}
    for address in _addresses(network):
        if address not in present:
            yield f"the host's interface {name!r} has lost address {address}"
    led = {route.destination for route in kernel.routes() if route.link == name}
    for destination in _reached(network):
        if destination not in led:
            yield f"the host's route to {destination} dev {name} is missing"


def _spec(network: Network, settings: Macvlan | Ipvlan, store_id: str) -> LinkSpec:
    mac = Mac.derived(f"host access/{network.id}") if isinstance(settings, Macvlan) else None
    return LinkSpec(network.link, mac=mac, mtu=network.mtu, alias=link_alias(store_id, "network", network.id))


def _addresses(network: Network) -> Sequence[IPInterface]:
    """Give the host's addresses, without the rest of their subnet: others on it are reached by the parent."""
    return [_alone(subnet.aux[HOST]) for subnet in network.subnets if HOST in subnet.aux]


def _alone(address: IPAddress) -> IPInterface:
    return ipaddress.ip_interface(address)


def _reached(network: Network) -> list[IPNetwork]:
    """Give where the endpoints are, of the subnets in which the host has an address."""
    return [subnet.ip_range or subnet.subnet for subnet in network.subnets if HOST in subnet.aux]
