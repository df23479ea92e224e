"""Which file renders which version of the result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dovetail.cni.errors import INCOMPATIBLE_VERSION, CniError
from dovetail.cni.spec import v010, v030, v100, v110
from dovetail.model.attachment import Attachment

__all__ = ["SUPPORTED", "check_version", "number", "render"]

_RENDERERS: dict[str, Callable[[Attachment, str], dict[str, Any]]] = {
    "0.1.0": v010.render,
    "0.2.0": v010.render,
    "0.3.0": v030.render,
    "0.3.1": v030.render,
    "0.4.0": v030.render,
    "1.0.0": v100.render,
    "1.1.0": v110.render,
}
SUPPORTED = tuple(_RENDERERS)


def check_version(version: str) -> str:
    """Give `version` back if we speak it, else raise code 1."""
    if version not in _RENDERERS:
        supported = ", ".join(f'"{known}"' for known in SUPPORTED)
        details = f'config is "{version}", plugin supports [{supported}]'
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
    return version


def number(version: str) -> tuple[int, ...]:
    """Give a version as numbers, for comparison."""
    return tuple(int(part) for part in version.split("."))


def render(attachment: Attachment, version: str) -> dict[str, Any]:
    """Write an attachment as the result of `version`."""
    return _RENDERERS[check_version(version)](attachment, version)
