"""The kernel itself: `Kernel` over rtnetlink, nfnetlink, /proc/sys/net and namespaces.

A handle belongs to one network namespace and is safe from any thread: its sockets stay in the
namespace where they were opened, whichever thread uses them. Sockets open at first use and are kept.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from typing import TypedDict

from dovetail.errors import AddressInUse, AlreadyExists, Busy, DovetailError, NotFound
from dovetail.kernel import netns, rtnl, sysctl
from dovetail.kernel.commands import describe
from dovetail.kernel.deletion import Deletions
from dovetail.kernel.ifindex import index_of
from dovetail.kernel.link_refusals import explain_link
from dovetail.kernel.linux_bridges import LinuxBridges
from dovetail.kernel.linux_handle import names, row, rows
from dovetail.kernel.linux_moving import LinuxMoving
from dovetail.kernel.linux_packet_filter import LinuxPacketFilter
from dovetail.kernel.linux_routing import LinuxRouting
from dovetail.kernel.linux_tc import LinuxTc
from dovetail.kernel.netlink import Message, Refusal
from dovetail.kernel.protocol import Kernel, Link, LinkSettings, LinkSpec, Netns, Tap
from dovetail.kernel.train import Operation, Resolve
from dovetail.model.addresses import IPInterface
from dovetail.model.mac import Mac

__all__ = ["LinuxKernel"]

_DAD_POLL_S = 0.02
_MISSING_ADDRESS = frozenset({errno.ENODEV, errno.EADDRNOTAVAIL})


class _Rare(TypedDict):
    """What few links are told."""

    promisc: bool | None
    allmulti: bool | None
    txqueuelen: int | None


class LinuxKernel(LinuxBridges, LinuxMoving, LinuxRouting, LinuxTc, LinuxPacketFilter):
    """Linux, in one network namespace: the calling thread's, or `home` (which must stay open as long)."""

    def __init__(self, home: Netns | None = None) -> None:
        self._owns_home = home is None
        super().__init__(netns.present() if home is None else home)
        if self._owns_home:  # threads share this one, and must not each make their own
            _ = self._deletions, self._table, self._others

    @cached_property  # a handle to a sandbox, made for a few messages, mostly does without
    def _deletions(self) -> Deletions:
        return Deletions(self._route)

    def close(self) -> None:
        """Close its sockets; nothing of the kernel's state changes."""
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

    # -- links ------------------------------------------------------------------------------------

    def link(self, name: str) -> Link | None:
        """Look one link up by name; a missing one costs no more than an ioctl."""
        with self._route.borrow() as netlink:
            body = row(netlink, name)
        return rtnl.parse_link(body) if body is not None else None

    def links(self) -> list[Link]:
        """List all links."""
        with self._route.borrow() as netlink:
            return [rtnl.parse_link(body) for body in rows(netlink, rtnl.dump_links(), "ip link show")]

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
        read from the links that are there. A tap is made by ioctls, within a batch at its place in the order.
        """
        if isinstance(settings, Tap):
            commands = partial(describe, "add_link", spec, settings)
            self._do(Operation(commands, lambda _: [], after=partial(self._add_tap, spec, settings)))
            return
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

    def _add_tap(self, spec: LinkSpec, tap: Tap) -> None:
        from dovetail.kernel.tun import make_tap

        with LinuxKernel(spec.netns or self._home) as inner:
            with netns.entered(spec.netns or self._home):
                make_tap(spec.name, tap)
            try:
                with inner.batch():
                    inner.set_link(spec.name, mac=spec.mac, mtu=spec.mtu or None)
                    _configure(inner, spec)
            except DovetailError:
                inner.delete_links([spec.name])
                raise

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
        promisc: bool | None = None,
        allmulti: bool | None = None,
        txqueuelen: int | None = None,
    ) -> None:
        """Change what is not None; raises NotFound for the link or the master."""
        rare = _Rare(promisc=promisc, allmulti=allmulti, txqueuelen=txqueuelen)
        commands = partial(
            describe, "set_link", name, up=up, mtu=mtu, mac=mac, master=master, alias=alias, **rare
        )

        def build(resolve: Resolve) -> list[Message]:
            index = None if master is None else resolve(master) if master else 0
            return [rtnl.set_link(name, up=up, mtu=mtu, mac=mac, master=index, alias=alias, **rare)]

        self._do(Operation(commands, build, link=name))

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

    # -- addresses -------------------------------------------------------------------------------

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
            bodies = rows(netlink, rtnl.dump_addresses(index), "ip addr show")
            name_by = names(netlink)
            return [
                (name, found.address)
                for found in map(rtnl.parse_address, bodies)
                if found is not None and index in (0, found.ifindex) and (name := name_by(found.ifindex))
            ]

    def wait_for_dad(self, link: str, *, timeout_s: float = 10.0) -> None:
        """Look at the addresses of a link until none is tentative; raises AddressInUse, Busy, NotFound."""
        deadline = time.monotonic() + timeout_s
        while tentative := self._tentative(link):
            if time.monotonic() > deadline:
                raise Busy(
                    f"duplicate address detection of {', '.join(tentative)} on {link} took longer than {timeout_s:g} s",
                    hint="it waits until the link is up and has a carrier",
                )
            time.sleep(_DAD_POLL_S)

    def _tentative(self, link: str) -> list[str]:
        with self._route.borrow() as netlink:
            index = index_of(netlink.fileno(), link)
            if not index:
                raise NotFound("interface", link)
            bodies = rows(netlink, rtnl.dump_addresses(index), "ip addr show")
        found = [one for one in map(rtnl.parse_address, bodies) if one is not None and one.ifindex == index]
        for one in found:
            if one.duplicate:
                raise AddressInUse(
                    f"{one.address.ip} of {link} is somebody's on its wire already",
                    hint="duplicate address detection found it: give another address",
                )
        return [str(one.address.ip) for one in found if one.tentative]

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
