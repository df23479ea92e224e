"""Sysctls below ``net/``: files of /proc/sys/net, which shows the namespace of the thread that opens them."""

from __future__ import annotations

import errno
import os

from dovetail.errors import DovetailError, InvalidArgument, KernelError, NotFound, PermissionDenied

__all__ = ["read", "write"]

_ROOT = "/proc/sys/"
_PREFIX = "net/"
_READ_BYTES = 4096


def read(key: str) -> str | None:
    """Read a sysctl of the calling thread's namespace; None where there is none of that name."""
    path = _path(key)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise _failure(key, "be read", exc) from exc
    try:
        return os.read(fd, _READ_BYTES).decode().strip()
    except OSError as exc:
        raise _failure(key, "be read", exc) from exc
    finally:
        os.close(fd)


def write(key: str, value: str) -> None:
    """Write a sysctl of the calling thread's namespace where its value differs.

    Raises NotFound where the kernel has none of that name, PermissionDenied, KernelError.
    """
    path = _path(key)
    if read(key) == value:
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound("sysctl", key) from exc
    except OSError as exc:
        raise _failure(key, f"be set to {value!r}", exc) from exc
    try:
        os.write(fd, value.encode())
    except OSError as exc:
        raise _failure(key, f"be set to {value!r}", exc) from exc
    finally:
        os.close(fd)


def _path(key: str) -> str:
    if not key.startswith(_PREFIX) or any(part in ("", ".", "..") for part in key.split("/")) or "\0" in key:
        raise InvalidArgument(
            f"{key!r} is not a sysctl of a network namespace", hint="such as net/ipv4/ip_forward"
        )
    return _ROOT + key


def _failure(key: str, what: str, exc: OSError) -> DovetailError:
    message = f"sysctl {key} cannot {what}: {exc.strerror}"
    if exc.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(message, hint="run as root")
    hint = "/proc/sys is mounted read-only here" if exc.errno == errno.EROFS else ""
    return KernelError(message, exc.errno or errno.EIO, hint=hint)
