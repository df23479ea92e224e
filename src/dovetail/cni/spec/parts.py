"""Parts that several versions of the result share, written and read."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Any

from dovetail.cni.errors import CANNOT_DECODE, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec.result import IP, Interface, Result
from dovetail.errors import InvalidArgument
from dovetail.model.addresses import parse_address, parse_interface, parse_subnet
from dovetail.model.attachment import DNS, Route

__all__ = ["dns", "interfaces", "ips", "limit", "read", "read_dns", "read_ip", "read_route", "route"]


def dns(settings: DNS) -> dict[str, Any]:
    """Write resolver settings; empty ones are left out."""
    found = {
        "nameservers": list(settings.nameservers),
        "domain": settings.domain,
        "search": list(settings.search),
        "options": list(settings.options),
    }
    return {key: value for key, value in found.items() if value}


def interfaces(result: Result) -> list[dict[str, Any]]:
    """Write the interfaces as every version knows them; an IPAM plugin's result has none at all."""
    return [
        {
            "name": one.name,
            **({"mac": one.mac} if one.mac else {}),
            **({"sandbox": one.sandbox} if one.sandbox else {}),
        }
        for one in result.interfaces
    ]


def ips(result: Result, *, with_version: bool) -> list[dict[str, Any]]:
    """Write the addresses; interface 0 is written, none is left out."""
    return [
        {
            **({"version": str(one.address.version)} if with_version else {}),
            **({"interface": one.interface} if one.interface is not None else {}),
            "address": str(one.address),
            **({"gateway": str(one.gateway)} if one.gateway is not None else {}),
        }
        for one in result.ips
    ]


def route(one: Route) -> dict[str, Any]:
    """Write destination and gateway."""
    return {"dst": str(one.destination), **({"gw": str(one.gateway)} if one.gateway is not None else {})}


def read(document: Folded) -> Result:
    """Read a result of 0.3.0 and later; what a version does not know yet is not there. Raises codes 6 and 7."""
    try:
        found = Result(
            interfaces=tuple(_interface(one) for one in document.objects("interfaces")),
            ips=tuple(
                read_ip(one, "address", one.integer("interface") if "interface" in one else None)
                for one in document.objects("ips")
            ),
            routes=tuple(read_route(one) for one in document.objects("routes")),
            dns=read_dns(document.object("dns")),
        )
    except InvalidArgument as exc:
        raise CniError(CANNOT_DECODE, f"the result cannot be read: {exc}") from exc
    for ip in found.ips:
        if ip.interface is not None and not 0 <= ip.interface < len(found.interfaces):
            raise CniError(
                CANNOT_DECODE,
                f"the result cannot be read: {ip.address} is on interface {ip.interface}, of {len(found.interfaces)}",
            )
    return found


def limit(result: Result) -> Result:
    """Leave out what came with 1.1.0: as if the result were written before, and read."""
    interfaces = tuple(
        Interface(name=one.name, mac=one.mac, sandbox=one.sandbox) for one in result.interfaces
    )
    routes = tuple(Route(destination=one.destination, gateway=one.gateway) for one in result.routes)
    return Result(interfaces=interfaces, ips=result.ips, routes=routes, dns=result.dns)


def _interface(one: Folded) -> Interface:
    return Interface(
        name=one.text("name"),
        mac=one.text("mac"),
        mtu=one.integer("mtu"),
        sandbox=one.text("sandbox"),
        socket_path=one.text("socketPath"),
        pci_id=one.text("pciID"),
    )


def read_ip(one: Folded, key: str, interface: int | None = None) -> IP:
    """Read an address under `key` with its gateway. Raises InvalidArgument."""
    gateway = one.text("gateway")
    return IP(
        address=parse_interface(one.text(key)),
        gateway=parse_address(gateway) if gateway else None,
        interface=interface,
    )


def read_route(one: Folded) -> Route:
    """Read a route with all that 1.1.0 knows of it. Raises InvalidArgument."""
    gateway = one.text("gw")
    return Route(
        destination=_destination(one.text("dst")),
        gateway=parse_address(gateway) if gateway else None,
        mtu=one.integer("mtu"),
        advmss=one.integer("advmss"),
        priority=one.integer("priority"),
        table=one.integer("table"),
        scope=one.integer("scope") if "scope" in one else None,
    )


def read_dns(settings: Folded) -> DNS:
    """Read resolver settings."""
    return DNS(
        nameservers=settings.texts("nameservers"),
        domain=settings.text("domain"),
        search=settings.texts("search"),
        options=settings.texts("options"),
    )


def _destination(text: str) -> IPv4Network | IPv6Network:
    """Read a destination as Go does, which takes host bits and drops them."""
    return parse_subnet(str(parse_interface(text).network))
