"""`PacketFilter` of one namespace: the tables of others, over nfnetlink and ``iptables-restore``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from dovetail.kernel import netns
from dovetail.kernel.linux_firewall import LinuxFirewall
from dovetail.kernel.nft_rules import NftTables
from dovetail.kernel.packet_filter import NftChain, NftRule

__all__ = ["LinuxPacketFilter"]

_PROGRAMS = ("iptables", "ip6tables")


class LinuxPacketFilter(LinuxFirewall):
    """Those verbs in the namespace of the handle."""

    @cached_property
    def _others(self) -> NftTables:
        return NftTables(self._netfilter)

    def nft_has_chains(self, chains: Sequence[NftChain]) -> list[bool]:
        """Look chains up; see `NftTables.has_chains`."""
        return self._others.has_chains(chains)

    def nft_rules(self, chain: NftChain) -> list[NftRule]:
        """List rules; see `NftTables.rules`."""
        return self._others.rules(chain)

    def nft_delete(self, rules: Sequence[NftRule], chains: Sequence[NftChain] = ()) -> None:
        """Delete rules and chains; see `NftTables.delete`."""
        self._others.delete(rules, chains)

    def iptables_legacy_tables(self) -> dict[str, frozenset[str]]:
        """Read the names of the legacy tables of this namespace."""
        from dovetail.kernel.programs import legacy_program, legacy_tables

        with netns.entered(self._home):
            tables = {name: legacy_tables(name) for name in _PROGRAMS}
        return {legacy_program(name): names for name, names in tables.items() if names}

    def iptables_rules(self, program: str, table: str = "filter") -> list[str]:
        """List a table of this namespace; runs ``iptables``."""
        from dovetail.kernel.programs import iptables_rules

        with netns.entered(self._home):
            return iptables_rules(program, table)

    def iptables_has_rule(self, program: str, table: str, chain: str, rule: Sequence[str]) -> bool:
        """Look for a rule in this namespace; runs ``iptables``."""
        return self.iptables(program, "-t", table, "-C", chain, *rule)

    def iptables_restore(self, program: str, changes: Mapping[str, Sequence[str]]) -> None:
        """Change tables of this namespace; runs ``iptables-restore``."""
        from dovetail.kernel.programs import iptables_restore

        with netns.entered(self._home):
            iptables_restore(program, changes)
