"""No network: a sandbox that joins has its loopback interface and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from dovetail.drivers.options import Given, Option
from dovetail.drivers.protocol import Difference
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["NullDriver"]

_LOOPBACK = "lo"


class NullDriver:
    """The driver ``null``: joining brings ``lo`` up."""

    name = "null"
    summary = "its loopback interface, and nothing else"
    addressed = False
    is_gateway = False

    def options(self) -> Mapping[str, Option]:
        """Name no option."""
        return {}

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Refuse options; nothing is decided."""
        Given(self.name, network.options, {})
        return network

    def create_network(self, kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
        """Make nothing."""

    def delete_network(self, kernel: Kernel, network: Network) -> None:
        """Remove nothing."""

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Give the endpoint back: it has no link and no MAC."""
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
        """Bring ``lo`` up in `sandbox`; it stays up, others in the sandbox may use it."""
        if sandbox is None:
            return Attachment(ifname=_LOOPBACK)
        with kernel.inside(sandbox) as inner:
            inner.set_link(_LOOPBACK, up=True)
        return Attachment(ifname=_LOOPBACK, sandbox=sandbox.path)

    def leave(self, kernel: Kernel, endpoint: Endpoint, *, sandbox: str = "") -> None:
        """Remove nothing."""

    def check(
        self, kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
    ) -> list[Difference]:
        """Say whether ``lo`` is down."""
        if sandbox is None:
            return []
        with kernel.inside(sandbox) as inner:
            loopback = inner.link(_LOOPBACK)
        return [] if loopback is not None and loopback.up else ["interface 'lo' of the sandbox is down"]

    def is_alive(
        self, kernel: Kernel, endpoint: Endpoint, links: frozenset[str], *, sandbox: str = ""
    ) -> bool:
        """Say True: there is nothing that could be lost."""
        return True
