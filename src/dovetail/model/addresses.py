"""IP values: the types used everywhere, and their parsing at the edges."""

from __future__ import annotations

import functools
import ipaddress
from abc import ABC
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import TYPE_CHECKING, TypeAlias

from dovetail.errors import InvalidArgument

__all__ = [
    "EVERYWHERE",
    "IPAddress",
    "IPInterface",
    "IPNetwork",
    "interface_in",
    "is_any",
    "parse_address",
    "parse_interface",
    "parse_subnet",
]

if TYPE_CHECKING:
    IPAddress: TypeAlias = IPv4Address | IPv6Address
    IPInterface: TypeAlias = IPv4Interface | IPv6Interface
    IPNetwork: TypeAlias = IPv4Network | IPv6Network
else:
    # msgspec decodes a field into one custom type at most, so at run time each of the three is an
    # abstract class that both families are registered with.
    class IPAddress(ABC):
        """IPv4Address or IPv6Address."""

    class IPInterface(ABC):
        """IPv4Interface or IPv6Interface."""

    class IPNetwork(ABC):
        """IPv4Network or IPv6Network."""

    for _kind, _families in (
        (IPAddress, (IPv4Address, IPv6Address)),
        (IPInterface, (IPv4Interface, IPv6Interface)),
        (IPNetwork, (IPv4Network, IPv6Network)),
    ):
        for _family in _families:
            _kind.register(_family)


EVERYWHERE: dict[int, IPNetwork] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
"""The destination of a default route, by family."""


# A chain of plugins reads the same few addresses a dozen times, out of its results and of what was kept of it.
_address = functools.lru_cache(maxsize=1024)(ipaddress.ip_address)
_network = functools.lru_cache(maxsize=1024)(ipaddress.ip_network)
_interface = functools.lru_cache(maxsize=1024)(ipaddress.ip_interface)


def parse_address(text: str, *, where: str = "") -> IPAddress:
    """Read ``10.0.0.1`` or ``fd00::1``; a prefix length is refused."""
    try:
        address = _address(text.strip())
    except ValueError as exc:
        raise InvalidArgument(f"{text!r} is not an IP address", where=where) from exc
    if isinstance(address, IPv6Address) and address.scope_id is not None:
        raise InvalidArgument(f"{text!r} has a zone, which is not allowed here", where=where)
    return address


def parse_subnet(text: str, *, where: str = "") -> IPNetwork:
    """Read a CIDR whose host bits are zero, as ``10.0.0.0/24``."""
    if "/" not in text:
        raise InvalidArgument(f"{text!r} has no prefix length", where=where, hint="write it as 10.0.0.0/24")
    try:
        return _network(text.strip())
    except ValueError as exc:
        try:
            meant = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            raise InvalidArgument(
                f"{text!r} is not a CIDR", where=where, hint="write it as 10.0.0.0/24"
            ) from exc
        raise InvalidArgument(
            f"{text!r} has host bits set", where=where, hint=f"did you mean {meant}?"
        ) from exc


def parse_interface(text: str, *, where: str = "") -> IPInterface:
    """Read an address with its prefix length, as ``10.0.0.2/24``."""
    if "/" not in text:
        raise InvalidArgument(f"{text!r} has no prefix length", where=where, hint="write it as 10.0.0.2/24")
    try:
        return _interface(text.strip())
    except ValueError as exc:
        raise InvalidArgument(f"{text!r} is not an address with a prefix length", where=where) from exc


def is_any(subnet: IPNetwork | None) -> bool:
    """Say whether the choice of a subnet is IPAM's: none is named, or a size by ``0.0.0.0/24`` or ``::/64``."""
    return subnet is None or (subnet.network_address.is_unspecified and subnet.prefixlen > 0)


def interface_in(address: IPAddress, subnet: IPNetwork) -> IPInterface:
    """Give `address` the prefix length of `subnet`."""
    kind = IPv4Interface if address.version == 4 else IPv6Interface
    return kind((int(address), subnet.prefixlen))
