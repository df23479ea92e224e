"""What the verbs on traffic control equal as command lines of ``tc``; see `commands`."""

from __future__ import annotations

from collections.abc import Callable

from dovetail.kernel.command_line import shell_line
from dovetail.kernel.protocol_tc import Tbf

__all__ = ["TRAFFIC_CONTROL"]


def _set_tbf(link: str, tbf: Tbf) -> list[str]:
    bucket = ("rate", f"{tbf.rate}bps", "burst", tbf.burst, "limit", tbf.limit)  # tc's bps is bytes a second
    return [shell_line("tc", "qdisc", "replace", "dev", link, "root", "handle", "1:", "tbf", *bucket)]


def _delete_tbf(link: str) -> list[str]:
    return [shell_line("tc", "qdisc", "del", "dev", link, "root", "handle", "1:", "tbf")]


def _add_redirect(link: str, to: str) -> list[str]:
    everything = ("protocol", "all", "prio", 1, "u32", "match", "u32", 0, 0, "flowid", "1:1")
    action = ("action", "mirred", "egress", "redirect", "dev", to)
    return [
        shell_line("tc", "qdisc", "add", "dev", link, "ingress"),
        shell_line("tc", "filter", "add", "dev", link, "parent", "ffff:", *everything, *action),
    ]


def _delete_redirect(link: str) -> list[str]:
    return [shell_line("tc", "qdisc", "del", "dev", link, "ingress")]


TRAFFIC_CONTROL: dict[str, Callable[..., list[str]]] = {
    "set_tbf": _set_tbf,
    "delete_tbf": _delete_tbf,
    "add_redirect": _add_redirect,
    "delete_redirect": _delete_redirect,
}
"""The writers by verb."""
