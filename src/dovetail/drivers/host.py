"""The host's own network: a sandbox that joins is the host's namespace, and stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from dovetail.drivers.options import Given, Option
from dovetail.drivers.protocol import Difference
from dovetail.errors import InvalidArgument, Unsupported
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["HostDriver"]

_LOOPBACK = "lo"


class HostDriver:
    """The driver ``host``: joining gives a sandbox nothing, as it has all the host has already."""

    name = "host"
    summary = "nothing: its sandbox is the host's namespace"
    addressed = False
    is_gateway = False

    def options(self) -> Mapping[str, Option]:
        """Name no option."""
        return {}

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Refuse options and `internal`, which a host's network cannot be."""
        Given(self.name, network.options, {})
        if network.internal:
            raise InvalidArgument("a host network cannot be internal", where="$.internal")
        return network

    def create_network(self, kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
        """Make nothing."""

    def delete_network(self, kernel: Kernel, network: Network) -> None:
        """Remove nothing."""

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Give the endpoint back; it cannot have a MAC or publish ports of its own."""
        if endpoint.mac is not None:
            raise InvalidArgument(
                "an endpoint on a host network has no MAC address of its own", where="$.mac"
            )
        if endpoint.ports:
            raise InvalidArgument(
                "an endpoint on a host network cannot publish ports",
                hint="what listens in the host's namespace is reachable already",
            )
        return endpoint

    def join(
        self,
        kernel: Kernel,
        network: Network,
        endpoint: Endpoint,
        *,
        sandbox: Netns | None,
        ifname: str,
        store_id: str,
        undo: ExitStack,
    ) -> Attachment:
        """Check that `sandbox` is the host's namespace; raises Unsupported where it is another one."""
        if sandbox is None or sandbox.inode != kernel.netns_inode:
            where = sandbox.path if sandbox is not None else ""
            raise Unsupported(
                f"the sandbox {where or 'of this endpoint'} is not the host's network namespace, "
                f"so it cannot join the host network {network.name!r}",
                hint="run the container in the host's namespace, or join a bridge network",
            )
        return Attachment(ifname=_LOOPBACK, sandbox=sandbox.path)

    def leave(self, kernel: Kernel, endpoint: Endpoint, *, sandbox: str = "") -> None:
        """Remove nothing."""

    def check(
        self, kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
    ) -> list[Difference]:
        """Say whether the sandbox is another namespace than the host's."""
        if sandbox is None or sandbox.inode == kernel.netns_inode:
            return []
        return [f"sandbox {sandbox.path or 'given'} is not the host's network namespace"]

    def is_alive(
        self, kernel: Kernel, endpoint: Endpoint, links: frozenset[str], *, sandbox: str = ""
    ) -> bool:
        """Say True: there is nothing that could be lost."""
        return True
