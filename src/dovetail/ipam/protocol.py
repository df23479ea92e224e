"""What an address driver is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.pool import AddressRequest, Pool, PoolRequest

__all__ = ["IpamDriver"]


class IpamDriver(Protocol):
    """Gives out pools, and addresses out of them. All methods are safe under threads and processes."""

    name: str

    def request_pool(self, request: PoolRequest, *, routes: Sequence[IPNetwork] = ()) -> Pool:
        """Hold a pool, the one asked for or a chosen one.

        `routes` are the host's: a choice avoids them, an asked-for pool that overlaps one is refused
        (a default route is no clash). Raises PoolOverlap naming the clash, PoolExhausted,
        InvalidArgument (ip_range outside the subnet).
        """
        ...

    def release_pool(self, pool_id: str) -> None:
        """Give a pool and all of its addresses back; an unknown one is no error."""
        ...

    def request_address(self, pool_id: str, request: AddressRequest) -> IPInterface:
        """Hold an address: the one asked for, else the next free one after the last given (round robin).

        Never the network or broadcast address (RFC 3021 and RFC 6164 pools excepted), nor IPv6's
        subnet-router anycast address (RFC 4291 §2.6.1). Asking again for what the same owner holds succeeds.
        Raises AddressInUse, PoolExhausted, InvalidArgument (outside the pool), NotFound (no such pool).
        """
        ...

    def release_address(self, pool_id: str, address: IPAddress, owner: str) -> None:
        """Give an address back. One that is free, or held by another owner, is left alone without error."""
        ...
