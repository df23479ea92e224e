"""What every plugin is given, and what it has to be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

import msgspec

from dovetail.cni.conf import Conf
from dovetail.cni.environment import Environment
from dovetail.cni.errors import DIFFERS, INVALID_CONFIG, CniError
from dovetail.cni.folded import Folded
from dovetail.cni.spec.parts import read_dns
from dovetail.cni.spec.registry import parse, render
from dovetail.cni.spec.result import Result
from dovetail.engine.engine import Engine
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import DNS
from dovetail.model.endpoint import Owner

__all__ = ["Call", "Plugin", "refuse"]

_VALID = ("cni.dev/valid-attachments", "cni.dev/attachments")  # SPEC 1.1.0, and what libcni sent before it


class Call:
    """One call: the environment, the configuration, its ``name`` and version.

    environ, stdin: as they came, for a delegate of somebody else's. stderr: what is to go to standard error.
    result: the previous result, where it is at hand and not in the configuration.
    """

    def __init__(
        self,
        *,
        environment: Environment,
        config: Folded,
        name: str,
        version: str,
        environ: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        result: Result | None = None,
    ) -> None:
        self.environment = environment
        self.config = config
        self.name = name
        self.version = version
        self.environ = environ or {}
        self._stdin = stdin
        self._result = result
        self.stderr = bytearray()

    @property
    def prev_document(self) -> dict[str, Any] | None:
        """The previous result as a plugin would read it; None where there is none."""
        if self._result is not None:
            return render(self._result, self.version)
        return self.config.object("prevResult").document if "prevResult" in self.config else None

    @property
    def stdin(self) -> bytes:
        """The configuration as text: as it came, or as it would."""
        if self._stdin:
            return self._stdin
        result = self.prev_document
        document = self.config.document
        return msgspec.json.encode(document if result is None else {**document, "prevResult": result})

    @property
    def detail(self) -> dict[str, str]:
        """What a trace says of the call."""
        environment = self.environment
        found = {"network": self.name, "container": environment.container_id, "ifname": environment.ifname}
        return {key: value for key, value in found.items() if value}

    @cached_property
    def owner(self) -> Owner:
        """Whose the attachment is."""
        environment = self.environment
        return Owner(
            face="cni", network=self.name, container=environment.container_id, ifname=environment.ifname
        )

    @cached_property
    def runtime(self) -> Folded:
        """What the runtime gives for the capabilities that the configuration declares."""
        return self.config.object("runtimeConfig")

    @cached_property
    def cni_args(self) -> Folded:
        """What the runtime gives by convention without being asked (CONVENTIONS.md of the CNI project, ``args``)."""
        return self.config.object("args").object("cni")

    @cached_property
    def dns(self) -> DNS:
        """The configuration's own resolver settings."""
        return read_dns(self.config.object("dns"))

    @cached_property
    def prev_result(self) -> Result | None:
        """The result of the plugin before this one, or on DEL and CHECK of the whole chain. Raises codes 1 and 6."""
        if self._result is not None or "prevResult" not in self.config:
            return self._result
        return parse(self.config.object("prevResult"), self.version)

    def required_result(self) -> Result:
        """Give the previous result; raises code 7 where there is none."""
        if self.prev_result is None:
            raise CniError(
                INVALID_CONFIG,
                "Required prevResult missing",
                "this plugin is called after one that makes an interface, with its result",
            )
        return self.prev_result

    @cached_property
    def valid(self) -> frozenset[tuple[str, str]] | None:
        """The attachments (container, ifname) that the runtime has, for GC; None where it does not say (cni.md §1.7.8)."""
        key = next((key for key in _VALID if key in self.config), None)
        if key is None:
            return None
        return frozenset((one.text("containerID"), one.text("ifname")) for one in self.config.objects(key))


class Plugin(ABC):
    """One plugin type over the engine.

    conf: its keys, in the object `where`. capabilities: what a runtime may give it, and what that does.
    gives_addresses: it is an IPAM plugin, to which others delegate.
    """

    conf: ClassVar[type[Conf]] = Conf
    where: ClassVar[str] = "$"
    capabilities: ClassVar[Mapping[str, str]] = {}
    gives_addresses: ClassVar[bool] = False

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @classmethod
    def section(cls, config: Folded) -> Folded:
        """Give the object of a configuration that the plugin's keys are in."""
        return config if cls.where == "$" else config.object(cls.where.removeprefix("$."))

    @abstractmethod
    def add(self, call: Call, netns: Netns) -> Result:
        """Attach the container."""

    @abstractmethod
    def delete(self, call: Call, netns: Netns | None) -> None:
        """Detach it; what is gone already is no error, nor is a namespace that is (`netns` None)."""

    @abstractmethod
    def check(self, call: Call, netns: Netns) -> None:
        """Raise where the kernel differs from what `add` made; change nothing."""

    @abstractmethod
    def gc(self, call: Call) -> None:
        """Detach what is not among the valid attachments; where the runtime names none at all, nothing."""

    @abstractmethod
    def status(self, call: Call) -> None:
        """Raise where the next `add` would fail."""


def refuse(differences: list[str]) -> None:
    """Raise code 105 naming all of `differences`, if there are any."""
    if differences:
        raise CniError(DIFFERS, "; ".join(differences))
