"""The host's end of a pair that the host routes by: the gateway's address, and routes to what is behind it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv6Interface, ip_interface, ip_network

from dovetail.drivers.protocol import Difference
from dovetail.kernel.protocol import Kernel, KernelRoute
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import Route
from dovetail.model.names import parse_alias

__all__ = ["configure", "differences", "host_addresses"]

_V6 = 6
_LINK_LOCAL = IPv6Interface("fe80::1/64")
"""Of the host's end. Asking a sandbox for the MAC of its address on behalf of others, the kernel speaks from a
link-local address (ndisc_send_ns, net/ipv6/ndisc.c), and does not ask at all while it looks for duplicates of its
own: for a second and more, forwarded packets would be lost. This one is there at once."""


def host_addresses(gateways: Iterable[IPAddress]) -> list[IPInterface]:
    """Give the addresses of the host's end: the gateways', each alone, and one for IPv6 itself."""
    found: list[IPInterface] = [ip_interface(gateway) for gateway in dict.fromkeys(gateways)]
    v6 = [address for address in found if address.version == _V6]
    return [*found, _LINK_LOCAL] if v6 and not any(address.ip.is_link_local for address in v6) else found


def configure(
    kernel: Kernel, name: str, gateways: Iterable[IPAddress], behind: Collection[IPInterface]
) -> None:
    """Address the host's end and route what is `behind` it.

    Kernel changes: those, and ``accept_ra``, as no router may speak from a container.
    """
    kernel.set_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    if any(address.version == _V6 for address in behind):
        kernel.set_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0")
    with kernel.batch():
        for address in host_addresses(gateways):
            kernel.add_address(name, address)
        for address in behind:
            kernel.add_route(name, Route(destination=ip_network(address.ip)))


def differences(
    kernel: Kernel, name: str, gateways: Iterable[IPAddress], behind: Iterable[IPInterface], *, mtu: int = 0
) -> Iterator[Difference]:
    """Give a sentence for each thing that is not as `configure` made it, or whose MTU is not `mtu`.

    An end that another program made has another link-local address.
    """
    end = kernel.link(name)
    if end is None:
        yield f"interface {name!r} is gone from the host"
        return
    if end.kind != "veth":
        yield f"interface {name!r} is a {end.kind or 'network card'}, not a veth"
    if not end.up:
        yield f"interface {name!r} is down"
    if mtu and end.mtu != mtu:
        yield f"interface {name!r} has MTU {end.mtu}, not {mtu}"
    present = {address for _, address in kernel.addresses(name)}
    for address in host_addresses(gateways):
        if address not in present and (address != _LINK_LOCAL or parse_alias(end.alias) is not None):
            yield f"interface {name!r} has lost address {address}"
    routes = set(kernel.routes())
    for address in behind:
        if KernelRoute(ip_network(address.ip), None, name) not in routes:
            yield f"the host's route to {address.ip} dev {name} is missing"
