"""Sysctls of one interface, as people write them: ``net.ipv4.conf.IFNAME.forwarding=0``.

``IFNAME`` stands for the interface's name, which nobody knows yet; it is how Docker's
``com.docker.network.endpoint.sysctls`` and CNI's ``tuning`` write it. Only settings of that interface can be
given: nothing here reaches another interface, a sandbox's other settings, or a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dovetail.errors import InvalidArgument

__all__ = ["INTERFACE", "check_sysctls", "parse_sysctl", "parse_sysctls", "sysctl_path"]

INTERFACE = "IFNAME"
_KEY = re.compile(r"net\.(ipv4|ipv6)\.(conf|neigh)\.IFNAME\.([a-z0-9_]{1,64})")
_VALUE = re.compile(r"[0-9A-Za-z:./ \t-]{1,128}")
_HINT = "write it as net.ipv4.conf.IFNAME.forwarding=0, or with ipv6, or with neigh for conf"


def parse_sysctls(text: str, *, where: str = "") -> dict[str, str]:
    """Read settings with commas between them; the last of two for the same key is what counts."""
    return dict(parse_sysctl(part, where=where) for part in text.split(","))


def parse_sysctl(text: str, *, where: str = "") -> tuple[str, str]:
    """Read ``KEY=VALUE``; raises InvalidArgument."""
    key, _, value = (part.strip() for part in text.partition("="))
    _check(key, value, where)
    return key, value


def check_sysctls(sysctls: Mapping[str, str], *, where: str = "") -> dict[str, str]:
    """Give settings back if they are of one interface, else raise InvalidArgument."""
    for key, value in sysctls.items():
        _check(key, value, where)
    return dict(sysctls)


def _check(key: str, value: str, where: str) -> None:
    if not _KEY.fullmatch(key):
        raise InvalidArgument(f"{key!r} is not a sysctl of an interface", where=where, hint=_HINT)
    if not _VALUE.fullmatch(value):
        raise InvalidArgument(f"{value!r} is not a value for sysctl {key}", where=where, hint=_HINT)


def sysctl_path(key: str, ifname: str) -> str:
    """Write a checked key as the kernel package takes it; the name may have dots, so ``/`` is between the parts."""
    return "/".join(ifname if part == INTERFACE else part for part in key.split("."))
