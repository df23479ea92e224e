"""Networks: made, found, bound to a face's own id, deleted."""

from __future__ import annotations

from dovetail.engine.core import Core
from dovetail.model.network import Face, Network, NetworkSpec

__all__ = ["Networks"]


class Networks:
    """Operations on networks."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def create(self, spec: NetworkSpec) -> Network:
        """Make a network: pools and gateways, then the driver's links, then the firewall's elements.

        Everything is undone when a step fails. Raises AlreadyExists, InvalidArgument, PoolOverlap,
        PoolExhausted, Unsupported, KernelError.
        """
        raise NotImplementedError

    def delete(self, ref: str) -> None:
        """Delete a network; raises NotFound, or InUse naming its endpoints."""
        raise NotImplementedError

    def get(self, ref: str) -> Network:
        """Find one by name, id or unique prefix of its id."""
        raise NotImplementedError

    def all(self) -> list[Network]:
        """Give all, by name."""
        raise NotImplementedError

    def bind(self, face: Face, external_id: str, ref: str, *, made: bool = False) -> Network:
        """Let `face` know network `ref` by `external_id` as well; twice the same is no error.

        made: the network exists for this binding and goes with it.
        """
        raise NotImplementedError

    def bound(self, face: Face, external_id: str) -> Network:
        """Find the network that `face` knows as `external_id`; raises NotFound."""
        raise NotImplementedError

    def unbind(self, face: Face, external_id: str) -> None:
        """Forget a binding. A network made for it is deleted, unless others still use it. Never raises NotFound."""
        raise NotImplementedError
