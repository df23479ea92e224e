"""Which file writes and reads which version of the result, and the conversion from any to any."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from dovetail.cni.errors import INCOMPATIBLE_VERSION, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec import v010, v030, v100, v110
from dovetail.cni.spec.parts import limit
from dovetail.cni.spec.result import Result

__all__ = ["SUPPORTED", "check_version", "convert", "limited", "number", "parse", "render"]


class _Wire(NamedTuple):
    """One wire form: how it is written and read, and what that leaves of a result, where there is a shorter way to it."""

    render: Callable[[Result, str], dict[str, Any]]
    parse: Callable[[Folded], Result]
    limit: Callable[[Result], Result] | None = None


_010, _030 = _Wire(v010.render, v010.parse), _Wire(v030.render, v030.parse, limit)
_WIRES: dict[str, _Wire] = {
    "0.1.0": _010,
    "0.2.0": _010,
    "0.3.0": _030,
    "0.3.1": _030,
    "0.4.0": _030,
    "1.0.0": _Wire(v100.render, v100.parse, limit),
    "1.1.0": _Wire(v110.render, v110.parse, lambda result: result),
}
SUPPORTED = tuple(_WIRES)


def check_version(version: str) -> str:
    """Give `version` back if we speak it, else raise code 1."""
    if version not in _WIRES:
        supported = ", ".join(f'"{known}"' for known in SUPPORTED)
        details = f'config is "{version}", plugin supports [{supported}]'
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", details)
    return version


def number(version: str) -> tuple[int, ...]:
    """Give a version as numbers, for comparison."""
    return tuple(int(part) for part in version.split("."))


def render(result: Result, version: str) -> dict[str, Any]:
    """Write a result as `version` has it."""
    return _WIRES[check_version(version)].render(result, version)


def parse(document: Folded, version: str) -> Result:
    """Read a result in the version it names, or in `version` where it names none (as libcni does, cni.md §1.4)."""
    return _WIRES[check_version(document.text("cniVersion") or version)].parse(document)


def limited(result: Result, version: str) -> Result:
    """Give what is left of a result that is written in `version` and read again."""
    wire = _WIRES[check_version(version)]
    if wire.limit is None:
        return wire.parse(Folded(wire.render(result, version)))
    return wire.limit(result)


def convert(document: Folded, version: str, to: str) -> dict[str, Any]:
    """Write a result anew in version `to`; what that cannot say is left out.

    Raises code 7 where `to` is 0.1.0 or 0.2.0 and the result has no address: those versions are nothing but addresses.
    """
    return render(parse(document, version), to)
