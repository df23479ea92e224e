"""The daemon's listening sockets: made with the right mode, or taken from systemd."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from dovetail.errors import Conflict, DovetailError, InvalidArgument, PermissionDenied

__all__ = ["Listening", "from_systemd", "hold_run_dir", "listen", "plugin_name"]

_UCRED = struct.Struct("=iII")  # struct ucred, include/linux/socket.h
_BACKLOG = 512
_FIRST_FD = 3  # SD_LISTEN_FDS_START, sd-daemon.h
_PATH_BYTES = 107  # sun_path of struct sockaddr_un holds 108 with its final NUL, include/uapi/linux/un.h


class Listening:
    """A listening socket and its path; `made` by us, so that we remove it at the end."""

    def __init__(self, bound: socket.socket, path: str, *, made: bool) -> None:
        self.socket = bound
        self.path = path
        self._inode = os.stat(path).st_ino if made else 0

    def close(self) -> None:
        """Close the socket, and remove its file if it is the one that was made."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if self._inode and os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


def listen(path: str, mode: int) -> Listening:
    """Make a listening socket at `path` that has `mode` from its birth: no moment in which others may connect.

    The file of a daemon that is dead is replaced. Call before other threads run: the umask is the process's.
    Raises Conflict naming the process that listens there, InvalidArgument, PermissionDenied.
    """
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise InvalidArgument(
            f"the path {path} is too long for a socket",
            hint=f"at most {_PATH_BYTES} bytes: use a shorter directory",
        )
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    before = os.umask(0o777 & ~mode)
    try:
        _remove_stale(path)
        made.bind(path)
        made.listen(_BACKLOG)
    except OSError as exc:
        made.close()
        raise _sentence(path, exc) from exc
    except DovetailError:
        made.close()
        raise
    finally:
        os.umask(before)
    return Listening(made, path, made=True)


def _remove_stale(path: str) -> None:
    try:
        kind = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(kind):
        raise Conflict(f"{path} is there and is not a socket", hint="remove it, or choose another directory")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.settimeout(1.0)
            probe.connect(path)
        except OSError as exc:
            if exc.errno != errno.ECONNREFUSED:
                raise
        else:
            pid, _, _ = _UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
            raise Conflict(f"process {pid} listens on {path} already", hint="stop that daemon first")
    os.unlink(path)


def _sentence(path: str, error: OSError) -> DovetailError:
    if isinstance(error, PermissionError):
        return PermissionDenied(f"no permission to make the socket {path}", hint="run as root")
    return InvalidArgument(f"the socket {path} cannot be made: {error.strerror or error}")


def from_systemd(environ: Mapping[str, str], pid: int) -> dict[str, Listening]:
    """Take the sockets that systemd passed, by their FileDescriptorName (Docker's by `plugin_name`), if it passed any.

    Their files are systemd's: they stay, so that a caller waits while the daemon restarts. Raises InvalidArgument.
    Source: sd_listen_fds_with_names(3).
    """
    if environ.get("LISTEN_PID") != str(pid):
        return {}
    text = environ.get("LISTEN_FDS", "")
    if not re.fullmatch("[0-9]{1,4}", text):
        raise InvalidArgument(f"LISTEN_FDS is {text!r}, which is not a number of sockets")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, Listening] = {}
    for offset in range(int(text)):
        descriptor = _FIRST_FD + offset
        os.set_inheritable(descriptor, False)
        name = names[offset] if offset < len(names) else ""
        passed = socket.socket(fileno=descriptor)
        path = passed.getsockname()
        if passed.family != socket.AF_UNIX or name not in {"api", "docker", "cni"}:
            raise InvalidArgument(
                f"systemd passed socket {name or descriptor!r}, which dovetail does not know",
                hint="FileDescriptorName must be api, docker or cni",
            )
        listening = Listening(passed, os.fsdecode(path), made=False)
        found[plugin_name(listening.path) if name == "docker" else name] = listening
    return found


def plugin_name(path: str) -> str:
    """Name a socket of Docker's after its file: ``docker`` for dovetail.sock, ``docker-X`` for dovetail-X.sock."""
    stem = os.path.basename(path).removesuffix(".sock")
    return f"docker{stem.removeprefix('dovetail')}" if stem.startswith("dovetail-") else "docker"


@contextmanager
def hold_run_dir(run_dir: str) -> Iterator[None]:
    """Be the only daemon on `run_dir`; raises Conflict naming the process that is."""
    path = os.path.join(run_dir, "daemon.pid")
    try:
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise _sentence(path, exc) from exc
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(held, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise Conflict(
                f"process {pid} is the daemon of {run_dir} already", hint="stop it first"
            ) from None
        os.ftruncate(held, 0)
        os.pwrite(held, f"{os.getpid()}\n".encode("ascii"), 0)
        try:
            yield
        finally:
            os.unlink(path)
    finally:
        os.close(held)
