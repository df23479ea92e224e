"""The result of 0.1.0 and 0.2.0: one IPv4 and one IPv6 address, no interfaces.

Source: CNI SPEC 0.2.0 "Result". Frozen: what a released version looks like never changes.
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.errors import CANNOT_DECODE, INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec.parts import dns, read_dns, read_ip, read_route, route
from dovetail.cni.spec.result import Result
from dovetail.errors import InvalidArgument

__all__ = ["parse", "render"]


def render(result: Result, version: str) -> dict[str, Any]:
    """Write the result; one without any address cannot be said in this version."""
    document: dict[str, Any] = {"cniVersion": version}
    for key, family in (("ip4", 4), ("ip6", 6)):
        ip = next((one for one in result.ips if one.address.version == family), None)
        if ip is None:
            continue
        part: dict[str, Any] = {"ip": str(ip.address)}
        if ip.gateway is not None:
            part["gateway"] = str(ip.gateway)
        routes = [route(one) for one in result.routes if one.destination.version == family]
        if routes:
            part["routes"] = routes
        document[key] = part
    if not result.ips:
        raise CniError(INVALID_CONFIG, "cannot convert: no valid IP addresses")
    return {**document, "dns": dns(result.dns)}


def parse(document: Folded) -> Result:
    """Read the result; its routes are told by family and belong to one list. Raises code 6."""
    parts = [part for part in (document.object("ip4"), document.object("ip6")) if "ip" in part]
    try:
        return Result(
            ips=tuple(read_ip(part, "ip") for part in parts),
            routes=tuple(read_route(one) for part in parts for one in part.objects("routes")),
            dns=read_dns(document.object("dns")),
        )
    except InvalidArgument as exc:
        raise CniError(CANNOT_DECODE, f"the result cannot be read: {exc}") from exc
