"""Isolation: who may reach whom through the host, between networks and within one."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.firewall import FirewallIntent
from dovetail.model.network import Network

__all__ = ["Isolation"]


class Isolation:
    """Elements of ``bridges``, ``same_bridge``, ``same_networkN``, ``enclosed``, ``isolated``, ``internal``, ``trusted``,
    ``protectedN``, ``routedN``.
    """

    name = "isolation"

    def network_elements(self, network: Network) -> Sequence[Element]:
        """Give what says that the bridge is ours, whom it keeps apart, and how it is entered.

        Without a bridge (ptp) the network is told by its subnets, each with each: who has which address is certain
        there. Families that the network has no subnet of are left alone: an adopted bridge may have them from
        others.
        """
        firewall = network.firewall
        if firewall is None:
            return ()
        if firewall.link:
            link = firewall.link
            both = [Element("bridges", (link,)), Element("same_bridge", (link, link))]
            return [*both, *_of_link(network, firewall, link)]
        subnets = [entry.subnet for entry in network.subnets]
        return [
            Element(f"same_network{one.version}", (one, other))
            for one in subnets
            for other in subnets
            if one.version == other.version
        ]

    def link_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give of the endpoint's own link what `network_elements` gives of a bridge."""
        firewall = network.firewall
        if firewall is None or firewall.link:
            return ()
        return [Element("bridges", (endpoint.link,)), *_of_link(network, firewall, endpoint.link)]

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give nothing: links say it all."""
        return ()


def _of_link(network: Network, firewall: FirewallIntent, link: str) -> list[Element]:
    elements = [] if network.adopted else [Element("enclosed", (link,))]
    # the flag on a bridge's ports stops frames; this stops what takes the way over the gateway
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
