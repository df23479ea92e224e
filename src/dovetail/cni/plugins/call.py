"""What every plugin is given, and what it has to be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from dovetail.cni.environment import Environment
from dovetail.cni.folded import Folded
from dovetail.engine.engine import Engine
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment

__all__ = ["Call", "Plugin"]


class Call(NamedTuple):
    """One call: the environment, the configuration, its ``name`` and version."""

    environment: Environment
    config: Folded
    name: str
    version: str


class Plugin(ABC):
    """One plugin type over the engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @abstractmethod
    def add(self, call: Call, netns: Netns) -> Attachment:
        """Attach the container."""

    @abstractmethod
    def delete(self, call: Call) -> None:
        """Detach it; what is gone already is no error."""

    @abstractmethod
    def check(self, call: Call, netns: Netns) -> None:
        """Raise where the kernel differs from what `add` made; change nothing."""

    @abstractmethod
    def gc(self, call: Call) -> None:
        """Detach what is not among the valid attachments."""

    @abstractmethod
    def status(self, call: Call) -> None:
        """Raise where the next `add` would fail."""
