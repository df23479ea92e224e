"""`PacketFilter`, recorded: the tables of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dovetail.errors import NotFound
from dovetail.kernel.nft_rules import chain_text
from dovetail.kernel.packet_filter import NftChain, NftRule
from dovetail.kernel.protocol import Kernel
from dovetail.kernel.recorded import World
from dovetail.kernel.recording_firewall import RecordingFirewall
from dovetail.kernel.xtables_text import line_of, words_of

__all__ = ["RecordingPacketFilter"]


class RecordingPacketFilter(RecordingFirewall):
    """Those verbs, recorded.

    chains: those that `nft_has_chains` and `nft_rules` find at first where there is no base, with their rules.
    legacy: what `iptables_legacy_tables` answers there.
    """

    def __init__(self, base: Kernel | None, world: World) -> None:
        super().__init__(base, world)
        self.chains: dict[NftChain, list[NftRule]] = {}
        self.legacy: dict[str, frozenset[str]] = {}

    def nft_has_chains(self, chains: Sequence[NftChain]) -> list[bool]:
        """Answer the base's, or what `chains` has, without those that were deleted."""
        if self._base is not None:
            there = self._base.nft_has_chains(chains)
        else:
            there = [chain in self.chains for chain in chains]
        gone = self._space.chains_gone
        return [found and chain not in gone for chain, found in zip(chains, there, strict=True)]

    def nft_rules(self, chain: NftChain) -> list[NftRule]:
        """Answer the base's, or what `chains` has, without those that were deleted."""
        if self._base is not None:
            rules = self._base.nft_rules(chain)
        else:
            listed = [one for one in self.chains if one[:2] == chain[:2] and chain.name in ("", one.name)]
            rules = [rule for one in listed for rule in self.chains[one]]
        space = self._space
        return [
            rule
            for rule in rules
            if rule.chain not in space.chains_gone and (_table(rule), rule.handle) not in space.rules_gone
        ]

    def nft_delete(self, rules: Sequence[NftRule], chains: Sequence[NftChain] = ()) -> None:
        """Record ``nft delete rule`` and ``nft delete chain``."""
        if not rules and not chains:
            return
        for rule in rules:
            if rule not in self.nft_rules(rule.chain):
                raise NotFound("nftables rule or chain", chain_text(rule.chain))
        for chain, found in zip(chains, self.nft_has_chains(chains), strict=True):
            if not found:
                raise NotFound("nftables rule or chain", chain_text(chain))
        self._record("nft_delete", rules, chains)
        self._space.rules_gone.update((_table(rule), rule.handle) for rule in rules)
        self._space.chains_gone.update(chains)

    def iptables_legacy_tables(self) -> dict[str, frozenset[str]]:
        """Answer the base's, or `legacy`."""
        return self._base.iptables_legacy_tables() if self._base is not None else dict(self.legacy)

    def iptables_has_rule(self, program: str, table: str, chain: str, rule: Sequence[str]) -> bool:
        """Ask the base, or look for the same words."""
        if self._base is not None:
            return self._base.iptables_has_rule(program, table, chain, rule)
        there = map(words_of, self.iptables_rules(program, table))
        return ("-A", chain, *rule) in there

    def iptables_restore(self, program: str, changes: Mapping[str, Sequence[str]]) -> None:
        """Record ``iptables-restore``, and what it makes of the tables."""
        before = {table: self.iptables_rules(program, table) for table in changes}
        self._record("iptables_restore", program, changes)
        for table, lines in changes.items():
            rules = [line_of(words_of(line)) for line in before[table]]
            for line in lines:
                rules = _restored(rules, words_of(line))
            self._space.rules[self._key(program, table)] = rules


def _table(rule: NftRule) -> tuple[str, str]:
    return rule.chain.family, rule.chain.table


def _restored(rules: list[str], words: tuple[str, ...]) -> list[str]:
    """Give what ``iptables -S`` says after a line of ``iptables-restore``."""
    action, *rest = words
    chain = action[1:] if action[0] == ":" else rest[0]
    of_chain = [index for index, there in enumerate(rules) if there.startswith(f"-A {chain} ")]
    made = f"-N {chain}"
    match action:
        case "-A":
            changed = [*rules, line_of(words)]
        case "-I":
            number = int(rest[1]) - 1
            at = of_chain[number] if number < len(of_chain) else len(rules)
            changed = [*rules[:at], line_of(("-A", chain, *rest[2:])), *rules[at:]]
        case "-D":
            at = rules.index(line_of(("-A", *rest)))
            changed = [*rules[:at], *rules[at + 1 :]]
        case "-X":
            changed = [there for there in rules if there != made]
        case "-N":
            changed = [*rules, made]
        case _:  # -F, and :CHAIN, which empties one that is there
            kept = [there for index, there in enumerate(rules) if index not in of_chain]
            changed = kept if action == "-F" or made in rules else [*kept, made]
    return changed
