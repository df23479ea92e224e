"""Delegation: a plugin has another one do a part, its ``ipam`` mostly.

One of ours runs in this process, with the same effect as if it were executed; any other is found in CNI_PATH and
executed as a runtime would: the same environment and configuration, its standard error passed on.

Source: CNI SPEC 1.1.0 "Section 4: Plugin Delegation".
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import msgspec

from dovetail.cni.errors import CANNOT_DECODE, INVALID_CONFIG, IO_FAILURE, CniError
from dovetail.cni.executables import is_ours
from dovetail.cni.execution import execute
from dovetail.cni.folded import Folded
from dovetail.cni.plugins import Call, Plugin, plugin_type
from dovetail.cni.spec.registry import parse
from dovetail.cni.spec.result import Result
from dovetail.engine.engine import Engine
from dovetail.kernel.protocol import Netns

__all__ = ["Delegate", "PluginMissing", "asks_by_interface", "find_plugin"]

_AFTERWARDS_S = 4.0  # for DEL after a failure: with ADD's time it is less than the shim waits for the answer
_SHOWN = 400
_UNTYPED = 999  # what the reference plugins give for nearly everything
_MOST = 2**31


class PluginMissing(CniError):
    """No directory of CNI_PATH has it, and it is none of ours."""

    def __init__(self, kind: str, cni_path: str) -> None:
        super().__init__(
            INVALID_CONFIG,
            f"failed to find plugin {kind!r} in path [{cni_path}]",
            "put it into a directory of CNI_PATH",
        )


class Delegate:
    """The plugin of type `kind`, called with the configuration of `call`."""

    def __init__(self, engine: Engine, call: Call, kind: str) -> None:
        """Find it. Raises code 7 where it is no name of a plugin, or is nowhere."""
        self._call = call
        self.kind = kind
        self._engine = engine
        self._path = find_plugin(kind, call.environ.get("CNI_PATH", ""))
        ours = plugin_type(kind)
        in_process = ours is not None and (not self._path or is_ours(self._path))
        self._ours: Plugin | None = ours(engine) if ours is not None and in_process else None
        if self._ours is None and not self._path:
            raise PluginMissing(kind, call.environ.get("CNI_PATH", ""))

    @property
    def needs_interface(self) -> bool:
        """Say whether it asks by the container's interface, which must be there first."""
        return asks_by_interface(self.kind)

    def add(self, netns: Netns, undo: ExitStack) -> Result:
        """ADD; its DEL is what `undo` gets, before ADD is tried: a delegate that failed is told so too."""
        undo.callback(self._forgive)
        if self._ours is not None:
            return self._ours.add(self._call, netns)
        document = self._execute("ADD")
        if document is None:
            raise CniError(CANNOT_DECODE, f"plugin {self.kind} said nothing on ADD")
        return parse(Folded(document), self._call.version)

    def delete(self, netns: Netns | None) -> None:
        """DEL."""
        if self._ours is not None:
            self._ours.delete(self._call, netns)
        else:
            self._execute("DEL")

    def check(self, netns: Netns) -> None:
        """CHECK."""
        if self._ours is not None:
            self._ours.check(self._call, netns)
        else:
            self._execute("CHECK")

    def gc(self) -> None:
        """GC."""
        if self._ours is not None:
            self._ours.gc(self._call)
        else:
            self._execute("GC")

    def status(self) -> None:
        """STATUS."""
        if self._ours is not None:
            self._ours.status(self._call)
        else:
            self._execute("STATUS")

    def _forgive(self) -> None:
        """DEL after a failure, whose own failure must not hide it."""
        try:
            if self._ours is not None:
                self._ours.delete(self._call, None)
            else:
                self._execute("DEL", timeout_s=min(_AFTERWARDS_S, self._engine.core.delegate_timeout_s))
        except Exception as exc:  # whatever it is, the first failure is the one to tell
            self._call.stderr += f"{self.kind} DEL after a failure: {exc}\n".encode(errors="replace")

    def _execute(self, verb: str, *, timeout_s: float = 0.0) -> Any:
        """Run the executable; gives what it printed on ADD, as JSON."""
        environ = {**os.environ, **self._call.environ, "CNI_COMMAND": verb}
        timeout_s = timeout_s or self._engine.core.delegate_timeout_s
        with self._engine.tracer.step("cni", f"{self.kind} {verb}", path=self._path):
            ended = execute(self._path, environ, self._call.stdin, timeout_s=timeout_s)
        self._call.stderr += ended.stderr
        if ended.status:
            raise self._refusal(verb, ended.status, ended.stdout, ended.stderr)
        return _document(self.kind, verb, ended.stdout) if verb == "ADD" else None

    def _refusal(self, verb: str, status: int, stdout: bytes, stderr: bytes) -> CniError:
        """Give the error that it printed, or what else it says."""
        try:
            said = Folded(msgspec.json.decode(stdout))
            code = said.integer("code")
            typed = 0 < code < _MOST and code != _UNTYPED
            return CniError(code if typed else IO_FAILURE, said.text("msg"), said.text("details"))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, CniError):
            ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            text = (stderr or stdout).decode(errors="replace").strip()[:_SHOWN]
            return CniError(IO_FAILURE, f"plugin {self.kind} {ended} on {verb}", text)


def asks_by_interface(kind: str) -> bool:
    """Say whether the IPAM plugin of type `kind`, ours or somebody else's, asks by the container's interface."""
    return kind == "dhcp"


def find_plugin(kind: str, cni_path: str) -> str:
    """Give the first regular file called `kind` in the directories of `cni_path`; empty where there is none.

    Raises code 7 for a name with a separator in it, which would lead out of them.
    """
    if not kind or "/" in kind or "\0" in kind or kind in {".", ".."}:
        raise CniError(INVALID_CONFIG, f"invalid plugin name: {kind!r}", "a type is the name of a file")
    for directory in filter(None, cni_path.split(":")):
        path = os.path.join(directory, kind)
        if os.path.isfile(path):
            return path
    return ""


def _document(kind: str, verb: str, stdout: bytes) -> Any:
    if not stdout.strip():
        return None
    try:
        document = msgspec.json.decode(stdout)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as exc:
        raise CniError(CANNOT_DECODE, f"plugin {kind} printed no JSON on {verb}: {exc}") from exc
    if not isinstance(document, dict):
        raise CniError(CANNOT_DECODE, f"plugin {kind} printed no JSON object on {verb}")
    return document
