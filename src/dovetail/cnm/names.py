"""What Docker calls things: the plugin protocol does not tell (cnm.md §6), so it is learned from Docker's API.

A container's name and id go to its endpoints and their sandbox, a network's name and labels to the binding by which
Docker knows it. Our network keeps its own name: people and configurations know it by that, and one network may be
known to Docker by several names. It is found by Docker's name as well, and shown with it.

Nothing here runs in a call that dockerd waits for; `daemon/docker_names.py` has a thread for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from dovetail.cnm.docker_api import DockerApi, DockerContainer, DockerEvent, DockerNetwork
from dovetail.engine.engine import Engine
from dovetail.errors import NotFound
from dovetail.model.network import Face

__all__ = ["Names"]

_FACE: Face = "docker"


class Names:
    """Notes Docker's names on what `engine` keeps; raises what `DockerApi` raises."""

    events: ClassVar = {"container": ("start", "rename"), "network": ("create", "connect")}
    """The events that bring names. A container's endpoints are in Docker's lists from its start on, so that says more
    than the ``connect`` before it; a container that runs already is only connected."""

    def __init__(self, engine: Engine, api: DockerApi) -> None:
        self._engine = engine
        self._api = api

    def learn_all(self) -> None:
        """Note all names that Docker has now."""
        networks = {network.id: network for network in self._api.networks()}
        bound = [
            binding.external_id
            for binding in self._engine.core.store.bindings()
            if binding.face == _FACE and binding.external_id in networks
        ]
        for network_id in bound:
            self._network(networks[network_id])
        if bound:
            self._containers(self._api.containers(networks=bound))

    def learn(self, event: DockerEvent) -> bool:
        """Note what an event tells; False where Docker's lists do not have it yet, a moment after it happened."""
        if event.kind == "network" and not self._is_ours(event.actor.id):
            return True
        if not event.container:
            if (event.kind, event.action) == ("network", "create"):
                try:
                    self._network(self._api.network(event.actor.id))
                except NotFound:
                    pass  # it has gone meanwhile
            return True
        containers = self._api.containers(ids=[event.container])
        self._containers(containers)
        return event.action != "connect" or all(event.actor.id in each.endpoints for each in containers)

    def _is_ours(self, network_id: str) -> bool:
        return self._engine.core.store.binding(_FACE, network_id) is not None

    def _network(self, network: DockerNetwork) -> None:
        self._engine.networks.name_binding(_FACE, network.id, network.name, network.labels or {})

    def _containers(self, containers: Iterable[DockerContainer]) -> None:
        for container in containers:
            for endpoint_id in container.endpoints.values():
                self._engine.endpoints.name(endpoint_id, container.name, container=container.id)
