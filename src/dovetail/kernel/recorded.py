"""What `RecordingKernel` has recorded, and how it records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EIO
from typing import Any

from dovetail.errors import AlreadyExists, KernelError, NotFound
from dovetail.kernel.commands import describe, inside
from dovetail.kernel.packet_filter import NftChain
from dovetail.kernel.protocol import BridgeSettings, Kernel, KernelRoute, Link, Rule, TableState, Tbf
from dovetail.model.addresses import IPInterface, IPNetwork
from dovetail.model.element import Element

__all__ = ["RecordedNetns", "Recorder", "Space", "World"]

_HOST_INODE = 1


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
class Space:
    """What is recorded of one namespace: over the base's links, `links` None where one was deleted.

    ports: hairpin and isolated of each. vlans: by number, whether it is the PVID and goes untagged.
    """

    links: dict[str, Link | None] = field(default_factory=dict)
    addresses: set[tuple[str, IPInterface]] = field(default_factory=set)
    addresses_gone: set[tuple[str, IPInterface]] = field(default_factory=set)
    off_link: set[tuple[str, IPInterface]] = field(default_factory=set)
    routes: list[KernelRoute] = field(default_factory=list)
    routes_gone: set[KernelRoute] = field(default_factory=set)
    bridges: dict[str, BridgeSettings] = field(default_factory=dict)
    ports: dict[str, tuple[bool, bool]] = field(default_factory=dict)
    vlans: dict[str, dict[int, tuple[bool, bool]]] = field(default_factory=dict)
    policy: list[Rule] = field(default_factory=list)
    policy_gone: set[Rule] = field(default_factory=set)
    unreachable: dict[IPNetwork, bool] = field(default_factory=dict)
    tbfs: dict[str, Tbf | None] = field(default_factory=dict)
    redirects: dict[str, str | None] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    table: bool | None = None
    state: TableState | None = None
    sets: frozenset[str] = frozenset()
    elements: dict[tuple[str, tuple[object, ...]], Element] = field(default_factory=dict)
    elements_gone: set[Element] = field(default_factory=set)
    rules: dict[str, list[str]] = field(default_factory=dict)
    chains_gone: set[NftChain] = field(default_factory=set)
    rules_gone: set[tuple[tuple[str, str], int]] = field(default_factory=set)

    def rename(self, name: str, new_name: str) -> None:
        """Note that a bridge or port has another name; an empty one forgets it."""
        books: tuple[dict[str, Any], ...] = (self.bridges, self.ports, self.vlans)
        for known in books:
            if name in known:
                known[new_name] = known.pop(name)
            known.pop("", None)


@dataclass
class World:
    """What all handles of one recording share."""

    commands: list[str] = field(default_factory=list)
    spaces: dict[int, Space] = field(default_factory=dict)
    paths: dict[str, RecordedNetns | None] = field(default_factory=dict)
    peers: dict[tuple[int, str], tuple[int, str]] = field(default_factory=dict)
    parents: dict[tuple[int, str], tuple[int, str]] = field(default_factory=dict)
    ifindex: int = 1000
    mutations: int = 0
    fail_at: int | None = None
    fail_on: Callable[[str], bool] | None = None


class Recorder:
    """A handle to one namespace of a recording: reads lie over `base`, where there is one."""

    def __init__(self, base: Kernel | None, world: World) -> None:
        self._base = base
        self._world = world
        self._path = ""
        self._inode = base.netns_inode if base is not None else _HOST_INODE

    @property
    def _space(self) -> Space:
        return self._space_of(self._inode)

    def _space_of(self, inode: int) -> Space:
        return self._world.spaces.setdefault(inode, Space())

    def _record(self, verb: str, *args: object, **kwargs: object) -> None:
        world = self._world
        world.mutations += 1
        if world.mutations == world.fail_at or (world.fail_on is not None and world.fail_on(verb)):
            raise KernelError(f"injected fault in {verb}", EIO)
        lines = describe(verb, *args, **kwargs)
        world.commands += [inside(self._path, line) for line in lines] if self._path else lines

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

    def _next(self) -> int:
        self._world.ifindex += 1
        return self._world.ifindex

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
