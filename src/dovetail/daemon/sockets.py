"""The daemon's sockets: born with their mode, taken from systemd where it made them."""

from __future__ import annotations

import errno
import os
import socket
import stat

from dovetail.errors import AlreadyExists, DovetailError, PermissionDenied, StoreError

__all__ = ["inherited", "listen"]

_FIRST = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_BACKLOG = 512


def inherited() -> dict[str, socket.socket]:
    """Take the sockets that systemd passed, by FileDescriptorName; empty without socket activation."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    for variable in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(variable, None)
    return {name: socket.socket(fileno=_FIRST + index) for index, name in enumerate(names[:count])}


def listen(path: str, mode: int) -> socket.socket:
    """Bind and listen at `path` with `mode` from birth.

    A socket file that a dead daemon left is replaced; one that answers raises AlreadyExists.
    """
    _clear(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~mode)
    try:
        listening.bind(path)
        listening.listen(_BACKLOG)
    except OSError as exc:
        listening.close()
        raise _meaning(path, exc) from exc
    finally:
        os.umask(before)
    return listening


def _clear(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise AlreadyExists("file", path, hint="it is not a socket: move it away")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(path)
        except OSError as exc:
            if exc.errno in {errno.ECONNREFUSED, errno.ENOENT}:
                os.unlink(path)
                return
        raise AlreadyExists("daemon", path, hint="another dovetail daemon listens there: stop it first")


def _meaning(path: str, exc: OSError) -> DovetailError:
    if exc.errno in {errno.EACCES, errno.EPERM}:
        return PermissionDenied(
            f"no permission to make the socket {path}", hint="run as root, or give --run-dir"
        )
    return StoreError(f"the socket {path} cannot be made: {exc.strerror}")
