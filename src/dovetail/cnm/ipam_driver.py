"""IpamDriver.*: Docker's side of our address manager.

A pool that Docker asks for belongs to ``docker`` until CreateNetwork makes it a network's. With the
option ``dovetail.network=NAME`` Docker gets the pool of a network made elsewhere; its PoolID begins
with ``shared:``, so that releasing it never releases the network's.
"""

from __future__ import annotations

from typing import Any, Literal

from dovetail.cnm.wire import AddressRelease, AddressWanted, PoolRelease, PoolWanted, read
from dovetail.engine.engine import Engine
from dovetail.errors import AddressInUse, InvalidArgument
from dovetail.model.addresses import interface_in, parse_address, parse_subnet
from dovetail.model.network import Subnet
from dovetail.model.pool import AddressRequest, PoolRequest

__all__ = ["ADDRESS_SPACES", "NETWORK_OPTION", "IpamDriver"]

ADDRESS_SPACES = ("dovetail-local", "dovetail-global")
NETWORK_OPTION = "dovetail.network"
_DOCKER = "docker"
_SHARED = "shared:"
_GATEWAY = "com.docker.network.gateway"


class IpamDriver:
    """Each method takes a request's body and gives the reply as a dict."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_capabilities(self, _: bytes) -> dict[str, Any]:
        """Ask for replay: dockerd tells what it holds when it starts (cnm.md §2.3)."""
        return {"RequiresMACAddress": False, "RequiresRequestReplay": True}

    def get_default_address_spaces(self, _: bytes) -> dict[str, Any]:
        """Name our address spaces."""
        return {"LocalDefaultAddressSpace": ADDRESS_SPACES[0], "GlobalDefaultAddressSpace": ADDRESS_SPACES[1]}

    def request_pool(self, body: bytes) -> dict[str, Any]:
        """Hold a pool, or share that of the network named in the options."""
        wanted = read(body, PoolWanted)
        version: Literal[4, 6] = 6 if wanted.V6 else 4
        subnet = parse_subnet(wanted.Pool, where="$.Pool") if wanted.Pool else None
        unknown = sorted(set(wanted.Options) - {NETWORK_OPTION})
        if unknown:
            raise InvalidArgument(f"unknown IPAM option {unknown[0]!r}", hint=f"there is {NETWORK_OPTION}")
        if wanted.Options.get(NETWORK_OPTION):
            shared = self._subnet(wanted.Options[NETWORK_OPTION], version)
            if subnet is not None and subnet != shared.subnet:
                raise InvalidArgument(
                    f"the network's subnet is {shared.subnet}, not {subnet}", hint="leave --subnet out"
                )
            gateway = f"{shared.gateway}/{shared.subnet.prefixlen}" if shared.gateway else ""
            return {
                "PoolID": _SHARED + shared.pool_id,
                "Pool": str(shared.subnet),
                "Data": {_GATEWAY: gateway} if gateway else {},
            }
        ip_range = parse_subnet(wanted.SubPool, where="$.SubPool") if wanted.SubPool else None
        request = PoolRequest(subnet=subnet, ip_range=ip_range, version=version, owner=_DOCKER)
        pool = self._engine.addresses.request_pool(request)
        return {"PoolID": pool.id, "Pool": str(pool.subnet), "Data": {}}

    def release_pool(self, body: bytes) -> dict[str, Any]:
        """Give a pool back; a shared one stays its network's."""
        pool_id = read(body, PoolRelease).PoolID
        if not pool_id.startswith(_SHARED):
            self._engine.addresses.release_pool(pool_id, _DOCKER)
        return {}

    def request_address(self, body: bytes) -> dict[str, Any]:
        """Hold an address, or say what the gateway of a shared pool is."""
        wanted = read(body, AddressWanted)
        pool = self._engine.addresses.pool(wanted.PoolID.removeprefix(_SHARED))
        address = parse_address(wanted.Address, where="$.Address") if wanted.Address else None
        is_gateway = wanted.Options.get("RequestAddressType") == _GATEWAY
        if is_gateway and pool.owner != _DOCKER:
            subnet = next(s for s in self._engine.networks.get(pool.owner).subnets if s.pool_id == pool.id)
            if subnet.gateway is None or address not in {None, subnet.gateway}:
                raise AddressInUse(
                    f"the gateway of {subnet.subnet} is {subnet.gateway}", hint="leave --gateway out"
                )
            return {"Address": str(interface_in(subnet.gateway, subnet.subnet)), "Data": {}}
        request = AddressRequest(kind="gateway" if is_gateway else "docker", owner=_DOCKER, address=address)
        return {"Address": str(self._engine.addresses.request(pool.id, request)), "Data": {}}

    def release_address(self, body: bytes) -> dict[str, Any]:
        """Give an address back, if Docker holds it."""
        released = read(body, AddressRelease)
        if released.Address:
            address = parse_address(released.Address, where="$.Address")
            self._engine.addresses.release(released.PoolID.removeprefix(_SHARED), address, _DOCKER)
        return {}

    def _subnet(self, name: str, version: int) -> Subnet:
        network = self._engine.networks.get(name)
        for subnet in network.subnets:
            if subnet.subnet.version == version and subnet.pool_id:
                return subnet
        raise InvalidArgument(
            f"network {name!r} has no IPv{version} pool", hint="leave --ipv6 out, or give it one"
        )
