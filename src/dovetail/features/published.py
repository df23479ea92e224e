"""Published ports as a part of an attachment (CNI's type ``portmap``): elements of the same maps as everybody's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Literal

import msgspec

from dovetail.features import iptables_portmap, reference_rules
from dovetail.features.portmap import published_elements
from dovetail.features.reference_names import Owner as Named
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.addresses import EVERYWHERE, IPInterface
from dovetail.model.element import Element
from dovetail.model.endpoint import Owner
from dovetail.model.port import PortMapping
from dovetail.model.published import PublishedPorts
from dovetail.model.readdressing import Readdressing

__all__ = ["PublishedParts"]

_LOOPBACK = ip_network("127.0.0.0/8")


class PublishedParts:
    """The kind of part ``portmap``."""

    name = "portmap"
    layer: Literal["feature"] = "feature"
    detail = PublishedPorts

    def make(
        self,
        kernel: Kernel,
        detail: PublishedPorts,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> PublishedPorts:
        """Let 127.0.0.1 lead to the ports by the link; the rest is elements, or chains of iptables.

        What else arrives for 127.0.0.0/8 from outside the ruleset drops (`features.ruleset`, chain ``guard``).
        """
        if detail.iptables:
            undo.callback(self.unmake, kernel, detail, owner=owner, netns=netns)
            iptables_portmap.make(
                kernel,
                _named(owner),
                detail.addresses,
                detail.ports,
                _settings(detail),
                link=detail.link if detail.source_nat else "",
            )
            return detail
        if detail.source_nat and detail.link and any(a.version == 4 for a in detail.addresses):
            kernel.set_sysctl(_localnet(detail.link), "1")
        return detail

    def unmake(self, kernel: Kernel, detail: PublishedPorts, *, owner: Owner, netns: Netns | None) -> None:
        """Remove what is in the form of iptables, also where the reference plugin made it; elements go by themselves."""
        if detail.iptables:
            addresses = [address.ip for address in detail.addresses]
            reference_rules.remove(kernel, _named(owner), addresses, {"portmap"})

    def differences(
        self, kernel: Kernel, detail: PublishedPorts, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Say what is missing in the form of iptables; elements are compared by themselves."""
        if not detail.iptables:
            return []
        return iptables_portmap.differences(
            kernel, _named(owner), detail.addresses, detail.ports, _settings(detail)
        )

    def elements(self, detail: PublishedPorts) -> Sequence[Element]:
        """Give what each port is, and from where the answer would not come back by the host."""
        found: list[Element] = []
        if detail.iptables:
            return found
        for address in detail.addresses:
            mine = published_elements(detail.ports, address.ip)
            found += mine
            found += _reached(detail, address) if mine else ()
        return found

    def readdressed(self, detail: PublishedPorts, change: Readdressing) -> PublishedPorts:
        """Let the ports lead to the new addresses; chains of iptables stay as they are."""
        if detail.iptables:
            return detail
        by_family = {a.version: a for a in reversed(change.addresses_of(detail.addresses))}
        addresses = tuple(by_family[version] for version in sorted(by_family))
        return msgspec.structs.replace(detail, addresses=addresses)

    def ports(self, detail: PublishedPorts) -> tuple[PortMapping, ...]:
        """Give them."""
        return detail.ports

    def link(self, detail: PublishedPorts) -> str:
        """Name the host's interface by which the sandbox is reached."""
        return detail.link

    def is_alive(self, kernel: Kernel, detail: PublishedPorts, links: frozenset[str]) -> bool:
        """Say whether that is there."""
        return not detail.link or detail.link in links

    def release(self, kernel: Kernel, detail: PublishedPorts) -> None:
        """Let nothing for 127.0.0.0/8 in by the link any more: the ruleset may go with the last attachment."""
        if detail.link and kernel.sysctl(_localnet(detail.link)) == "1":
            kernel.set_sysctl(_localnet(detail.link), "0")


def _named(owner: Owner) -> Named:
    return Named(owner.network, owner.container, owner.ifname)


def _settings(detail: PublishedPorts) -> iptables_portmap.PortmapSettings:
    return iptables_portmap.PortmapSettings(
        snat=detail.source_nat,
        masquerade_all=detail.masquerade_all,
        mark_bit=detail.mark_bit,
        set_mark_chain=detail.set_mark_chain,
        conditions4=detail.conditions4,
        conditions6=detail.conditions6,
    )


def _localnet(link: str) -> str:
    return f"net/ipv4/conf/{link}/route_localnet"


def _reached(detail: PublishedPorts, address: IPInterface) -> list[Element]:
    """Say from where an asker of `address` must see the host answer. Of one address, ranges may not overlap."""
    target = ip_network(address.ip)
    if detail.masquerade_all:
        sources = [EVERYWHERE[address.version]]
    elif not detail.source_nat:
        sources = []
    else:
        sources = [address.network, *([_LOOPBACK] if address.version == 4 else [])]
    return [Element(f"reached{address.version}", (target, source)) for source in sources]
