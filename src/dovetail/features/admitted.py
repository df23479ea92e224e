"""What the host's firewall lets pass for a sandbox (CNI's type ``firewall``).

Our own table drops nothing that is not to be dropped, so admission is a matter of the other firewalls there are: the
engine has those accept the link (`host_firewall`). Policies are elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

from dovetail.features import iptables_firewall, reference_rules
from dovetail.features.reference_names import Owner as Named
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.admitted import Admitted
from dovetail.model.element import Element
from dovetail.model.endpoint import Owner

__all__ = ["AdmittedParts"]


class AdmittedParts:
    """The kind of part ``firewall``."""

    name = "firewall"
    layer: Literal["feature"] = "feature"
    detail = Admitted

    def make(
        self,
        kernel: Kernel,
        detail: Admitted,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> Admitted:
        """Make rules of iptables where they were asked for; else it is all elements, and the engine's."""
        if detail.iptables:
            undo.callback(self.unmake, kernel, detail, owner=owner, netns=netns)
            iptables_firewall.make(kernel, detail.addresses, _settings(detail))
        return detail

    def unmake(self, kernel: Kernel, detail: Admitted, *, owner: Owner, netns: Netns | None) -> None:
        """Remove the rules for its addresses, also where the reference plugin made them; elements go by themselves."""
        if detail.iptables:
            named = Named(owner.network, owner.container, owner.ifname)
            reference_rules.remove(kernel, named, [address.ip for address in detail.addresses], {"firewall"})

    def differences(
        self, kernel: Kernel, detail: Admitted, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Say which rules of iptables are missing; elements are compared by themselves."""
        if not detail.iptables:
            return []
        return iptables_firewall.differences(kernel, detail.addresses, _settings(detail))

    def elements(self, detail: Admitted) -> Sequence[Element]:
        """Give that the link is one of ours, whom the user's rules are for, and which others it is kept from."""
        if detail.iptables:
            return ()
        found = [Element("bridges", (detail.link,)), Element("same_bridge", (detail.link, detail.link))]
        if detail.policy != "open":
            found.append(Element("apart", (detail.link,)))
        if detail.policy == "isolated":
            found.append(Element("isolated", (detail.link,)))
        return found

    def link(self, detail: Admitted) -> str:
        """Name it."""
        return "" if detail.iptables else detail.link

    def is_alive(self, kernel: Kernel, detail: Admitted, links: frozenset[str]) -> bool:
        """Say whether it is there."""
        return not detail.link or detail.link in links

    def admits(self, detail: Admitted) -> str:
        """Name it: what it sends and gets is to be accepted."""
        return "" if detail.iptables else detail.link


def _settings(detail: Admitted) -> iptables_firewall.FirewallSettings:
    return iptables_firewall.FirewallSettings(
        admin_chain=detail.admin_chain, policy=detail.policy, bridge=detail.link
    )
