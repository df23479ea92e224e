"""What a container asks of a DHCP server, and what it was given: frozen values that can be stored."""

from __future__ import annotations

import msgspec

from dovetail.ipam.dhcp.options import DEFAULT_REQUEST
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import DNS, Attachment, Route

__all__ = ["Held", "Lease", "LeaseRequest"]

_CLIENT_ID_BYTES = 254  # one byte of the option's 255 is the type (RFC 2132 §9.14)


class LeaseRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and for what.

    provide: options sent along, by number. request: options asked for, in their order. priority: the metric of the
    routes, 0 leaves it to the kernel. broadcast: answers must be broadcast, as the interface shares its MAC with
    others (ipvlan). ipv6: an address by DHCPv6 as well.
    """

    container: str
    network: str
    ifname: str
    provide: dict[int, bytes] = {}
    request: tuple[int, ...] = DEFAULT_REQUEST
    priority: int = 0
    broadcast: bool = False
    ipv6: bool = False

    @property
    def key(self) -> str:
        """Names the attachment: ``CONTAINER/NETWORK/IFNAME``."""
        return f"{self.container}/{self.network}/{self.ifname}"

    @property
    def client_id(self) -> bytes:
        """What the server knows the client by, without its type: as the Go plugin's, so that a switch keeps addresses."""
        return self.key.encode()[:_CLIENT_ID_BYTES]


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """What one server gave, of one family.

    address: with the prefix length of the subnet; 128 in IPv6, where routers announce what is on the link.
    gateway: the first router (option 3), which need not be on a route. routes: all there are to add, the default
    route included: the classless ones (option 121), or else the static ones (option 33) and that to the gateway. IPv6
    has none, as they come by router advertisements. server: its address, or its DUID in hexadecimal. server_mac:
    where its answer came from. obtained_at: wall-clock time of the request that it answered, in seconds since the
    epoch; the others count from there, and None is for ever.

    Source: RFC 2131 §4.4, RFC 8415 §21.4 and §21.6, RFC 3442.
    """

    address: IPInterface
    gateway: IPAddress | None = None
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()
    mtu: int = 0
    server: str
    server_mac: str = ""
    obtained_at: float
    lease_s: float | None
    renew_s: float | None
    rebind_s: float | None

    @property
    def expires_at(self) -> float | None:
        """Wall-clock time when it ends, None where it does not."""
        return None if self.lease_s is None else self.obtained_at + self.lease_s

    @property
    def default_gateway(self) -> IPAddress | None:
        """The gateway of the default route, which option 121 may have set or left out."""
        defaults = (route.gateway for route in self.routes if route.destination.prefixlen == 0)
        return next(defaults, None)

    def same_settings(self, other: Lease) -> bool:
        """Say whether an interface that is set up by one is set up by the other: all but server and times are equal."""
        return (self.address, self.gateway, self.routes, self.dns, self.mtu) == (
            other.address, other.gateway, other.routes, other.dns, other.mtu,
        )  # fmt: skip


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """The leases of one attachment, as they are stored and given to a keeper again.

    netns: path of the container's namespace. netns_inode: tells it from another one that is there later. v4, v6: None
    where there is none at the moment: not asked for, or lost and not yet given again.
    """

    request: LeaseRequest
    netns: str
    netns_inode: int
    v4: Lease | None = None
    v6: Lease | None = None

    @property
    def key(self) -> str:
        """Names the attachment, see `LeaseRequest.key`."""
        return self.request.key

    @property
    def leases(self) -> tuple[Lease, ...]:
        """Those there are, IPv4 first."""
        return tuple(lease for lease in (self.v4, self.v6) if lease is not None)

    @property
    def lease_ends(self) -> float | None:
        """Wall-clock time when the first of them ends, None where none does."""
        return min((lease.expires_at for lease in self.leases if lease.expires_at is not None), default=None)

    def is_over(self, now: float) -> bool:
        """Say whether one has run out at `now`, and nobody renewed it."""
        return self.lease_ends is not None and self.lease_ends < now

    @property
    def attachment(self) -> Attachment:
        """The leases as the result of an IPAM plugin: without an interface, all routes named, the default ones too.

        Its gateways are the servers' first routers, as in the Go plugin's result. Whoever makes default routes of
        gateways takes `Lease.default_gateway` instead: option 121 may lead elsewhere, or nowhere.
        """
        settings = [lease.dns for lease in self.leases]
        return Attachment(
            ifname="",
            mtu=max((lease.mtu for lease in self.leases), default=0),
            addresses=tuple(lease.address for lease in self.leases),
            gateways=tuple(lease.gateway for lease in self.leases if lease.gateway is not None),
            routes=tuple(route for lease in self.leases for route in lease.routes),
            dns=DNS(
                nameservers=tuple(server for one in settings for server in one.nameservers),
                domain=next((one.domain for one in settings if one.domain), ""),
                search=tuple(dict.fromkeys(name for one in settings for name in one.search)),
            ),
        )
