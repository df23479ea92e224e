"""The subnets of a network: pools held, gateways and reserved addresses taken, all given back."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec

from dovetail.drivers.network_options import bridge_to_adopt, is_sticky, without_gateway
from dovetail.drivers.protocol import Driver, OnParent
from dovetail.engine.core import Core
from dovetail.errors import InvalidArgument, PoolOverlap
from dovetail.ipam.protocol import IpamDriver
from dovetail.ipam.ranges import overlap, refuse_routed
from dovetail.model.addresses import IPAddress, IPNetwork, is_any
from dovetail.model.network import HOST, Network, NetworkSpec, Subnet, SubnetSpec
from dovetail.model.pool import AddressRequest, Pool, PoolRequest

__all__ = ["DOCKER", "EXTERNAL", "Subnets"]

DOCKER = "docker"
"""Owner of pools and addresses that a Docker Engine has asked for and no network has taken over."""
EXTERNAL = "external"
"""`Network.ipam` where another IPAM (Docker's own) gives the addresses."""


class Subnets:
    """What `Networks` does with IPAM. Every method runs inside the caller's transaction."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def hold(self, network: Network, spec: NetworkSpec, driver: Driver) -> tuple[Subnet, ...]:
        """Hold a pool, its gateway and its reserved addresses for each subnet of `spec`.

        A network with addresses and no subnet in its spec gets one IPv4 subnet chosen by IPAM. A gateway that
        is not given is chosen only where the host is it; where it is not, a subnet that is given may be that of
        a wire which the host has a route to, as it may on a bridge that is there already. The host's own addresses
        in such a subnet are reserved then.
        """
        if not driver.addressed:
            return ()
        wanted = spec.subnets or (SubnetSpec(),)
        without = without_gateway(spec.options, driver.options())
        sticky = is_sticky(spec.options, driver.options())
        for index, subnet in enumerate(wanted):
            _check(subnet, f"$.subnets[{index}]", without)
        hosts = driver.host_addresses(network) if isinstance(driver, OnParent) else None
        if driver.is_gateway:
            self._refuse_overlap(network, wanted)
        adopted = bridge_to_adopt(spec.options, driver.options())  # the subnet is on it already
        routes = [route.destination for route in self._core.kernel.routes() if route.link != adopted]
        if spec.ipam == EXTERNAL:
            return tuple(
                _external(s, hosts, routes if driver.is_gateway else [])
                for s in wanted
                if s.subnet is not None
            )
        ipam = self._core.ipam(spec.ipam)
        subnets = []
        for each in wanted:
            clear = routes if driver.is_gateway or is_any(each.subnet) else []
            chosen = driver.is_gateway and each.version not in without
            held = self._hold_one(ipam, network, each, clear, chosen=chosen, sticky=sticky)
            held = self._reserve_hosts_own(ipam, network, held)
            subnets.append(self._reserve_host(ipam, network, held, hosts))
        return tuple(subnets)

    def _refuse_overlap(self, network: Network, wanted: Sequence[SubnetSpec]) -> None:
        """Refuse a subnet that the host would have behind two links, whoever gives the addresses of either."""
        core = self._core
        taken = [
            (subnet.subnet, f"which network {other.name} has")
            for other in core.store.networks()
            if other.id != network.id and core.driver(other.driver).is_gateway
            for subnet in other.subnets
        ]
        for index, spec in enumerate(wanted):
            for subnet, whose in taken:
                if spec.subnet is not None and overlap(spec.subnet, subnet):
                    raise PoolOverlap(
                        f"subnet {spec.subnet} overlaps {subnet}, {whose}",
                        where=f"$.subnets[{index}]",
                        hint="choose another subnet, or join that network",
                    )
            if spec.subnet is not None:
                taken.append((spec.subnet, "another of this network's"))

    def _hold_one(
        self,
        ipam: IpamDriver,
        network: Network,
        spec: SubnetSpec,
        routes: list[IPNetwork],
        *,
        chosen: bool,
        sticky: bool,
    ) -> Subnet:
        pool = self._take_over(spec, network, routes) or ipam.request_pool(
            PoolRequest(subnet=spec.subnet, ip_range=spec.ip_range, version=spec.version, owner=network.id),
            routes=routes,
        )
        if sticky and not pool.sticky:
            pool = msgspec.structs.replace(pool, sticky=True)
            self._core.store.put_pool(pool)
        # the reserved ones first, so that a gateway that is chosen is none of them
        for address in spec.aux.values():
            ipam.request_address(pool.id, AddressRequest(kind="aux", owner=network.id, address=address))
        gateway = None
        if chosen or spec.gateway is not None:
            request = AddressRequest(kind="gateway", owner=network.id, address=spec.gateway)
            gateway = ipam.request_address(pool.id, request).ip
        return Subnet(
            subnet=pool.subnet, gateway=gateway, ip_range=pool.ip_range, aux=spec.aux, pool_id=pool.id
        )

    def _reserve_hosts_own(self, ipam: IpamDriver, network: Network, subnet: Subnet) -> Subnet:
        """Reserve the addresses that the host has in a subnet already, by the names of their links."""
        aux = dict(subnet.aux)
        for link, interface in self._core.kernel.addresses():
            address = interface.ip
            if address not in subnet.subnet or address in {subnet.gateway, *aux.values()}:
                continue
            ipam.request_address(
                subnet.pool_id, AddressRequest(kind="aux", owner=network.id, address=address)
            )
            aux[link if link not in aux else f"{link} {address}"] = address
        return msgspec.structs.replace(subnet, aux=aux)

    @staticmethod
    def _reserve_host(
        ipam: IpamDriver, network: Network, subnet: Subnet, hosts: tuple[IPAddress, ...] | None
    ) -> Subnet:
        """Reserve the host's own address in a subnet: one of `hosts`, or the next free one; None wants none."""
        if hosts is None or HOST in subnet.aux:
            return subnet
        named = next((address for address in hosts if address in subnet.subnet), None)
        request = AddressRequest(kind="aux", owner=network.id, address=named)
        address = ipam.request_address(subnet.pool_id, request).ip
        return msgspec.structs.replace(subnet, aux={**subnet.aux, HOST: address})

    def _take_over(self, spec: SubnetSpec, network: Network, routes: list[IPNetwork]) -> Pool | None:
        """Make a pool that Docker asked for the network's own, with the gateway and reserved addresses in it.

        It was given without a look at the host's routes. Raises PoolOverlap where one of `routes` leads into it.
        """
        store = self._core.store
        held = [pool for pool in store.pools() if pool.owner == DOCKER and pool.subnet == spec.subnet]
        if not held:
            return None
        refuse_routed(held[0].subnet, routes)
        # A swarm's manager has it in the global space as well, and keeps it there. Alone in that space it is that of
        # a network which Docker makes outside of a swarm.
        pool = min(held, key=lambda pool: pool.space == "global")
        self._hand(pool.id, {spec.gateway, *spec.aux.values()}, gateway=spec.gateway, owner=network.id)
        taken = msgspec.structs.replace(pool, owner=network.id, space="local")
        store.put_pool(taken)
        return taken

    def _hand(
        self, pool_id: str, addresses: set[IPAddress | None], *, gateway: IPAddress | None, owner: str
    ) -> None:
        for value in addresses:
            row = self._core.store.address(pool_id, value) if value is not None else None
            if row is not None and row.owner == DOCKER:
                kind = "gateway" if value == gateway else "aux"
                self._core.store.put_address(msgspec.structs.replace(row, owner=owner, kind=kind))

    def give_back(self, network: Network) -> None:
        """Release the pools of `network` with all their addresses; Docker's own releases that follow find nothing."""
        if network.ipam == EXTERNAL:
            return
        for pool in self._core.store.pools():
            if pool.owner == network.id:
                self._core.ipam(network.ipam).release_pool(pool.id)


def _external(spec: SubnetSpec, hosts: tuple[IPAddress, ...] | None, routes: Sequence[IPNetwork]) -> Subnet:
    """Take a subnet as Docker's own IPAM has given it; raises PoolOverlap where one of `routes` leads into it."""
    assert spec.subnet is not None  # noqa: S101 - the caller has looked
    refuse_routed(spec.subnet, routes)
    return Subnet(
        subnet=spec.subnet, gateway=spec.gateway, ip_range=spec.ip_range, aux=_with_host(spec, hosts)
    )


def _with_host(spec: SubnetSpec, hosts: tuple[IPAddress, ...] | None) -> dict[str, IPAddress]:
    """Find the host's own address among the reserved ones, where another IPAM gives them: it could give it away."""
    named = [address for address in hosts or () if address in spec.aux.values()]
    return {HOST: named[0], **spec.aux} if named else spec.aux


def _check(spec: SubnetSpec, where: str, without_gateway: Collection[int]) -> None:
    if spec.gateway is not None and spec.version in without_gateway:
        raise InvalidArgument(
            f"the network is to have no gateway, and {spec.gateway} is given as one",
            where=f"{where}.gateway",
            hint="leave it out, or the option gateway=none",
        )
    if spec.subnet is None:
        if spec.gateway or spec.ip_range or spec.aux:
            raise InvalidArgument(
                "a gateway or an IP range needs a subnet", where=where, hint="give --subnet"
            )
        return
    if spec.gateway is not None and spec.gateway not in spec.subnet:
        raise InvalidArgument(f"gateway {spec.gateway} is not in {spec.subnet}", where=f"{where}.gateway")
    if spec.ip_range is not None and not (
        spec.ip_range.version == spec.subnet.version and spec.ip_range.subnet_of(spec.subnet)  # type: ignore[arg-type]
    ):
        raise InvalidArgument(f"IP range {spec.ip_range} is not in {spec.subnet}", where=f"{where}.ip_range")
    for name, address in spec.aux.items():
        if address not in spec.subnet:
            raise InvalidArgument(f"{address} is not in {spec.subnet}", where=f"{where}.aux.{name}")
        if address == spec.gateway:
            raise InvalidArgument(
                f"{address} is the gateway, and cannot be reserved as {name!r} as well",
                where=f"{where}.aux.{name}",
            )
