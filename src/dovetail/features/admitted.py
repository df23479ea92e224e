"""What the host's firewall lets pass for a sandbox (CNI's type ``firewall``).

Our own table drops nothing that is not to be dropped, so admission is a matter of the other firewalls there are: the
engine has those accept the link (`host_firewall`). Policies are elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

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
        """Do nothing: it is all elements, and the engine's."""
        return detail

    def unmake(self, kernel: Kernel, detail: Admitted, *, owner: Owner, netns: Netns | None) -> None:
        """Do nothing: elements go by themselves."""

    def differences(
        self, kernel: Kernel, detail: Admitted, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Find nothing: elements are compared by themselves."""
        return []

    def elements(self, detail: Admitted) -> Sequence[Element]:
        """Give that the link is one of ours, whom the user's rules are for, and which others it is kept from."""
        found = [Element("bridges", (detail.link,)), Element("same_bridge", (detail.link, detail.link))]
        if detail.policy != "open":
            found.append(Element("apart", (detail.link,)))
        if detail.policy == "isolated":
            found.append(Element("isolated", (detail.link,)))
        return found

    def link(self, detail: Admitted) -> str:
        """Name it."""
        return detail.link

    def is_alive(self, kernel: Kernel, detail: Admitted, links: frozenset[str]) -> bool:
        """Say whether it is there."""
        return detail.link in links

    def admits(self, detail: Admitted) -> str:
        """Name it: what it sends and gets is to be accepted."""
        return detail.link
