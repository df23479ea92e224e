"""The result of 1.1.0: as 1.0.0, with MTUs, sockets and PCI devices, and routes in full.

Source: CNI SPEC 1.1.0 "Success".
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.spec.parts import read as parse
from dovetail.cni.spec.parts import route
from dovetail.cni.spec.result import Interface, Result
from dovetail.cni.spec.v100 import render as render_100
from dovetail.model.attachment import Route

__all__ = ["parse", "render"]


def render(result: Result, version: str) -> dict[str, Any]:
    """Write the result; an MTU or metric of 0 is left out."""
    document = render_100(result, version)
    if result.interfaces:
        document["interfaces"] = [
            {**written, **_more(one)}
            for written, one in zip(document["interfaces"], result.interfaces, strict=True)
        ]
    if result.routes:
        document["routes"] = [_route(one) for one in result.routes]
    return document


def _more(one: Interface) -> dict[str, Any]:
    extras = {"mtu": one.mtu, "socketPath": one.socket_path, "pciID": one.pci_id}
    return {key: value for key, value in extras.items() if value}


def _route(one: Route) -> dict[str, Any]:
    extras = {"mtu": one.mtu, "advmss": one.advmss, "priority": one.priority, "table": one.table}
    scope = {"scope": one.scope} if one.scope is not None else {}
    return {**route(one), **{key: value for key, value in extras.items() if value}, **scope}
