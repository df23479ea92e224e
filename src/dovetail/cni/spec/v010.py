"""The result of 0.1.0 and 0.2.0: one IPv4 and one IPv6 address, no interfaces.

Source: CNI SPEC 0.2.0 "Result". Frozen: what a released version looks like never changes.
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.errors import CANNOT_DECODE, INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec.parts import dns, first_gateways, read_dns, read_route
from dovetail.errors import InvalidArgument
from dovetail.model.addresses import parse_interface
from dovetail.model.attachment import Attachment, Route

__all__ = ["parse", "render"]


def render(attachment: Attachment, version: str) -> dict[str, Any]:
    """Write the result; an attachment without any address cannot be said in this version."""
    result: dict[str, Any] = {"cniVersion": version}
    for key, family in (("ip4", 4), ("ip6", 6)):
        address = next((a for a in attachment.addresses if a.version == family), None)
        if address is None:
            continue
        part: dict[str, Any] = {"ip": str(address)}
        gateway = next((g for g in attachment.gateways if g.version == family), None)
        if gateway is not None:
            part["gateway"] = str(gateway)
        routes = [_route(r) for r in attachment.routes if r.destination.version == family]
        if routes:
            part["routes"] = routes
        result[key] = part
    if not attachment.addresses:
        raise CniError(INVALID_CONFIG, "cannot convert: no valid IP addresses")
    return {**result, "dns": dns(attachment.dns)}


def _route(route: Route) -> dict[str, Any]:
    gateway = {"gw": str(route.gateway)} if route.gateway is not None else {}
    return {"dst": str(route.destination), **gateway}


def parse(document: Folded) -> Attachment:
    """Read the result; its routes are told by family and belong to one list. Raises code 6."""
    parts = [part for part in (document.object("ip4"), document.object("ip6")) if "ip" in part]
    try:
        return Attachment(
            ifname="",
            addresses=tuple(parse_interface(part.text("ip")) for part in parts),
            gateways=first_gateways(part.text("gateway") for part in parts),
            routes=tuple(read_route(one) for part in parts for one in part.objects("routes")),
            dns=read_dns(document.object("dns")),
        )
    except InvalidArgument as exc:
        raise CniError(CANNOT_DECODE, f"the result cannot be read: {exc}") from exc
