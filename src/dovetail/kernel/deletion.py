"""Deleting links, several for the price of one.

Deleting a veth makes the kernel wait some 20 ms for an RCU grace period under the global rtnl lock.
Links that share an interface group go by one RTM_DELLINK, with one wait for all. So several names of
one call go as a group, and so do the names of concurrent calls: while one deletion waits in the
kernel, the others collect, and the first of them takes all with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import ENODEV
from threading import Lock

from dovetail.errors import DovetailError
from dovetail.kernel.commands import describe
from dovetail.kernel.ifindex import index_of
from dovetail.kernel.netlink import NetlinkSocket, SocketPool
from dovetail.kernel.refusals import explain
from dovetail.kernel.rtnl import delete_group, delete_link, set_link

__all__ = ["Deletions"]

_OURS = 1 << 30  # above what administrators number groups with (/etc/iproute2/group); the kernel's is an int
_DEFAULT_GROUP = 0  # INIT_NETDEV_GROUP, include/uapi/linux/netdevice.h


@dataclass
class _Request:
    names: tuple[str, ...]
    done: bool = False
    error: BaseException | None = None


class Deletions:
    """The deletions of one namespace; safe from any thread."""

    def __init__(self, sockets: SocketPool) -> None:
        self._sockets = sockets
        self._waiting: list[_Request] = []
        self._collecting = Lock()
        self._turn = Lock()

    def delete(self, names: Iterable[str]) -> None:
        """Delete the links `names` and return when they are gone; missing ones are no error."""
        request = _Request(tuple(dict.fromkeys(names)))
        if not request.names:
            return
        with self._collecting:
            self._waiting.append(request)
        with self._turn:
            if not request.done:  # else whoever had the turn before took this one along
                with self._collecting:
                    requests, self._waiting = self._waiting, []
                self._perform(requests)
        if request.error is not None:
            raise request.error

    def _perform(self, requests: Sequence[_Request]) -> None:
        names = list(dict.fromkeys(name for request in requests for name in request.names))
        try:
            with self._sockets.borrow() as netlink:
                errors = _delete(netlink, names)
        except BaseException as exc:
            for request in requests:
                request.error = exc
        else:
            for request in requests:
                request.error = next((errors[name] for name in request.names if name in errors), None)
        finally:
            for request in requests:
                request.done = True


def _delete(netlink: NetlinkSocket, names: Sequence[str]) -> dict[str, DovetailError]:
    """Delete those of `names` that are there; gives the errors by name.

    A group with a link that cannot be deleted (a network card) is refused as a whole: then one by one.
    """
    there = [name for name in names if index_of(netlink.fileno(), name)]
    grouped = len(there) > 1
    if grouped:
        group = _OURS | int.from_bytes(os.urandom(4)) >> 2
        messages = [set_link(name, group=group) for name in there]
        refusals = netlink.execute([*messages, delete_group(group)])
        if refusals[-1] is None or refusals[-1].errno == ENODEV:
            there = [
                name
                for name, refusal in zip(there, refusals, strict=False)
                if refusal and refusal.errno != ENODEV
            ]
    refusals = netlink.execute([delete_link(name) for name in there])
    refused = {name: r for name, r in zip(there, refusals, strict=True) if r and r.errno != ENODEV}
    if grouped and refused:
        netlink.execute([set_link(name, group=_DEFAULT_GROUP) for name in refused])
    return {name: explain(r, describe("delete_links", [name])[0]) for name, r in refused.items()}
