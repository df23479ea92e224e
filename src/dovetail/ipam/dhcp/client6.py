"""The DHCPv6 client as a state machine: SOLICIT, ADVERTISE, REQUEST, REPLY, then RENEW and REBIND; RELEASE at the end.

One address (an IA_NA with one address). A server that knows the rapid commit gives it with two messages instead of
four, and without the second in which the others may advertise.

Source: RFC 8415 §18.2 (the client), §15 (retransmission), §7.6 (times), §16 (which messages are not believed).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Interface
from typing import NamedTuple

from dovetail.ipam.dhcp.grant import lease_times
from dovetail.ipam.dhcp.lease import Lease, LeaseRequest
from dovetail.ipam.dhcp.machine import Clock, Datagram, Machine, Port, State
from dovetail.ipam.dhcp.message6 import (
    ADVERTISE,
    NO_BINDING,
    REBIND,
    RELEASE6,
    RENEW,
    REPLY,
    REQUEST6,
    SOLICIT,
    IaAddress,
    IaNa,
    Message6,
    decode6,
    encode6,
    ia_na,
    option,
    read_ia_na,
    read_status,
)
from dovetail.ipam.dhcp.values import FOREVER, MalformedError, addresses6, domain_list, usable
from dovetail.model.attachment import DNS

__all__ = ["SERVERS", "Client6"]

SERVERS = IPv6Address("ff02::1:2")
"""All servers and relays on the link (RFC 8415 §7.1)."""

_CLIENT_ID, _SERVER_ID, _IA_NA, _ORO, _PREFERENCE, _ELAPSED = 1, 2, 3, 6, 7, 8  # RFC 8415 §21
_RAPID_COMMIT, _DNS, _SEARCH, _SOL_MAX_RT = 14, 23, 24, 82  # RFC 8415 §21.14, RFC 3646, RFC 8415 §21.24
_DUID_UUID = b"\0\4"  # RFC 6355
_CERTAIN = 255  # a preference that ends the waiting for others
_ANYBODY = IPv6Address("::")
_SOL_MAX_RANGE = range(60, 86401)
_JITTER = 0.1
_KINDS = {
    State.SELECTING: SOLICIT,
    State.REQUESTING: REQUEST6,
    State.RENEWING: RENEW,
    State.REBINDING: REBIND,
    State.RELEASING: RELEASE6,
}
# the first wait, the longest, how often (0: for ever). RFC 8415 §7.6; RELEASE has a second and not 31, as the
# container's interface goes when it is over
_TIMES = {
    State.SELECTING: (1.0, 3600.0, 0),
    State.REQUESTING: (1.0, 30.0, 10),
    State.RENEWING: (10.0, 600.0, 0),
    State.REBINDING: (10.0, 600.0, 0),
    State.RELEASING: (0.5, 0.5, 2),
}


class _Offer(NamedTuple):
    """What a server advertised: its DUID, how much it wants to be chosen, and the address."""

    server: bytes
    preference: int
    address: IPv6Address


class Client6(Machine):
    """A lease of an IPv6 address."""

    def __init__(
        self,
        request: LeaseRequest,
        *,
        clock: Clock,
        random: Callable[[], float],
        lease: Lease | None = None,
    ) -> None:
        """Begin anew, or go on with a lease that was stored; see `Machine`."""
        digest = hashlib.sha256(request.key.encode()).digest()
        self._duid, self._iaid = _DUID_UUID + digest[:16], int.from_bytes(digest[16:20], "big")
        self._xid = 0
        self._waited_s = 0.0
        self._sol_max_s = _TIMES[State.SELECTING][1]
        self._offer: _Offer | None = None
        super().__init__(request, clock=clock, random=random, lease=lease)

    # -- sending --------------------------------------------------------------------------------------

    def _begin_transaction(self) -> None:
        if self._tries == 0:
            self._xid = int(self._random() * 2**24)

    def _give_up(self) -> bool:
        if self.state is State.SELECTING and self._tries and self._offer is not None:
            self._enter(State.REQUESTING)  # the time in which others might have advertised is over
            return False
        often = _TIMES[self.state][2]
        if not often or self._tries < often:
            return False
        if self.state is State.RELEASING:
            self.released = True
        else:
            self._start_over(*_TIMES[State.SELECTING][:2])
        return True

    def _enter(self, state: State, *, after_s: float = 0.0) -> None:
        super()._enter(state, after_s=after_s)
        if state is State.SELECTING:
            self._offer = None

    def _send(self, port: Port) -> bool:
        elapsed = min(max(int((self._clock.now() - self._since) * 100), 0), 0xFFFF)
        options = [(_CLIENT_ID, self._duid), (_ELAPSED, elapsed.to_bytes(2, "big"))]
        server = self._server()
        if server:
            options.append((_SERVER_ID, server))
        options.append((_IA_NA, ia_na(IaNa(self._iaid, addresses=self._asked_addresses()))))
        if self.state is State.SELECTING:
            options.append((_RAPID_COMMIT, b""))
        if self.state is not State.RELEASING:
            wanted = (_DNS, _SEARCH, _SOL_MAX_RT)
            options.append((_ORO, b"".join(code.to_bytes(2, "big") for code in wanted)))
        payload = encode6(Message6(_KINDS[self.state], self._xid, tuple(options)))
        return port.send(Datagram(payload, _ANYBODY, SERVERS))

    def _server(self) -> bytes:
        """Give the DUID of the server that the message is for, nothing where it is for all."""
        if self.state is State.REQUESTING and self._offer is not None:
            return self._offer.server
        if self.state in (State.RENEWING, State.RELEASING) and self.lease is not None:
            return bytes.fromhex(self.lease.server)
        return b""

    def _asked_addresses(self) -> tuple[IaAddress, ...]:
        address = self.lease.address.ip if self.lease is not None else self._wished
        if self.state is State.REQUESTING and self._offer is not None:
            address = self._offer.address
        return (IaAddress(address),) if isinstance(address, IPv6Address) else ()

    def _wait(self, now: float) -> float:
        first, most, _ = _TIMES[self.state]
        if self.state is State.SELECTING:
            most = self._sol_max_s
        spread = _JITTER * self._spread()
        if self._tries == 1:
            # who solicits waits for the slowest to advertise: never less than the time (RFC 8415 §18.2.1)
            waited = first * (1.0 + (abs(spread) if self.state is State.SELECTING else spread))
        else:
            waited = min(self._waited_s * 2.0, most) * (1.0 + spread)
        self._waited_s = waited
        return waited

    # -- receiving --------------------------------------------------------------------------------------

    def receive(self, port: Port, datagram: Datagram) -> None:
        """Take a datagram that has arrived; whatever is in it, nothing is raised."""
        try:
            message = decode6(datagram.payload)
            if message.xid != self._xid or option(message.options, _CLIENT_ID) != self._duid:
                return
            server = option(message.options, _SERVER_ID)
            if server:
                self._answer(port, message, server)
        except MalformedError as exc:
            self.complaint = f"the answer of {datagram.source} cannot be used: {exc}"

    def _answer(self, port: Port, message: Message6, server: bytes) -> None:
        if message.kind == REPLY and self.state is State.RELEASING:
            self.released = True
        elif message.kind == ADVERTISE and self.state is State.SELECTING:
            self._listen_to_sol_max(message)
            self._consider(port, message, server)
        elif message.kind == REPLY and self.state is not State.BOUND:
            rapid = option(message.options, _RAPID_COMMIT) is not None
            wanted = self._server()
            if (self.state is not State.SELECTING or rapid) and (not wanted or wanted == server):
                self._take(port, message, server)

    def _listen_to_sol_max(self, message: Message6) -> None:
        """Take the longest wait between two SOLICITs from a server that wants fewer, or more (RFC 8415 §18.2.9)."""
        value = int.from_bytes(option(message.options, _SOL_MAX_RT) or b"", "big")
        if value in _SOL_MAX_RANGE:
            self._sol_max_s = float(value)

    def _consider(self, port: Port, message: Message6, server: bytes) -> None:
        """Keep the offer of the server that wants most to be chosen; go on at once where nobody else is waited for."""
        value = option(message.options, _PREFERENCE)
        preference = value[0] if value is not None and len(value) == 1 else 0
        offer = _Offer(server, preference, self._granted(message).address)
        if self._offer is None or offer.preference > self._offer.preference:
            self._offer = offer
        if preference == _CERTAIN or self._tries > 1:
            self._enter(State.REQUESTING)
            self._transmit(port)

    def _take(self, port: Port, message: Message6, server: bytes) -> None:
        """Take a REPLY: a lease, or word that there is none."""
        try:
            association = self._association(message)
            if association.status.code == NO_BINDING and self.lease is not None:
                self._ask_again(port, server, self.lease)
                return
            if self._taken_away(association):
                self._lose()
                self._transmit(port)
                return
            lease = self._read_lease(message, association, server)
        except MalformedError:
            if self.state is State.REQUESTING and self.lease is None:
                self._start_over(*_TIMES[State.SELECTING][:2])
            raise
        self._bind(lease, self._asked_at)

    def _ask_again(self, port: Port, server: bytes, lease: Lease) -> None:
        """Ask a server that has forgotten the lease to give it once more (RFC 8415 §18.2.10.1)."""
        if self.state is State.REQUESTING:
            raise MalformedError("the server has forgotten the lease, and does not give it again")
        self._offer = _Offer(server, 0, IPv6Address(lease.address.ip))
        self._enter(State.REQUESTING)
        self._transmit(port)

    def _read_lease(self, message: Message6, association: IaNa, server: bytes) -> Lease:
        granted, options = self._granted(message), message.options
        lease_s, renew_s, rebind_s = _times(association, granted)
        servers = addresses6(option(options, _DNS) or b"", "the name servers' option")
        return Lease(
            address=IPv6Interface((int(granted.address), 128)),
            dns=DNS(
                nameservers=tuple(map(str, servers)),
                search=domain_list(option(options, _SEARCH) or b"", compressed=False),
            ),
            server=server.hex(),
            obtained_at=self._asked_wall,
            lease_s=lease_s,
            renew_s=renew_s,
            rebind_s=rebind_s,
        )

    def _taken_away(self, association: IaNa) -> bool:
        """Say whether the server ends the lease: it gives our address no time any more."""
        return self.lease is not None and any(
            one.address == self.lease.address.ip and not one.valid for one in association.addresses
        )

    def _association(self, message: Message6) -> IaNa:
        """Give the identity association that is ours; raises MalformedError where there is none, or nothing in it."""
        status = read_status(message.options)
        if status.code:
            raise MalformedError(f"the server says no (status {status.code}): {status.text}")
        for code, value in message.options:
            if code == _IA_NA:
                association = read_ia_na(value)
                if association.iaid == self._iaid:
                    return association
        raise MalformedError("it has no identity association of ours")

    def _granted(self, message: Message6) -> IaAddress:
        """Give the address that a container can have; raises MalformedError where there is none."""
        association = self._association(message)
        if association.status.code:
            status = association.status
            raise MalformedError(f"the server gives no address (status {status.code}): {status.text}")
        if association.t1 > association.t2 > 0:
            raise MalformedError(f"T1 of {association.t1} s is later than T2 of {association.t2} s")
        for one in association.addresses:
            fine = usable(one.address) and not one.address.is_link_local
            if fine and one.valid and one.preferred <= one.valid and not one.status.code:
                return one
        raise MalformedError("it gives no address")


def _times(association: IaNa, granted: IaAddress) -> tuple[float | None, float | None, float | None]:
    """Give a lease's length, T1 and T2; the defaults are parts of the preferred lifetime (RFC 8415 §21.4)."""
    if granted.valid == FOREVER:
        return None, None, None
    part = min(granted.preferred or granted.valid, granted.valid) / granted.valid
    return lease_times(
        granted.valid, association.t1, association.t2, default_renew=0.5 * part, default_rebind=0.8 * part
    )
