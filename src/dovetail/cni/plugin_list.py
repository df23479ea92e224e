"""The plugins of a network configuration list in one process: what a runtime does with plugins of ours.

A runtime that executes plugins has each of them read its environment and configuration, open the namespace, and read
and write the result, all as text. Here the configurations are read when the list is, the rest once an operation,
and what goes from plugin to plugin is the result itself. What the plugins do is the same.

Source: CNI SPEC 1.1.0 "Section 1: Network configuration format", "Section 2: Execution Protocol".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dovetail.cni.conf import read_conf
from dovetail.cni.environment import Environment, read_environment
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.plugins import PLUGINS, Call, Plugin, plugin_type
from dovetail.cni.sandbox import open_sandbox, open_sandbox_if_there
from dovetail.cni.spec.registry import check_version, limited
from dovetail.cni.spec.result import Result
from dovetail.engine.engine import Engine

__all__ = ["PluginList"]

_RUNTIMES = "runtimeConfig"


class _Step(NamedTuple):
    """One plugin of the list: its configuration, and the capabilities that this says it has."""

    plugin: Plugin
    config: Folded
    capabilities: frozenset[str]


class PluginList:
    """Plugins of ours, for one attachment after another; any number of threads may use it at the same time.

    The environment is that of an executed plugin without ``CNI_COMMAND``. capability_args: what the runtime has for a
    plugin that declares the capability, by its name (``portMappings``). Needs what the plugins need: CAP_NET_ADMIN,
    CAP_SYS_ADMIN. All methods raise `CniError`, `DovetailError`, or an ``ExceptionGroup`` of these (`errors.cni_error`
    says what that is in CNI).
    """

    def __init__(self, engine: Engine, name: str, version: str, plugins: Sequence[Mapping[str, Any]]) -> None:
        """Read the configurations. Raises code 1 for the version, code 7 for a type that is none of ours."""
        self.name = name
        self.version = check_version(version)
        self._engine = engine
        self._steps = [self._read(index, plugin) for index, plugin in enumerate(plugins)]
        if not self._steps:
            raise CniError(INVALID_CONFIG, "$.plugins: there is none", "name one at least")

    def _read(self, index: int, plugin: Mapping[str, Any]) -> _Step:
        config = Folded({**plugin, "cniVersion": self.version, "name": self.name}, f"$.plugins[{index}]")
        kind = plugin_type(config.text("type"))
        if kind is None:
            known = ", ".join(PLUGINS)
            raise CniError(
                INVALID_CONFIG,
                f"$.plugins[{index}].type: dovetail has no plugin {config.text('type')!r}",
                f"there are {known}",
            )
        read_conf(kind.section(config), kind.conf)
        declared = config.object("capabilities").document
        return _Step(
            kind(self._engine), config, frozenset(name for name, has in declared.items() if has is True)
        )

    def add(
        self,
        environ: Mapping[str, str],
        *,
        capability_args: Mapping[str, Any] | None = None,
        result: Result | None = None,
    ) -> Result:
        """ADD of each in order, the first with `result`; what fails leaves what those before it made, for `delete`."""
        environment = _environment(environ, "ADD")
        with open_sandbox(self._engine, environment) as netns:
            for step in self._steps:
                call = self._call(step, environment, environ, capability_args, result)
                with self._engine.tracer.step("cni", environment.command, **call.detail):
                    result = limited(step.plugin.add(call, netns), self.version)
        assert result is not None  # noqa: S101 - there is one plugin at least
        return result

    def check(
        self,
        environ: Mapping[str, str],
        result: Result,
        *,
        capability_args: Mapping[str, Any] | None = None,
        without: frozenset[str] = frozenset(),
    ) -> None:
        """CHECK of each in order but for the types `without`, with the list's `result`; raises the first difference."""
        environment = _environment(environ, "CHECK")
        with open_sandbox(self._engine, environment) as netns:
            for step in self._steps:
                if step.config.text("type") in without:
                    continue
                call = self._call(step, environment, environ, capability_args, result)
                with self._engine.tracer.step("cni", environment.command, **call.detail):
                    step.plugin.check(call, netns)

    def delete(
        self,
        environ: Mapping[str, str],
        result: Result | None,
        *,
        capability_args: Mapping[str, Any] | None = None,
    ) -> None:
        """DEL of each in reverse order, with the list's `result` where it is known. What is gone is no error."""
        environment = _environment(environ, "DEL")
        with open_sandbox_if_there(self._engine, environment) as netns:
            for step in reversed(self._steps):
                call = self._call(step, environment, environ, capability_args, result)
                with self._engine.tracer.step("cni", environment.command, **call.detail):
                    step.plugin.delete(call, netns)

    def _call(
        self,
        step: _Step,
        environment: Environment,
        environ: Mapping[str, str],
        capability_args: Mapping[str, Any] | None,
        result: Result | None,
    ) -> Call:
        given = {key: value for key, value in (capability_args or {}).items() if key in step.capabilities}
        return Call(
            environment=environment,
            config=step.config.having(_RUNTIMES, given) if given else step.config,
            name=self.name,
            version=self.version,
            environ=environ,
            result=result,
        )


def _environment(environ: Mapping[str, str], command: str) -> Environment:
    return read_environment({**environ, "CNI_COMMAND": command})
