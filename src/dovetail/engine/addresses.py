"""Pools and addresses, as CNM's IPAM calls ask for them."""

from __future__ import annotations

from dovetail.engine.core import Core
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.pool import AddressRequest, Pool, PoolRequest

__all__ = ["Addresses"]


class Addresses:
    """Operations on pools and addresses that are not tied to an endpoint of ours (yet)."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def request_pool(self, request: PoolRequest) -> Pool:
        """Hold a pool, clear of the host's routes and of other pools."""
        raise NotImplementedError

    def pool(self, pool_id: str) -> Pool:
        """Find a pool; raises NotFound."""
        raise NotImplementedError

    def pools(self) -> list[Pool]:
        """Give all pools."""
        raise NotImplementedError

    def release_pool(self, pool_id: str, owner: str) -> None:
        """Give a pool back if `owner` holds it; a pool that a network has made its own stays with the network."""
        raise NotImplementedError

    def request(self, pool_id: str, request: AddressRequest) -> IPInterface:
        """Hold an address."""
        raise NotImplementedError

    def release(self, pool_id: str, address: IPAddress, owner: str) -> None:
        """Give an address back if `owner` holds it; else nothing happens."""
        raise NotImplementedError
