"""What an endpoint holds in the store: its row, addresses, published ports, its sandbox's row."""

from __future__ import annotations

from dovetail.engine.addresses import Addresses
from dovetail.engine.core import Core
from dovetail.engine.subnets import EXTERNAL
from dovetail.errors import Conflict, InvalidArgument, PoolExhausted
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.endpoint import Endpoint, EndpointSpec
from dovetail.model.names import short
from dovetail.model.network import Network, Subnet
from dovetail.model.pool import AddressRequest

__all__ = ["Holdings"]


class Holdings:
    """Takes and gives up what endpoints hold."""

    def __init__(self, core: Core, addresses: Addresses) -> None:
        self._core = core
        self._addresses = addresses

    def take(self, network: Network, identifier: str, spec: EndpointSpec) -> Endpoint:
        """Hold the addresses of `spec` and give the endpoint, not yet written. Runs inside the caller's transaction.

        One address a family: an asked-for one, or the next free of the first subnet that has any.
        """
        if spec.sysctls and not self._core.driver(network.driver).addressed:
            raise InvalidArgument(
                f"a {network.driver} network gives no interface that sysctls could be of", where="$.sysctls"
            )
        if network.one_endpoint:
            self._refuse_second(network, identifier)
        if spec.given:
            addresses = self._given(network, identifier, spec.given)
        elif network.ipam == EXTERNAL and network.subnets:
            hint = "make the network with --ipam-driver dovetail to share it"
            raise InvalidArgument(
                f"Docker's own IPAM gives the addresses of network {network.name!r}", hint=hint
            )
        else:
            addresses = self._chosen(network, identifier, spec)
        return Endpoint(
            id=identifier,
            network_id=network.id,
            owner=spec.owner,
            name=spec.name or self._named(network, spec.given),
            addresses=addresses,
            mac=spec.mac,
            aliases=spec.aliases,
            dns=spec.dns,
            options=spec.options,
            sysctls=spec.sysctls,
            host_ns=self._core.kernel.netns_inode,
            boot_id=self._core.boot_id,
            created=self._core.now(),
        )

    def _named(self, network: Network, given: tuple[IPInterface, ...]) -> str:
        """Give the name of the container that Docker has said when it asked for an address of its own."""
        names = [
            self._addresses.name_of(_pool_of(network, interface.ip), interface.ip) for interface in given
        ]
        return next(filter(None, names), "")

    def _refuse_second(self, network: Network, identifier: str) -> None:
        for other in self._core.store.endpoints(network_id=network.id):
            if other.id != identifier:
                who = other.name or other.owner.container or short(other.id)
                raise Conflict(
                    f"network {network.name!r} has one endpoint at most, and {other.owner.face} endpoint {who!r} is it",
                    hint="disconnect that first, or make another network",
                )

    def _given(
        self, network: Network, identifier: str, given: tuple[IPInterface, ...]
    ) -> tuple[IPInterface, ...]:
        for interface in given:
            _check_inside(network, interface.ip)
            pool_id = _pool_of(network, interface.ip)
            if pool_id:
                self._addresses.tie(pool_id, interface.ip, identifier)
        return given

    def _chosen(self, network: Network, identifier: str, spec: EndpointSpec) -> tuple[IPInterface, ...]:
        wanted = spec.addresses
        for address in wanted:
            _check_inside(network, address)
        chosen: list[IPInterface] = []
        for version in (4, 6):
            subnets = [s for s in network.subnets if s.subnet.version == version and s.pool_id]
            asked = [address for address in wanted if address.version == version]
            if len(asked) > 1:
                raise InvalidArgument(f"more than one IPv{version} address was asked for")
            if subnets:
                request = AddressRequest(
                    kind="endpoint", owner=identifier, address=asked[0] if asked else None, key=_key(spec)
                )
                chosen.append(self._one(network, subnets, request))
        return tuple(chosen)

    def _one(self, network: Network, subnets: list[Subnet], request: AddressRequest) -> IPInterface:
        ipam = self._core.ipam(network.ipam)
        if request.address is not None:
            pool_id = _pool_of(network, request.address)
            self._addresses.refuse_taken(pool_id, request)
            return ipam.request_address(pool_id, request)
        for subnet in subnets[:-1]:
            try:
                return ipam.request_address(subnet.pool_id, request)
            except PoolExhausted:
                continue
        return ipam.request_address(subnets[-1].pool_id, request)

    def give_up(self, network: Network | None, endpoint: Endpoint) -> None:
        """Release addresses and ports, delete the row, and the sandbox's row with its last endpoint."""
        store = self._core.store
        with store.transaction():
            for row in store.addresses(owner=endpoint.id):
                if endpoint.owner.face == "docker":
                    self._addresses.untie(row.pool_id, row.address, endpoint.id)
                elif network is not None and network.ipam != EXTERNAL:
                    self._core.ipam(network.ipam).release_address(row.pool_id, row.address, endpoint.id)
                else:
                    store.delete_address(row.pool_id, row.address)
            store.release_ports(endpoint.id)
            store.delete_endpoint(endpoint.id)
            self.prune_sandbox(endpoint.sandbox_id)

    def prune_sandbox(self, sandbox_id: str) -> None:
        """Forget a sandbox that another face brought once no endpoint is in it."""
        store = self._core.store
        sandbox = store.sandbox(sandbox_id) if sandbox_id else None
        if sandbox is not None and sandbox.face != "cli" and not store.endpoints(sandbox_id=sandbox_id):
            store.delete_sandbox(sandbox_id)

    def check(self, network: Network, endpoint: Endpoint) -> list[str]:
        """Say which of the endpoint's addresses the ledger does not hold for it."""
        missing = []
        for interface in endpoint.addresses:
            pool_id = _pool_of(network, interface.ip)
            row = self._core.store.address(pool_id, interface.ip) if pool_id else None
            if pool_id and (row is None or row.owner != endpoint.id):
                missing.append(f"address {interface} is not held for this endpoint")
        return missing


def _check_inside(network: Network, address: IPAddress) -> None:
    if not any(address in subnet.subnet for subnet in network.subnets):
        known = ", ".join(str(s.subnet) for s in network.subnets) or "no subnet"
        raise InvalidArgument(f"{address} is not in network {network.name!r} ({known})")


def _key(spec: EndpointSpec) -> str:
    """Say for which container an address is, so that a sticky pool gives it the same again."""
    if spec.name:
        return f"name:{spec.name}/{spec.owner.ifname}"
    return f"mac:{spec.mac}" if spec.mac is not None else ""


def _pool_of(network: Network, address: IPAddress) -> str:
    return next((s.pool_id for s in network.subnets if address in s.subnet), "")
