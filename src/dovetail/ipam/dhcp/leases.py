"""The keeper of leases: gets them for containers, renews each in time, gives them back.

One thread does all of it, however many leases there are. A lease that is not due costs its memory: its socket is closed,
and opened again by the path of its namespace when the time comes. So a container that has gone is not kept half alive,
and its lease ends with it.

What the keeper holds is in its memory only. Its owner stores each `Held` that it is told of, and gives all of them to
the next keeper with `restore`: a restart of the daemon loses no lease, and while no daemon runs the container keeps
its address until the lease runs out.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import math
import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from dovetail.errors import Busy, DovetailError, InvalidArgument, NamespaceGone, NotFound, one_sentence
from dovetail.ipam.dhcp.client import Client
from dovetail.ipam.dhcp.client6 import Client6
from dovetail.ipam.dhcp.holding import Event, Holding, Line, Waiter
from dovetail.ipam.dhcp.lease import Held, Lease, LeaseRequest
from dovetail.ipam.dhcp.machine import REAL_CLOCK, Clock, State
from dovetail.ipam.dhcp.transport import LinuxPorts, OpenPort, Ports
from dovetail.kernel.protocol import Netns

__all__ = ["DEADLINE_S", "Event", "Leases"]

DEADLINE_S = 30.0
"""How long `acquire` asks for a lease. A switch that learns of a new port may take half a minute (802.1D)."""

_LOG = logging.getLogger("dovetail")
_RELEASE_S = 2.0
_ANSWER_S = 5.0  # the thread does nothing that takes longer
_LOOK_S = 60.0  # poll's clock stands still while the machine sleeps
_AFTER_FAILURE_S = 10.0
_OWN = ("/proc/self/", "/proc/thread-self/")  # mean another thing to everybody who opens them


class _GoneError(Exception):
    """The container has gone."""


def _ignore(event: Event) -> None:
    """Take an event for a caller who stores nothing."""


class Leases:
    """Holds leases; every method is for any thread, and `on_event` is called on the keeper's own."""

    def __init__(
        self,
        on_event: Callable[[Event], None] = _ignore,
        *,
        ports: Ports | None = None,
        clock: Clock = REAL_CLOCK,
        random: Callable[[], float] = lambda: int.from_bytes(os.urandom(6), "big") / 2**48,
    ) -> None:
        """Make a keeper. Its thread begins with the first lease.

        on_event: stores what it is told; renewals wait for it, and it must call neither `acquire` nor `release`.
        """
        self._on_event = on_event
        self._ports = LinuxPorts() if ports is None else ports
        self._clock, self._random = clock, random
        self._holdings: dict[str, Holding] = {}
        self._listening: dict[int, Line] = {}
        self._due: list[tuple[float, int, Line]] = []
        self._count = itertools.count()
        self._commands: deque[Callable[[], None]] = deque()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._poller = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poller.register(self._bell, select.EPOLLIN)

    # -- for its owner ----------------------------------------------------------------------------------

    def acquire(self, request: LeaseRequest, netns: Netns, *, deadline_s: float = DEADLINE_S) -> Held:
        """Get the leases of `request` for its interface in `netns`, which is brought up, and keep them.

        Takes one or two exchanges with the server. Configures nothing: no address, no route. What is held for the
        same request and namespace already is given without asking. With ``ipv6`` both families are needed, and
        nothing is kept where one is missing.

        Needs CAP_SYS_ADMIN, CAP_NET_RAW and CAP_NET_ADMIN. Raises Busy (no answer in time; says why answers were of no
        use), NotFound (no such interface), Unsupported (no Ethernet), PermissionDenied, KernelError.
        """
        waiter = Waiter()
        self._call(partial(self._begin, request, netns, waiter))
        if not waiter.done.wait(deadline_s):
            self._call(partial(self._abandon, request, waiter, deadline_s))
            if not waiter.done.wait(_ANSWER_S):
                raise Busy("the keeper of DHCP leases does not answer")
        if waiter.error is not None:
            raise waiter.error
        held = self.get(request.key)
        if held is None:
            raise Busy(f"the DHCP lease of {request.key} was released while it was asked for")
        return held

    def release(self, key: str) -> None:
        """Give the leases of an attachment back to their servers and forget it; an unknown one is no error.

        Send while the interface is there: where it has gone, the server learns nothing and the lease runs out.
        IPv4 takes one message without an answer; for IPv6's answer it waits a second at most.
        """
        if key not in self._holdings:
            return
        waiter = Waiter()
        self._call(partial(self._release, key, waiter))
        waiter.done.wait(_RELEASE_S)

    def restore(self, held: Iterable[Held]) -> None:
        """Go on with leases that were stored; those whose key is held already are left alone.

        What is due is renewed at once, and what has run out meanwhile is told as ``lost`` and asked for again.
        """
        waiter = Waiter()
        self._call(partial(self._restore, list(held), waiter))
        waiter.done.wait(_ANSWER_S)

    def get(self, key: str) -> Held | None:
        """Give what is held for an attachment, by `LeaseRequest.key`; None where nothing is."""
        holding = self._holdings.get(key)
        return holding.held if holding is not None and holding.complete else None

    def held(self) -> list[Held]:
        """Give all that is held."""
        return [one.held for one in tuple(self._holdings.values()) if one.complete]

    def wake(self) -> None:
        """Look at the clock again: it may have been set."""
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Stop. Nothing is released: the containers go on with their addresses."""
        with self._starting:
            stopped, self._stopped = self._stopped, True
        if stopped:
            return
        self.wake()
        if self._thread is not None:
            self._thread.join(_ANSWER_S)
            if self._thread.is_alive():
                return  # it is in its owner's `on_event`, and finds out afterwards
        for holding in self._holdings.values():
            self._drop(holding)
        self._poller.close()
        os.close(self._bell)

    # -- the thread ---------------------------------------------------------------------------------------

    def _call(self, command: Callable[[], None]) -> None:
        """Let the thread do something."""
        with self._starting:
            if self._stopped:
                raise Busy("the keeper of DHCP leases has stopped")
            self._commands.append(command)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True, name="dhcp")
                self._thread.start()
        self.wake()

    def _run(self) -> None:
        while not self._stopped:
            for descriptor, _ in self._poller.poll(self._until_due()):
                if descriptor == self._bell:
                    os.eventfd_read(self._bell)
                elif descriptor in self._listening:
                    self._guarded(self._listening[descriptor], self._hear)
            while self._commands:
                self._commands.popleft()()
            while self._due and self._due[0][0] <= self._clock.now():
                due, _, line = heapq.heappop(self._due)
                if due == line.scheduled:
                    line.scheduled = math.inf
                    self._guarded(line, self._advance)

    def _until_due(self) -> float | None:
        if not self._due:
            return None
        # rounded up: poll counts in milliseconds, and a moment early there is nothing to do
        return min(max(self._due[0][0] - self._clock.now(), 0.0) + 0.001, _LOOK_S)

    def _guarded(self, line: Line, action: Callable[[Line], None]) -> None:
        """Do something for one line; whatever happens there, the others go on."""
        try:
            action(line)
        except _GoneError:
            self._gone(line.holding)
        except DovetailError as exc:
            self._failed(line, exc)
        except Exception as exc:
            _LOG.exception("dhcp failed")
            self._failed(line, exc)

    def _hear(self, line: Line) -> None:
        before, port = line.machine.lease, line.port
        if port is None:
            return
        for datagram in port.receive():
            line.machine.receive(port, datagram)
        self._settle(line, before)

    def _advance(self, line: Line) -> None:
        before = line.machine.lease
        line.machine.advance(self._port(line))
        self._settle(line, before)

    def _settle(self, line: Line, before: Lease | None) -> None:
        """Draw the consequences of what a machine has done."""
        holding, machine = line.holding, line.machine
        if machine.state is State.BOUND or machine.released:
            self._close_port(line)
        if not machine.released:
            self._schedule(line)
        if holding.ended:
            if all(one.machine.released for one in holding.lines):
                self._drop(holding)
            return
        if machine.lease is not before:
            self._tell(holding, before, machine.lease)
        if holding.has_all:
            holding.complete = True
            holding.end()

    def _tell(self, holding: Holding, before: Lease | None, now: Lease | None) -> None:
        """Keep the new state, and tell of it where it is not an answer to `acquire`."""
        former = holding.refresh()
        if not holding.complete:
            return
        if now is None:
            kind: Literal["renewed", "changed", "lost"] = "lost"
        else:
            kind = "renewed" if before is not None and now.same_settings(before) else "changed"
        self._emit(Event(kind, holding.held, former))

    def _emit(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:  # the owner's trouble must not end the renewals
            _LOG.exception("dhcp event not taken")

    def _schedule(self, line: Line) -> None:
        due = max(line.machine.due, line.not_before)
        if due != line.scheduled:
            line.scheduled = due
            if due != math.inf:
                heapq.heappush(self._due, (due, next(self._count), line))

    # -- ports --------------------------------------------------------------------------------------------

    def _port(self, line: Line) -> OpenPort | None:
        """Give the line's port, opened now where it is not; None where this process cannot see the namespace.

        Raises _GoneError where the container has gone, and what `Ports.open` does.
        """
        if line.port is not None:
            return line.port
        holding = line.holding
        if holding.kept is not None:
            return self._open_port(line, holding.kept, up=False)
        try:
            netns = self._ports.open_netns(holding.held.netns)
        except NamespaceGone as exc:
            raise _GoneError from exc
        except InvalidArgument as exc:
            line.machine.complaint = one_sentence(exc)
            return None
        with netns:
            if netns.inode != holding.held.netns_inode:
                raise _GoneError
            try:
                return self._open_port(line, netns, up=False)
            except NotFound as exc:
                raise _GoneError from exc

    def _open_port(self, line: Line, netns: Netns, *, up: bool) -> OpenPort:
        port = self._ports.open(netns, line.holding.request.ifname, version=line.version, up=up)
        line.port = port
        self._listening[port.fileno()] = line
        self._poller.register(port.fileno(), select.EPOLLIN)
        return port

    def _close_port(self, line: Line) -> None:
        port, line.port = line.port, None
        if port is not None:
            self._poller.unregister(port.fileno())
            del self._listening[port.fileno()]
            port.close()

    # -- commands -----------------------------------------------------------------------------------------

    def _begin(self, request: LeaseRequest, netns: Netns, waiter: Waiter) -> None:
        holding = self._holdings.get(request.key)
        if holding is not None and (holding.request != request or holding.held.netns_inode != netns.inode):
            # a container of the same name that was never deleted; the server knows it by its client id
            self._drop(holding, Busy(f"the DHCP lease of {request.key} was asked for anew"))
            holding = None
        if holding is not None:
            holding.waiters.append(waiter)
            if holding.has_all:
                holding.end()
            return
        holding = Holding(request, netns.path, netns.inode)
        holding.waiters.append(waiter)
        self._holdings[request.key] = holding
        self._add_lines(holding)
        try:
            if not self._opens_again(holding):
                holding.kept = self._ports.duplicate(netns)
            for line in holding.lines:
                self._open_port(line, netns, up=True)
        except (DovetailError, OSError) as exc:
            self._drop(holding, exc)
            return
        for line in holding.lines:
            self._guarded(line, self._advance)

    def _opens_again(self, holding: Holding) -> bool:
        """Say whether the namespace will be found by its path, as long as it is there."""
        path = holding.held.netns
        if not path.startswith("/") or path.startswith(_OWN):
            return False
        try:
            with self._ports.open_netns(path) as netns:
                return netns.inode == holding.held.netns_inode
        except DovetailError:
            return False

    def _add_lines(self, holding: Holding) -> None:
        held, request = holding.held, holding.request
        client = Client(request, clock=self._clock, random=self._random, lease=held.v4)
        holding.lines.append(Line(holding, 4, client))
        if request.ipv6:
            client6 = Client6(request, clock=self._clock, random=self._random, lease=held.v6)
            holding.lines.append(Line(holding, 6, client6))

    def _restore(self, held: list[Held], waiter: Waiter) -> None:
        for one in held:
            if one.key in self._holdings:
                continue
            holding = Holding(one.request, one.netns, one.netns_inode)
            holding.held, holding.complete = one, True
            self._holdings[one.key] = holding
            self._add_lines(holding)
            for line in holding.lines:
                self._schedule(line)
        waiter.end()

    def _abandon(self, request: LeaseRequest, waiter: Waiter, deadline_s: float) -> None:
        """Let a thread go that has waited for too long; what nobody had before is given back."""
        holding = self._holdings.get(request.key)
        if holding is None or waiter not in holding.waiters:
            waiter.end(waiter.error)
            return
        holding.waiters.remove(waiter)
        waiter.end(holding.no_lease(deadline_s))
        if not holding.waiters and not holding.complete:
            self._release(request.key, Waiter())

    def _release(self, key: str, waiter: Waiter) -> None:
        holding = self._holdings.pop(key, None)
        if holding is None:
            waiter.end()
            return
        holding.end(Busy(f"the DHCP lease of {key} was released while it was asked for"))
        holding.ended = True
        holding.waiters.append(waiter)
        for line in holding.lines:
            try:
                port = self._port(line)
            except (_GoneError, DovetailError):
                port = None
            if port is None:
                line.machine.released = True
            self._guarded(line, partial(_give_back, port=port))
        for line in holding.lines:
            self._settle(line, line.machine.lease)

    def _failed(self, line: Line, exc: Exception) -> None:
        """Bear an error: who waits is told, what is held is tried again later."""
        holding = line.holding
        line.machine.complaint = one_sentence(exc)
        if not holding.complete or holding.ended:
            self._drop(holding, exc)
            return
        _LOG.warning(
            "dhcp not renewed",
            extra={"fields": {"lease": holding.request.key, "error": one_sentence(exc)}},
        )
        self._close_port(line)
        line.not_before = self._clock.now() + _AFTER_FAILURE_S
        self._schedule(line)

    def _gone(self, holding: Holding) -> None:
        held, told = holding.held, holding.complete and not holding.ended
        self._drop(holding, NotFound("link", holding.request.ifname))
        if told:
            self._emit(Event("gone", held, held))

    def _drop(self, holding: Holding, error: Exception | None = None) -> None:
        """Forget a holding without a word to its servers."""
        holding.ended = True
        if self._holdings.get(holding.request.key) is holding and not self._stopped:
            del self._holdings[holding.request.key]
        for line in holding.lines:
            self._close_port(line)
            line.machine.released = True
            line.scheduled = math.inf
        if holding.kept is not None:
            holding.kept.close()
        holding.end(error)


def _give_back(line: Line, *, port: OpenPort | None) -> None:
    if port is not None:
        line.machine.release(port)
