"""The address driver that gives none: for networks whose addresses come from elsewhere, or that have none."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from dovetail.errors import Unsupported
from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.pool import AddressRequest, Pool, PoolRequest

__all__ = ["NullIpam"]


class NullIpam:
    """Gives every caller the whole address space as pool, keeps nothing, and gives no address."""

    name = "null"

    def request_pool(self, request: PoolRequest, *, routes: Sequence[IPNetwork] = ()) -> Pool:
        """Give ``0.0.0.0/0`` or ``::/0``; a subnet cannot be asked for (Unsupported)."""
        if request.subnet is not None:
            raise Unsupported(f"the null IPAM holds no pools, so it cannot give {request.subnet}")
        subnet: IPNetwork = IPv4Network("0.0.0.0/0") if request.version == 4 else IPv6Network("::/0")
        return Pool(id=f"null/{subnet}", subnet=subnet, owner=request.owner)

    def release_pool(self, pool_id: str) -> None:
        """Do nothing."""

    def request_address(self, pool_id: str, request: AddressRequest) -> IPInterface:
        """Raise Unsupported."""
        asked = f" {request.address}" if request.address is not None else ""
        raise Unsupported(f"the null IPAM gives no address{asked}", hint="use the IPAM driver local")

    def release_address(self, pool_id: str, address: IPAddress, owner: str) -> None:
        """Do nothing."""
