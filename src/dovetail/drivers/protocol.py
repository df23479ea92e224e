"""What a network driver is: a technique that makes networks and endpoints real.

A driver is pure functions over the model and a `Kernel`. It keeps no state, sees no store, no
engine and no other driver. The engine calls it in this order, persists between the calls, and
undoes in reverse::

    plan_network → create_network → [ plan_endpoint → join → leave ]* → delete_network

Every deleting method succeeds when what it deletes is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Protocol, runtime_checkable

from dovetail.drivers.options import Option
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.addresses import IPAddress
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["Difference", "Driver", "OnParent"]

Difference = str
"""One sentence saying how the kernel differs from what a driver made (CNI CHECK prints them)."""


class Driver(Protocol):
    """One network technique. `undo` collects the reverse of each kernel change as it is made."""

    name: str
    """As in ``-d NAME``."""

    summary: str
    """What an endpoint gets, in a line."""

    addressed: bool
    """Whether networks of this driver have subnets (bridge) or not (null, host)."""

    is_gateway: bool
    """Whether the host is the gateway of its networks (bridge), so that an address is taken for it where none is
    given; else the gateway is a router out there (macvlan), if one is given."""

    def options(self) -> Mapping[str, Option]:
        """Name each option this driver knows."""
        ...

    def plan_network(self, kernel: Kernel, network: Network, store_id: str) -> Network:
        """Check `network` and fill in what the driver decides: link, adopted, mtu, firewall.

        Reads the kernel, changes nothing. Raises InvalidArgument for an unknown or bad option
        (`where` is ``$.options.KEY``) and Conflict where a link of that name is of another kind.
        """
        ...

    def create_network(self, kernel: Kernel, network: Network, store_id: str, undo: ExitStack) -> None:
        """Make it so. Called again for a network that exists (after a reboot, a repair): idempotent."""
        ...

    def delete_network(self, kernel: Kernel, network: Network) -> None:
        """Remove what create_network made; an adopted link loses only what was given to it."""
        ...

    def plan_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Fill in what the driver decides before anything exists: link, mac."""
        ...

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
        """Put the endpoint's interface into `sandbox` as `ifname`, addressed, routed and up.

        `sandbox` None hands the interface over instead: it waits in the host namespace under
        `Attachment.handover` and the caller (dockerd) moves, names and addresses it.
        Raises AlreadyExists where the sandbox has an interface of that name.
        """
        ...

    def leave(self, kernel: Kernel, endpoint: Endpoint, *, sandbox: str = "") -> None:
        """Remove the endpoint's interface, wherever its ends are now.

        sandbox: path of the namespace it joined, for a link that has no end on the host; it may be gone.
        """
        ...

    def check(
        self, kernel: Kernel, network: Network, endpoint: Endpoint, sandbox: Netns | None
    ) -> list[Difference]:
        """Compare the kernel with the endpoint's attachment; change nothing."""
        ...

    def is_alive(
        self, kernel: Kernel, endpoint: Endpoint, links: frozenset[str], *, sandbox: str = ""
    ) -> bool:
        """Say whether a joined endpoint still has its interface; `links` are the host's link names now.

        sandbox: as of `leave`.
        """
        ...


@runtime_checkable
class OnParent(Protocol):
    """What a driver can do besides whose networks sit on a link of the host (macvlan, ipvlan), which they may share.

    While a network is made or deleted, the engine keeps others of the same parent from it, so what is asked
    about those `beside` it stays so.
    """

    def shared_parent(self, network: Network) -> str:
        """Name that link before `network` is planned (`Network.parent`), empty where it has one of its own.

        Raises InvalidArgument for a bad option.
        """
        ...

    def host_addresses(self, network: Network) -> tuple[IPAddress, ...] | None:
        """Say which addresses the host wants in the network's subnets; None for none at all.

        In a subnet with none of them IPAM is to choose one. They are reserved (`Subnet.aux`) by the name ``host``.
        """
        ...

    def check_beside(self, kernel: Kernel, network: Network, beside: Sequence[Network]) -> None:
        """Compare `network`, which is planned, with those that share its parent; raises Conflict."""
        ...

    def release_parent(self, kernel: Kernel, network: Network, beside: Sequence[Network]) -> None:
        """Remove the parent after delete_network if dovetail made it and nobody is `beside`; twice is no error."""
        ...
