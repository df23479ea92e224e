"""Delegation: a plugin has another one do a part, its ``ipam`` mostly.

One of ours runs in this process, with the same effect as if it were executed; any other is found in CNI_PATH and
executed as a runtime would: the same environment and configuration, its standard error passed on.

Source: CNI SPEC 1.1.0 "Section 4: Plugin Delegation".
"""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import ExitStack
from typing import Any

import msgspec

from dovetail.cni.errors import CANNOT_DECODE, INVALID_CONFIG, IO_FAILURE, TRY_AGAIN, CniError
from dovetail.cni.executables import is_ours
from dovetail.cni.folded import Folded
from dovetail.cni.plugins import Call, Plugin, plugin_type
from dovetail.cni.spec.registry import parse
from dovetail.cni.spec.result import Result
from dovetail.engine.engine import Engine
from dovetail.kernel.protocol import Netns

__all__ = ["Delegate", "find_plugin"]

_TIMEOUT_S = 60.0
_SHOWN = 400


class Delegate:
    """The plugin of type `kind`, called with the configuration of `call`."""

    def __init__(self, engine: Engine, call: Call, kind: str) -> None:
        """Find it. Raises code 7 where it is no name of a plugin, or is nowhere."""
        self._call = call
        self.kind = kind
        self._path = find_plugin(kind, call.environ.get("CNI_PATH", ""))
        ours = plugin_type(kind) if not self._path or is_ours(self._path) else None
        self._ours: Plugin | None = ours(engine) if ours is not None else None
        if self._ours is None and not self._path:
            raise CniError(
                INVALID_CONFIG,
                f"failed to find plugin {kind!r} in path [{call.environ.get('CNI_PATH', '')}]",
                "put it into a directory of CNI_PATH",
            )

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
            self.delete(None)
        except Exception as exc:  # whatever it is, the first failure is the one to tell
            self._call.stderr += f"{self.kind} DEL after a failure: {exc}\n".encode()

    def _execute(self, verb: str) -> Any:
        """Run the executable; gives what it printed, as JSON. Its process group ends with the deadline."""
        environ = {**os.environ, **self._call.environ, "CNI_COMMAND": verb}
        try:
            process = subprocess.Popen(
                [self._path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environ,
                start_new_session=True,
            )
        except OSError as exc:
            raise CniError(IO_FAILURE, f"plugin {self._path} cannot be executed: {exc.strerror}") from exc
        try:
            stdout, stderr = process.communicate(self._call.stdin, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise CniError(
                TRY_AGAIN, f"plugin {self.kind} did not answer {verb} within {_TIMEOUT_S:g} s"
            ) from exc
        self._call.stderr += stderr
        if process.returncode:
            raise self._refusal(verb, process.returncode, stdout, stderr)
        return _document(self.kind, verb, stdout) if verb == "ADD" else None

    def _refusal(self, verb: str, status: int, stdout: bytes, stderr: bytes) -> CniError:
        """Give the error that it printed, or what else it says."""
        try:
            said = Folded(msgspec.json.decode(stdout))
            return CniError(said.integer("code") or IO_FAILURE, said.text("msg"), said.text("details"))
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, CniError):
            ended = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            text = (stderr or stdout).decode(errors="replace").strip()[:_SHOWN]
            return CniError(IO_FAILURE, f"plugin {self.kind} {ended} on {verb}", text)


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
