"""A kernel that performs nothing and writes commands down: for ``--explain``, golden tests and undo tests.

It answers reads from what was recorded so far, laid over a base kernel where there is one (the real
one for ``--explain``: reads only), else over an empty host. So code that looks before it acts
behaves as it would on the real kernel. Without a base no privilege is needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from errno import EIO

from dovetail.errors import AlreadyExists, KernelError, NotFound
from dovetail.kernel.commands import describe, inside
from dovetail.kernel.protocol import Kernel, KernelRoute, Link, LinkSpec, Netns
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import Route
from dovetail.model.element import Element
from dovetail.model.mac import Mac

__all__ = ["RecordedNetns", "RecordingKernel"]

_HOST_INODE = 1
_DEFAULT_MTU = 1500
_SYSCTL_DEFAULTS = {
    "ip_forward": "0",
    "forwarding": "0",
    "accept_ra": "1",
    "disable_ipv6": "0",
    "route_localnet": "0",
}


class RecordedNetns:
    """A namespace that exists as a path and a number only."""

    def __init__(self, path: str, inode: int) -> None:
        self.path = path
        self.inode = inode

    def fileno(self) -> int:
        """Give no descriptor: there is none."""
        return -1

    def close(self) -> None:
        """Do nothing."""

    def __enter__(self) -> RecordedNetns:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass
class _Space:
    """What is recorded of one namespace: over the base's links, `links` None where one was deleted."""

    links: dict[str, Link | None] = field(default_factory=dict)
    addresses: set[tuple[str, IPInterface]] = field(default_factory=set)
    addresses_gone: set[tuple[str, IPInterface]] = field(default_factory=set)
    routes: list[KernelRoute] = field(default_factory=list)
    sysctls: dict[str, str] = field(default_factory=dict)
    table: bool | None = None
    sets: frozenset[str] = frozenset()
    elements: dict[tuple[str, tuple[object, ...]], Element] = field(default_factory=dict)
    elements_gone: set[Element] = field(default_factory=set)
    rules: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class _World:
    """What all handles of one recording share."""

    commands: list[str] = field(default_factory=list)
    spaces: dict[int, _Space] = field(default_factory=dict)
    paths: dict[str, RecordedNetns | None] = field(default_factory=dict)
    peers: dict[tuple[int, str], tuple[int, str]] = field(default_factory=dict)
    ifindex: int = 1000
    mutations: int = 0
    fail_at: int | None = None
    fail_on: Callable[[str], bool] | None = None


