"""A command line, and the same in another network namespace."""

from __future__ import annotations

import shlex

from dovetail.kernel.protocol import Netns

__all__ = ["EMPTY", "inside", "netns_name", "netns_path", "shell_line"]

_RUN_NETNS = ("/run/netns/", "/var/run/netns/")  # NETNS_RUN_DIR of iproute2, where `ip -n NAME` looks


class _Empty:
    """A word without letters, which stays; an empty string is one that is left out."""

    def __str__(self) -> str:
        return ""


EMPTY = _Empty()
"""It, for `shell_line`."""


def netns_path(netns: Netns) -> str:
    """Say where a namespace is, also when it came as a descriptor without a path."""
    return netns.path or f"/proc/self/fd/{netns.fileno()}"


def inside(path: str, line: str) -> str:
    """Turn a command line into the same in the namespace at `path`: ``ip -n NAME …`` or ``nsenter …``."""
    name = netns_name(path)
    if name and line.startswith("ip "):
        return f"ip -n {shlex.quote(name)} {line.removeprefix('ip ')}"
    return f"nsenter --net={shlex.quote(path)} {line}"


def netns_name(path: str) -> str:
    """Give the name by which ``ip`` knows the namespace at `path`, empty where it does not."""
    for prefix in _RUN_NETNS:
        name = path.removeprefix(prefix)
        if name != path and "/" not in name:
            return name
    return ""


def shell_line(*words: object) -> str:
    """Write words as a shell reads them; empty ones are left out."""
    return " ".join(shlex.quote(str(word)) for word in words if word != "")
