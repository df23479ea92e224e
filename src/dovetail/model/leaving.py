"""Elements by which single addresses take the host's when they leave their subnets."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_network

from dovetail.model.addresses import IPInterface
from dovetail.model.element import Element

__all__ = ["leaving"]


def leaving(addresses: Iterable[IPInterface]) -> tuple[Element, ...]:
    """Give for each address that it is masqueraded, but not to its neighbours (``features/ruleset.py``)."""
    return tuple(
        element
        for address in addresses
        for element in (
            Element(f"leaving{address.version}", (address.ip,)),
            Element(f"neighbours{address.version}", (ip_network(address.ip), address.network)),
        )
    )
