"""Parts that several versions of the result share, written and read."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from dovetail.cni.errors import CANNOT_DECODE, CniError
from dovetail.cni.folded import Folded
from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress, parse_address, parse_interface, parse_subnet
from dovetail.model.attachment import DNS, Attachment, HostInterface, Route
from dovetail.model.mac import Mac

__all__ = ["dns", "first_gateways", "interfaces", "ips", "read", "read_dns", "read_route", "route"]


def dns(settings: DNS) -> dict[str, Any]:
    """Write resolver settings; empty ones are left out."""
    found = {
        "nameservers": list(settings.nameservers),
        "domain": settings.domain,
        "search": list(settings.search),
        "options": list(settings.options),
    }
    return {key: value for key, value in found.items() if value}


def interfaces(attachment: Attachment) -> list[dict[str, Any]]:
    """Write the host's interfaces from the outside in, then the sandbox's, whose path is verbatim.

    An IPAM plugin's result has no interface at all.
    """
    found: list[dict[str, Any]] = []
    for host in attachment.host_interfaces:
        found.append({"name": host.name, **({"mac": str(host.mac)} if host.mac else {})})
    if not attachment.ifname:
        return found
    inner: dict[str, Any] = {"name": attachment.ifname}
    if attachment.mac:
        inner["mac"] = str(attachment.mac)
    found.append({**inner, "sandbox": attachment.sandbox})
    return found


def ips(attachment: Attachment, *, with_version: bool) -> list[dict[str, Any]]:
    """Write the addresses; all are on the last interface, where there is one."""
    index = len(attachment.host_interfaces)
    found = []
    for address in attachment.addresses:
        part: dict[str, Any] = {"version": str(address.version)} if with_version else {}
        part |= {"interface": index} if attachment.ifname else {}
        part["address"] = str(address)
        gateway = next((g for g in attachment.gateways if g.version == address.version), None)
        if gateway is not None:
            part["gateway"] = str(gateway)
        found.append(part)
    return found


def route(one: Route) -> dict[str, Any]:
    """Write destination and gateway."""
    return {"dst": str(one.destination), **({"gw": str(one.gateway)} if one.gateway is not None else {})}


def read(document: Folded) -> Attachment:
    """Read a result of 0.3.0 and later; what a version does not know yet is not there. Raises code 6.

    The sandbox's interface is the one that an address is on, or else the last with a ``sandbox``.
    """
    try:
        found = document.objects("interfaces")
        addresses = document.objects("ips")
        inner = _inner(found, addresses)
        return Attachment(
            ifname=found[inner].text("name") if inner >= 0 else "",
            mac=_mac(found[inner]) if inner >= 0 else None,
            mtu=found[inner].integer("mtu") if inner >= 0 else 0,
            sandbox=found[inner].text("sandbox") if inner >= 0 else "",
            addresses=tuple(parse_interface(one.text("address")) for one in addresses),
            gateways=first_gateways(one.text("gateway") for one in addresses),
            routes=tuple(read_route(one) for one in document.objects("routes")),
            dns=read_dns(document.object("dns")),
            host_interfaces=tuple(
                HostInterface(name=one.text("name"), mac=_mac(one), mtu=one.integer("mtu"))
                for one in found
                if not one.text("sandbox")
            ),
        )
    except InvalidArgument as exc:
        raise CniError(CANNOT_DECODE, f"the result cannot be read: {exc}") from exc


def read_route(one: Folded) -> Route:
    """Read a route with all that 1.1.0 knows of it."""
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


def first_gateways(gateways: Iterable[str]) -> tuple[IPAddress, ...]:
    """Give the first gateway of each family: what an attachment and CNM have room for."""
    found: dict[int, IPAddress] = {}
    for gateway in map(parse_address, filter(None, gateways)):
        found.setdefault(gateway.version, gateway)
    return tuple(found.values())


def _inner(found: list[Folded], addresses: list[Folded]) -> int:
    inside = [index for index, one in enumerate(found) if one.text("sandbox")]
    for one in addresses:
        if "interface" in one and one.integer("interface") in inside:
            return one.integer("interface")
    return inside[-1] if inside else -1


def _mac(one: Folded) -> Mac | None:
    """Read a MAC; what is no Ethernet address (InfiniBand's have 20 bytes) is left out."""
    try:
        return Mac(one.text("mac"))
    except InvalidArgument:
        return None


def _destination(text: str) -> IPv4Network | IPv6Network:
    """Read a destination as Go does, which takes host bits and drops them."""
    return parse_subnet(str(parse_interface(text).network))
