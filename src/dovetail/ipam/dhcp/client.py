"""The DHCPv4 client as a state machine: DISCOVER, OFFER, REQUEST, ACK, then renewal for as long as it is wanted.

Nothing is believed that does not carry the transaction, the hardware address and, once one is chosen, the server that
it must. DHCPDECLINE is never sent: the interface is its container's alone, and nobody probes the address.

Source: RFC 2131 §3.1, §4.1 (retransmission), §4.4; RFC 4361 is not followed, the client id is that of the Go plugin.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from dovetail.ipam.dhcp import options as o
from dovetail.ipam.dhcp.grant import read_grant, server_of
from dovetail.ipam.dhcp.lease import Lease
from dovetail.ipam.dhcp.machine import Datagram, Machine, Port, State
from dovetail.ipam.dhcp.message import (
    ACK,
    BOOTREPLY,
    BOOTREQUEST,
    DISCOVER,
    NAK,
    NOBODY,
    OFFER,
    RELEASE,
    REQUEST,
    Message,
    decode,
    encode,
)
from dovetail.ipam.dhcp.values import MalformedError

__all__ = ["Client"]

# RFC 2131 §4.1 doubles from 4 s to 64 s, with a second of jitter. A container waits for its lease to start, and what it
# says first is often lost: the port of its bridge forwards up to a second after the interface is up (the kernel's
# linkwatch; of 12 containers 3 had their lease after 1 s and the others after 10 ms, when the second question came a
# second after the first)
_FIRST_S, _MOST_S = 0.25, 64.0
_REFUSED_S = 1.0
_JITTER = 0.25
_RENEW_LEAST_S = 60.0  # RFC 2131 §4.4.5
_REQUESTS = 5  # then the server that offered has gone
_SIZES = (576, 1500)  # RFC 2132 §9.10, and what any Ethernet carries


class Client(Machine):
    """A lease of an IPv4 address."""

    _xid = 0
    _offer: Lease | None = None

    # -- sending --------------------------------------------------------------------------------------

    def _begin_transaction(self) -> None:
        # one transaction from DISCOVER to ACK; afterwards each question is one, as its answer dates the lease
        fresh = self._tries == 0 or self.state in (State.RENEWING, State.REBINDING)
        if fresh and self.state is not State.REQUESTING:
            self._xid = int(self._random() * 2**32)

    def _send(self, port: Port) -> bool:
        lease = self.lease
        if self.state is State.SELECTING:
            return self._broadcast(port, DISCOVER, self._address_option(self._wished))
        if self.state is State.REQUESTING and self._offer is not None:
            chosen = {o.SERVER_ID: IPv4Address(self._offer.server).packed}
            return self._broadcast(port, REQUEST, chosen | self._address_option(self._offer.address.ip))
        if lease is None:
            return True
        if self.state is State.RELEASING:
            self.released = True
            return self._unicast(port, RELEASE, lease, {o.SERVER_ID: IPv4Address(lease.server).packed})
        if self.state is State.RENEWING:
            return self._unicast(port, REQUEST, lease, {})
        message = self._message(port, REQUEST, {}, ciaddr=IPv4Address(lease.address.ip))
        return port.send(Datagram(encode(message), message.ciaddr))

    @staticmethod
    def _address_option(address: object) -> dict[int, bytes]:
        return {o.REQUESTED_ADDRESS: address.packed} if isinstance(address, IPv4Address) else {}

    def _broadcast(self, port: Port, kind: int, more: dict[int, bytes]) -> bool:
        """Ask everybody, from no address."""
        return port.send(Datagram(encode(self._message(port, kind, more)), NOBODY))

    def _unicast(self, port: Port, kind: int, lease: Lease, more: dict[int, bytes]) -> bool:
        """Tell the server of `lease` alone."""
        message = self._message(port, kind, more, ciaddr=IPv4Address(lease.address.ip))
        mac = bytes.fromhex(lease.server_mac.replace(":", ""))
        server = IPv4Address(lease.server)
        return port.send(Datagram(encode(message), message.ciaddr, server, mac, unanswered=kind == RELEASE))

    def _message(
        self, port: Port, kind: int, more: dict[int, bytes], *, ciaddr: IPv4Address = NOBODY
    ) -> Message:
        options = {o.MESSAGE_TYPE: bytes((kind,)), o.CLIENT_ID: b"\0" + self.request.client_id}
        if kind == RELEASE:  # RFC 2131 table 5: nothing else may be there
            options |= {code: value for code, value in self.request.provide.items() if code == o.CLIENT_ID}
        else:
            size = min(max(port.mtu, _SIZES[0]), _SIZES[1])
            options |= {o.MAX_SIZE: size.to_bytes(2, "big"), **self.request.provide}
            if self.request.request:
                options[o.PARAMETERS] = bytes(self.request.request)
        elapsed_s = self._clock.now() - self._since
        return Message(
            op=BOOTREQUEST,
            xid=self._xid,
            chaddr=port.mac,
            options=options | more,
            secs=0 if kind == RELEASE else min(max(int(elapsed_s), 0), 0xFFFF),
            # who has an address is reached at it
            broadcast=self.request.broadcast and ciaddr == NOBODY,
            ciaddr=ciaddr,
        )

    def _wait(self, now: float) -> float:
        if self.state in (State.RENEWING, State.REBINDING):
            until = self._rebind_at if self.state is State.RENEWING else self._expire_at
            return max((until - now) / 2, _RENEW_LEAST_S)
        step = min(_FIRST_S * (1 << min(self._tries - 1, 16)), _MOST_S)
        return step * (1.0 + _JITTER * self._spread())

    def _give_up(self) -> bool:
        if self.state is not State.REQUESTING or self._tries < _REQUESTS:
            return False
        self.complaint = "the DHCP server that offered an address does not answer any more"
        self._start_over(_REFUSED_S, _MOST_S)
        return True

    # -- receiving --------------------------------------------------------------------------------------

    def receive(self, port: Port, datagram: Datagram) -> None:
        """Take a datagram that has arrived; whatever is in it, nothing is raised."""
        try:
            message = decode(datagram.payload)
            if message.op != BOOTREPLY or message.xid != self._xid or message.chaddr != port.mac:
                return
            self._answer(port, message, datagram)
        except MalformedError as exc:
            self.complaint = f"the answer of {datagram.source} cannot be used: {exc}"

    def _answer(self, port: Port, message: Message, datagram: Datagram) -> None:
        if message.kind == OFFER and self.state is State.SELECTING:
            self._offer = read_grant(message, self.request, mac=datagram.mac, asked_at=self._asked_wall)
            self._enter(State.REQUESTING)
            self._transmit(port)
        elif message.kind in (ACK, NAK) and self._is_expected(server_of(message)):
            if message.kind == NAK:
                self._refused(port, message)
                return
            lease = read_grant(message, self.request, mac=datagram.mac, asked_at=self._asked_wall)
            self._bind(lease, self._asked_at)

    def _is_expected(self, server: IPv4Address) -> bool:
        """Say whether this server may decide now: the one that was chosen, or any that hears a REBINDING client."""
        if self.state is State.REQUESTING:
            return self._offer is not None and str(server) == self._offer.server
        if self.state is State.RENEWING:
            return self.lease is not None and str(server) == self.lease.server
        return self.state is State.REBINDING

    def _refused(self, port: Port, message: Message) -> None:
        """Begin anew; at once where a lease was taken away, as its container must not use the address any more."""
        text = message.options.get(o.MESSAGE, b"").decode("ascii", "replace")
        said = "".join(char for char in text if char.isprintable())
        complaint = "the DHCP server refused the address" + (f": {said}" if said else "")
        if self.lease is None:
            self._start_over(_REFUSED_S, _MOST_S)
        else:
            self._lose()
            self._wished = None
            self._transmit(port)
        self.complaint = complaint
