"""The result of 0.3.0, 0.3.1 and 0.4.0: interfaces, and addresses that name their family.

Source: CNI SPEC 0.4.0 "Result". Frozen.
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.spec.parts import dns, interfaces, ips, route
from dovetail.cni.spec.parts import read as parse
from dovetail.model.attachment import Attachment

__all__ = ["parse", "render"]


def render(attachment: Attachment, version: str) -> dict[str, Any]:
    """Write the result; ``dns`` is there even when empty, as libcni prints it."""
    result: dict[str, Any] = {"cniVersion": version, **_interfaces(attachment)}
    if attachment.addresses:
        result["ips"] = ips(attachment, with_version=True)
    if attachment.routes:
        result["routes"] = [route(one) for one in attachment.routes]
    return {**result, "dns": dns(attachment.dns)}


def _interfaces(attachment: Attachment) -> dict[str, Any]:
    found = interfaces(attachment)
    return {"interfaces": found} if found else {}
