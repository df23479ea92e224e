"""``dovetail demo``: one network under a sandbox, a CNI container and Docker, in a private host."""

from dovetail.cli.demo.command import demo

__all__ = ["demo"]
