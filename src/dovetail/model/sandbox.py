"""Sandboxes: a container's network stack."""

from __future__ import annotations

import msgspec

from dovetail.model.network import Face

__all__ = ["Sandbox"]


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace that endpoints join.

    netns: path of the namespace (``/proc/PID/ns/net``, a bind mount, Docker's SandboxKey).
    made: dovetail made the namespace and deletes it with the sandbox.
    inode: of the namespace, 0 while unknown (Docker up to 25 joins before it exists).
    container: Docker's id of the container, empty until it is learned.
    """

    id: str
    name: str
    netns: str
    face: Face = "cli"
    made: bool = False
    inode: int = 0
    boot_id: str = ""
    created: float = 0.0
    container: str = ""
