"""The traffic control side of `LinuxKernel`: token buckets and redirects, over rtnetlink."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EINVAL, ENODEV, ENOENT
from functools import partial

from dovetail.errors import AlreadyExists, DovetailError, Unsupported
from dovetail.kernel import tc
from dovetail.kernel.commands import describe
from dovetail.kernel.ifindex import index_of
from dovetail.kernel.linux_handle import LinuxHandle, names, rows
from dovetail.kernel.netlink import Message, NetlinkSocket, Refusal, RefusedError
from dovetail.kernel.protocol_tc import Redirect, Tbf
from dovetail.kernel.refusals import explain
from dovetail.kernel.train import Operation, Resolve

__all__ = ["LinuxTc"]

_NOTHING = frozenset({ENOENT, ENODEV, EINVAL})  # no qdisc, no link; another qdisc than the one that is named
_UNKNOWN = "Specified qdisc kind is unknown"  # qdisc_create, net/sched/sch_api.c


class LinuxTc(LinuxHandle):
    """Those verbs."""

    def set_tbf(self, link: str, tbf: Tbf) -> None:
        """Hold what a link sends to a rate; raises NotFound, Unsupported."""
        commands = partial(describe, "set_tbf", link, tbf)

        def build(resolve: Resolve) -> list[Message]:
            return [tc.replace_tbf(resolve(link), tbf)]

        self._do(Operation(commands, build, link=link, refused=partial(_refused, "tbf")))

    def delete_tbf(self, link: str) -> None:
        """Take the rate away; without it, or the link, there is nothing to do."""
        commands = partial(describe, "delete_tbf", link)
        self._do(Operation(commands, lambda resolve: [tc.delete_tbf(resolve(link))], tolerated=_NOTHING))

    def tbfs(self, link: str = "") -> dict[str, Tbf]:
        """List token buckets; of one link by one message, whatever others there are."""
        with self._route.borrow() as netlink:
            if not link:
                name_of = names(netlink)
                return {
                    name: row.tbf
                    for row in map(tc.parse_qdisc, rows(netlink, tc.dump_qdiscs(), "tc qdisc show"))
                    if row.tbf is not None and (name := name_of(row.ifindex))
                }
            index = index_of(netlink.fileno(), link)
            root = _root(netlink, index, link) if index else None
        return {link: root} if root is not None else {}

    def add_redirect(self, link: str, to: str) -> None:
        """Send on another link what this one receives.

        Two sends: in one, the filter would be hung on an ingress qdisc that is somebody else's.
        """
        commands = partial(describe, "add_redirect", link, to)
        indices: list[int] = []

        def build(resolve: Resolve) -> list[Message]:
            indices[:] = resolve(link), resolve(to)
            return [tc.new_ingress(indices[0])]

        self._do(
            Operation(
                commands,
                build,
                exists=AlreadyExists("ingress qdisc", link),
                link=link,
                refused=partial(_refused, "ingress"),
                after=lambda: self._hang_filter(indices[0], indices[1], commands()[1]),
            )
        )

    def _hang_filter(self, index: int, to: int, command: str) -> None:
        with self._route.borrow() as netlink:
            refusal = netlink.execute([tc.new_redirect(index, to)])[0]
            if refusal is not None:
                netlink.execute([tc.delete_ingress(index)])
                raise explain(refusal, command)

    def delete_redirect(self, link: str) -> None:
        """Receive again what was redirected; without that, or the link, there is nothing to do."""
        commands = partial(describe, "delete_redirect", link)
        self._do(Operation(commands, lambda resolve: [tc.delete_ingress(resolve(link))], tolerated=_NOTHING))

    def redirects(self, link: str = "") -> list[Redirect]:
        """List redirects; of all links by a list of qdiscs and one for each link with an ingress."""
        with self._route.borrow() as netlink:
            return list(_redirects(netlink, link))


def _refused(kind: str, refusal: Refusal) -> DovetailError | None:
    if refusal.errno == ENOENT and refusal.extack.startswith(_UNKNOWN):
        return Unsupported(f"this kernel has no qdisc {kind}", hint=f"try `modprobe sch_{kind}`")
    return None


def _root(netlink: NetlinkSocket, index: int, link: str) -> Tbf | None:
    try:
        return tc.parse_qdisc(netlink.request(tc.get_root(index))).tbf
    except RefusedError as exc:
        if exc.refusal.errno in _NOTHING:  # one that the kernel chose is not told
            return None
        raise explain(exc.refusal, f"tc qdisc show dev {link} root") from exc


def _redirects(netlink: NetlinkSocket, link: str) -> Iterator[Redirect]:
    name_of = names(netlink)
    if link:
        indices = [index for index in [index_of(netlink.fileno(), link)] if index]
    else:
        qdiscs = map(tc.parse_qdisc, rows(netlink, tc.dump_qdiscs(), "tc qdisc show"))
        indices = [qdisc.ifindex for qdisc in qdiscs if qdisc.kind == "ingress"]
    for index in indices:
        name = link or name_of(index)
        for body in rows(netlink, tc.dump_filters(index), f"tc filter show dev {name} ingress"):
            to = tc.parse_redirect(body)
            if to is not None and name:
                yield Redirect(name, name_of(to) if to else "")
