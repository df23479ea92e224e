"""Sandboxes: namespaces that dovetail makes, adopts or is told of."""

from __future__ import annotations

from dovetail.engine.core import Core
from dovetail.kernel.protocol import Netns
from dovetail.model.sandbox import Sandbox

__all__ = ["Sandboxes"]


class Sandboxes:
    """Operations on sandboxes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(self, name: str = "", *, netns: str = "") -> Sandbox:
        """Make a sandbox with a namespace of its own, or adopt the one at path `netns`."""
        raise NotImplementedError

    def delete(self, ref: str) -> None:
        """Leave all networks, then delete the namespace if dovetail made it; raises NotFound."""
        raise NotImplementedError

    def get(self, ref: str) -> Sandbox:
        """Find one by name, id or unique prefix."""
        raise NotImplementedError

    def all(self) -> list[Sandbox]:
        """Give all: plain ones, CNI containers, Docker's."""
        raise NotImplementedError

    def open(self, ref: str) -> Netns:
        """Open a sandbox's namespace; the caller closes it."""
        raise NotImplementedError
