"""Network namespaces: open, enter for a moment, make, delete.

Python 3.11 has neither setns nor unshare, so both come from the C library.
Source: setns(2), unshare(2), namespaces(7); include/uapi/linux/{sched,nsfs}.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import socket
import stat
import threading
from contextlib import AbstractContextManager
from threading import Thread

from dovetail.errors import (
    AlreadyExists,
    DovetailError,
    InvalidArgument,
    KernelError,
    NamespaceGone,
    PermissionDenied,
)
from dovetail.kernel.netlink import NetlinkSocket, Refusal, SocketPool
from dovetail.kernel.protocol import Netns
from dovetail.kernel.rtnl import set_link

__all__ = ["LinuxNetns", "create", "delete", "entered", "open_netns", "present", "stay"]

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_NS_GET_NSTYPE = 0xB703  # _IO(NSIO, 0x3), include/uapi/linux/nsfs.h
_MS_BIND = 4096  # include/uapi/linux/mount.h
_MNT_DETACH = 2  # include/linux/fs.h
_THREAD_NETNS = "/proc/thread-self/ns/net"
_MOUNTS_AT_MOST = 16
_EXIT_LOST = 70  # EX_SOFTWARE, sysexits.h
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESRCH})
_MISSING_HINT = "start the container first, or make one with: ip netns add NAME"
_PRIVILEGE_HINT = "entering a namespace needs CAP_SYS_ADMIN: run as root"

_libc = ctypes.CDLL(None, use_errno=True)


class LinuxNetns:
    """An open descriptor of a network namespace, which keeps the namespace alive; `close` closes it."""

    def __init__(self, fd: int, path: str = "") -> None:
        """Adopt `fd`; raises InvalidArgument, and leaves it to the caller, where it is no network namespace."""
        status = os.fstat(fd)
        reason = _why_no_netns(fd, status)
        if reason:
            raise InvalidArgument(f"{path or f'descriptor {fd}'} is not a network namespace: {reason}")
        self._fd = fd
        self.path = path
        self.inode = status.st_ino

    def fileno(self) -> int:
        """Give the descriptor."""
        return self._fd

    def close(self) -> None:
        """Close the descriptor; closing twice is no error."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        route: SocketPool | None = self.__dict__.pop("route", None)
        if route is not None:
            route.close()

    @functools.cached_property
    def route(self) -> SocketPool:
        """Rtnetlink sockets in it, which all handles to it share; they close with it."""
        return SocketPool(functools.partial(self.open_netlink, socket.NETLINK_ROUTE))

    def open_netlink(self, protocol: int) -> NetlinkSocket:
        """Open a netlink socket in it. Raises PermissionDenied."""
        with entered(self):
            return NetlinkSocket(protocol)

    def __enter__(self) -> LinuxNetns:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.close()


def open_netns(path: str) -> LinuxNetns:
    """Open the namespace at `path`: a bind mount, ``/proc/PID/ns/net``, ``/proc/self/fd/N``.

    Nothing else is opened, as a device may act on it. Raises InvalidArgument (nothing there, or no network
    namespace) or PermissionDenied; both name the path.
    """
    try:
        reason = _why_no_namespace(os.stat(path))
        if reason:
            raise InvalidArgument(f"{path} is not a network namespace: {reason}")
        # O_NONBLOCK: opening a FIFO that took its place meanwhile would wait for its writer
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except ValueError as exc:
        raise InvalidArgument(f"{path!r} is not a path") from exc
    except OSError as exc:
        raise _cannot_open(path, exc) from exc
    try:
        return LinuxNetns(fd, path)
    except BaseException:
        os.close(fd)
        raise


def present() -> LinuxNetns:
    """Open the namespace that the calling thread is in."""
    return LinuxNetns(os.open(_THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC))


def _cannot_open(path: str, exc: OSError) -> DovetailError:
    if exc.errno in _GONE:
        ended = path.startswith("/proc/") or os.path.isdir(os.path.dirname(path))
        kind = NamespaceGone if ended else InvalidArgument
        return kind(f"network namespace {path} does not exist", hint=_MISSING_HINT)
    if exc.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(f"no permission to open network namespace {path}", hint=_PRIVILEGE_HINT)
    return InvalidArgument(f"network namespace {path} cannot be opened: {exc.strerror}")


def _why_no_namespace(status: os.stat_result) -> str:
    if status.st_dev == _nsfs_device():
        return ""
    return "it is a directory" if stat.S_ISDIR(status.st_mode) else "it is an ordinary file"


def _why_no_netns(fd: int, status: os.stat_result) -> str:
    """Say what stands against `fd` being a network namespace, empty where nothing does.

    The file system is asked first: an ioctl with this number might mean anything to a device. All
    namespaces are on the one nsfs of the kernel (fs/nsfs.c), so its device number tells.
    """
    reason = _why_no_namespace(status)
    if reason:
        return reason
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as exc:
        return exc.strerror or str(exc)
    return "" if kind == _CLONE_NEWNET else "it is a namespace of another kind"


@functools.cache
def _nsfs_device() -> int:
    return os.stat(_THREAD_NETNS).st_dev


def entered(netns: Netns) -> AbstractContextManager[None]:
    """Put the calling thread into `netns` and back; a thread that cannot come back ends the process.

    For moments only: opening a socket or a file below /proc/sys/net, starting a process. Costs 0.01 ms, or
    nothing where the thread is there already. Needs CAP_SYS_ADMIN (raises PermissionDenied).
    """
    return _Entered(netns)


