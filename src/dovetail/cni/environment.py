"""The CNI_* variables: which verb needs which, and what they may hold (SPEC 1.1.0 "Parameters")."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from dovetail.cni.errors import BAD_ENVIRONMENT, CniError
from dovetail.errors import InvalidArgument
from dovetail.model.names import check_container_id, check_ifname

__all__ = ["VERBS", "Environment", "read_environment"]

VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
_ATTACHMENT = ("ADD", "DEL", "CHECK")
_TABLE: tuple[tuple[str, tuple[str, ...], Callable[[str], object] | None], ...] = (
    ("CNI_CONTAINERID", _ATTACHMENT, check_container_id),
    ("CNI_NETNS", ("ADD", "CHECK"), None),
    ("CNI_IFNAME", _ATTACHMENT, lambda name: check_ifname(name, where="CNI_IFNAME")),
)
"""Variable, the verbs that need it, what checks its form."""
_NEEDED = {verb: [(name, check) for name, verbs, check in _TABLE if verb in verbs] for verb in VERBS}


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """The variables of one call."""

    command: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: dict[str, str] = {}
    netns_override: bool = False


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Check and read the variables; all that are missing are named in one error of code 4."""
    command = environ.get("CNI_COMMAND", "")
    if command not in VERBS:
        raise CniError(BAD_ENVIRONMENT, f"unknown CNI_COMMAND: {command}", f"there are {' '.join(VERBS)}")
    missing = [name for name, _ in _NEEDED[command] if not environ.get(name)]
    if missing:
        raise CniError(BAD_ENVIRONMENT, f"required env variables [{','.join(missing)}] missing")
    try:
        for name, check in _NEEDED[command]:
            if check is not None:
                check(environ[name])
    except InvalidArgument as exc:
        raise CniError(BAD_ENVIRONMENT, str(exc)) from exc
    return Environment(
        command=command,
        container_id=environ.get("CNI_CONTAINERID", ""),
        netns=environ.get("CNI_NETNS", ""),
        ifname=environ.get("CNI_IFNAME", ""),
        args=_args(environ.get("CNI_ARGS", "")),
        netns_override=environ.get("CNI_NETNS_OVERRIDE", "").lower() in {"1", "true"},
    )


def _args(text: str) -> dict[str, str]:
    """Read ``K=V;K2=V2``."""
    found: dict[str, str] = {}
    for pair in filter(None, text.split(";")):
        key, equals, value = pair.partition("=")
        if not equals or not key or "=" in value:
            raise CniError(BAD_ENVIRONMENT, f"CNI_ARGS: invalid pair {pair!r}", "write K=V;K2=V2")
        found[key] = value
    return found


def check_args(args: Mapping[str, str], known: tuple[str, ...]) -> None:
    """Refuse unknown CNI_ARGS, unless ``IgnoreUnknown`` says otherwise."""
    unknown = [f"{key}={value}" for key, value in args.items() if key not in {*known, "IgnoreUnknown"}]
    if unknown and args.get("IgnoreUnknown", "").lower() not in {"1", "true", "t"}:
        listed = " ".join(f'"{one}"' for one in unknown)
        raise CniError(BAD_ENVIRONMENT, f"ARGS: unknown args [{listed}]")
