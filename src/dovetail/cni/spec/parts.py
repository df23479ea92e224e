"""Parts that several versions of the result share."""

from __future__ import annotations

from typing import Any

from dovetail.model.attachment import DNS, Attachment, Route

__all__ = ["dns", "interfaces", "ips", "route"]


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
    """Write the host's interfaces from the outside in, then the sandbox's, whose path is verbatim."""
    found: list[dict[str, Any]] = []
    for host in attachment.host_interfaces:
        found.append({"name": host.name, **({"mac": str(host.mac)} if host.mac else {})})
    inner: dict[str, Any] = {"name": attachment.ifname}
    if attachment.mac:
        inner["mac"] = str(attachment.mac)
    found.append({**inner, "sandbox": attachment.sandbox})
    return found


def ips(attachment: Attachment, *, with_version: bool) -> list[dict[str, Any]]:
    """Write the addresses; all are on the last interface."""
    index = len(attachment.host_interfaces)
    found = []
    for address in attachment.addresses:
        part: dict[str, Any] = {"version": str(address.version)} if with_version else {}
        part |= {"interface": index, "address": str(address)}
        gateway = next((g for g in attachment.gateways if g.version == address.version), None)
        if gateway is not None:
            part["gateway"] = str(gateway)
        found.append(part)
    return found


def route(one: Route) -> dict[str, Any]:
    """Write destination and gateway."""
    return {"dst": str(one.destination), **({"gw": str(one.gateway)} if one.gateway is not None else {})}
