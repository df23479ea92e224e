"""What the clients of both families have in common: the states, the times of a lease, and sending again.

A machine does no input or output of its own and knows no thread. Its owner calls `advance` when it is `due`, hands it
the datagrams that arrive, and gives it a `Port` to send on.

::

    SELECTING ──► REQUESTING ──► BOUND ──T1──► RENEWING ──T2──► REBINDING
        ▲              │           ▲               │                │
        │◄─────────────┘           └───────────────┴────────────────┤
        └──────────────────── refused, or the lease ran out ────────┘

Source: RFC 2131 §4.4 (figure 5), RFC 8415 §15 and §18.2.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from enum import Enum
from ipaddress import IPv4Address
from typing import NamedTuple, Protocol

from dovetail.ipam.dhcp.lease import Lease, LeaseRequest
from dovetail.model.addresses import IPAddress

__all__ = ["EVERYBODY", "REAL_CLOCK", "Clock", "Datagram", "Machine", "Port", "State"]

EVERYBODY = IPv4Address("255.255.255.255")
"""Where a datagram goes without a destination: to all hosts on the link."""

_NOT_READY_S, _NOT_READY_MOST_S = 0.02, 10.0
_NO_PORT_S = 60.0
_EARLY = 0.1


class Clock(NamedTuple):
    """Two clocks in seconds: `now` never jumps and counts while the machine sleeps, `wall` outlives a restart."""

    now: Callable[[], float]
    wall: Callable[[], float]


REAL_CLOCK = Clock(now=lambda: time.clock_gettime(time.CLOCK_BOOTTIME), wall=time.time)


class Datagram(NamedTuple):
    """A message on its way.

    source, destination: the hosts'. mac: the other side's as it was last seen, empty where it is not known.
    unanswered: nobody says that it has arrived.
    """

    payload: bytes
    source: IPAddress
    destination: IPAddress = EVERYBODY
    mac: bytes = b""
    unanswered: bool = False


class Port(Protocol):
    """An interface to send on."""

    @property
    def mac(self) -> bytes:
        """Give its hardware address."""
        ...

    @property
    def mtu(self) -> int:
        """Give the size of its packets."""
        ...

    def send(self, datagram: Datagram) -> bool:
        """Send; False where the interface cannot at the moment (down, or without a link-local address yet)."""
        ...


class State(Enum):
    """Where a client is (RFC 2131 figure 5), and RELEASING after it."""

    SELECTING = "selecting"
    REQUESTING = "requesting"
    BOUND = "bound"
    RENEWING = "renewing"
    REBINDING = "rebinding"
    RELEASING = "releasing"


class Machine(ABC):
    """One lease of one family for one attachment.

    lease: what it holds. complaint: why the last message that arrived, or was to be sent, came to nothing. released:
    `release` is over.
    """

    state: State
    _tries: int
    _unready: int
    _resend_at: float
    _since: float
    _asked_at = 0.0
    _asked_wall = 0.0
    _renew_at = _rebind_at = _expire_at = math.inf

    def __init__(
        self,
        request: LeaseRequest,
        *,
        clock: Clock,
        random: Callable[[], float],
        lease: Lease | None = None,
    ) -> None:
        """Begin anew, or go on with a lease that was stored. random: gives numbers from 0 to below 1."""
        self.request = request
        self.lease: Lease | None = None
        self.complaint = ""
        self.released = False
        self._clock = clock
        self._random = random
        self._wished: IPAddress | None = None
        self._failures = 0
        self._enter(State.SELECTING)
        if lease is not None:
            self._bind(lease, clock.now() - max(0.0, clock.wall() - lease.obtained_at))

    # -- what its owner calls ---------------------------------------------------------------------

    @property
    def due(self) -> float:
        """When `advance` is to be called next, by `Clock.now`; infinite where never."""
        if self.released:
            return math.inf
        if self.state is State.BOUND:
            return min(self._renew_at, self._rebind_at, self._expire_at)
        if self.lease is None:
            return self._resend_at
        return min(self._resend_at, self._rebind_at if self.state is State.RENEWING else self._expire_at)

    def advance(self, port: Port | None) -> None:
        """Do what is due now: lose the lease, begin to renew it, send again. None: there is no way to send."""
        now = self._clock.now()
        if self.lease is not None and self.state is not State.RELEASING:
            if now >= self._expire_at:
                self._lose()
            elif now >= self._rebind_at and self.state in (State.BOUND, State.RENEWING):
                self._enter(State.REBINDING)
            elif now >= self._renew_at and self.state is State.BOUND:
                self._enter(State.RENEWING)
        if self.state is State.BOUND or now < self._resend_at:
            return
        if port is None:
            self._resend_at = now + _NO_PORT_S
        else:
            self._transmit(port)

    @abstractmethod
    def receive(self, port: Port, datagram: Datagram) -> None:
        """Take a datagram that has arrived; whatever is in it, nothing is raised."""

    def release(self, port: Port) -> None:
        """Give the lease back; over when `released`. Without a lease there is nothing to do."""
        if self.lease is None:
            self.released = True
            return
        self._enter(State.RELEASING)
        self._transmit(port)

    # -- what the families say differently -----------------------------------------------------------

    @abstractmethod
    def _send(self, port: Port) -> bool:
        """Send the message of the present state."""

    @abstractmethod
    def _wait(self, now: float) -> float:
        """Say how long to wait for an answer to the message that was sent as number `_tries`."""

    @abstractmethod
    def _give_up(self) -> bool:
        """Say whether the present state has been tried often enough, and if so go to another."""

    @abstractmethod
    def _begin_transaction(self) -> None:
        """Choose a transaction id where the message that is about to be sent is the first of one."""

    # -- steps ----------------------------------------------------------------------------------------

    def _enter(self, state: State, *, after_s: float = 0.0) -> None:
        self.state = state
        self._tries = 0
        self._unready = 0
        self._resend_at = self._clock.now() + after_s
        self._since = self._resend_at

    def _transmit(self, port: Port) -> None:
        if self._give_up():
            return
        now = self._clock.now()
        self._begin_transaction()
        # a lease counts from the question that it answers, at the latest
        self._asked_at, self._asked_wall = now, self._clock.wall()
        if not self._send(port):
            self.complaint = f"{self.request.ifname} cannot send"
            self._resend_at = now + min(_NOT_READY_S * (1 << self._unready), _NOT_READY_MOST_S)
            self._unready = min(self._unready + 1, 10)
            return
        self._tries += 1
        self._resend_at = now + self._wait(now)

    def _bind(self, lease: Lease, since: float) -> None:
        """Hold `lease`, whose times count from `since`."""
        self._enter(State.BOUND)
        self._failures = 0
        self.lease, self._wished, self.complaint = lease, None, ""
        # a little early, each at a time of its own: containers that began together need not renew together
        early = 1.0 - _EARLY * self._random()
        self._renew_at = since + _seconds(lease.renew_s) * early
        self._rebind_at = since + _seconds(lease.rebind_s)
        self._expire_at = since + _seconds(lease.lease_s)

    def _lose(self) -> None:
        """Be without a lease, and ask for the same address again."""
        if self.lease is not None:
            self._wished = self.lease.address.ip
        self.lease = None
        self._enter(State.SELECTING)

    def _start_over(self, backoff_s: float, most_s: float) -> None:
        """Look for a server again after a refusal, later each time: a server that offers and refuses for ever is borne."""
        self._wished = None
        self._enter(State.SELECTING, after_s=min(backoff_s * (1 << self._failures), most_s))
        self._failures = min(self._failures + 1, 16)

    def _spread(self) -> float:
        """Give a number from -1 to below 1."""
        return 2.0 * self._random() - 1.0


def _seconds(value: float | None) -> float:
    return math.inf if value is None else value
