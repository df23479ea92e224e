"""What the kernel's refusal of a command means, as an exception of dovetail."""

from __future__ import annotations

import errno
import os

from dovetail.errors import (
    DovetailError,
    KernelError,
    NotFound,
    PermissionDenied,
    Unsupported,
)
from dovetail.kernel.netlink import Refusal

__all__ = ["ABSENT", "UNKNOWN_KIND", "explain"]

ABSENT = frozenset({errno.ENOENT, errno.ENODEV, errno.EAFNOSUPPORT, errno.EOPNOTSUPP})
"""What a list of things is refused with where there is no such table, link or family yet."""

UNKNOWN_KIND = "Unknown device type"
"""The kernel's words for a kind of link it does not have (rtnl_newlink, net/core/rtnetlink.c)."""

_HINTS = {
    errno.EACCES: "IPv6 is turned off there: see the sysctl net/ipv6/conf/LINK/disable_ipv6",
    errno.ENETUNREACH: "the gateway must be in a subnet of the link",
    errno.EHOSTUNREACH: "the gateway must be in a subnet of the link",
    errno.ENETDOWN: "bring the link up first, and the one it sits on",
    errno.EADDRINUSE: "another link on the same parent has this MAC",
}


def explain(refusal: Refusal, command: str, *, link: str = "") -> DovetailError:
    """Give the exception for `refusal` of what ``ip``, ``nft`` or ``conntrack`` would do as `command`.

    link: the interface that ENODEV is about.
    """
    code = refusal.errno
    if code == errno.ENODEV and link:
        return NotFound("interface", link)
    said = refusal.extack.rstrip(".") or os.strerror(code)
    message = f"the kernel refused `{command}`: {said}"
    if code == errno.EPERM:
        return PermissionDenied(
            f"no permission for `{command}`", hint="it needs CAP_NET_ADMIN in that namespace: run as root"
        )
    if code == errno.EOPNOTSUPP and refusal.extack == UNKNOWN_KIND:
        return Unsupported(f"this kernel has no such kind of link: `{command}`")
    return KernelError(message, code, extack=refusal.extack, hint=_HINTS.get(code, ""))
