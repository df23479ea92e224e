"""Rules in the reference plugins' form as parts of attachments: ``ipMasqBackend: iptables``, and ``macspoofchk``."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import ExitStack
from typing import Literal

from dovetail.features import iptables_masquerade, reference_rules, spoof_check
from dovetail.features.reference_names import Owner as Named
from dovetail.kernel.protocol import Kernel, Netns
from dovetail.model.endpoint import Owner
from dovetail.model.reference_forms import IptablesMasquerade, SpoofCheck

__all__ = ["IptablesMasquerades", "SpoofChecks"]


class IptablesMasquerades:
    """The kind of part ``iptables-masquerade``; the reference plugins' nftables form is taken back as well."""

    name = "iptables-masquerade"
    layer: Literal["feature"] = "feature"
    detail = IptablesMasquerade

    def make(
        self,
        kernel: Kernel,
        detail: IptablesMasquerade,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> IptablesMasquerade:
        """Make the chain and the rules that lead there."""
        undo.callback(self.unmake, kernel, detail, owner=owner, netns=netns)
        iptables_masquerade.make(kernel, _named(owner), detail.addresses)
        return detail

    def unmake(
        self, kernel: Kernel, detail: IptablesMasquerade, *, owner: Owner, netns: Netns | None
    ) -> None:
        """Remove all that masquerades for the container's addresses; without any, for the container."""
        addresses = [address.ip for address in detail.addresses]
        reference_rules.remove(kernel, _named(owner), addresses, {"masquerade"})

    def differences(
        self, kernel: Kernel, detail: IptablesMasquerade, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Say which rules are missing."""
        return iptables_masquerade.differences(kernel, _named(owner), detail.addresses)

    def sweep(
        self,
        kernel: Kernel,
        detail: IptablesMasquerade,
        *,
        network: str,
        valid: Collection[tuple[str, str]],
    ) -> None:
        """Remove what masquerades for containers of `network` that are not there."""
        _sweep(kernel, network, valid, "masquerade")


class SpoofChecks:
    """The kind of part ``macspoofchk``."""

    name = "macspoofchk"
    layer: Literal["feature"] = "feature"
    detail = SpoofCheck

    def make(
        self,
        kernel: Kernel,
        detail: SpoofCheck,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> SpoofCheck:
        """Make the chains, and the rule that leads there."""
        if detail.mac is not None:
            undo.callback(self.unmake, kernel, detail, owner=owner, netns=netns)
            spoof_check.make(kernel, _named(owner), detail.port, detail.mac)
        return detail

    def unmake(self, kernel: Kernel, detail: SpoofCheck, *, owner: Owner, netns: Netns | None) -> None:
        """Remove them."""
        spoof_check.remove(kernel, _named(owner))

    def differences(
        self, kernel: Kernel, detail: SpoofCheck, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Say which are missing."""
        if detail.mac is None:
            return []
        return spoof_check.differences(kernel, _named(owner), detail.port, detail.mac)

    def sweep(
        self, kernel: Kernel, detail: SpoofCheck, *, network: str, valid: Collection[tuple[str, str]]
    ) -> None:
        """Remove those whose port is gone."""
        spoof_check.sweep(kernel)


def _named(owner: Owner) -> Named:
    return Named(owner.network, owner.container, owner.ifname)


def _sweep(
    kernel: Kernel, network: str, valid: Collection[tuple[str, str]], part: reference_rules.Part
) -> None:
    """Remove `part` of the containers of `network` that have no valid attachment."""
    containers = {container for container, _ in valid}
    for named, addresses in reference_rules.owners(kernel).items():
        if named.network == network and named.container not in containers:
            reference_rules.remove(kernel, named, addresses, {part})
