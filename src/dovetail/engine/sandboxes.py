"""Sandboxes: namespaces that dovetail makes, adopts or is told of."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack

import msgspec

from dovetail.engine.core import Core
from dovetail.engine.endpoints import Endpoints
from dovetail.errors import AlreadyExists, Conflict, DovetailError, InvalidArgument, NotFound
from dovetail.kernel.protocol import Netns
from dovetail.model.names import check_name, new_id, short
from dovetail.model.sandbox import Sandbox

__all__ = ["Sandboxes"]


class Sandboxes:
    """Operations on sandboxes."""

    def __init__(self, core: Core, endpoints: Endpoints) -> None:
        self._core = core
        self._endpoints = endpoints

    def create(self, name: str = "", *, netns: str = "") -> Sandbox:
        """Make a sandbox with a namespace of its own, or adopt the one at path `netns`.

        A namespace of our own is bind-mounted below `Core.netns_dir`; needs CAP_SYS_ADMIN.
        Raises AlreadyExists, InvalidArgument (the path is missing or no network namespace).
        """
        core = self._core
        sandbox_id = new_id()
        name = check_name("sandbox", name or short(sandbox_id), where="$.name")
        path = _adopted(netns) if netns else os.path.join(core.netns_dir, name)
        sandbox = Sandbox(
            id=sandbox_id, name=name, netns=path, made=not netns, boot_id=core.boot_id, created=core.now()
        )
        with (
            core.tracer.step("engine", "create sandbox", sandbox=name),
            core.locks.hold(sandbox_id, timeout_s=core.lock_timeout_s, what=f"sandbox {name!r}"),
            ExitStack() as undo,
        ):
            if netns:
                with core.kernel.open_netns(path) as opened:
                    sandbox = msgspec.structs.replace(sandbox, inode=opened.inode)
            with core.store.transaction():
                for other in core.store.sandboxes():
                    if other.face == "cli" and name in {other.name, other.id}:
                        raise AlreadyExists("sandbox", name)
                core.store.put_sandbox(sandbox)
            undo.callback(core.store.delete_sandbox, sandbox_id)
            if not netns:
                with core.kernel.create_netns(path) as made:
                    undo.callback(core.kernel.delete_netns, path)
                    sandbox = msgspec.structs.replace(sandbox, inode=made.inode)
                core.store.put_sandbox(sandbox)
            undo.pop_all()
        return sandbox

    def delete(self, ref: str) -> None:
        """Leave all networks, then delete the namespace if dovetail made it; raises NotFound.

        A sandbox that Docker or a CNI runtime brought belongs to them: Conflict.
        """
        sandbox = self.get(ref)
        if sandbox.face != "cli":
            hint = "remove its container there, and the sandbox goes with it"
            raise Conflict(f"sandbox {sandbox.name!r} belongs to {sandbox.face}", hint=hint)
        failures: list[Exception] = []
        with self._core.tracer.step("engine", "delete sandbox", sandbox=sandbox.name):
            for endpoint in self._core.store.endpoints(sandbox_id=sandbox.id):
                try:
                    self._endpoints.detach(endpoint.id)
                except DovetailError as exc:
                    failures.append(exc)
            if failures:
                raise ExceptionGroup(f"sandbox {sandbox.name!r} could not leave all its networks", failures)
            if sandbox.made:
                self._core.kernel.delete_netns(sandbox.netns)
            self._core.store.delete_sandbox(sandbox.id)

    def get(self, ref: str) -> Sandbox:
        """Find one by name, id or unique prefix."""
        return self._core.store.find_sandbox(ref)

    def all(self) -> list[Sandbox]:
        """Give all: plain ones, CNI containers, Docker's."""
        return sorted(self._core.store.sandboxes(), key=lambda sandbox: sandbox.name)

    def open(self, ref: str) -> Netns:
        """Open a sandbox's namespace; the caller closes it."""
        sandbox = self.get(ref)
        try:
            return self._core.kernel.open_netns(sandbox.netns)
        except (InvalidArgument, NotFound) as exc:
            hint = f"remove it with: dovetail sandbox rm {sandbox.name}" if sandbox.face == "cli" else ""
            raise InvalidArgument(
                f"the namespace of sandbox {sandbox.name!r} is gone: {exc}", hint=hint
            ) from exc


def _adopted(netns: str) -> str:
    """Give the path of a namespace that somebody else made, if it can mean the same to everybody later."""
    path = os.path.abspath(netns)
    if re.match(r"/proc/(self|thread-self)/", path):
        raise InvalidArgument(
            f"{path} is another namespace to each process that opens it",
            where="$.netns",
            hint="write it as /proc/PID/ns/net",
        )
    return path
