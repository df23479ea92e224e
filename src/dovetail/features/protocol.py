"""What a feature is: something either face can add to a network or an endpoint.

The firewall's features say which *elements* a network or an endpoint contributes to the static
ruleset; the engine adds, removes and reconciles them. Nothing else of the firewall ever changes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from dovetail.kernel.protocol import Kernel
from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["Feature", "HostFirewall", "RulesFile"]


class Feature(Protocol):
    """Pure functions from the model to elements of ``table inet dovetail``."""

    name: str

    def network_elements(self, network: Network) -> Sequence[Element]:
        """Give what `network` needs while it exists."""
        ...

    def link_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give what the link of `endpoint` needs from before it is there until it is gone.

        Asked only where each endpoint has a link to itself (`FirewallIntent.link` is empty).
        """
        ...

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give what `endpoint` needs while it is joined (its published ports, for one)."""
        ...


class RulesFile(NamedTuple):
    """A file of rules that a user wrote for chain ``user``, or why there is no reading it."""

    path: str
    text: str
    problem: str = ""


class HostFirewall(Protocol):
    """Whatever other firewall the host has."""

    def close(self, kernel: Kernel, version: int) -> bool:
        """Have what is forwarded dropped, before forwarding of IP `version` is turned on; True where that is new."""
        ...

    def open(self, kernel: Kernel, version: int) -> None:
        """Take `close` back."""
        ...

    def accept(self, kernel: Kernel, networks: Sequence[Network], links: Collection[str] = ()) -> None:
        """Have `networks` and what goes by `links`, which are all there are, pass. Idempotent."""
        ...

    def release(self, kernel: Kernel, network: Network) -> None:
        """Take back what was done for `network` alone."""
        ...

    def withdraw(self, kernel: Kernel) -> None:
        """Take back what was done for all."""
        ...
