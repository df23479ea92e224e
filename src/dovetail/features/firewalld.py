"""Room in firewalld, which rejects what is forwarded between links that it has not been told of.

Our bridges go into its zone ``trusted``, whose target is ACCEPT, as Docker's go into one like it: what may pass is
decided in our own table. A network without a bridge is known there by its subnets. A bridge that the user made is
left to the zone that the user chose. All of it is said at run time only, so a reload of firewalld forgets it; whoever
watches the ruleset sees the reload, and it is said again.

firewalld 1.3 has its rules in ``table inet firewalld``. Publishing by translation it accepts by itself (``ct status
dnat accept``); what comes from outside for an endpoint's own address (gateway modes ``routed`` and
``nat-unprotected``) it does not, as that is for a policy of the user's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from dovetail.kernel.protocol import Kernel, TableState
from dovetail.model.network import Network

__all__ = ["Firewalld"]

_TABLE = "firewalld"
_ZONE = "trusted"


class Firewalld:
    """Keeps networks in the zone; asks firewalld, which takes its time, only where its rules have changed."""

    def __init__(self) -> None:
        self._seen: tuple[TableState, list[tuple[str, str]]] | None = None

    def accept(self, kernel: Kernel, networks: Iterable[Network], links: Collection[str] = ()) -> None:
        """Put `networks` and `links` in the zone where firewalld runs; what is in another stays there. Idempotent."""
        state = kernel.nft_table(_TABLE)
        wanted = [entry for network in networks for entry in _entries(network)]
        wanted += [("interface", link) for link in sorted(links)]
        if state is None or not wanted or self._seen == (state, wanted):
            return
        present = kernel.firewalld_zone(_ZONE)
        for what, name in wanted:
            if name not in present:
                kernel.firewall_cmd(f"--zone={_ZONE}", f"--add-{what}={name}")
        after = kernel.nft_table(_TABLE)
        self._seen = (after, wanted) if after is not None else None

    def release(self, kernel: Kernel, network: Network) -> None:
        """Take `network` out of the zone; one that is not in it is no error."""
        entries = _entries(network)
        if not entries or not kernel.nft_has_table(_TABLE):
            return
        present = kernel.firewalld_zone(_ZONE)
        for what, name in entries:
            if name in present:
                kernel.firewall_cmd(f"--zone={_ZONE}", f"--remove-{what}={name}")


def _entries(network: Network) -> Sequence[tuple[str, str]]:
    if network.adopted:
        return ()
    if network.link:
        return (("interface", network.link),)
    return [("source", str(subnet.subnet)) for subnet in network.subnets]
