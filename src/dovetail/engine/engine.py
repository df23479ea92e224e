"""The engine: the order of calls, the undo, the locks. Faces call this and nothing below it.

::

    engine.networks    create delete get all bind bound unbind
    engine.addresses   request_pool release_pool pool pools request release
    engine.endpoints   attach detach · create join leave delete · publish unpublish · check get all collect
    engine.sandboxes   create delete get all open
    engine.reconcile() store against kernel, at start and after a firewall reload
    engine.tracer      timed step trees
"""

from __future__ import annotations

import msgspec

from dovetail.engine.addresses import Addresses
from dovetail.engine.core import Core
from dovetail.engine.endpoints import Endpoints
from dovetail.engine.networks import Networks
from dovetail.engine.sandboxes import Sandboxes
from dovetail.engine.trace import Tracer
from dovetail.kernel.protocol import Kernel
from dovetail.model.endpoint import Owner
from dovetail.model.names import derive_id

__all__ = ["Engine", "Report", "endpoint_id"]


def endpoint_id(owner: Owner) -> str:
    """Derive the id of the endpoint that `owner` has: the same attachment, the same id, without state."""
    return derive_id(owner.face, owner.network, owner.container, owner.ifname)


class Report(msgspec.Struct, kw_only=True):
    """What reconciliation did, a sentence each."""

    restored: list[str] = []
    released: list[str] = []
    removed: list[str] = []


class Engine:
    """One host's engine."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.networks = Networks(core)
        self.addresses = Addresses(core)
        self.endpoints = Endpoints(core)
        self.sandboxes = Sandboxes(core)

    @property
    def tracer(self) -> Tracer:
        """The step trees of this engine's operations."""
        return self.core.tracer

    @property
    def kernel(self) -> Kernel:
        """The host's namespace, for opening sandboxes."""
        return self.core.kernel

    def reconcile(self) -> Report:
        """Compare store and kernel and repair both."""
        raise NotImplementedError

    def status(self, network: str) -> None:
        """Raise what would keep the next attachment to `network` from succeeding (CNI's STATUS), else return."""
        raise NotImplementedError
