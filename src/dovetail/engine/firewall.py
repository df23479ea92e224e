"""The firewall as the engine keeps it: the static table, and the elements that networks and endpoints own.

The rows of the store are written before the elements are added and deleted after they are gone,
so whoever reads the kernel first and the store second can tell an element that nobody owns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dovetail.engine.core import Core
from dovetail.errors import NotFound
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["Firewall"]

_LOCK = "f" * 15  # a lock of its own; network and endpoint ids are hashes and never all f
_DELETE_TABLE = "delete table inet dovetail\n"


class Firewall:
    """The static ruleset, its elements, and room in the host's other firewall."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def network_elements(self, network: Network) -> list[Element]:
        """Give what every feature wants for `network`."""
        if network.firewall is None:
            return []
        return [e for feature in self._core.features for e in feature.network_elements(network)]

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> list[Element]:
        """Give what every feature wants for `endpoint`."""
        if network.firewall is None:
            return []
        return [e for feature in self._core.features for e in feature.endpoint_elements(network, endpoint)]

    def add_network(self, network: Network) -> None:
        """Make sure of the table, add the network's elements, and have its traffic accepted by the host's firewall."""
        if network.firewall is None:
            return
        with self._lock():
            self._ensure_table()
            self._core.kernel.nft_add_elements(self.network_elements(network))
            self._core.accept_forwarding(self._core.kernel, self._links())

    def remove_network(self, network: Network) -> None:
        """Take the network's elements away; with the last network go the table and the accepts.

        `network` is still in the store, as ``deleting`` or ``creating``.
        """
        if network.firewall is None:
            return
        with self._lock():
            self._core.kernel.nft_delete_elements(self.network_elements(network))
            others = [n for n in self._core.store.networks() if n.id != network.id and n.firewall is not None]
            if others:
                self._core.accept_forwarding(self._core.kernel, [n.link for n in others])
            else:
                self._remove_all()

    def add_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """Add the endpoint's elements; where the table is gone (flushed), everything is restored first."""
        elements = self.endpoint_elements(network, endpoint)
        if not elements:
            return
        try:
            self._core.kernel.nft_add_elements(elements)
        except NotFound:
            self.restore()
            self._core.kernel.nft_add_elements(elements)

    def remove_endpoint(self, network: Network, endpoint: Endpoint) -> None:
        """Take the endpoint's elements away."""
        elements = self.endpoint_elements(network, endpoint)
        if elements:
            self._core.kernel.nft_delete_elements(elements)

    def restore(self) -> list[str]:
        """Put back what is missing and take away what nobody owns; says what was done, a sentence each."""
        with self._lock():
            if not any(network.firewall for network in self._core.store.networks()):
                return self._remove_all()
            done = ["the nftables table was gone and is back"] if self._ensure_table() else []
            present = self._core.kernel.nft_elements()
            wanted, owned = self._expected()
            missing, extra = wanted - present, present - owned
            if missing:
                self._core.kernel.nft_add_elements(list(missing))
                done.append(f"{len(missing)} nftables elements were missing and are back")
            if extra:
                self._core.kernel.nft_delete_elements(list(extra))
                done.append(f"{len(extra)} nftables elements belonged to nobody and are gone")
            self._core.accept_forwarding(self._core.kernel, self._links())
            return done

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self._core.locks.hold(_LOCK, timeout_s=self._core.lock_timeout_s, what="the firewall"):
            yield

    def _ensure_table(self) -> bool:
        if self._core.kernel.nft_has_table():
            return False
        self._core.kernel.nft_apply(self._core.ruleset)
        wanted, _ = self._expected()
        if wanted:
            self._core.kernel.nft_add_elements(list(wanted))
        return True

    def _remove_all(self) -> list[str]:
        if not self._core.kernel.nft_has_table():
            return []
        self._core.kernel.nft_apply(_DELETE_TABLE)
        self._core.withdraw_forwarding(self._core.kernel)
        return ["no network is left, so the nftables table is gone"]

    def _links(self) -> list[str]:
        return [
            n.link for n in self._core.store.networks() if n.firewall is not None and n.status != "deleting"
        ]

    def _expected(self) -> tuple[set[Element], set[Element]]:
        """Give what must be there, and what may be (operations under way add or remove their own)."""
        networks = {network.id: network for network in self._core.store.networks()}
        wanted: set[Element] = set()
        owned: set[Element] = set()
        for network in networks.values():
            elements = self.network_elements(network)
            owned.update(elements)
            if network.status != "deleting":
                wanted.update(elements)
        for endpoint in self._core.store.endpoints():
            owner = networks.get(endpoint.network_id)
            if owner is None or not endpoint.ports:
                continue
            elements = self.endpoint_elements(owner, endpoint)
            owned.update(elements)
            if endpoint.status == "joined" and owner.status != "deleting":
                wanted.update(elements)
        return wanted, owned
