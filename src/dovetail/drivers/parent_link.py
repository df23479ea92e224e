"""An endpoint's only link, on a link of the host, its parent: made in the sandbox, compared, removed.

::

    host                         sandbox
    eth0 (the parent, a wire) ── eth0 (addresses, default routes)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import ExitStack

import msgspec

from dovetail.drivers import carried, sandbox_end
from dovetail.drivers.protocol import Difference
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Kernel, Link, LinkSettings, LinkSpec, Netns
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint
from dovetail.model.mac import Mac
from dovetail.model.names import handover_link, link_alias
from dovetail.model.network import Network

__all__ = ["ParentLink"]


class ParentLink(ABC):
    """What drivers do alike whose endpoints are links on a link of the host."""

    def _carrier(self, network: Network) -> str:
        """Name the link of the host that links are made on."""
        return network.parent

    @abstractmethod
    def _settings(self, network: Network) -> LinkSettings:
        """Say what each link is made with."""

    @abstractmethod
    def _has_own_mac(self, network: Network) -> bool:
        """Say whether a link has a MAC that is not its parent's, if none is asked for."""

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
        """Make the link in `sandbox`, with its addresses and default routes; ``lo`` comes up too.

        Handing over (`sandbox` None), it waits in the host's namespace, down. Raises NotFound where the
        parent is gone, Conflict where something else has it.
        """
        parent = self._parent(kernel, network)
        attachment = sandbox_end.attachment(
            network, endpoint, ifname=ifname, sandbox=sandbox, mtu=network.mtu or parent.mtu
        )
        if endpoint.mac is None and not self._has_own_mac(network):
            attachment = msgspec.structs.replace(attachment, mac=Mac(parent.mac))
        spec = LinkSpec(
            attachment.handover or ifname,
            mac=endpoint.mac,
            mtu=network.mtu,
            netns=sandbox,
            alias=link_alias(store_id, "endpoint", endpoint.id),
        )
        if sandbox is None:
            undo.callback(kernel.delete_links, [spec.name])
            self._add_link(kernel, network, spec, parent)
            return attachment
        self._add_link(kernel, network, spec, parent)
        undo.callback(carried.delete_inside, kernel, sandbox, ifname)
        with kernel.inside(sandbox) as inner:
            carried.announce(inner, attachment)
            sandbox_end.configure(inner, attachment)
        return attachment

    def _add_link(self, kernel: Kernel, network: Network, spec: LinkSpec, parent: Link) -> None:
        kernel.add_link(spec, self._settings(network), parent=parent.name)

    def _parent(self, kernel: Kernel, network: Network) -> Link:
        name = self._carrier(network)
        parent = kernel.link(name)
        if parent is None:
            hint = f"the parent of network {network.name!r} is gone: make it again"
            raise NotFound("interface", name, hint=hint)
        return parent

    def leave(self, kernel: Kernel, endpoint: Endpoint, *, sandbox: str = "") -> None:
        """Delete the link, which is in the sandbox, or in the host's namespace where it was or is handed over."""
        sandbox_end.delete_endpoint_link(kernel, endpoint, sandbox)

    def check(
        self, kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
    ) -> list[Difference]:
        """Say a sentence for each thing that differs: parent, the host's interface, mode, MAC, MTU, addresses, routes."""
        name = self._carrier(network)
        parent = kernel.link(name)
        found = [*carried.differences_of_carrier(name, parent), *self._on_host(kernel, network)]
        if endpoint.attachment is None or sandbox is None:
            return found
        attachment = endpoint.attachment
        if not network.mtu:
            attachment = msgspec.structs.replace(attachment, mtu=0)  # the kernel keeps it at the parent's
        with kernel.inside(sandbox) as inner:
            link = inner.link(attachment.ifname)
            found += sandbox_end.differences(inner, attachment)
        if link is not None:
            found += carried.differences(self._settings(network), link, parent)
        return found

    def _on_host(self, kernel: Kernel, network: Network) -> list[Difference]:
        """Compare what else the network has on the host."""
        return []

    def is_alive(
        self, kernel: Kernel, endpoint: Endpoint, links: frozenset[str], *, sandbox: str = ""
    ) -> bool:
        """Say whether the link is there, in the host's namespace or in the sandbox's."""
        return handover_link(endpoint.id) in links or bool(
            sandbox_end.endpoint_link(kernel, endpoint, sandbox)
        )
