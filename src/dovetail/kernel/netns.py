"""Network namespaces: opened, made, bind-mounted, deleted, entered for the length of one call.

Numbers are from include/uapi/linux/sched.h, magic.h, nsfs.h and mount.h. Python before 3.12 has no
os.setns, so the three system calls go through ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Iterator

from dovetail.errors import AlreadyExists, DovetailError, InvalidArgument, KernelError, PermissionDenied
from dovetail.kernel.netlink import NETLINK_ROUTE, NetlinkSocket
from dovetail.kernel.rtnl import set_link

__all__ = ["OpenNetns", "create", "current_inode", "delete", "entered", "from_fd", "open_path"]

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_MS_BIND = 4096
_MNT_DETACH = 2
_OWN = "/proc/thread-self/ns/net"
_libc = ctypes.CDLL(None, use_errno=True)


class OpenNetns:
    """An open namespace: its descriptor, its inode, and the path it came by."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self.path = path
        self.inode = os.fstat(fd).st_ino

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor; twice is no error."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> OpenNetns:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def open_path(path: str) -> OpenNetns:
    """Open a namespace by path; raises InvalidArgument where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as exc:
        raise PermissionDenied(
            f"no permission to open network namespace {path!r}", hint="run as root"
        ) from exc
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise InvalidArgument(f"network namespace {path!r} cannot be opened: {reason}") from exc
    return from_fd(fd, path)


def from_fd(fd: int, path: str = "") -> OpenNetns:
    """Adopt a descriptor; raises InvalidArgument (and closes it) where it is no network namespace."""
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError:
        kind = 0
    if kind != _CLONE_NEWNET:
        os.close(fd)
        raise InvalidArgument(f"{path or 'the descriptor'} is not a network namespace")
    return OpenNetns(fd, path)


def current_inode() -> int:
    """Give the inode of the calling thread's namespace."""
    return os.stat(_OWN).st_ino


@contextlib.contextmanager
def entered(fd: int) -> Iterator[None]:
    """Put the calling thread into the namespace `fd` for the ``with``; needs CAP_SYS_ADMIN."""
    home = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(fd, _CLONE_NEWNET) != 0:
            raise _refused("enter the network namespace")
        try:
            yield
        finally:
            if _libc.setns(home, _CLONE_NEWNET) != 0:
                os._exit(70)  # a thread that goes on in the wrong namespace would change the wrong host
    finally:
        os.close(home)


def create(path: str) -> OpenNetns:
    """Make a namespace with ``lo`` up, bind-mounted at `path`."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except FileExistsError:
        with contextlib.suppress(InvalidArgument), open_path(path):
            raise AlreadyExists("network namespace", path) from None
    failure: list[DovetailError] = []
    thread = threading.Thread(target=_unshare_and_mount, args=(path, failure), daemon=True)
    thread.start()
    thread.join()
    if failure:
        delete(path)
        raise failure[0]
    return open_path(path)


def _unshare_and_mount(path: str, failure: list[DovetailError]) -> None:
    """Run on a thread of its own: it ends in the new namespace, which the mount keeps alive."""
    try:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise _refused("make a network namespace")
        netlink = NetlinkSocket(NETLINK_ROUTE)
        netlink.transact([set_link("lo", up=True, mtu=None, mac=None, master=None, alias=None)])
        netlink.close()
        if _libc.mount(_OWN.encode(), path.encode(), b"none", _MS_BIND, None) != 0:
            raise _refused(f"mount the network namespace at {path}")
    except DovetailError as exc:
        failure.append(exc)


def delete(path: str) -> None:
    """Unmount and remove `path`; what is gone already is no error."""
    while _libc.umount2(path.encode(), _MNT_DETACH) == 0:
        pass
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise KernelError(f"remove network namespace {path}: {exc.strerror}", exc.errno or errno.EIO) from exc


def _refused(what: str) -> DovetailError:
    number = ctypes.get_errno()
    if number == errno.EPERM:
        return PermissionDenied(f"no permission to {what}", hint="run as root (CAP_SYS_ADMIN)")
    return KernelError(f"{what}: {os.strerror(number)}", number)
