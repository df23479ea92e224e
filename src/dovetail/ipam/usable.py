"""Which addresses of a network may be given to an interface."""

from __future__ import annotations

import functools

from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress, IPNetwork

__all__ = ["check_usable", "usable"]


@functools.lru_cache(maxsize=256)
def usable(subnet: IPNetwork) -> tuple[int, int]:
    """Give the first and the last address of `subnet` that a host may have.

    IPv4: without the network and the broadcast address, except in a /31 (RFC 3021) and a /32. IPv6:
    without the subnet-router anycast address (RFC 4291 §2.6.1), except in a /127 (RFC 6164) and a /128.
    """
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    if last - first <= 1:
        return first, last
    return first + 1, last - 1 if subnet.version == 4 else last


def check_usable(address: IPAddress, subnet: IPNetwork) -> None:
    """Raise InvalidArgument where `address` is outside of `subnet`, or is not a host's."""
    if address not in subnet:
        raise InvalidArgument(f"{address} is not in {subnet}")
    first, last = usable(subnet)
    if first <= int(address) <= last:
        return
    what = "the broadcast address" if int(address) > last else "the network address"
    if subnet.version == 6:
        what = "the subnet-router anycast address"
    raise InvalidArgument(f"{address} is {what} of {subnet}", hint="choose another address")
