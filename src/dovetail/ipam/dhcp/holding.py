"""What the keeper of leases holds for one container's interface, and what it tells of it."""

from __future__ import annotations

import math
import threading
from typing import Literal, NamedTuple

import msgspec

from dovetail.errors import Busy
from dovetail.ipam.dhcp.lease import Held, LeaseRequest
from dovetail.ipam.dhcp.machine import Machine
from dovetail.ipam.dhcp.transport import OpenPort
from dovetail.kernel.protocol import Netns

__all__ = ["Event", "Holding", "Line", "Waiter"]


class Event(NamedTuple):
    """Something has become of a lease that `acquire` gave or `restore` brought.

    kind: ``renewed`` (only its times are others), ``changed`` (address, routes or names are others, or it is there
    again), ``lost`` (it ran out or the server took it away: the container must not use the address any more; the
    keeper goes on asking), ``gone`` (the namespace or the interface is not there any more: the keeper has forgotten
    it). held: as it is now, to be stored; before: as it was.
    """

    kind: Literal["renewed", "changed", "lost", "gone"]
    held: Held
    before: Held


class Waiter:
    """A thread that waits for an outcome."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.error: Exception | None = None

    def end(self, error: Exception | None = None) -> None:
        """Let it go; `error` is the outcome, or there is none."""
        self.error = error
        self.done.set()


class Line:
    """One family of a holding. scheduled: the time under which it stands in the keeper's queue, infinite where not."""

    def __init__(self, holding: Holding, version: int, machine: Machine) -> None:
        self.holding = holding
        self.version = version
        self.machine = machine
        self.port: OpenPort | None = None
        self.scheduled = math.inf
        self.not_before = 0.0


class Holding:
    """One container's interface.

    kept: its namespace, where that cannot be opened by its path. complete: all that was asked for has been there.
    ended: the keeper does not hold it any more, a RELEASE may be under way.
    """

    def __init__(self, request: LeaseRequest, path: str, inode: int) -> None:
        self.request = request
        self.held = Held(request=request, netns=path, netns_inode=inode)
        self.kept: Netns | None = None
        self.lines: list[Line] = []
        self.waiters: list[Waiter] = []
        self.complete = False
        self.ended = False

    @property
    def has_all(self) -> bool:
        """Say whether each family has its lease now."""
        return all(line.machine.lease is not None for line in self.lines)

    def refresh(self) -> Held:
        """Let `held` say what the machines hold now, and give it as it was."""
        former = self.held
        leases = {line.version: line.machine.lease for line in self.lines}
        self.held = msgspec.structs.replace(former, v4=leases.get(4), v6=leases.get(6))
        return former

    def end(self, error: Exception | None = None) -> None:
        """Let all that wait go."""
        for waiter in self.waiters:
            waiter.end(error)
        self.waiters.clear()

    def no_lease(self, deadline_s: float) -> Busy:
        """Say what is missing, and why where that is known."""
        missing = [line for line in self.lines if line.machine.lease is None]
        families = " and ".join("DHCPv6" if line.version == 6 else "DHCP" for line in missing)
        reasons = "; ".join(line.machine.complaint for line in missing if line.machine.complaint)
        return Busy(
            f"no {families} server gave {self.request.ifname} a lease within {deadline_s:g} s"
            + (f": {reasons}" if reasons else ""),
            hint=""
            if reasons
            else "see that a DHCP server is on the network that the interface is attached to",
        )
