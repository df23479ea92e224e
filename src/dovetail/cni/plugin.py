"""The plugin's side of CNI: one call in, one outcome out. The daemon and the fallback both run this."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dovetail import __version__
from dovetail.cni.conf import read_conf
from dovetail.cni.config import network_name, read_config
from dovetail.cni.environment import read_environment
from dovetail.cni.errors import (
    INCOMPATIBLE_VERSION,
    INVALID_CONFIG,
    IO_FAILURE,
    CniError,
    cni_error,
)
from dovetail.cni.plugins import PLUGINS, Call, plugin_type
from dovetail.cni.sandbox import open_sandbox, open_sandbox_if_there
from dovetail.cni.spec.registry import SUPPORTED, number, render
from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError

__all__ = ["Outcome", "run"]

_log = logging.getLogger("dovetail")
_CURRENT = SUPPORTED[-1]
_READ = frozenset({"ADD", "CHECK", "STATUS"})  # DEL and GC make do with what there is
_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


class Outcome(msgspec.Struct, frozen=True):
    """Exit status and what goes to the two streams."""

    status: int = 0
    stdout: bytes = b""
    stderr: bytes = b""


def run(
    environ: Mapping[str, str],
    stdin: bytes,
    engine: Callable[[], Engine],
    *,
    plugin: str = "dovetail",
    netns_fd: int = -1,
) -> Outcome:
    """Answer one call of `plugin`. `engine` is called when one is needed; `netns_fd` is CNI_NETNS, opened by the shim.

    Never raises for what a caller may get wrong: errors are JSON on standard output (cni.md §1.5).
    """
    version, call = _CURRENT, None
    try:
        if "CNI_COMMAND" not in environ:
            return Outcome(stderr=_about(plugin))
        if environ["CNI_COMMAND"] == "VERSION":
            return Outcome(stdout=_json(_versions(stdin)))
        environment = read_environment(environ)
        config, version = read_config(stdin)
        _allow(environment.command, version)
        call = Call(
            environment=environment,
            config=config,
            name=network_name(config),
            version=version,
            environ=environ,
            stdin=stdin,
        )
        result = _call(engine(), call, plugin, netns_fd)
        return Outcome(stdout=_json(result) if result is not None else b"", stderr=bytes(call.stderr))
    except (CniError, DovetailError, ExceptionGroup) as exc:
        error = cni_error(exc)
    except Exception as exc:  # the edge: a runtime gets JSON whatever happens
        _log.exception("cni call failed")
        error = CniError(
            IO_FAILURE, f"internal error: {type(exc).__name__}: {exc}", "this is a defect of dovetail"
        )
    body = {"cniVersion": version, "code": error.code, "msg": error.msg}
    stdout = _json(body | ({"details": error.details} if error.details else {}))
    return Outcome(1, stdout, bytes(call.stderr) if call is not None else b"")


def _call(engine: Engine, call: Call, plugin: str, netns_fd: int) -> dict[str, Any] | None:
    environment = call.environment
    kind = plugin_type(plugin)
    if kind is None:
        raise CniError(
            INVALID_CONFIG, f"dovetail has no plugin {plugin!r}", f"there are {', '.join(PLUGINS)}"
        )
    handler = kind(engine)
    with engine.tracer.step("cni", environment.command, **call.detail):
        if environment.command in _READ:
            read_conf(kind.section(call.config), kind.conf)
        match environment.command:
            case "ADD":
                with open_sandbox(engine, environment, netns_fd) as netns:
                    return render(handler.add(call, netns), call.version)
            case "CHECK":
                with open_sandbox(engine, environment, netns_fd) as netns:
                    handler.check(call, netns)
            case "DEL":
                with open_sandbox_if_there(engine, environment, netns_fd) as there:
                    handler.delete(call, there)
            case "GC":
                handler.gc(call)
            case "STATUS":
                handler.status(call)
    return None


def _allow(command: str, version: str) -> None:
    since = _SINCE.get(command)
    if since is not None and number(version) < number(since):
        details = f'config is "{version}", {command} came with {since}'
        raise CniError(INCOMPATIBLE_VERSION, f"config version does not allow {command}", details)


def _versions(stdin: bytes) -> dict[str, Any]:
    try:
        asked = msgspec.json.decode(stdin).get("cniVersion", _CURRENT) if stdin.strip() else _CURRENT
    except (msgspec.DecodeError, AttributeError, RecursionError):
        asked = _CURRENT
    return {"cniVersion": asked if asked in SUPPORTED else _CURRENT, "supportedVersions": list(SUPPORTED)}


def _about(plugin: str) -> bytes:
    """Print what consumers parse: nerdctl and nomad read the version out of it (cni.md §1.2)."""
    lines = (
        f"CNI {plugin} plugin v1.9.{__version__.rpartition('.')[2]}",
        f"CNI protocol versions supported: {', '.join(SUPPORTED)}",
    )
    return ("\n".join(lines) + "\n").encode()


def _json(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=4) + b"\n"
