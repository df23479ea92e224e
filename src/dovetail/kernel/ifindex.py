"""Names and indices of links, asked by ioctl: 0.001 ms, and without waiting for the rtnl lock as rtnetlink does.

The descriptor's namespace counts, not the thread's, and any socket will do.
Source: netdevice(7); dev_ioctl, net/core/dev_ioctl.c.
"""

from __future__ import annotations

import fcntl
from errno import ENODEV, ENXIO
from struct import Struct

__all__ = ["index_of", "name_of"]

_SIOCGIFNAME = 0x8910  # include/uapi/linux/sockios.h
_SIOCGIFINDEX = 0x8933
_IFREQ = Struct("@16si20x")  # struct ifreq: a name and, of its union, the index
_NAME_BYTES = 15  # IFNAMSIZ - 1


def index_of(fd: int, name: str) -> int:
    """Give the index of the link `name`, 0 where there is none."""
    encoded = name.encode()
    if not 0 < len(encoded) <= _NAME_BYTES:
        return 0
    try:
        answer = fcntl.ioctl(fd, _SIOCGIFINDEX, _IFREQ.pack(encoded, 0))
    except OSError as exc:
        if exc.errno in (ENODEV, ENXIO):
            return 0
        raise
    return int(_IFREQ.unpack(answer)[1])


def name_of(fd: int, index: int) -> str:
    """Give the name of the link with `index`, empty where there is none."""
    try:
        answer = fcntl.ioctl(fd, _SIOCGIFNAME, _IFREQ.pack(b"", index))
    except OSError as exc:
        if exc.errno in (ENODEV, ENXIO):
            return ""
        raise
    return bytes(_IFREQ.unpack(answer)[0]).split(b"\0")[0].decode(errors="replace")
