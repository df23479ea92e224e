"""What is wrong with a row: decided here, whether it is then only told or dealt with (`reconcile.py`).

Every method gives the reason, as the rest of a sentence that begins with the thing, or an empty text where nothing
is wrong.

What a Docker Engine has forgotten only it can tell (`DockerNetworks`). Of what it had named before and does not
list any more, it has told us itself. What it never named may be another Docker Engine's, so that is found only
where a person decides (``everything``), and never where a container is on it.
"""

from __future__ import annotations

from dovetail.engine.addresses import Addresses
from dovetail.engine.core import Core
from dovetail.engine.endpoints import Endpoints
from dovetail.engine.report import DockerNetworks
from dovetail.engine.subnets import DOCKER
from dovetail.kernel.protocol import Link
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network
from dovetail.model.pool import Address, Pool
from dovetail.store.protocol import Binding

__all__ = ["Faults"]


class Faults:
    """Judges rows by the links that the host had at the beginning, and by Docker's word where that was asked for.

    gone: ids of what the caller has dealt with; what hangs on them is gone as well.
    """

    def __init__(
        self,
        core: Core,
        endpoints: Endpoints,
        addresses: Addresses,
        docker: DockerNetworks | None,
        *,
        everything: bool,
    ) -> None:
        self._core = core
        self._endpoints = endpoints
        self._addresses = addresses
        self._docker = docker
        self._everything = everything
        self.links: list[Link] = core.kernel.links()
        self.link_names = frozenset(link.name for link in self.links)
        self.gone: set[str] = set()

    def _is_old(self, since: float) -> bool:
        """Say whether the call that would make sense of it could have come by now."""
        return self._core.now() - since > self._core.orphan_grace_s

    # -- endpoints ------------------------------------------------------------------------------------

    def of_endpoint(self, endpoint: Endpoint) -> str:
        """Judge an endpoint; one whose join broke off is not lost."""
        if endpoint.boot_id != self._core.boot_id:
            return "the host has been restarted since"
        match endpoint.status:
            case "joined":
                return self._loss(endpoint)
            case "created":
                return "nobody joined it" if self._is_old(endpoint.created) else ""
            case "joining":
                return ""
            case status:
                return f"a crash left it half {'made' if status == 'creating' else 'deleted'}"

    def _loss(self, endpoint: Endpoint) -> str:
        network = self._core.store.network(endpoint.network_id)
        if network is None:
            return "its network is gone"
        if not self._alive(network, endpoint):
            return "its interface is gone, with its container's namespace"
        if self._handed_back(endpoint):
            return "its container is gone, and its interface is back on the host"
        return "Docker does not have it any more" if self._forgotten(endpoint) else ""

    def _alive(self, network: Network, endpoint: Endpoint) -> bool:
        """Say whether it has its interface: by the links read first, or else those of now, as it may be young."""
        alive = self._endpoints.is_alive
        if alive(network, endpoint, self.link_names):
            return True
        return alive(network, endpoint, frozenset(link.name for link in self._core.kernel.links()))

    def _handed_back(self, endpoint: Endpoint) -> bool:
        """Say whether an interface that was handed over lies in the host's namespace again.

        dockerd moves it back after Leave, and asks no second time where Leave and DeleteEndpoint found no daemon.
        """
        handover = endpoint.attachment.handover if endpoint.attachment else ""
        if not handover or handover not in self.link_names or not self._is_old(endpoint.created):
            return False
        return self._core.kernel.link(handover) is not None

    def _forgotten(self, endpoint: Endpoint) -> bool:
        """Say whether Docker had told of its container and has it no more: it found no daemon when it deleted it."""
        docker, sandbox = self._docker, self._core.store.sandbox(endpoint.sandbox_id)
        told = endpoint.owner.face == DOCKER and sandbox is not None and bool(sandbox.container)
        old = told and self._is_old(endpoint.created)
        return docker is not None and old and endpoint.id not in docker.endpoints

    # -- networks ---------------------------------------------------------------------------------------

    def of_binding(self, binding: Binding) -> str:
        """Judge Docker's knowing one of our networks; nothing is wrong where Docker was not asked."""
        docker = self._docker
        if docker is None or binding.face != DOCKER or binding.external_id in docker.ids:
            return ""
        told = bool(binding.name) or self._everything
        if not told or not self._is_old(binding.created) or self._is_in_use(binding):
            return ""
        return f"Docker does not have it{' any more' if binding.name else ''}"

    def _is_in_use(self, binding: Binding) -> bool:
        """Say whether a container is on it: it is some Docker's then, whatever this one says."""
        return any(
            endpoint.owner.network == binding.external_id
            and endpoint.id not in self.gone
            and (endpoint.status in {"joined", "joining"} or not self._is_old(endpoint.created))
            for endpoint in self._core.store.endpoints(network_id=binding.network_id)
        )

    def is_last(self, binding: Binding) -> bool:
        """Say whether the network was made for this binding and nobody else is on it, so that it goes with it."""
        store = self._core.store
        others = [
            endpoint
            for endpoint in store.endpoints(network_id=binding.network_id)
            if endpoint.id not in self.gone and endpoint.owner.network != binding.external_id
        ]
        return binding.made and not others and len(store.bindings(network_id=binding.network_id)) == 1

    def of_network(self, network: Network) -> str:
        """Judge a network of the store."""
        if network.status != "active":
            return f"a crash left it half {'made' if network.status == 'creating' else 'deleted'}"
        return (
            "it was made for Docker, which has removed it, and nobody else is on it"
            if self._is_left_over(network)
            else ""
        )

    def _is_left_over(self, network: Network) -> bool:
        """Say whether Docker has gone that it was made for, and so have all others.

        Pods that kept it may come again, so that a person decides.
        """
        store = self._core.store
        return (
            self._everything
            and network.face == DOCKER
            and self._is_old(network.created)
            and not store.bindings(network_id=network.id)
            and self.gone.issuperset(e.id for e in store.endpoints(network_id=network.id))
        )

    # -- pools and addresses ------------------------------------------------------------------------------

    def of_pool(self, pool: Pool, networks: set[str]) -> str:
        """Judge a pool; `networks` are the ids of ours."""
        if pool.owner != DOCKER:
            return "" if pool.owner in networks else "its network is gone"
        if not self._is_old(pool.created):
            return ""
        used = self._core.store.count_addresses(pool.id)
        if not used and self._addresses.was_dropped(pool.id):
            return "Docker has started anew since and does not ask for it any more"
        unknown = self._docker is not None and pool.subnet not in self._docker.subnets
        return "Docker has no network on it" if self._everything and unknown else ""

    def of_address(self, row: Address, pool: Pool, networks: set[str], endpoints: set[str]) -> str:
        """Judge an address of `pool`; `networks` and `endpoints` are the ids of ours."""
        if row.kind == "endpoint":
            return "" if row.owner in endpoints else "its endpoint is gone"
        if row.kind == "docker":
            unused = pool.owner in networks and self._is_old(row.created)
            return "Docker asked for it and has no endpoint with it" if unused else ""
        return "" if row.owner == DOCKER or row.owner in networks else "its network is gone"
