"""What macvlan and ipvlan have in common: an interface of the sandbox's own, on a link of the host, its parent.

::

    host                         sandbox
    eth0 (the parent, a wire) ── eth0 (addresses, default routes)
     └─ dv-<network> (the host's own, if it is to reach the endpoints)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from dovetail.drivers import carried, host_access, sandbox_end
from dovetail.drivers.network_options import settle
from dovetail.drivers.options import Given, Option
from dovetail.drivers.parent import (
    WHERE,
    check_carried,
    make_parent,
    plan_parent,
    refuse_foreign,
    release_parent,
    try_parent,
)
from dovetail.drivers.parent_link import ParentLink
from dovetail.drivers.parent_options import ParentOptions
from dovetail.drivers.protocol import Difference
from dovetail.errors import Conflict, InvalidArgument
from dovetail.kernel.protocol import Kernel, LinkSettings, Macvlan
from dovetail.model.addresses import IPAddress
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import bridge_link
from dovetail.model.network import Network

__all__ = ["OnParentDriver"]


class OnParentDriver(ParentLink):
    """A driver whose endpoints are links on a parent that they share; `OnParent` of the protocol too."""

    name: str
    addressed = True
    is_gateway = False
    _dummy: str
    """What the name of a parent begins with that is made for a network without one."""

    @abstractmethod
    def options(self) -> Mapping[str, Option]:
        """Name each option with what it does and Docker's names for it."""

    @abstractmethod
    def _options(self, network: Network) -> ParentOptions:
        """Read the options of `network`."""

    @abstractmethod
    def _check_settings(self, mine: ParentOptions, theirs: ParentOptions, other: Network) -> None:
        """Raise Conflict where a network of this driver cannot share its parent with `other`."""

    def _settings(self, network: Network) -> LinkSettings:
        return self._options(network).settings

    # -- network ----------------------------------------------------------------------------------

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Decide parent, MTU and the host's own interface; reads the kernel only.

        Without a parent the network is internal. Raises InvalidArgument for a bad option, NotFound for a parent
        that is missing and no VLAN of a link, Conflict where something else has the parent.
        """
        options = self._options(network)
        given = Given(self.name, network.options, self.options())
        name = options.parent or f"{self._dummy}-{network.id[:12]}"
        network = msgspec.structs.replace(
            network,
            internal=network.internal or not options.parent,
            parent=name,
            parent_made=not options.parent,
            link=bridge_link(network.id) if options.host_access else "",
            mtu=options.mtu,
            one_endpoint=options.settings == Macvlan("passthru"),
        )
        if options.parent:
            found = plan_parent(kernel, name, store_id, kind=self.name)
            if options.mtu > found.mtu:
                raise InvalidArgument(
                    f"an MTU of {options.mtu} is more than {name!r} has, which is {found.mtu}",
                    where=given.where("mtu"),
                    hint="leave it out for the parent's",
                )
            network = msgspec.structs.replace(network, parent_made=found.made)
        else:
            refuse_foreign(kernel, name, network)
        if options.host_access:
            host_access.plan(kernel, network, options, where=given.where("host_access"))
        return settle(network, given)

    def create_network(self, kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
        """Make the parent where it is dovetail's to make, and the host's own interface where that is asked for.

        Kernel changes: those links, up; the host's interface has an address in each subnet and a route to the
        endpoints. A network that is new has a link made on its parent for a moment, to see that it can be. Raises
        NotFound where a parent that was there before is gone, Unsupported where the kernel has no such links,
        Conflict where something else has the parent.
        """
        make_parent(kernel, network, store_id, undo)
        settings = self._options(network).settings
        if network.link:
            host_access.make(kernel, network, settings, store_id, undo)
        elif network.status == "creating":
            try_parent(kernel, network, settings, store_id, undo)

    def delete_network(self, kernel: Kernel, network: Network) -> None:
        """Delete the host's own interface; the parent is `release_parent`'s."""
        host_access.remove(kernel, network)

    # -- a parent that several networks share -------------------------------------------------------

    def shared_parent(self, network: Network) -> str:
        """Name the parent that was given, empty where the network has one of its own."""
        return self._options(network).parent

    def host_addresses(self, network: Network) -> tuple[IPAddress, ...] | None:
        """Give the addresses that are named for the host, None where it is to have none."""
        options = self._options(network)
        return options.host_addresses if options.host_access else None

    def check_beside(self, kernel: Kernel, network: Network, beside: Sequence[Network]) -> None:
        """Refuse a parent that others have in another way; raises Conflict naming them."""
        options = self._options(network)
        if not options.parent:
            return
        for other in beside:
            if other.driver != self.name:
                raise Conflict(
                    f"{options.parent!r} carries the {other.driver} network {other.name!r},"
                    f" and cannot carry a {self.name} network too",
                    where=WHERE,
                    hint="give another parent",
                )
            self._check_settings(options, self._options(other), other)
        known = {other.link for other in beside} | {network.link}
        check_carried(kernel, options.parent, options.settings, known)

    def release_parent(self, kernel: Kernel, network: Network, beside: Sequence[Network]) -> None:
        """Remove a parent that dovetail made with the last network on it."""
        release_parent(kernel, network, beside)

    def _on_host(self, kernel: Kernel, network: Network) -> list[Difference]:
        return list(host_access.differences(kernel, network))

    # -- endpoint ---------------------------------------------------------------------------------

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Decide the MAC, where the interface has one of its own; nothing is on the host."""
        if self._has_own_mac(network):
            return msgspec.structs.replace(endpoint, mac=sandbox_end.mac_of(network, endpoint))
        if endpoint.mac is not None:
            settings = self._options(network).settings
            mode = f" of mode {settings.mode}" if isinstance(settings, Macvlan) else ""
            raise InvalidArgument(
                f"an endpoint on the {self.name} network {network.name!r}{mode} has the MAC address of {network.parent}",
                where="$.mac",
                hint="leave the MAC address out",
            )
        return endpoint

    def _has_own_mac(self, network: Network) -> bool:
        return carried.has_own_mac(self._options(network).settings)
