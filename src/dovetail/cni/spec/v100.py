"""The result of 1.0.0: as 0.4.0, without the addresses' family.

Source: CNI SPEC 1.0.0 "Success". Frozen.
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.spec.parts import dns, interfaces, ips, route
from dovetail.cni.spec.parts import read as parse
from dovetail.cni.spec.result import Result

__all__ = ["parse", "render"]


def render(result: Result, version: str) -> dict[str, Any]:
    """Write the result; what is empty is left out."""
    document: dict[str, Any] = {
        "cniVersion": version,
        "interfaces": interfaces(result),
        "ips": ips(result, with_version=False),
        "routes": [route(one) for one in result.routes],
        "dns": dns(result.dns),
    }
    return {key: value for key, value in document.items() if value}