class RecordingKernel:
    """A `Kernel` that writes commands to `commands` and changes nothing.

    fail_at: the n-th mutating verb (counted from 1) raises KernelError instead of being recorded.
    fail_on: as `fail_at`, for every verb it says True to. drop_forward and rules: what `forward_policies`
    and `iptables_rules` answer at first where there is no base.
    bound: (protocol, port) pairs that `port_is_free` denies.
    """

    def __init__(
        self,
        base: Kernel | None = None,
        *,
        fail_at: int | None = None,
        fail_on: Callable[[str], bool] | None = None,
    ) -> None:
        self._base = base
        self._world = _World(fail_at=fail_at, fail_on=fail_on)
        self._path = ""
        self._inode = base.netns_inode if base is not None else _HOST_INODE
        self.drop_forward: dict[str, bool] = {}
        self.rules: dict[str, list[str]] = {}
        self.bound: set[tuple[str, int]] = set()

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
        """Record that the namespace is gone, and the veth pairs with an end in it."""
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

    def link(self, name: str) -> Link | None:
        """Look one up in the recording, then in the base."""
        if name in self._space.links:
            return self._space.links[name]
        if name == "lo" and self._base is None:
            return Link("lo", 1, mtu=65536)
        return self._base.link(name) if self._base is not None else None

    def links(self) -> list[Link]:
        """List the base's links as changed by the recording."""
        base = self._base.links() if self._base is not None else [Link("lo", 1, mtu=65536)]
        found: dict[str, Link | None] = {link.name: link for link in base}
        found.update(self._space.links)
        return [link for link in found.values() if link is not None]

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
        ends = (inodes[0], end.name), (inodes[1], peer.name)
        self._world.peers.update({ends[0]: ends[1], ends[1]: ends[0]})

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
        """Record ``ip link set``."""
        link = self._present(name)
        index = link.master if master is None else self._master(master)
        self._record("set_link", name, up=up, mtu=mtu, mac=mac, master=master, alias=alias)
        self._space.links[name] = link._replace(
            up=link.up if up is None else up,
            mtu=link.mtu if mtu is None else mtu,
            mac=link.mac if mac is None else mac,
            alias=link.alias if alias is None else alias,
            master=index,
        )

    def set_bridge_port(
        self, name: str, *, hairpin: bool | None = None, isolated: bool | None = None
    ) -> None:
        """Record ``bridge link set``."""
        self._present(name)
        self._record("set_bridge_port", name, hairpin=hairpin, isolated=isolated)

    def delete_links(self, names: Iterable[str]) -> None:
        """Record ``ip link del`` for those that are there."""
        there = [name for name in dict.fromkeys(names) if self.link(name) is not None]
        # a veth pair dies with either end, so a second deletion would find nothing
        doomed = [
            n
            for i, n in enumerate(there)
            if self._world.peers.get((self._inode, n)) not in self._at(there[:i])
        ]
        if not doomed:
            return
        self._record("delete_links", doomed)
        for name in doomed:
            self._drop(self._inode, name)

    # -- addresses, routes --------------------------------------------------------------------------

    def add_address(self, link: str, address: IPInterface, *, dad: bool = False) -> None:
        """Record ``ip addr add``."""
        self._present(link)
        if (link, address) in self.addresses(link):
            raise AlreadyExists("address", str(address))
        self._record("add_address", link, address, dad=dad)
        self._space.addresses.add((link, address))
        self._space.addresses_gone.discard((link, address))

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

    def add_route(self, link: str, route: Route) -> None:
        """Record ``ip route add``."""
        self._present(link)
        wanted = KernelRoute(route.destination, route.gateway, link)
        main = not route.table
        if main and not route.priority and route.destination in {r.destination for r in self.routes()}:
            raise AlreadyExists("route", str(route.destination))
        self._record("add_route", link, route)
        if main:
            self._space.routes.append(wanted)

    def routes(self) -> list[KernelRoute]:
        """List recorded routes, those that recorded addresses bring, and the base's."""
        base = [r for r in self._base.routes() if self.link(r.link)] if self._base is not None else []
        links = {link.name for link in self.links() if link.up}
        direct = [
            KernelRoute(a.network, None, n) for n, a in sorted(self._space.addresses, key=str) if n in links
        ]
        return list(dict.fromkeys([*base, *direct, *self._space.routes]))

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

    # -- nftables -----------------------------------------------------------------------------------

    def nft_apply(self, ruleset: str) -> None:
        """Record ``nft -f -``; notes which sets and maps the text declares."""
        self._record("nft_apply", ruleset)
        space = self._space
        space.table = re.search(r"^\s*table inet dovetail\s*\{", ruleset, re.MULTILINE) is not None
        space.sets = frozenset(re.findall(r"^\s*(?:set|map)\s+(\w+)\s*\{", ruleset, re.MULTILINE))
        space.elements.clear()
        space.elements_gone.clear()

    def nft_has_table(self) -> bool:
        """Say whether the recording or else the base has the table."""
        if self._space.table is not None:
            return self._space.table
        return self._base.nft_has_table() if self._base is not None else False

    def nft_add_elements(self, elements: Collection[Element]) -> None:
        """Record ``nft add element`` for those that are not there."""
        if not elements:
            return
        if not self.nft_has_table():
            raise NotFound("nftables table", "inet dovetail")
        there = {(e.set, e.key): e for e in self.nft_elements()}
        for element in elements:
            if self._space.sets and element.set not in self._space.sets:
                raise NotFound("nftables set", element.set)
            known = there.get((element.set, element.key))
            if known is not None and known != element:
                raise AlreadyExists("nftables element", f"{element.set} {element.key}")
        missing = [element for element in elements if (element.set, element.key) not in there]
        if not missing:
            return
        self._record("nft_add_elements", missing)
        for element in elements:
            self._space.elements[element.set, element.key] = element
            self._space.elements_gone.discard(element)

    def nft_delete_elements(self, elements: Collection[Element]) -> None:
        """Record ``nft delete element`` for those that are there."""
        there = self.nft_elements()
        present = [element for element in elements if element in there]
        if not present:
            return
        self._record("nft_delete_elements", present)
        for element in present:
            self._space.elements.pop((element.set, element.key), None)
            self._space.elements_gone.add(element)

    def nft_elements(self) -> set[Element]:
        """Read the recorded elements and the base's."""
        if not self.nft_has_table():
            return set()
        base = self._base.nft_elements() if self._base is not None and self._space.table is None else set()
        return (base - self._space.elements_gone) | set(self._space.elements.values())

    # -- the host's other firewall, connection tracking, sockets ------------------------------------

    def forward_policies(self) -> dict[str, bool]:
        """Answer the base's, or `drop_forward`."""
        return self._base.forward_policies() if self._base is not None else dict(self.drop_forward)

    def iptables_rules(self, program: str) -> list[str]:
        """Answer the base's, or `rules`, as the recording changed them."""
        recorded = self._space.rules
        if program not in recorded:
            base = self._base
            recorded[program] = (
                base.iptables_rules(program) if base is not None else [*self.rules.get(program, ())]
            )
        return [*recorded[program]]

    def iptables(self, program: str, *args: str) -> bool:
        """Record a change."""
        rules = self.iptables_rules(program)
        self._record("iptables", program, *args)
        self._space.rules[program] = _changed(rules, *args)
        return True

    def flush_conntrack(self, protocol: str, *, port: int = 0, address: IPAddress | None = None) -> None:
        """Record ``conntrack -D``."""
        self._record("flush_conntrack", protocol, port=port, address=address)

    def port_is_free(self, protocol: str, address: IPAddress | None, port: int) -> bool:
        """Ask the base, or look in `bound`."""
        if self._base is not None:
            return self._base.port_is_free(protocol, address, port)
        return (protocol, port) not in self.bound

    # -- below ------------------------------------------------------------------------------------

    @property
    def _space(self) -> _Space:
        return self._space_of(self._inode)

    def _space_of(self, inode: int) -> _Space:
        return self._world.spaces.setdefault(inode, _Space())

    def _record(self, verb: str, *args: object, **kwargs: object) -> None:
        world = self._world
        world.mutations += 1
        if world.mutations == world.fail_at or (world.fail_on is not None and world.fail_on(verb)):
            raise KernelError(f"injected fault in {verb}", EIO)
        lines = describe(verb, *args, **kwargs)
        world.commands += [inside(self._path, line) for line in lines] if self._path else lines

    def _netns(self, path: str) -> RecordedNetns:
        netns = self._world.paths.get(path)
        if netns is None:
            netns = self._world.paths[path] = RecordedNetns(path, self._next())
        return netns

    def _next(self) -> int:
        self._world.ifindex += 1
        return self._world.ifindex

    def _real(self, link: str) -> bool:
        """Say whether the base may be asked about `link`: it is not one that exists in the recording only."""
        return not link or (self._base is not None and self._base.link(link) is not None)

    def _absent(self, name: str) -> None:
        if self.link(name) is not None:
            raise AlreadyExists("interface", name)

    def _present(self, name: str) -> Link:
        link = self.link(name)
        if link is None:
            raise NotFound("interface", name)
        return link

    def _master(self, name: str) -> int:
        return self._present(name).ifindex if name else 0

    def _at(self, names: Iterable[str]) -> set[tuple[int, str]]:
        return {(self._inode, name) for name in names}

    def _drop(self, inode: int, name: str) -> None:
        peer = self._world.peers.pop((inode, name), None)
        space = self._space_of(inode)
        space.links[name] = None
        space.addresses = {pair for pair in space.addresses if pair[0] != name}
        space.routes = [route for route in space.routes if route.link != name]
        if peer is not None:
            self._drop(*peer)


def _changed(rules: list[str], action: str, chain: str, *rule: str) -> list[str]:
    """Give what ``iptables -S`` says after the change."""
    line = " ".join(("-A", chain, *rule))
    match action:
        case "-N":
            return [*rules, f"-N {chain}"]
        case "-A":
            return [*rules, line]
        case "-I":
            return [line, *rules]
        case "-D":
            at = rules.index(line)
            return rules[:at] + rules[at + 1 :]
        case _:  # -F, -X
            gone = f"-A {chain} " if action == "-F" else f"-N {chain}"
            return [other for other in rules if not other.startswith(gone)]
