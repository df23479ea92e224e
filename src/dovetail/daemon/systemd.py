"""Telling the service manager how the daemon is (sd_notify(3)); nothing happens without one."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping

__all__ = ["notify"]


def notify(environ: Mapping[str, str], state: str) -> None:
    """Send `state` (``READY=1``) to ``NOTIFY_SOCKET``; a manager that is gone is no error."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.sendto(state.encode(), address)
