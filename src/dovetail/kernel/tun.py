"""Tap devices: made by ioctls on /dev/net/tun, as rtnetlink cannot.

Source: include/uapi/linux/if_tun.h; tun_set_iff, drivers/net/tun.c; Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

import errno
import fcntl
import os
from struct import Struct

from dovetail.errors import (
    AlreadyExists,
    DovetailError,
    InvalidArgument,
    KernelError,
    PermissionDenied,
    Unsupported,
)
from dovetail.kernel.protocol import Tap

__all__ = ["make_tap"]

_DEVICE = "/dev/net/tun"
_IFREQ = Struct("@16sH22x")  # struct ifreq: a name and, of its union, the flags
_NAME_BYTES = 15  # IFNAMSIZ - 1; the kernel would cut a longer one
_IFF_TAP = 0x2
_IFF_MULTI_QUEUE = 0x100
_IFF_NO_PI = 0x1000
_IFF_TUN_EXCL = 0x8000
_TUNSETIFF = 0x400454CA
_TUNSETPERSIST = 0x400454CB
_TUNSETOWNER = 0x400454CC
_TUNSETGROUP = 0x400454CE


def make_tap(name: str, tap: Tap) -> None:
    """Make a tap device in the calling thread's namespace, down, which stays until it is deleted.

    Until the last ioctl it goes with the descriptor, so nothing half-made is left. Needs CAP_NET_ADMIN there.
    Raises AlreadyExists, PermissionDenied, Unsupported (no /dev/net/tun), KernelError.
    """
    if not 0 < len(name.encode()) <= _NAME_BYTES:
        raise InvalidArgument(f"{name!r} is no name for an interface", hint="1 to 15 bytes")
    try:
        fd = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as exc:
        raise _unopened(exc) from exc
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_TUN_EXCL | (_IFF_MULTI_QUEUE if tap.multi_queue else 0)
    try:
        fcntl.ioctl(fd, _TUNSETIFF, _IFREQ.pack(name.encode(), flags))
        for request, number in ((_TUNSETOWNER, tap.owner), (_TUNSETGROUP, tap.group)):
            if number is not None:
                fcntl.ioctl(fd, request, number - (number >> 31 << 32))  # Python passes a signed int
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    except OSError as exc:
        raise _refused(name, exc) from exc
    finally:
        os.close(fd)


def _unopened(exc: OSError) -> DovetailError:
    if exc.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(f"no permission to open {_DEVICE}", hint="run as root")
    return Unsupported(
        f"no tap links can be made here: {_DEVICE}: {exc.strerror}",
        hint="try `modprobe tun`; in a container the device must be given to it",
    )


def _refused(name: str, exc: OSError) -> DovetailError:
    if exc.errno == errno.EBUSY:
        return AlreadyExists("interface", name)
    command = f"ip tuntap add dev {name} mode tap"
    if exc.errno == errno.EPERM:
        return PermissionDenied(
            f"no permission for `{command}`", hint="it needs CAP_NET_ADMIN in that namespace: run as root"
        )
    return KernelError(f"the kernel refused `{command}`: {exc.strerror}", exc.errno or errno.EIO)
