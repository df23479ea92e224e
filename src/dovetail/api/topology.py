"""Who is connected to what: the host, its networks, their endpoints, and sandboxes without any."""

from __future__ import annotations

import socket

import msgspec

from dovetail.api.views import NetworkView, SandboxView, network_view, sandbox_views
from dovetail.engine.engine import Engine

__all__ = ["Topology", "topology"]


class Topology(msgspec.Struct, frozen=True, kw_only=True):
    """One host's networks with their endpoints; `sandboxes` are those on no network."""

    host: str
    networks: tuple[NetworkView, ...] = ()
    sandboxes: tuple[SandboxView, ...] = ()


def topology(engine: Engine) -> Topology:
    """Render everything the engine knows of this host."""
    return Topology(
        host=socket.gethostname(),
        networks=tuple(network_view(engine, network) for network in engine.networks.all()),
        sandboxes=tuple(view for view in sandbox_views(engine) if not view.endpoints),
    )
