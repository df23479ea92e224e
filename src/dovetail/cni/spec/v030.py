"""The result of 0.3.0, 0.3.1 and 0.4.0: interfaces, and addresses that name their family.

Source: CNI SPEC 0.4.0 "Result". Frozen.
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.spec.parts import dns, interfaces, ips, route
from dovetail.cni.spec.parts import read as parse
from dovetail.cni.spec.result import Result

__all__ = ["parse", "render"]


def render(result: Result, version: str) -> dict[str, Any]:
    """Write the result; ``dns`` is there even when empty, as libcni prints it."""
    document: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        document["interfaces"] = interfaces(result)
    if result.ips:
        document["ips"] = ips(result, with_version=True)
    if result.routes:
        document["routes"] = [route(one) for one in result.routes]
    return {**document, "dns": dns(result.dns)}
