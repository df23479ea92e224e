"""What macvlan and ipvlan have in common: an interface of the sandbox's own, on a link of the host, its parent.

::

    host                         sandbox
    eth0 (the parent, a wire) ── eth0 (addresses, default routes)
     └─ dv-<network> (the host's own, if it is to reach the endpoints)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from dovetail.drivers import host_access, sandbox_end
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
from dovetail.drivers.parent_options import ParentOptions
from dovetail.drivers.protocol import Difference
from dovetail.errors import Conflict, InvalidArgument, NotFound
from dovetail.kernel.protocol import Ipvlan, Kernel, Link, LinkSpec, Macvlan, Netns
from dovetail.model.addresses import IPAddress
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint
from dovetail.model.mac import Mac
from dovetail.model.names import bridge_link, handover_link, link_alias
from dovetail.model.network import Network

__all__ = ["OnParentDriver"]

_V6 = 6


class OnParentDriver(ABC):
    """A driver whose endpoints are links on a parent; `OnParent` of the protocol too."""

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

    # -- endpoint ---------------------------------------------------------------------------------

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Decide a MAC that is always the same, where the interface has one of its own; nothing is on the host."""
        if self._has_own_mac(network):
            return msgspec.structs.replace(
                endpoint, mac=endpoint.mac or Mac.derived(f"endpoint/{endpoint.id}")
            )
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
        settings = self._options(network).settings
        return isinstance(settings, Macvlan) and settings.mode != "passthru"

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
        settings = self._options(network).settings
        attachment = sandbox_end.attachment(
            network, endpoint, ifname=ifname, sandbox=sandbox, mtu=network.mtu or parent.mtu
        )
        if not self._has_own_mac(network):
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
            kernel.add_link(spec, settings, parent=network.parent)
            return attachment
        kernel.add_link(spec, settings, parent=network.parent)
        undo.callback(_delete_inside, kernel, sandbox, ifname)
        with kernel.inside(sandbox) as inner:
            _announce(inner, attachment)
            sandbox_end.configure(inner, attachment)
        return attachment

    def _parent(self, kernel: Kernel, network: Network) -> Link:
        parent = kernel.link(network.parent)
        if parent is None:
            raise NotFound(
                "interface",
                network.parent,
                hint=f"the parent of network {network.name!r} is gone: make it again",
            )
        return parent

    def leave(self, kernel: Kernel, endpoint: Endpoint, *, sandbox: str = "") -> None:
        """Delete the link, which is in the sandbox, or in the host's namespace where it was or is handed over."""
        sandbox_end.delete_endpoint_link(kernel, endpoint, sandbox)

    def check(
        self, kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
    ) -> list[Difference]:
        """Say a sentence for each thing that differs: parent, the host's interface, mode, MAC, MTU, addresses, routes."""
        found: list[Difference] = []
        parent = kernel.link(network.parent)
        if parent is None:
            found.append(f"the parent {network.parent!r} is gone")
        elif not parent.up:
            found.append(f"the parent {network.parent!r} is down")
        found += host_access.differences(kernel, network)
        if endpoint.attachment is None or sandbox is None:
            return found
        attachment = endpoint.attachment
        if not network.mtu:
            attachment = msgspec.structs.replace(attachment, mtu=0)  # the kernel keeps it at the parent's
        with kernel.inside(sandbox) as inner:
            link = inner.link(attachment.ifname)
            found += sandbox_end.differences(inner, attachment)
        if link is not None:
            found += self._on_wire(network, link, parent)
        return found

    def _on_wire(self, network: Network, link: Link, parent: Link | None) -> list[Difference]:
        settings = self._options(network).settings
        if link.kind != self.name:
            return [f"interface {link.name!r} is of kind {link.kind or 'network card'}, not {self.name}"]
        found = []
        if link.settings != settings:
            found.append(f"interface {link.name!r} is {_words(link.settings)}, not {_words(settings)}")
        if parent is not None and link.parent_ifindex != parent.ifindex:
            found.append(f"interface {link.name!r} is not on {parent.name!r}")
        return found

    def is_alive(
        self, kernel: Kernel, endpoint: Endpoint, links: frozenset[str], *, sandbox: str = ""
    ) -> bool:
        """Say whether the link is there, in the host's namespace or in the sandbox's."""
        return handover_link(endpoint.id) in links or bool(
            sandbox_end.endpoint_link(kernel, endpoint, sandbox)
        )


def _words(settings: object) -> str:
    match settings:
        case Macvlan(mode):
            return f"in mode {mode}"
        case Ipvlan(mode, flag):
            return f"in mode {mode} with flag {flag}"
        case _:
            return "in another mode"


def _delete_inside(kernel: Kernel, sandbox: Netns, ifname: str) -> None:
    with kernel.inside(sandbox) as inner:
        inner.delete_links([ifname])


def _announce(inner: Kernel, attachment: Attachment) -> None:
    """Let the interface tell the wire its addresses when it comes up: neighbours may know them by another MAC."""
    versions = {address.version for address in attachment.addresses}
    if 4 in versions:
        inner.set_sysctl(f"net/ipv4/conf/{attachment.ifname}/arp_notify", "1")
    if _V6 in versions:
        inner.set_sysctl(f"net/ipv6/conf/{attachment.ifname}/ndisc_notify", "1")
