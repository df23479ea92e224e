"""Isolation: who may reach whom through the host, between networks and within one."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["Isolation"]


class Isolation:
    """Elements of ``bridges``, ``same_bridge``, ``isolated``, ``internal`` and ``protected``."""

    name = "isolation"

    def network_elements(self, network: Network) -> Sequence[Element]:
        """Give what says that the bridge is ours, and whom it keeps apart."""
        firewall = network.firewall
        if firewall is None:
            return ()
        link = firewall.link
        elements = [Element("bridges", (link,)), Element("same_bridge", (link, link))]
        # the flag on the bridge's ports stops frames; this stops what takes the way over the gateway
        elements += [] if firewall.icc else [Element("isolated", (link,))]
        if firewall.internal:
            elements.append(Element("internal", (link,)))
        elif firewall.protected:
            elements.append(Element("protected", (link,)))
        return elements

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give nothing: bridges say it all."""
        return ()
