"""A lock on a namespace, for what is chosen and then made in it: a free routing table, a VRF that may be there.

It is flock(2) on the namespace's file, which the reference plugin ``sbr`` takes as well: so either waits for the other.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dovetail.errors import Busy
from dovetail.kernel.protocol import Netns

__all__ = ["locked"]

_TIMEOUT_S = 20.0
_POLL_FIRST_S = 0.001
_POLL_LAST_S = 0.02


@contextmanager
def locked(netns: Netns, *, timeout_s: float = _TIMEOUT_S) -> Iterator[None]:
    """Hold the lock of `netns` for the ``with``; `netns` must be nobody else's open file. Not re-entrant.

    Raises Busy after `timeout_s`. A namespace that is only recorded has no lock.
    """
    fd = netns.fileno()
    if fd < 0:
        yield
        return
    deadline = time.monotonic() + timeout_s
    wait = _POLL_FIRST_S
    while not _try(fd):
        if time.monotonic() >= deadline:
            raise Busy(
                f"network namespace {netns.path} is locked by another plugin for more than {timeout_s:g} s"
            )
        time.sleep(wait)
        wait = min(wait * 2, _POLL_LAST_S)
    try:
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
