"""A small CNI runtime that executes plugins as libcni does: environment, input, the chain's order, its cache."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_TIMEOUT_S = 60


class PluginError(Exception):
    """A plugin's error, or what it said instead of one."""

    def __init__(self, plugin: str, status: int, stdout: str, stderr: str) -> None:
        self.plugin, self.status, self.stderr = plugin, status, stderr
        try:
            document = json.loads(stdout)
        except ValueError:
            document = {"code": None, "msg": stderr.strip() or "netplugin failed with no error message"}
        self.code, self.message = document.get("code"), document.get("msg", "")
        self.details = document.get("details", "")
        super().__init__(f"{plugin}: {self.code}: {self.message} {self.details}".strip())


@dataclass(frozen=True)
class Attachment:
    """What identifies an attachment, and what the runtime gives with it."""

    container: str
    netns: str
    ifname: str = "eth0"
    args: str = ""
    capabilities: dict[str, Any] = field(default_factory=dict)


def at_least(version: str, other: str) -> bool:
    """Compare two versions of the specification."""
    return [int(n) for n in version.split(".")] >= [int(n) for n in other.split(".")]


class Runtime:
    """Executes the chains of configuration lists; `path` is where the plugins are.

    Spec, "Section 2: Execution Protocol" and "Section 3: Execution of Network Configurations".
    """

    def __init__(self, *path: str, enter: Callable[..., list[str]] = list) -> None:
        """`enter` gives the command line that runs a command on the runtime's host, this one by default."""
        self._path = path
        self._enter = enter
        self._results: dict[tuple[str, str, str], Any] = {}  # the final results of ADDs, as libcni's cache

    def switch(self, *path: str) -> None:
        """Look for plugins elsewhere from now on; what is attached stays so."""
        self._path = path

    def add(self, conflist: dict[str, Any], attachment: Attachment) -> Any:
        """Execute ADD in order; a failure stops the chain, and the runtime owes a DEL."""
        result = None
        for plugin in conflist["plugins"]:
            result = json.loads(self.execute("ADD", conflist, plugin, attachment, result))
        self._results[_key(conflist, attachment)] = result
        return result

    def check(self, conflist: dict[str, Any], attachment: Attachment) -> None:
        """Execute CHECK in order; each plugin has the final result of ADD."""
        if conflist.get("disableCheck"):
            return
        result = self._results.get(_key(conflist, attachment))
        if result is None:
            raise PluginError("", 1, json.dumps({"msg": "CHECK needs the result of an ADD"}), "")
        for plugin in conflist["plugins"]:
            self.execute("CHECK", conflist, plugin, attachment, result)

    def delete(
        self, conflist: dict[str, Any], attachment: Attachment, *, without_result: bool = False
    ) -> None:
        """Execute DEL in reverse order; an error stops it, as in libcni."""
        result = None
        if at_least(conflist["cniVersion"], "0.4.0") and not without_result:
            result = self._results.get(_key(conflist, attachment))
        for plugin in reversed(conflist["plugins"]):
            self.execute("DEL", conflist, plugin, attachment, result)
        self._results.pop(_key(conflist, attachment), None)

    def gc(self, conflist: dict[str, Any], valid: list[Attachment] | None) -> None:
        """Execute GC in order, whatever fails; None is written as Go writes a list that is nil."""
        wanted = (
            [{"containerID": a.container, "ifname": a.ifname} for a in valid] if valid is not None else None
        )
        keys = {"cni.dev/valid-attachments": wanted, "cni.dev/attachments": wanted}
        failures = []
        for plugin in conflist["plugins"]:
            try:
                self.execute("GC", conflist, {**plugin, **keys}, Attachment("", "", ""))
            except PluginError as exc:
                failures.append(exc)
        if failures:
            raise failures[0]

    def status(self, conflist: dict[str, Any]) -> None:
        """Execute STATUS in order; the first error counts."""
        for plugin in conflist["plugins"]:
            self.execute("STATUS", conflist, plugin, Attachment("", "", ""))

    def result_of(self, conflist: dict[str, Any], attachment: Attachment) -> Any:
        """Give the final result of an ADD."""
        return self._results.get(_key(conflist, attachment))

    def execute(
        self,
        verb: str,
        conflist: dict[str, Any],
        plugin: dict[str, Any],
        attachment: Attachment,
        result: Any = None,
    ) -> str:
        """Execute one plugin and give its standard output. Raises PluginError."""
        document = {**plugin, "name": conflist["name"], "cniVersion": conflist["cniVersion"]}
        given = {
            name: attachment.capabilities[name]
            for name, wanted in plugin.get("capabilities", {}).items()
            if wanted and name in attachment.capabilities
        }
        if given:
            document["runtimeConfig"] = given
        if result is not None:
            document["prevResult"] = result
        environment = {
            **os.environ,
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": attachment.container,
            "CNI_NETNS": attachment.netns,
            "CNI_IFNAME": attachment.ifname,
            "CNI_ARGS": attachment.args,
            "CNI_PATH": ":".join(self._path),
        }
        done = subprocess.run(
            self._enter((self._find(plugin["type"]),)),
            input=json.dumps(document),
            capture_output=True,
            text=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise PluginError(plugin["type"], done.returncode, done.stdout, done.stderr)
        return done.stdout

    def _find(self, name: str) -> str:
        for directory in self._path:
            if os.path.isfile(os.path.join(directory, name)):
                return os.path.join(directory, name)
        message = f"failed to find plugin {name!r} in path {list(self._path)}"
        raise FileNotFoundError(message)


def _key(conflist: dict[str, Any], attachment: Attachment) -> tuple[str, str, str]:
    return conflist["name"], attachment.container, attachment.ifname
