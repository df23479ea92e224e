"""The result of 1.1.0: as 1.0.0, with MTUs, and routes in full.

Source: CNI SPEC 1.1.0 "Success".
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.spec.parts import read as parse
from dovetail.cni.spec.parts import route
from dovetail.cni.spec.v100 import render as render_100
from dovetail.model.attachment import Attachment, Route

__all__ = ["parse", "render"]


def render(attachment: Attachment, version: str) -> dict[str, Any]:
    """Write the result; an MTU or metric of 0 is left out."""
    result = render_100(attachment, version)
    if "interfaces" in result:
        mtus = [*(host.mtu for host in attachment.host_interfaces), attachment.mtu]
        result["interfaces"] = [
            {**interface, **({"mtu": mtu} if mtu else {})}
            for interface, mtu in zip(result["interfaces"], mtus, strict=False)
        ]
    if attachment.routes:
        result["routes"] = [_route(one) for one in attachment.routes]
    return result


def _route(one: Route) -> dict[str, Any]:
    extras = {"mtu": one.mtu, "advmss": one.advmss, "priority": one.priority, "table": one.table}
    scope = {"scope": one.scope} if one.scope is not None else {}
    return {**route(one), **{key: value for key, value in extras.items() if value}, **scope}
