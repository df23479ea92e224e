"""What an OFFER or an ACK grants.

Source: RFC 2131 §4.3.1 and table 3, RFC 3442 (which routes count), RFC 2132.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface

from dovetail.ipam.dhcp import options as o
from dovetail.ipam.dhcp.lease import Lease, LeaseRequest
from dovetail.ipam.dhcp.message import Message
from dovetail.ipam.dhcp.values import (
    FOREVER,
    MalformedError,
    addresses4,
    classless_routes,
    default_route,
    domain,
    domain_list,
    netmask,
    number,
    static_routes,
    usable,
)
from dovetail.model.attachment import DNS, Route

__all__ = ["SHORTEST_S", "lease_times", "read_grant", "server_of"]

SHORTEST_S = 10
"""A lease of fewer seconds is refused: it would be renewed without end, and each renewal is stored."""

_LEAST_MTU = 576  # RFC 791: what every host must take; below it an interface is of no use


def server_of(message: Message) -> IPv4Address:
    """Give the server's identifier (option 54); raises MalformedError where there is none."""
    server = IPv4Address(
        number(_needed(message, o.SERVER_ID, "server identifier"), 4, "the server identifier")
    )
    if not usable(server):
        raise MalformedError(f"its server identifier is {server}")
    return server


def read_grant(message: Message, request: LeaseRequest, *, mac: bytes, asked_at: float) -> Lease:
    """Read the lease in `message`; raises MalformedError where it is none that a container can live on.

    mac: where the message came from. asked_at: wall-clock time of the request.
    """
    server = server_of(message)
    seconds = number(_needed(message, o.LEASE_TIME, "lease time"), 4, "the lease time")
    prefix = netmask(_needed(message, o.SUBNET_MASK, "subnet mask"))
    address = message.yiaddr
    if not usable(address):
        raise MalformedError(f"it gives the address {address}")
    options = message.options
    routers = addresses4(options.get(o.ROUTERS, b""), "the routers' option")
    lease_s, renew_s, rebind_s = lease_times(
        seconds,
        _time(options.get(o.RENEWAL_TIME)),
        _time(options.get(o.REBINDING_TIME)),
        default_renew=0.5,
        default_rebind=0.875,
    )
    return Lease(
        address=IPv4Interface((int(address), prefix)),
        gateway=routers[0] if routers else None,
        routes=_routes(message, routers, request.priority),
        dns=DNS(
            nameservers=tuple(
                map(str, addresses4(options.get(o.DNS_SERVERS, b""), "the name servers' option"))
            ),
            domain=domain(options.get(o.DOMAIN, b"")),
            search=domain_list(options.get(o.DOMAIN_SEARCH, b""), compressed=True),
        ),
        mtu=_mtu(options.get(o.MTU, b"")),
        server=str(server),
        server_mac=mac.hex(":"),
        obtained_at=asked_at,
        lease_s=lease_s,
        renew_s=renew_s,
        rebind_s=rebind_s,
    )


def lease_times(
    seconds: int, renew: int, rebind: int, *, default_renew: float, default_rebind: float
) -> tuple[float | None, float | None, float | None]:
    """Give a lease's length, T1 and T2; None is for ever. T1 and T2 that are missing (0) or not in order are the defaults.

    Raises MalformedError for a lease that is too short.
    """
    if seconds == FOREVER:
        return None, None, None
    if seconds < SHORTEST_S:
        raise MalformedError(f"a lease of {seconds} s is too short, {SHORTEST_S} s are the least")
    if not 0 < renew < rebind < seconds:
        return float(seconds), seconds * default_renew, seconds * default_rebind
    return float(seconds), float(renew), float(rebind)


def _needed(message: Message, code: int, what: str) -> bytes:
    value = message.options.get(code)
    if value is None:
        raise MalformedError(f"it has no {what} (option {code})")
    return value


def _time(value: bytes | None) -> int:
    return int.from_bytes(value, "big") if value is not None and len(value) == 4 else 0


def _routes(message: Message, routers: tuple[IPv4Address, ...], priority: int) -> tuple[Route, ...]:
    """Give the routes: where there are classless ones, static ones and routers do not count (RFC 3442)."""
    classless = classless_routes(message.options.get(o.CLASSLESS_ROUTES, b""), priority)
    if classless:
        return classless
    static = static_routes(message.options.get(o.STATIC_ROUTES, b""), priority)
    return (*static, *(default_route(router, priority) for router in routers[:1]))


def _mtu(value: bytes) -> int:
    """Read option 26; one that would make the interface useless is left out."""
    found = int.from_bytes(value, "big") if len(value) == 2 else 0
    return found if found >= _LEAST_MTU else 0
