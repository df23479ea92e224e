"""What a kind of part is: the technique behind one CNI plugin type, apart from how its configuration is written."""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.element import Element
from dovetail.model.endpoint import Owner
from dovetail.model.part import PartEvent
from dovetail.model.port import PortMapping
from dovetail.model.readdressing import Readdressing

__all__ = [
    "Addressed",
    "Admitting",
    "AnyPartKind",
    "Completing",
    "Filtered",
    "Layer",
    "Limited",
    "Linked",
    "PartKind",
    "Preparing",
    "Publishing",
    "Releasing",
    "Sweeping",
    "Tended",
]

_offered: dict[tuple[type, type], bool] = {}

if TYPE_CHECKING:
    _ProtocolMeta = ABCMeta
else:
    _ProtocolMeta = type(Protocol)


class _Remembering(_ProtocolMeta):
    """Remembers which types have what a protocol asks for: else Python looks at each name again, 8 µs an ``isinstance``."""

    def __instancecheck__(self, instance: object) -> bool:
        key = self, type(instance)
        if key not in _offered:
            _offered[key] = super().__instancecheck__(instance)
        return _offered[key]


D = TypeVar("D")
Layer: TypeAlias = Literal["driver", "feature", "ipam"]


class PartKind(Protocol[D]):
    """Makes a part, takes it back, and compares the kernel with it. Keeps no state of its own, unless it is `Tended`.

    `detail` says all that there is to say of one: a frozen msgspec structure, read from a configuration, completed by
    `make`, and kept by the engine. It names what is made before it is made, so that what a crash left half done can
    be taken back. Implementations are in `drivers/`, `features/` and `ipam/`.
    """

    name: str
    """The plugin's type, as ``portmap``."""

    @property
    def layer(self) -> Layer:
        """What it is to the trace. Of a ``feature`` a second ADD replaces the first; of others it is refused."""
        ...

    detail: type[D]

    def make(
        self,
        kernel: Kernel,
        detail: D,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> D:
        """Make it so; gives `detail` with what turned out (a MAC, an old value). `undo` collects the reverse.

        netns: the sandbox's; None where there is none yet or any more.
        """
        ...

    def unmake(self, kernel: Kernel, detail: D, *, owner: Owner, netns: Netns | None) -> None:
        """Take back what `make` did; what is gone already is no error, nor is a namespace that is (`netns` None)."""
        ...

    def differences(self, kernel: Kernel, detail: D, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Say, a sentence each, how the kernel differs from `detail`; change nothing."""
        ...


AnyPartKind = PartKind[Any]


@runtime_checkable
class Filtered(Protocol, metaclass=_Remembering):
    """A kind whose parts have elements in ``table inet dovetail``."""

    def elements(self, detail: Any) -> Sequence[Element]:
        """Give what is there while the part is. One that names the part's link may be another part's as well."""
        ...


@runtime_checkable
class Publishing(Protocol, metaclass=_Remembering):
    """A kind whose parts take ports of the host."""

    def ports(self, detail: Any) -> tuple[PortMapping, ...]:
        """Give them, with their host ports."""
        ...


@runtime_checkable
class Linked(Protocol, metaclass=_Remembering):
    """A kind whose parts hang on an interface of the host."""

    def link(self, detail: Any) -> str:
        """Name it: a bridge, which others may hang on as well, or an interface of its own."""
        ...

    def is_alive(self, kernel: Kernel, detail: Any, links: frozenset[str]) -> bool:
        """Say whether what was made is there still; `links` are the host's link names now."""
        ...


@runtime_checkable
class Preparing(Linked, Protocol):
    """A kind whose parts hang on an interface of the host that is made for the first of them."""

    def prepare(self, kernel: Kernel, detail: Any, *, store_id: str, undo: ExitStack) -> Any:
        """Make sure of it before `make`; gives `detail` with what turned out. Idempotent, safe beside others.

        What `undo` collects is done where the attachment fails, unless another one has come to the interface meanwhile.
        """
        ...


@runtime_checkable
class Releasing(Linked, Protocol):
    """A kind that takes something back only when the last attachment has left the interface its parts hang on."""

    def release(self, kernel: Kernel, detail: Any) -> None:
        """Take it back; nobody else is on the interface, or comes to it meanwhile. It may be gone."""
        ...


@runtime_checkable
class Admitting(Linked, Protocol):
    """A kind for whose parts the host's other firewalls are to let pass what goes by an interface."""

    def admits(self, detail: Any) -> str:
        """Name it."""
        ...


@runtime_checkable
class Sweeping(Protocol, metaclass=_Remembering):
    """A kind that finds what other programs made in its place and nobody uses any more."""

    def sweep(self, kernel: Kernel, detail: Any, *, network: str, valid: Collection[tuple[str, str]]) -> None:
        """Remove what is of `network` and of no attachment (container, ifname) in `valid`; `detail` says where to look."""
        ...


@runtime_checkable
class Limited(Protocol, metaclass=_Remembering):
    """A kind of which there may be no more to have: addresses, for one."""

    def require(self, kernel: Kernel, detail: Any, *, network: str) -> None:
        """Raise what would keep `make` from succeeding, going by `detail`; change nothing."""
        ...


@runtime_checkable
class Completing(Protocol):
    """A kind of interface that can be made before it has addresses, for an IPAM plugin that asks by it."""

    def complete(
        self, kernel: Kernel, detail: Any, *, owner: Owner, netns: Netns | None, undo: ExitStack
    ) -> Any:
        """Give what `make` made without addresses those of `detail`; gives it with what turned out, as `make` does.

        `undo` collects the reverse of what does not go with the interface.
        """
        ...


@runtime_checkable
class Addressed(Protocol):
    """A kind whose details name addresses of the sandbox's interface."""

    def readdressed(self, detail: Any, change: Readdressing) -> Any:
        """Say what the part is when the interface has others; it is the same where that makes no difference."""
        ...


@runtime_checkable
class Tended(Protocol):
    """A kind whose parts change by themselves, for as long as a process looks after them: leases.

    It holds what `make` makes and `tend` brings, in memory, until `unmake` or `close`. See `engine.tending`.
    """

    detail: type[Any]

    def tend(self, tell: Callable[[PartEvent], None], details: Iterable[Any]) -> None:
        """Hold `details` as well, and from now on tell what becomes of all; `tell` returns at once."""
        ...

    def change(self, before: Any, now: Any) -> Readdressing:
        """Say what of the interface is others between the two."""
        ...

    def follow(self, kernel: Kernel, change: Readdressing, *, owner: Owner, netns: Netns) -> None:
        """Let the interface have it so."""
        ...

    def drop(self, detail: Any) -> None:
        """Hold it no longer: another process has taken the part back."""
        ...

    def close(self) -> None:
        """Hold nothing any more; what there is stays as it is."""
        ...
