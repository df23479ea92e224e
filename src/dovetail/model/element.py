"""Elements of nftables sets and maps: the only part of the firewall that changes.

The ruleset is static text (`features/ruleset.py`); a network or an endpoint adds elements and
takes them away. `set` names the set or map inside ``table inet dovetail``; `key` and `data` are
tuples of Python values in the order of the set's (concatenated) type:

======================  ==================================
nftables type           Python value
======================  ==================================
``ipv4_addr``           IPv4Address or, in an interval set, IPv4Network
``ipv6_addr``           IPv6Address or IPv6Network
``inet_service``        int
``inet_proto``          ``"tcp"``, ``"udp"``, ``"sctp"``
``ifname``              str
======================  ==================================
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from dovetail.model.addresses import IPAddress, IPNetwork

__all__ = ["Element", "ElementValue"]

ElementValue: TypeAlias = str | int | IPAddress | IPNetwork


class Element(NamedTuple):
    """One element of a set (``data`` empty) or of a map."""

    set: str
    key: tuple[ElementValue, ...]
    data: tuple[ElementValue, ...] = ()

    @property
    def text(self) -> str:
        """Write the key as ``nft`` does."""
        return " . ".join(map(str, self.key))
