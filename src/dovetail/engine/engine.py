"""The engine: the order of calls, the undo, the locks. Faces call this and nothing below it.

::

    engine.networks    create delete get all bind bound unbind
    engine.addresses   request_pool release_pool pool pools request release begin_replay
    engine.endpoints   attach detach · create join leave delete · publish unpublish · check get all collect
    engine.parts       add complete remove check known all collect: what single plugins of a CNI chain did
    engine.tending     start look add stop: parts that change by themselves
    engine.sandboxes   create delete get all open
    engine.reconcile() store against kernel, at start and now and again; engine.plan() what it would do
    engine.restore_firewall()  after a flush or a restart of another firewall
    engine.firewall_problems() the user's rules that cannot be used
    engine.status(network)     would the next attachment succeed
    engine.tracer      timed step trees
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from dovetail.engine.addresses import Addresses
from dovetail.engine.core import Core
from dovetail.engine.endpoints import Endpoints
from dovetail.engine.firewall import Firewall
from dovetail.engine.ids import endpoint_id
from dovetail.engine.networks import Networks
from dovetail.engine.parts import Parts
from dovetail.engine.reconcile import Reconciler
from dovetail.engine.report import Report
from dovetail.engine.sandboxes import Sandboxes
from dovetail.engine.subnets import EXTERNAL
from dovetail.engine.trace import Tracer
from dovetail.engine.traced import traced
from dovetail.errors import Conflict, NotFound, PoolExhausted
from dovetail.kernel.protocol import Kernel
from dovetail.model.pool import AddressRequest

if TYPE_CHECKING:
    from dovetail.engine.tending import Tending

__all__ = ["Engine", "Report", "endpoint_id"]


class Engine:
    """One host's engine."""

    def __init__(self, core: Core) -> None:
        self.core = core = replace(core, kernel=traced(core.kernel, core.tracer))
        self._firewall = Firewall(core)
        self.networks = Networks(core, self._firewall)
        self.addresses = Addresses(core)
        self.endpoints = Endpoints(core, self._firewall, self.addresses)
        self.parts = Parts(core, self._firewall)
        self.sandboxes = Sandboxes(core, self.endpoints)
        self._reconciler = Reconciler(
            core, self.networks, self.endpoints, self.parts, self.addresses, self._firewall
        )

    @cached_property
    def tending(self) -> Tending:
        """What looks after parts that change by themselves; imported where there are any, or a process stays."""
        from dovetail.engine.tending import Tending

        return Tending(self.core, self.parts, self._firewall)

    @property
    def tracer(self) -> Tracer:
        """The step trees of this engine's operations."""
        return self.core.tracer

    @property
    def kernel(self) -> Kernel:
        """The host's namespace, for opening sandboxes."""
        return self.core.kernel

    def reconcile(self, *, ask_docker: bool = False, everything: bool = False) -> Report:
        """Compare store and kernel and repair both. Raises nothing: failures are in the report.

        ask_docker: look as well at what Docker has forgotten, where `Core.docker` is there; takes what it takes to
        answer. everything: also what Docker never had, which a person is to decide. See `reconcile.py`.
        """
        return self._reconciler.run(ask_docker=ask_docker, everything=everything)

    def plan(self, *, ask_docker: bool = False, everything: bool = False) -> Report:
        """Say what `reconcile` would do now; changes nothing and raises nothing."""
        return self._reconciler.plan(ask_docker=ask_docker, everything=everything)

    def restore_firewall(self) -> list[str]:
        """Put back what another program took out of the firewall; does nothing when all is there."""
        return self._firewall.restore()

    def firewall_problems(self) -> list[str]:
        """Say which of the user's own rules are not in force, and why, a sentence each."""
        return self._firewall.table.problems()

    def status(self, network: str) -> None:
        """Raise what would keep the next attachment to `network` from succeeding (CNI's STATUS), else return."""
        core = self.core
        found = self.networks.get(network)
        if found.status != "active":
            raise Conflict(f"network {found.name!r} is {found.status}")
        core.driver(found.driver)
        if found.firewall is not None and not core.kernel.nft_has_table():
            raise NotFound("nftables table", "inet dovetail", hint="run: dovetail doctor")
        if found.link and core.kernel.link(found.link) is None:
            raise NotFound("link", found.link, hint="restart the daemon, which restores it")
        if found.ipam == EXTERNAL:
            return
        for version in (4, 6):
            pools = [s.pool_id for s in found.subnets if s.subnet.version == version]
            if pools:
                self._has_room(found.ipam, pools)

    def _has_room(self, ipam: str, pools: list[str]) -> None:
        try:
            with self.core.store.transaction():
                for pool_id in pools[:-1]:
                    if self._full(ipam, pool_id) is None:
                        raise _RollBackError
                full = self._full(ipam, pools[-1])
                if full is not None:
                    raise full
                raise _RollBackError
        except _RollBackError:
            return

    def _full(self, ipam: str, pool_id: str) -> PoolExhausted | None:
        try:
            self.core.ipam(ipam).request_address(pool_id, AddressRequest(kind="endpoint", owner="status"))
        except PoolExhausted as exc:
            return exc
        return None


class _RollBackError(Exception):
    """Takes a trial allocation back."""
