"""What `RecordingKernel` has recorded, and how it records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from errno import EIO

from dovetail.errors import KernelError
from dovetail.kernel.commands import describe, inside
from dovetail.kernel.packet_filter import NftChain
from dovetail.kernel.protocol import Kernel, KernelRoute, Link, TableState
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
    """What is recorded of one namespace: over the base's links, `links` None where one was deleted."""

    links: dict[str, Link | None] = field(default_factory=dict)
    addresses: set[tuple[str, IPInterface]] = field(default_factory=set)
    addresses_gone: set[tuple[str, IPInterface]] = field(default_factory=set)
    off_link: set[tuple[str, IPInterface]] = field(default_factory=set)
    routes: list[KernelRoute] = field(default_factory=list)
    unreachable: dict[IPNetwork, bool] = field(default_factory=dict)
    sysctls: dict[str, str] = field(default_factory=dict)
    table: bool | None = None
    state: TableState | None = None
    sets: frozenset[str] = frozenset()
    elements: dict[tuple[str, tuple[object, ...]], Element] = field(default_factory=dict)
    elements_gone: set[Element] = field(default_factory=set)
    rules: dict[str, list[str]] = field(default_factory=dict)
    chains_gone: set[NftChain] = field(default_factory=set)
    rules_gone: set[tuple[tuple[str, str], int]] = field(default_factory=set)


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
