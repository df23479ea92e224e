"""The kernel itself: `Kernel` over rtnetlink, nfnetlink, /proc/sys/net and namespaces.

A handle belongs to one network namespace and is safe from any thread: its sockets stay in the
namespace where they were opened, whichever thread uses them. Sockets open at first use and are kept.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from threading import local
from types import TracebackType
from typing import TypeVar

from dovetail.errors import AlreadyExists, DovetailError, NotFound
from dovetail.kernel import netns, rtnl, sysctl
from dovetail.kernel.commands import describe
from dovetail.kernel.deletion import Deletions
from dovetail.kernel.ifindex import index_of, name_of
from dovetail.kernel.link_refusals import explain_link
from dovetail.kernel.linux_packet_filter import LinuxPacketFilter
from dovetail.kernel.netlink import Message, NetlinkSocket, Refusal, RefusedError, SocketPool
from dovetail.kernel.protocol import Kernel, KernelRoute, Link, LinkSettings, LinkSpec, Netns
from dovetail.kernel.refusals import ABSENT, explain
from dovetail.kernel.train import Operation, Resolve, send_train
from dovetail.model.addresses import IPInterface, IPNetwork
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac

__all__ = ["LinuxKernel"]

_MISSING_ADDRESS = frozenset({errno.ENODEV, errno.EADDRNOTAVAIL})

T = TypeVar("T")


class _Batches(local):
    """What a thread collects, while it does."""

    operations: list[Operation] | None = None


class _Batch:
    """The ``with`` of `LinuxKernel.batch`; like the other two in every attachment a class, which costs half of a generator."""

    __slots__ = ("_kernel",)

    def __init__(self, kernel: LinuxKernel) -> None:
        self._kernel = kernel

    def __enter__(self) -> None:
        self._kernel.collect()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._kernel.send_collected(wanted=exc is None)


class LinuxKernel(LinuxPacketFilter):
    """Linux, in one network namespace: the calling thread's, or `home` (which must stay open as long)."""

    def __init__(self, home: Netns | None = None) -> None:
        self._owns_home = home is None
        super().__init__(netns.present() if home is None else home)
        self._route = SocketPool(partial(self._open, socket.NETLINK_ROUTE))
        self._batches = _Batches()
        if self._owns_home:  # threads share this one, and must not each make their own
            _ = self._deletions, self._table, self._others

    @cached_property  # a handle to a sandbox, made for a few messages, mostly does without
    def _deletions(self) -> Deletions:
        return Deletions(self._route)

    def close(self) -> None:
        """Close its sockets; nothing of the kernel's state changes."""
        self._route.close()
        super().close()
        if self._owns_home:
            self._home.close()

    # -- namespaces -------------------------------------------------------------------------------

    @property
    def netns_inode(self) -> int:
        """Inode of this handle's namespace."""
        return self._home.inode

    def open_netns(self, path: str) -> Netns:
        """Open a namespace by path; see `netns.open_netns`."""
        return netns.open_netns(path)

    def netns_from_fd(self, fd: int, path: str = "") -> Netns:
        """Adopt a descriptor; raises InvalidArgument, and leaves it open, where it is no network namespace."""
        return netns.LinuxNetns(fd, path)

    def create_netns(self, path: str) -> Netns:
        """Make a namespace, mounted at `path`; see `netns.create`."""
        return netns.create(path)

    def delete_netns(self, path: str) -> None:
        """Unmount and remove `path`; see `netns.delete`."""
        netns.delete(path)

    def inside(self, netns: Netns) -> AbstractContextManager[Kernel]:
        """Give a handle to `netns`; needs CAP_SYS_ADMIN where that is another than the thread's."""
        return LinuxKernel(netns)

    def __enter__(self) -> LinuxKernel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def batch(self) -> AbstractContextManager[None]:
        """Collect this thread's link, address and route verbs until the block ends; a block that fails sends none.

        Within another batch it is part of that one.
        """
        return nullcontext() if self._batches.operations is not None else _Batch(self)

    def collect(self) -> None:
        """Begin a batch; `batch` does, and `send_collected` ends it."""
        self._batches.operations = []

    def send_collected(self, *, wanted: bool) -> None:
        """End the batch and send it, if it is still `wanted`."""
        operations, self._batches.operations = self._batches.operations, None
        if wanted and operations:
            self._send(operations)

    def _do(self, operation: Operation) -> None:
        collecting = self._batches.operations
        if collecting is not None:
            collecting.append(operation)
        else:
            self._send([operation])

    def _send(self, operations: Sequence[Operation]) -> None:
        if not operations:
            return
        with self._route.borrow() as netlink:
            error = send_train(netlink, operations)
        if error is not None:
            raise error

    # -- links ------------------------------------------------------------------------------------

    def link(self, name: str) -> Link | None:
        """Look one link up by name; a missing one costs no more than an ioctl."""
        with self._route.borrow() as netlink:
            if not index_of(netlink.fileno(), name):
                return None
            try:
                return rtnl.parse_link(netlink.request(rtnl.get_link(name)))
            except RefusedError as exc:
                if exc.refusal.errno == errno.ENODEV:
                    return None
                raise explain(exc.refusal, f"ip link show dev {name}") from exc

    def links(self) -> list[Link]:
        """List all links."""
        with self._route.borrow() as netlink:
            return [rtnl.parse_link(body) for body in _rows(netlink, rtnl.dump_links(), "ip link show")]

    def add_bridge(self, name: str, *, mac: Mac | None = None, mtu: int = 0, alias: str = "") -> None:
        """Make a bridge, down; raises AlreadyExists. An MTU that is asked for stays whatever its ports have."""
        messages = [rtnl.new_bridge(name, mac=mac)]
        if mtu or alias:
            messages.append(rtnl.set_link(name, mtu=mtu or None, alias=alias or None))
        commands = partial(describe, "add_bridge", name, mac=mac, mtu=mtu, alias=alias)
        self._do(
            Operation(
                commands, lambda _: messages, exists=AlreadyExists("interface", name), link=name, made=name
            )
        )

    def add_veth(self, end: LinkSpec, peer: LinkSpec) -> None:
        """Make a pair by one message, and what the kernel takes by a second only in the same send.

        The peer's second message, if it needs one in another namespace, goes over a socket there. Raises
        AlreadyExists (either name is taken), NotFound (a master).
        """
        if end.netns is not None and peer.netns is None:
            end, peer = peer, end
        commands = partial(describe, "add_veth", end, peer)

        def build(resolve: Resolve) -> list[Message]:
            master = resolve(end.master) if end.master and end.netns is None else 0
            messages = [rtnl.new_veth(end, peer, master=master)]
            for spec in (end, peer):
                if spec.netns is None and (later := _later(spec, resolve, born=spec is end)) is not None:
                    messages.append(later)
            return messages

        abroad = [(spec, spec.netns) for spec in (end, peer) if spec.netns is not None and _needs_more(spec)]
        after = partial(self._finish_abroad, abroad, end.name) if abroad else None
        exists = partial(self._taken, end, peer)
        self._do(Operation(commands, build, exists=exists, link=end.name, made=end.name, after=after))

    def _taken(self, end: LinkSpec, peer: LinkSpec) -> AlreadyExists:
        """Find out which of the two names is taken; the kernel says only that one is."""
        if end.netns is not None:
            return AlreadyExists("interface", f"{end.name} or {peer.name}")
        with self._route.borrow() as netlink:
            taken = index_of(netlink.fileno(), end.name)
        if taken or peer.netns is None:
            return AlreadyExists("interface", end.name if taken else peer.name)
        where = f"in {peer.netns.path or 'the sandbox'}"
        return AlreadyExists("interface", peer.name, hint=f"{where}; choose another name")

    def _finish_abroad(self, specs: Sequence[tuple[LinkSpec, Netns]], made: str) -> None:
        try:
            for spec, netns in specs:
                with self.inside(netns) as inner:
                    _configure(inner, spec)
        except DovetailError:
            self._deletions.delete([made])
            raise

    def add_link(self, spec: LinkSpec, settings: LinkSettings, *, parent: str = "") -> None:
        """Make a link by one message, and what the kernel takes by a second only in the same send.

        A link born elsewhere gets its second message over a socket there. What the kernel's refusal means is
        read from the links that are there.
        """
        commands = partial(describe, "add_link", spec, settings, parent=parent)
        here = spec.netns is None

        def build(resolve: Resolve) -> list[Message]:
            master = resolve(spec.master) if spec.master and here else 0
            index = resolve(parent) if parent else 0
            messages = [rtnl.new_link(spec, settings, parent=index, master=master)]
            if here and (later := _later(spec, resolve, born=True)) is not None:
                messages.append(later)
            return messages

        def finish(netns: Netns) -> None:
            with self.inside(netns) as inner:
                try:
                    _configure(inner, spec._replace(up=False))
                except DovetailError:
                    inner.delete_links([spec.name])
                    raise

        after = (
            partial(finish, spec.netns) if spec.netns is not None and (spec.master or spec.alias) else None
        )
        refused = partial(self._link_refused, spec, settings, parent)
        made = spec.name if here else ""
        self._do(Operation(commands, build, refused=refused, link=spec.name, made=made, after=after))

    def _link_refused(
        self, spec: LinkSpec, settings: LinkSettings, parent: str, refusal: Refusal
    ) -> DovetailError | None:
        on = self.link(parent) if parent else None
        if parent and on is None:
            return NotFound("interface", parent)
        return explain_link(refusal, spec, settings, on, self.links())

    def set_link(
        self,
        name: str,
        *,
        up: bool | None = None,
        mtu: int | None = None,
        mac: Mac | None = None,
        master: str | None = None,
        alias: str | None = None,
    ) -> None:
        """Change what is not None; raises NotFound for the link or the master."""
        commands = partial(describe, "set_link", name, up=up, mtu=mtu, mac=mac, master=master, alias=alias)

        def build(resolve: Resolve) -> list[Message]:
            index = None if master is None else resolve(master) if master else 0
            return [rtnl.set_link(name, up=up, mtu=mtu, mac=mac, master=index, alias=alias)]

        self._do(Operation(commands, build, link=name))

    def set_bridge_port(
        self, name: str, *, hairpin: bool | None = None, isolated: bool | None = None
    ) -> None:
        """Change the flags of a bridge's port; a link that is none is a KernelError (EOPNOTSUPP)."""
        if hairpin is None and isolated is None:
            return
        message = rtnl.set_link(name, hairpin=hairpin, isolated=isolated)
        commands = partial(describe, "set_bridge_port", name, hairpin=hairpin, isolated=isolated)
        self._do(Operation(commands, lambda _: [message], link=name))

    def delete_links(self, names: Iterable[str]) -> None:
        """Delete, and return when they are gone; concurrent calls go together, see `deletion`.

        Within a batch it is done at its place in the order, apart from the train.
        """
        wanted = tuple(names)
        if self._batches.operations is None:
            self._deletions.delete(wanted)
            return
        after = partial(self._deletions.delete, wanted)
        self._do(Operation(partial(describe, "delete_links", wanted), lambda _: [], after=after))

    # -- addresses, routes ------------------------------------------------------------------------

    def add_address(
        self, link: str, address: IPInterface, *, dad: bool = False, prefix_route: bool = True
    ) -> None:
        """Give a link an address; raises AlreadyExists, NotFound."""
        commands = partial(describe, "add_address", link, address, dad=dad, prefix_route=prefix_route)

        def exists() -> AlreadyExists:
            return AlreadyExists("address", str(address), hint=f"on {link}")

        def build(resolve: Resolve) -> list[Message]:
            return [rtnl.new_address(resolve(link), address, dad=dad, prefix_route=prefix_route)]

        self._do(Operation(commands, build, exists, link))

    def delete_address(self, link: str, address: IPInterface) -> None:
        """Take an address from a link; without the address or the link there is nothing to do."""
        commands = partial(describe, "delete_address", link, address)
        self._do(
            Operation(
                commands,
                lambda resolve: [rtnl.remove_address(resolve(link), address)],
                link=link,
                tolerated=_MISSING_ADDRESS,
            )
        )

    def addresses(self, link: str = "") -> list[tuple[str, IPInterface]]:
        """List addresses with their links' names; a missing link has none."""
        with self._route.borrow() as netlink:
            index = index_of(netlink.fileno(), link) if link else 0
            if link and not index:
                return []
            bodies = _rows(netlink, rtnl.dump_addresses(index), "ip addr show")
            names = _names(netlink)
            return [
                (name, row.address)
                for row in map(rtnl.parse_address, bodies)
                if row is not None and index in (0, row.ifindex) and (name := names(row.ifindex))
            ]

    def add_route(self, link: str, route: Route) -> None:
        """Add a route; raises AlreadyExists, NotFound (the link), KernelError (the gateway is unreachable)."""
        commands = partial(describe, "add_route", link, route)

        def exists() -> AlreadyExists:
            return AlreadyExists("route", str(route.destination))

        self._do(Operation(commands, lambda resolve: [rtnl.new_route(resolve(link), route)], exists, link))

    def routes(self) -> list[KernelRoute]:
        """List the unicast routes of the main table; one with several next hops is listed for each."""
        found: list[KernelRoute] = []
        with self._route.borrow() as netlink:
            names = _names(netlink)
            for version in (4, 6):
                for body in _rows(netlink, rtnl.dump_routes(version), "ip route show"):
                    for row in rtnl.parse_routes(body):
                        if name := names(row.ifindex):
                            found.append(KernelRoute(row.destination, row.gateway, name))
        return found

    def add_unreachable(self, destination: IPNetwork) -> None:
        """Answer that `destination` cannot be reached, where no longer prefix leads to it."""
        self._unreachable("add_unreachable", rtnl.new_unreachable(destination), destination, errno.EEXIST)

    def delete_unreachable(self, destination: IPNetwork) -> None:
        """Remove that answer."""
        self._unreachable(
            "delete_unreachable", rtnl.remove_unreachable(destination), destination, errno.ESRCH
        )

    def unreachable(self) -> set[IPNetwork]:
        """List what is answered so."""
        with self._route.borrow() as netlink:
            rows = [
                rtnl.parse_unreachable(body)
                for version in (4, 6)
                for body in _rows(netlink, rtnl.dump_unreachable(version), "ip route show type unreachable")
            ]
        return {row for row in rows if row is not None}

    def _unreachable(self, verb: str, message: Message, destination: IPNetwork, tolerated: int) -> None:
        commands = partial(describe, verb, destination)
        self._do(Operation(commands, lambda _: [message], tolerated=frozenset({tolerated})))

    # -- sysctl -----------------------------------------------------------------------------------

    def sysctl(self, key: str) -> str | None:
        """Read a ``net/*`` sysctl of this namespace."""
        with netns.entered(self._home):
            return sysctl.read(key)

    def set_sysctl(self, key: str, value: str) -> None:
        """Write a ``net/*`` sysctl of this namespace where it differs; raises NotFound."""
        with netns.entered(self._home):
            sysctl.write(key, value)


