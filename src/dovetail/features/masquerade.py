"""Masquerading: what leaves a network takes the host's address, and so does what comes back by a port."""

from __future__ import annotations

from collections.abc import Sequence

from dovetail.model.element import Element
from dovetail.model.endpoint import Endpoint
from dovetail.model.network import Network

__all__ = ["Masquerade"]


class Masquerade:
    """Elements of ``subnetsN``, ``masqueradeN``, ``sourceN`` and ``hairpinN``."""

    name = "masquerade"

    def network_elements(self, network: Network) -> Sequence[Element]:
        """Give for each subnet that it is one of ours, what address it takes outside, and its hairpin.

        Hairpin: an endpoint that reaches another of its subnet (or itself) through a published port
        would get the reply straight from it, from an address it has not asked. So its address is
        replaced as well. A routed subnet has no ports of the host's. An internal network has no way out
        and publishes nothing: no elements.
        """
        firewall = network.firewall
        if firewall is None or firewall.internal:
            return ()
        elements: list[Element] = []
        for subnet in (entry.subnet for entry in network.subnets):
            version = subnet.version
            family = firewall.family(version)
            elements.append(Element(f"subnets{version}", (subnet,)))
            if not family.translates:
                continue
            if family.masquerade and family.source is None:
                elements.append(Element(f"masquerade{version}", (subnet,)))
            elif family.masquerade and family.source is not None:
                elements.append(Element(f"source{version}", (subnet,), (family.source,)))
            elements.append(Element(f"hairpin{version}", (subnet, subnet)))
        return elements

    def link_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give nothing: subnets say it all."""
        return ()

    def endpoint_elements(self, network: Network, endpoint: Endpoint) -> Sequence[Element]:
        """Give nothing: subnets say it all."""
        return ()
