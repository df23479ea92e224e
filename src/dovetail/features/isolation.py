"""Isolation: who may reach whom through the host, between networks and within one."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["Isolation"]


class Isolation:
    """Elements of ``bridges``, ``same_bridge``, ``enclosed``, ``isolated``, ``internal``, ``trusted``, ``protectedN``, ``routedN``."""

    name = "isolation"

    def network_elements(self, network: Network) -> Sequence[Element]:
        """Give what says that the bridge is ours, whom it keeps apart, and how it is entered.

        Families that the network has no subnet of are left alone: an adopted bridge may have them from others.
        """
        firewall = network.firewall
        if firewall is None:
            return ()
        link = firewall.link
        elements = [Element("bridges", (link,)), Element("same_bridge", (link, link))]
        elements += [] if network.adopted else [Element("enclosed", (link,))]
        # the flag on the bridge's ports stops frames; this stops what takes the way over the gateway
        elements += [] if firewall.icc else [Element("isolated", (link,))]
        if firewall.internal:
            return [*elements, Element("internal", (link,))]
        elements += [Element("trusted", (trusted, link)) for trusted in firewall.trusted]
        for version in network.versions:
            match firewall.family(version).mode:
                case "nat":
                    elements.append(Element(f"protected{version}", (link,)))
                case "routed":
                    elements.append(Element(f"routed{version}", (link,)))
        return elements

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give nothing: bridges say it all."""
        return ()
