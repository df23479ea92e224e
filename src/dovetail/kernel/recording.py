"""A kernel that performs nothing and writes commands down: for ``--explain``, golden tests and undo tests.

It answers reads from what was recorded so far, laid over a base kernel where there is one (the real
one for ``--explain``: reads only), else over an empty host. So code that looks before it acts
behaves as it would on the real kernel. Without a base no privilege is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from dovetail.errors import AlreadyExists, NotFound
from dovetail.kernel.link_settings import kind_of
from dovetail.kernel.protocol import Ipvlan, Kernel, Link, LinkSettings, LinkSpec, Macvlan, Netns, Vlan
from dovetail.kernel.recorded import RecordedNetns, World
from dovetail.kernel.recording_bridges import RecordingBridges
from dovetail.kernel.recording_firewall import RecordingFirewall
from dovetail.kernel.recording_packet_filter import RecordingPacketFilter
from dovetail.kernel.recording_routing import RecordingRouting
from dovetail.kernel.recording_tc import RecordingTc
from dovetail.model.addresses import IPInterface
from dovetail.model.mac import Mac

__all__ = ["RecordedNetns", "RecordingKernel"]

_DEFAULT_MTU = 1500
_V6 = 6
_SYSCTL_DEFAULTS = {
    "ip_forward": "0",
    "forwarding": "0",
    "accept_ra": "1",
    "disable_ipv6": "0",
    "route_localnet": "0",
}


class RecordingKernel(
    RecordingBridges, RecordingRouting, RecordingTc, RecordingPacketFilter, RecordingFirewall
):
    """A `Kernel` that writes commands to `commands` and changes nothing.

    fail_at: the n-th mutating verb (counted from 1) raises KernelError instead of being recorded.
    fail_on: as `fail_at`, for every verb it says True to.
    """

    def __init__(
        self,
        base: Kernel | None = None,
        *,
        fail_at: int | None = None,
        fail_on: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(base, World(fail_at=fail_at, fail_on=fail_on))

    @property
    def commands(self) -> list[str]:
        """The command lines so far; clear the list to start anew."""
        return self._world.commands

    @property
    def mutations(self) -> int:
        """How many mutating verbs were called so far, the failed ones too."""
        return self._world.mutations

    def fail(self, *, at: int | None = None, on: Callable[[str], bool] | None = None) -> None:
        """Inject other faults from here on; `at` counts from now, None and None stop it."""
        self._world.mutations = 0
        self._world.fail_at, self._world.fail_on = at, on

    # -- namespaces -------------------------------------------------------------------------------

    @property
    def netns_inode(self) -> int:
        """Inode of this handle's namespace; 1 for a host without a base."""
        return self._inode

    def open_netns(self, path: str) -> Netns:
        """Open a recorded namespace, a real one through the base, or make one up where there is no base."""
        if path in self._world.paths:
            recorded = self._world.paths[path]
            if recorded is None:
                raise NotFound("network namespace", path)
            return recorded
        return self._base.open_netns(path) if self._base is not None else self._netns(path)

    def netns_from_fd(self, fd: int, path: str = "") -> Netns:
        """Adopt a descriptor through the base; without one it is a made-up namespace."""
        return (
            self._base.netns_from_fd(fd, path) if self._base is not None else self._netns(path or f"fd:{fd}")
        )

    def create_netns(self, path: str) -> Netns:
        """Record a namespace."""
        if self._world.paths.get(path) is not None:
            raise AlreadyExists("network namespace", path)
        self._record("create_netns", path)
        netns = self._netns(path)
        self._space_of(netns.inode).links["lo"] = Link("lo", 1, mtu=65536, up=True)
        return netns

    def delete_netns(self, path: str) -> None:
        """Record that the namespace is gone, with its links: veth pairs with an end in it, what sits on them."""
        netns = self._world.paths.get(path)
        if netns is None and (path in self._world.paths or self._base is None):
            return
        self._record("delete_netns", path)
        self._world.paths[path] = None
        if netns is not None:
            for name in list(self._space_of(netns.inode).links):
                self._drop(netns.inode, name)
            self._world.spaces.pop(netns.inode, None)

    @contextmanager
    def inside(self, netns: Netns) -> Iterator[Kernel]:
        """Give a handle whose commands go to `netns`."""
        handle = RecordingKernel()
        handle._world = self._world
        handle._inode = netns.inode
        handle._path = netns.path or f"/proc/self/fd/{netns.fileno()}"
        if self._base is None or isinstance(netns, RecordedNetns):
            yield handle
            return
        with self._base.inside(netns) as base:
            handle._base = base
            yield handle

    def batch(self) -> AbstractContextManager[None]:
        """Record as ever; a fault raises at once."""
        return nullcontext()

    # -- links ------------------------------------------------------------------------------------

    def add_bridge(self, name: str, *, mac: Mac | None = None, mtu: int = 0, alias: str = "") -> None:
        """Record ``ip link add NAME type bridge``."""
        self._absent(name)
        self._record("add_bridge", name, mac=mac, mtu=mtu, alias=alias)
        mac = mac or Mac.derived(name)
        self._space.links[name] = Link(name, self._next(), "bridge", mac, mtu or _DEFAULT_MTU, alias=alias)

    def add_veth(self, end: LinkSpec, peer: LinkSpec) -> None:
        """Record a pair, each end in its namespace."""
        inodes = [self._inode if spec.netns is None else spec.netns.inode for spec in (end, peer)]
        for spec, inode in zip((end, peer), inodes, strict=True):
            if self._space_of(inode).links.get(spec.name) is not None:
                raise AlreadyExists("interface", spec.name)
        self._absent(end.name)
        master = self._master(end.master)
        self._record("add_veth", end, peer)
        first, second = self._next(), self._next()
        for spec, inode, index, other in ((end, inodes[0], first, second), (peer, inodes[1], second, first)):
            mac, mtu = spec.mac or Mac.derived(spec.name), spec.mtu or _DEFAULT_MTU
            link = Link(spec.name, index, "veth", mac, mtu, up=spec.up, alias=spec.alias, peer_ifindex=other)
            self._space_of(inode).links[spec.name] = link._replace(master=master if spec is end else 0)
            self._space_of(inode).ports[spec.name] = spec.hairpin, spec.isolated
        ends = (inodes[0], end.name), (inodes[1], peer.name)
        self._world.peers.update({ends[0]: ends[1], ends[1]: ends[0]})

    def add_link(self, spec: LinkSpec, settings: LinkSettings, *, parent: str = "") -> None:
        """Record a link on a parent; as in the kernel it goes with its parent, wherever it is."""
        inode = self._inode if spec.netns is None else spec.netns.inode
        if spec.netns is None:
            self._absent(spec.name)
        elif self._space_of(inode).links.get(spec.name) is not None:
            raise AlreadyExists("interface", spec.name)
        on = self._present(parent) if parent else None
        master = self._master(spec.master) if spec.netns is None else 0
        self._record("add_link", spec, settings, parent=parent)
        own = spec.mac or Mac.derived(spec.name)
        self._space_of(inode).links[spec.name] = Link(
            spec.name,
            self._next(),
            kind_of(settings),
            on.mac if on is not None and _has_parents_mac(spec, settings) else own,
            spec.mtu or (on.mtu if on is not None else _DEFAULT_MTU),
            up=spec.up,
            master=master,
            alias=spec.alias,
            parent_ifindex=on.ifindex if on is not None else 0,
            parent_abroad=on is not None and inode != self._inode,
            settings=settings,
        )
        self._space_of(inode).ports[spec.name] = spec.hairpin, spec.isolated
        if parent:
            self._world.parents[inode, spec.name] = self._inode, parent

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
        """Record ``ip link set``."""
        link = self._present(name)
        index = link.master if master is None else self._master(master)
        rare: dict[str, Any] = {"promisc": promisc, "allmulti": allmulti, "txqueuelen": txqueuelen}
        given: dict[str, Any] = {"up": up, "mtu": mtu, "mac": mac, "alias": alias, **rare}
        self._record("set_link", name, master=master, **given)
        changed = {field: value for field, value in given.items() if value is not None}
        self._space.links[name] = link._replace(**changed, master=index)
        if index != link.master:
            self._space.rename(name, "")

    def rename_link(self, name: str, new_name: str) -> None:
        """Record ``ip link set name``; addresses and routes go along."""
        link = self._present(name)
        self._absent(new_name)
        self._record("rename_link", name, new_name)
        space = self._space
        for address in [a for n, a in self.addresses(name) if n == name]:
            space.addresses.discard((name, address))
            space.addresses_gone.add((name, address))
            space.addresses.add((new_name, address))
        space.routes = [r._replace(link=new_name) if r.link == name else r for r in space.routes]
        space.rename(name, new_name)
        self._relocate(self._inode, name, self._inode, link._replace(name=new_name))

    def move_link(self, name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> None:
        """Record ``ip link set netns``."""
        link, wanted = self._present(name), new_name or name
        with self.inside(netns) as there:
            if there.link(wanted) is not None:
                raise AlreadyExists("interface", wanted, hint=f"in {netns.path}; choose another name")
        self._record("move_link", name, netns, new_name=new_name, alias=alias)
        self._move(self._inode, link, netns.inode, wanted, alias)

    def take_link(self, name: str, netns: Netns, *, new_name: str = "", alias: str | None = None) -> None:
        """Record ``ip -n NETNS link set netns``."""
        wanted = new_name or name
        with self.inside(netns) as there:
            link = there.link(name)
            if link is None:
                raise NotFound("interface", name)
        self._absent(wanted)
        self._record("take_link", name, netns, new_name=new_name, alias=alias)
        self._move(netns.inode, link, self._inode, wanted, alias)

    def delete_links(self, names: Iterable[str]) -> None:
        """Record ``ip link del`` for those that are there."""
        there = [name for name in dict.fromkeys(names) if self.link(name) is not None]
        # a veth pair dies with either end, and a link with its parent, so a second deletion would find nothing
        world = self._world
        doomed = [
            n
            for i, n in enumerate(there)
            if not {world.peers.get((self._inode, n)), world.parents.get((self._inode, n))}
            & self._at(there[:i])
        ]
        if not doomed:
            return
        self._record("delete_links", doomed)
        for name in doomed:
            self._drop(self._inode, name)

    # -- addresses ----------------------------------------------------------------------------------

    def add_address(
        self, link: str, address: IPInterface, *, dad: bool = False, prefix_route: bool = True
    ) -> None:
        """Record ``ip addr add``."""
        self._present(link)
        if (link, address) in self.addresses(link):
            raise AlreadyExists("address", str(address))
        self._record("add_address", link, address, dad=dad, prefix_route=prefix_route)
        self._space.addresses.add((link, address))
        self._space.addresses_gone.discard((link, address))
        if not prefix_route:
            self._space.off_link.add((link, address))

    def delete_address(self, link: str, address: IPInterface) -> None:
        """Record ``ip addr del`` where the address is there."""
        if (link, address) not in self.addresses(link):
            return
        self._record("delete_address", link, address)
        self._space.addresses.discard((link, address))
        self._space.addresses_gone.add((link, address))

    def addresses(self, link: str = "") -> list[tuple[str, IPInterface]]:
        """List recorded addresses and the base's."""
        base = self._base.addresses(link) if self._base is not None and self._real(link) else []
        recorded = [pair for pair in self._space.addresses if not link or pair[0] == link]
        all_of_them = {*base, *recorded} - self._space.addresses_gone
        return sorted(all_of_them, key=lambda pair: (pair[0], pair[1].version, pair[1]))

    def wait_for_dad(self, link: str, *, timeout_s: float = 10.0) -> None:
        """Wait for nothing: nobody else is there."""
        self._present(link)

    # -- sysctl -------------------------------------------------------------------------------------

    def sysctl(self, key: str) -> str | None:
        """Answer what was written last, then the base's value, then a kernel's default."""
        if key in self._space.sysctls:
            return self._space.sysctls[key]
        if self._base is not None and (value := self._base.sysctl(key)) is not None:
            return value
        return _SYSCTL_DEFAULTS.get(key.rsplit("/", 1)[-1])

    def set_sysctl(self, key: str, value: str) -> None:
        """Record ``sysctl -w`` where the value differs."""
        if self.sysctl(key) == value:
            return
        self._record("set_sysctl", key, value)
        self._space.sysctls[key] = value

    # -- below ------------------------------------------------------------------------------------

    def _netns(self, path: str) -> RecordedNetns:
        netns = self._world.paths.get(path)
        if netns is None:
            netns = self._world.paths[path] = RecordedNetns(path, self._next())
        return netns

    def _real(self, link: str) -> bool:
        """Say whether the base may be asked about `link`: it is not one that exists in the recording only."""
        return not link or (self._base is not None and self._base.link(link) is not None)

    def _at(self, names: Iterable[str]) -> set[tuple[int, str]]:
        return {(self._inode, name) for name in names}

    def _move(self, inode: int, link: Link, to: int, new_name: str, alias: str | None) -> None:
        space = self._space_of(inode)
        space.addresses = {pair for pair in space.addresses if pair[0] != link.name}
        space.routes = [route for route in space.routes if route.link != link.name]
        space.rename(link.name, "")
        alias = link.alias if alias is None else alias
        self._relocate(inode, link.name, to, link._replace(name=new_name, up=False, master=0, alias=alias))

    def _relocate(self, inode: int, name: str, to: int, link: Link) -> None:
        """Note that what was `name` in the namespace `inode` is `link` in the namespace `to`."""
        self._space_of(inode).links[name] = None
        self._space_of(to).links[link.name] = link
        old, new, world = (inode, name), (to, link.name), self._world
        if old in world.peers:
            other = world.peers[new] = world.peers.pop(old)
            world.peers[other] = new
        if old in world.parents:
            world.parents[new] = world.parents.pop(old)
        world.parents.update({child: new for child, parent in world.parents.items() if parent == old})

    def _drop(self, inode: int, name: str) -> None:
        peer = self._world.peers.pop((inode, name), None)
        space = self._space_of(inode)
        space.links[name] = None
        space.addresses = {pair for pair in space.addresses if pair[0] != name}
        space.routes = [route for route in space.routes if route.link != name]
        space.rename(name, "")
        space.tbfs[name] = space.redirects[name] = None
        if peer is not None:
            self._drop(*peer)
        self._world.parents.pop((inode, name), None)
        for child in [child for child, parent in self._world.parents.items() if parent == (inode, name)]:
            self._drop(*child)


def _has_parents_mac(spec: LinkSpec, settings: LinkSettings) -> bool:
    if isinstance(settings, Macvlan):
        return settings.mode == "passthru"
    return isinstance(settings, Ipvlan) or (isinstance(settings, Vlan) and spec.mac is None)
