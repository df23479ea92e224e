"""What a network wants of the host's firewall, apart from how rules say it."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dovetail.model.addresses import IPAddress

__all__ = ["GATEWAY_MODES", "FamilyIntent", "FirewallIntent", "GatewayMode"]

GatewayMode: TypeAlias = Literal["nat", "nat-unprotected", "routed", "isolated"]
"""How a network and what is outside of it meet in one IP version; the words are Docker's.

``nat``: the outside sees the host's address, and reaches published ports by it and nothing else.
``nat-unprotected``: as ``nat``, but who has a route to an endpoint's own address reaches every port there.
``routed``: nothing is translated. The outside reaches the endpoint's own address: ICMP, and the ports that it
publishes. ``isolated``: of an internal network, whose host has no address there, so that neither reaches the other.
"""

GATEWAY_MODES: tuple[GatewayMode, ...] = ("nat", "nat-unprotected", "routed", "isolated")


class FamilyIntent(msgspec.Struct, frozen=True, kw_only=True):
    """What a network wants for one IP version.

    masquerade: in the modes with NAT, what leaves the network takes an address of the host's. source: which one;
    None is that of the link by which it leaves.
    """

    mode: GatewayMode = "nat"
    masquerade: bool = True
    source: IPAddress | None = None

    @property
    def translates(self) -> bool:
        """Whether addresses are translated: published ports are ports of the host then."""
        return self.mode in {"nat", "nat-unprotected"}


class FirewallIntent(msgspec.Struct, frozen=True, kw_only=True):
    """What a network wants.

    link: the host's interface behind which the endpoints are (a bridge), empty where each of them has one to
    itself (ptp), its `Endpoint.link`. icc: endpoints may reach each other
    (Docker's ``enable_icc``). internal: nothing enters or leaves, whatever the rest says. trusted: links of the
    host from which published ports are reached on the endpoints' own addresses too. host_binding: the host's
    address of published ports that name none; None is every address of both families, ``0.0.0.0`` and ``::``
    every address of theirs.
    """

    link: str
    icc: bool = True
    internal: bool = False
    trusted: tuple[str, ...] = ()
    host_binding: IPAddress | None = None
    ipv4: FamilyIntent = FamilyIntent()
    ipv6: FamilyIntent = FamilyIntent()

    def family(self, version: int) -> FamilyIntent:
        """Give what is wanted for IP `version`, 4 or 6."""
        return self.ipv4 if version == 4 else self.ipv6
