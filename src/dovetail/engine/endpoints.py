"""Endpoints: created, joined to a sandbox, left, deleted; and all of it in one step."""

from __future__ import annotations

from collections.abc import Collection

from dovetail.engine.core import Core
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint, EndpointSpec
from dovetail.model.network import Face
from dovetail.model.port import PortMapping
from dovetail.model.sandbox import Sandbox

__all__ = ["Endpoints"]


class Endpoints:
    """Operations on endpoints."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def attach(self, network: str, spec: EndpointSpec, *, netns: Netns, sandbox: Sandbox) -> Attachment:
        """Create an endpoint and join it to `netns` under ``spec.owner.ifname`` (CNI's ADD).

        `sandbox` says whose namespace it is; it is written down if it is not known yet. The endpoint
        id is derived from ``spec.owner``, see `endpoint_id`.
        """
        raise NotImplementedError

    def detach(self, endpoint_id: str) -> None:
        """Leave and delete (CNI's DEL); an unknown endpoint is no error."""
        raise NotImplementedError

    def create(self, network: str, spec: EndpointSpec) -> Endpoint:
        """Write an endpoint down with its addresses and MAC; nothing happens in the kernel (CNM's CreateEndpoint).

        ``spec.ports`` are not published: `publish` does.
        """
        raise NotImplementedError

    def join(self, endpoint_id: str, *, sandbox: Sandbox, netns: Netns | None, ifname: str) -> Attachment:
        """Bring an endpoint into a sandbox; `netns` None hands the interface over (CNM's Join up to Docker 25)."""
        raise NotImplementedError

    def leave(self, endpoint_id: str) -> None:
        """Take an endpoint out of its sandbox; twice, or when the namespace is gone, is no error."""
        raise NotImplementedError

    def delete(self, endpoint_id: str) -> None:
        """Forget an endpoint and what is left of it; an unknown one is no error."""
        raise NotImplementedError

    def publish(self, endpoint_id: str, ports: tuple[PortMapping, ...]) -> tuple[PortMapping, ...]:
        """Publish ports (CNM's ProgramExternalConnectivity); gives them with the host ports chosen.

        Clashes raise PortInUse before anything changes. What was published before is replaced.
        """
        raise NotImplementedError

    def unpublish(self, endpoint_id: str) -> None:
        """Withdraw all published ports; none is no error."""
        raise NotImplementedError

    def check(self, endpoint_id: str, netns: Netns | None) -> list[str]:
        """Say, a sentence each, how the kernel differs from what joining made; changes nothing. Raises NotFound."""
        raise NotImplementedError

    def get(self, ref: str) -> Endpoint:
        """Find one by name, id or unique prefix."""
        raise NotImplementedError

    def all(self, *, network: str = "", sandbox: str = "") -> list[Endpoint]:
        """Give all, or those of one network or sandbox (ids)."""
        raise NotImplementedError

    def collect(self, face: Face, network: str, valid: Collection[tuple[str, str]]) -> list[Endpoint]:
        """Detach the endpoints of `face` on the caller's network name `network` whose (container, ifname) is not in `valid`."""
        raise NotImplementedError
