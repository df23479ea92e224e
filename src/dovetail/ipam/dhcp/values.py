"""Values of DHCP options, read out of bytes that anybody on the network may have sent.

Nothing here trusts its input: what does not follow its format raises MalformedError, and what a host must not be
given (a domain with a newline, which would write lines into a resolv.conf) is not given.

Source: RFC 2132 (options), RFC 3442 (classless routes), RFC 3397 and RFC 1035 §4.1.4 (compressed names).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from dovetail.model.addresses import EVERYWHERE, IPAddress
from dovetail.model.attachment import Route

__all__ = [
    "FOREVER",
    "MalformedError",
    "addresses4",
    "addresses6",
    "classless_routes",
    "default_route",
    "domain",
    "domain_list",
    "netmask",
    "number",
    "static_routes",
    "usable",
]

FOREVER = 0xFFFFFFFF
"""The number of seconds that means for ever (RFC 2132 §9.2, RFC 8415 §7.7)."""

_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NAME_BYTES = 253
_POINTER = 0xC0
_THIS_HOST, _LOOPBACK = IPv4Network("0.0.0.0/8"), IPv4Network("127.0.0.0/8")
_EVERYBODY = IPv4Address("255.255.255.255")
_CLASSES = ((IPv4Network("0.0.0.0/1"), 8), (IPv4Network("128.0.0.0/2"), 16), (IPv4Network("192.0.0.0/3"), 24))


class MalformedError(Exception):
    """A message, or a value in one, does not follow its format. Never leaves the package."""


def usable(address: IPAddress) -> bool:
    """Say whether a host can have `address`, or reach another one at it."""
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        return False
    return address.version == 6 or (address not in _THIS_HOST and address != _EVERYBODY)


def number(data: bytes, size: int, what: str) -> int:
    """Read a whole number of `size` bytes."""
    if len(data) != size:
        raise MalformedError(f"{what} has {len(data)} bytes, not {size}")
    return int.from_bytes(data, "big")


def addresses4(data: bytes, what: str) -> tuple[IPv4Address, ...]:
    """Read IPv4 addresses that stand one after another; those that cannot be a host's are left out."""
    if len(data) % 4:
        raise MalformedError(f"{what} has {len(data)} bytes, no multiple of 4")
    found = (IPv4Address(data[at : at + 4]) for at in range(0, len(data), 4))
    return tuple(address for address in found if usable(address))


def addresses6(data: bytes, what: str) -> tuple[IPv6Address, ...]:
    """Read IPv6 addresses that stand one after another; those that cannot be a host's are left out."""
    if len(data) % 16:
        raise MalformedError(f"{what} has {len(data)} bytes, no multiple of 16")
    found = (IPv6Address(data[at : at + 16]) for at in range(0, len(data), 16))
    return tuple(address for address in found if usable(address))


def netmask(data: bytes) -> int:
    """Read a subnet mask and give the length of its prefix."""
    mask = number(data, 4, "the subnet mask")
    length = mask.bit_count()
    if mask != ~((1 << (32 - length)) - 1) & FOREVER or not mask:
        raise MalformedError(f"{IPv4Address(mask)} is no subnet mask")
    return length


def classless_routes(data: bytes, priority: int) -> tuple[Route, ...]:
    """Read option 121: prefix length, as many bytes of the destination as it needs, router; over and over.

    Router 0.0.0.0 says that the destination is on the link. Bits beyond the prefix count for nothing.
    """
    found: list[Route] = []
    at = 0
    while at < len(data):
        length = data[at]
        end = at + 1 + (length + 7) // 8
        if length > 32 or end + 4 > len(data):
            raise MalformedError("the classless routes end in the middle of one")
        destination = IPv4Address(data[at + 1 : end].ljust(4, b"\0"))
        router = IPv4Address(data[end : end + 4])
        at = end + 4
        if not router.is_unspecified and not usable(router):
            raise MalformedError(f"a classless route leads by {router}")
        found.append(
            Route(
                destination=IPv4Network((int(destination), length), strict=False),
                gateway=None if router.is_unspecified else router,
                priority=priority,
            )
        )
    return tuple(found)


def static_routes(data: bytes, priority: int) -> tuple[Route, ...]:
    """Read option 33: pairs of destination and router; the class of the destination is its prefix length.

    A destination with bits beyond that is a host. The default route may not stand here (RFC 2132 §5.8).
    """
    if len(data) % 8:
        raise MalformedError(f"the static routes have {len(data)} bytes, no multiple of 8")
    found: list[Route] = []
    for at in range(0, len(data), 8):
        destination, router = IPv4Address(data[at : at + 4]), IPv4Address(data[at + 4 : at + 8])
        length = next((size for network, size in _CLASSES if destination in network), 0)
        if destination.is_unspecified or not length or not usable(router):
            continue
        network = IPv4Network((int(destination), length), strict=False)
        if network.network_address != destination:
            network = IPv4Network((int(destination), 32))
        found.append(Route(destination=network, gateway=router, priority=priority))
    return tuple(found)


def default_route(gateway: IPAddress, priority: int) -> Route:
    """Give the route to everywhere else."""
    return Route(destination=EVERYWHERE[gateway.version], gateway=gateway, priority=priority)


def domain(data: bytes) -> str:
    """Read a domain name that stands as text, empty where it is none; servers end it with NUL or write several."""
    words = data.rstrip(b"\0").decode("ascii", "replace").split()
    return _checked(words[0]) if words else ""


def domain_list(data: bytes, *, compressed: bool) -> tuple[str, ...]:
    """Read names in DNS's form, one after another; those that are no host names are left out.

    compressed: a pointer to earlier bytes of `data` may end a name (RFC 3397; not in DHCPv6, RFC 8415 §10).
    """
    found: list[str] = []
    at = 0
    while at < len(data):
        labels, at = _labels(data, at, compressed=compressed)
        name = _checked(".".join(labels))
        if name and name not in found:
            found.append(name)
    return tuple(found)


def _labels(data: bytes, at: int, *, compressed: bool) -> tuple[list[str], int]:
    """Read one name; gives its labels and where the next name begins."""
    labels: list[str] = []
    total, after = 0, -1
    while True:
        if at >= len(data):
            raise MalformedError("a domain name ends in the middle")
        length = data[at]
        if length >= _POINTER and compressed:
            if at + 1 >= len(data):
                raise MalformedError("a domain name ends in the middle of a pointer")
            target = (length & 0x3F) << 8 | data[at + 1]
            # only backwards: a chain of pointers gets shorter and ends
            if target >= at:
                raise MalformedError("a domain name points forwards")
            after = at + 2 if after < 0 else after
            at = target
            continue
        if length > 63:
            raise MalformedError(f"a label of a domain name has {length} bytes")
        at += 1
        if length == 0:
            return labels, at if after < 0 else after
        total += length + 1
        if total > _NAME_BYTES + 1 or at + length > len(data):
            raise MalformedError("a domain name is too long")
        labels.append(data[at : at + length].decode("ascii", "replace"))
        at += length


def _checked(name: str) -> str:
    """Give `name` without its last dot where it is a host name, else nothing."""
    bare = name.removesuffix(".")
    fine = len(bare) <= _NAME_BYTES and all(_LABEL.fullmatch(label) for label in bare.split("."))
    return bare if fine else ""
