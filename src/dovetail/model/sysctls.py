"""Sysctls as people write them: ``net.ipv4.conf.IFNAME.forwarding=0``.

``IFNAME`` stands for the interface's name, which nobody knows yet; it is how Docker's
``com.docker.network.endpoint.sysctls`` and CNI's ``tuning`` write it. Of an endpoint only settings of that interface
can be given: nothing there reaches another interface, a sandbox's other settings, or a path. An administrator's
configuration of a CNI plugin may name any setting of the namespace (`namespace_path`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dovetail.errors import InvalidArgument

__all__ = ["INTERFACE", "check_sysctls", "namespace_path", "parse_sysctl", "parse_sysctls", "sysctl_path"]

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


def namespace_path(key: str, ifname: str, *, where: str = "") -> str:
    """Write any ``net`` key as the kernel package takes it: ``net.core.somaxconn``, ``net/core/somaxconn``.

    The separator that comes first is the separator, and the other one is part of a name, as sysctl(8) has it
    (``net/ipv4/conf/eth0.10/forwarding``, ``net.ipv4.conf.eth0/10.forwarding``). Raises InvalidArgument for what is
    not below ``net``, where all of it is a namespace's own.
    """
    dotted = key.partition("/")[0].find(".") >= 0
    parts = [part.replace("/", ".") for part in key.split(".")] if dotted else key.split("/")
    parts = [part.replace(INTERFACE, ifname) for part in parts]
    if parts[0] != "net" or len(parts) == 1 or any(part in {"", ".", ".."} or "\0" in part for part in parts):
        raise InvalidArgument(
            f"invalid net sysctl key: {key!r}",
            where=where,
            hint="write one below net, as net.core.somaxconn or net/ipv4/conf/IFNAME/arp_filter",
        )
    return "/".join(parts)