def _needs_more(spec: LinkSpec) -> bool:
    return spec.up or bool(spec.master or spec.alias)


def _configure(kernel: Kernel, spec: LinkSpec) -> None:
    """Do, in the namespace where `spec` was born, what RTM_NEWLINK from another could not."""
    with kernel.batch():
        kernel.set_link(spec.name, up=spec.up or None, master=spec.master or None, alias=spec.alias or None)
        if spec.master and (spec.hairpin or spec.isolated):
            kernel.set_bridge_port(spec.name, hairpin=spec.hairpin or None, isolated=spec.isolated or None)


def _later(spec: LinkSpec, resolve: Resolve, *, born: bool) -> Message | None:
    """Write what RTM_NEWLINK could not do for `spec`; `born`: it had the message's first half, with master and up."""
    port = bool(spec.master)
    hairpin, isolated = (port and spec.hairpin) or None, (port and spec.isolated) or None
    master = resolve(spec.master) if port and not born else None
    up = True if spec.up and not born else None
    if not (spec.alias or hairpin or isolated or master or up):
        return None
    return rtnl.set_link(
        spec.name, up=up, master=master, alias=spec.alias or None, hairpin=hairpin, isolated=isolated
    )


def _rows(netlink: NetlinkSocket, message: Message, command: str) -> list[bytes]:
    try:
        return netlink.dump(message)
    except RefusedError as exc:
        if exc.refusal.errno in ABSENT:  # no such table, link or family yet: an empty list
            return []
        raise explain(exc.refusal, command) from exc


def _names(netlink: NetlinkSocket) -> Callable[[int], str]:
    known: dict[int, str] = {}

    def name(index: int) -> str:
        if index not in known:
            known[index] = name_of(netlink.fileno(), index)
        return known[index]

    return name
