"""DHCP options by number and by name, as the `provide` and `request` of a configuration take them.

Names are those of dhcp-options(5); the Go plugin knows six of them. Source: RFC 2132, RFC 3442, RFC 3397, RFC 3004.
"""

from __future__ import annotations

from types import MappingProxyType

from dovetail.errors import InvalidArgument

__all__ = [
    "CLASSLESS_ROUTES",
    "CLIENT_ID",
    "DEFAULT_REQUEST",
    "DNS_SERVERS",
    "DOMAIN",
    "DOMAIN_SEARCH",
    "LEASE_TIME",
    "MAX_SIZE",
    "MESSAGE",
    "MESSAGE_TYPE",
    "MTU",
    "NAMES",
    "OURS",
    "PARAMETERS",
    "REBINDING_TIME",
    "RENEWAL_TIME",
    "REQUESTED_ADDRESS",
    "ROUTERS",
    "SERVER_ID",
    "STATIC_ROUTES",
    "SUBNET_MASK",
    "VALUE_BYTES",
    "option_number",
]

SUBNET_MASK, ROUTERS, DNS_SERVERS, DOMAIN, MTU, STATIC_ROUTES = 1, 3, 6, 15, 26, 33
REQUESTED_ADDRESS, LEASE_TIME, OVERLOAD, MESSAGE_TYPE, SERVER_ID, PARAMETERS = 50, 51, 52, 53, 54, 55
MESSAGE, MAX_SIZE, RENEWAL_TIME, REBINDING_TIME, CLIENT_ID = 56, 57, 58, 59, 61
DOMAIN_SEARCH, CLASSLESS_ROUTES = 119, 121

NAMES = MappingProxyType(
    {
        "subnet-mask": SUBNET_MASK,
        "time-offset": 2,
        "routers": ROUTERS,
        "domain-name-servers": DNS_SERVERS,
        "log-servers": 7,
        "host-name": 12,
        "domain-name": DOMAIN,
        "interface-mtu": MTU,
        "broadcast-address": 28,
        "static-routes": STATIC_ROUTES,
        "ntp-servers": 42,
        "vendor-encapsulated-options": 43,
        "dhcp-lease-time": LEASE_TIME,
        "dhcp-max-message-size": MAX_SIZE,
        "vendor-class-identifier": 60,
        "dhcp-client-identifier": CLIENT_ID,
        "tftp-server-name": 66,
        "bootfile-name": 67,
        "user-class": 77,
        "fqdn": 81,
        "domain-search": DOMAIN_SEARCH,
        "classless-static-routes": CLASSLESS_ROUTES,
        "rfc3442-classless-static-routes": CLASSLESS_ROUTES,
    }
)
"""The numbers by name."""

# RFC 3442: a client that wants classless routes names them before routers and static routes
DEFAULT_REQUEST = (
    SUBNET_MASK, CLASSLESS_ROUTES, ROUTERS, STATIC_ROUTES, DNS_SERVERS, DOMAIN, DOMAIN_SEARCH, MTU,
    RENEWAL_TIME, REBINDING_TIME,
)  # fmt: skip
"""What a server is asked for where the configuration does not say ``skipDefault``."""

OURS = frozenset({REQUESTED_ADDRESS, OVERLOAD, MESSAGE_TYPE, SERVER_ID, PARAMETERS})
"""Options that the protocol itself sets: nobody else may provide them."""

VALUE_BYTES = 255
_LAST = 254  # 0 is padding and 255 the end, which have no values


def option_number(option: str, *, where: str = "") -> int:
    """Give the number of an option by its name or its number; raises InvalidArgument."""
    known = NAMES.get(option)
    if known is not None:
        return known
    digits = option.isascii() and option.isdecimal() and len(option) <= len(str(_LAST))
    if not digits or not 1 <= int(option) <= _LAST:
        raise InvalidArgument(
            f"{option!r} is no DHCP option",
            where=where,
            hint=f"write a number from 1 to {_LAST}, or one of {', '.join(sorted(NAMES))}",
        )
    return int(option)
