"""CNI_NETNS, opened: the namespace that a plugin works on, and must not be run in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from dovetail.cni.environment import Environment
from dovetail.cni.errors import BAD_ENVIRONMENT, CniError
from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError, InvalidArgument, NotFound
from dovetail.kernel.protocol import Netns

__all__ = ["open_sandbox", "open_sandbox_if_there"]


def open_sandbox(engine: Engine, environment: Environment, netns_fd: int = -1) -> Netns:
    """Open CNI_NETNS, or adopt `netns_fd` for it. A plugin must not be run inside the container's own namespace (checked before anything is done)."""
    try:
        if netns_fd >= 0:
            netns = _adopt(engine, netns_fd, environment.netns)
        else:
            netns = engine.kernel.open_netns(environment.netns)
    except InvalidArgument as exc:
        raise CniError(BAD_ENVIRONMENT, f"CNI_NETNS: {exc}") from exc
    if netns.inode == engine.kernel.netns_inode and not environment.netns_override:
        netns.close()
        raise CniError(
            BAD_ENVIRONMENT, f"CNI_NETNS {environment.netns} is the plugin's own network namespace"
        )
    return netns


@contextmanager
def open_sandbox_if_there(
    engine: Engine, environment: Environment, netns_fd: int = -1
) -> Iterator[Netns | None]:
    """Open CNI_NETNS for DEL: None where it is gone, is not said, or is the plugin's own, where nothing is to be deleted."""
    try:
        opened = open_sandbox(engine, environment, netns_fd) if environment.netns or netns_fd >= 0 else None
    except (CniError, NotFound):
        opened = None
    with opened if opened is not None else nullcontext() as netns:
        yield netns


def _adopt(engine: Engine, netns_fd: int, path: str) -> Netns:
    own = os.dup(netns_fd)
    try:
        return engine.kernel.netns_from_fd(own, path)
    except DovetailError:
        os.close(own)
        raise