def stay() -> None:
    """Promise that the calling thread changes its namespace by `entered` alone, which then need not look where it is."""
    _thread.home = present()


class _Thread(threading.local):
    """Where the thread is, if it has promised to `stay`."""

    home: LinuxNetns | None = None


_thread = _Thread()


class _Entered:
    """The ``with`` of `entered`."""

    __slots__ = ("_back", "_netns", "_opened")

    def __init__(self, netns: Netns) -> None:
        self._netns = netns
        self._back = self._opened = -1

    def __enter__(self) -> None:
        if _thread.home is not None:
            here, inode = _thread.home.fileno(), _thread.home.inode
        else:
            here = self._opened = os.open(_THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
            inode = os.fstat(here).st_ino
        if inode == self._netns.inode:
            return
        try:
            _setns(self._netns)
        except BaseException:
            self._close()
            raise
        self._back = here

    def __exit__(self, *exc: object) -> None:
        if self._back >= 0 and _libc.setns(self._back, _CLONE_NEWNET) != 0:
            # going on would change the wrong namespace, perhaps the host's
            os._exit(_EXIT_LOST)
        self._close()

    def _close(self) -> None:
        if self._opened >= 0:
            os.close(self._opened)


def _setns(netns: Netns) -> None:
    if _libc.setns(netns.fileno(), _CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    where = netns.path or f"descriptor {netns.fileno()}"
    if code in (errno.EPERM, errno.EACCES):
        raise PermissionDenied(f"no permission to enter network namespace {where}", hint=_PRIVILEGE_HINT)
    raise KernelError(f"network namespace {where} cannot be entered: {os.strerror(code)}", code)


def create(path: str) -> LinuxNetns:
    """Make a namespace with its ``lo`` up, bind-mounted at `path`; directories above are made (0755).

    It is made by a thread of its own that ends there, so that no other thread ever leaves its namespace.
    A file that a crash left at `path`, empty and not mounted, is used. Raises AlreadyExists where a
    namespace is there, PermissionDenied, KernelError.
    """
    made = _claim(path)
    try:
        netns = _in_thread(path)
    except BaseException:
        if made:
            os.unlink(path)
        raise
    return netns


def _claim(path: str) -> bool:
    """Make the empty file that the namespace is mounted over; False where there was one."""
    try:
        os.makedirs(os.path.dirname(path) or ".", mode=0o755, exist_ok=True)
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
    except FileExistsError as exc:
        if _is_leftover(path):
            return False
        raise AlreadyExists("network namespace", path, hint="choose another name, or delete it") from exc
    except OSError as exc:
        raise _failure("made", path, exc) from exc
    return True


def _is_leftover(path: str) -> bool:
    """Say whether `path` is an empty ordinary file, as a crash between making and mounting leaves it."""
    try:
        with open_netns(path):
            return False
    except DovetailError:
        try:
            status = os.lstat(path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_size == 0


def _in_thread(path: str) -> LinuxNetns:
    made: list[LinuxNetns] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            made.append(_unshare_here(path))
        except BaseException as exc:
            failed.append(exc)

    thread = Thread(target=work, name="create netns")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _unshare_here(path: str) -> LinuxNetns:
    try:
        _check(_libc.unshare(_CLONE_NEWNET))
        fd = os.open(_THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as exc:
        raise _failure("made", path, exc) from exc
    netns = LinuxNetns(fd, path)
    try:
        _bring_loopback_up()
        _check(_libc.mount(_THREAD_NETNS.encode(), os.fsencode(path), None, _MS_BIND, None))
    except OSError as exc:
        netns.close()
        raise _failure("made", path, exc) from exc
    except BaseException:
        netns.close()
        raise
    return netns


def _bring_loopback_up() -> None:
    route = NetlinkSocket(socket.NETLINK_ROUTE)
    try:
        refusal: Refusal | None = route.execute([set_link("lo", up=True)])[0]
    finally:
        route.close()
    if refusal is not None:
        raise OSError(refusal.errno, os.strerror(refusal.errno))


def delete(path: str) -> None:
    """Unmount what is mounted at `path` and remove the file; what is gone already is no error.

    Processes and links in the namespace keep it alive. Raises InvalidArgument for a file that is no mount
    of a namespace and not empty: nothing but ours is removed.
    """
    mounted = False
    for _ in range(_MOUNTS_AT_MOST):
        if not _is_netns(path):
            break
        if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
            code = ctypes.get_errno()
            if code in (errno.EINVAL, errno.ENOENT):
                break
            raise _failure("deleted", path, OSError(code, os.strerror(code)))
        mounted = True
    if not os.path.lexists(path):
        return
    if not mounted and not _is_leftover(path):
        raise InvalidArgument(f"{path} is not a network namespace that was mounted there, so it stays")
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as exc:
        raise _failure("deleted", path, exc) from exc


def _is_netns(path: str) -> bool:
    try:
        open_netns(path).close()
    except InvalidArgument:
        return False
    return True


def _check(status: int) -> None:
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _failure(verb: str, path: str, exc: OSError) -> DovetailError:
    if exc.errno in (errno.EPERM, errno.EACCES):
        hint = "making and deleting namespaces needs CAP_SYS_ADMIN: run as root"
        return PermissionDenied(f"network namespace {path} cannot be {verb}: {exc.strerror}", hint=hint)
    return KernelError(f"network namespace {path} cannot be {verb}: {exc.strerror}", exc.errno or errno.EIO)
