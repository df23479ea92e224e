"""What the kernel says and does about tables that are not dovetail's own: those of iptables and of other programs.

Part of the `Kernel` protocol. Chains and rules that others made are looked up and removed over nfnetlink, which
reaches what ``iptables`` made too where that is the one of nftables; rules in iptables' own words are made by
``iptables-restore``, several in one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

__all__ = ["NftChain", "NftFamily", "NftRule", "PacketFilter"]

NftFamily: TypeAlias = Literal["inet", "ip", "ip6", "bridge"]


class NftChain(NamedTuple):
    """A chain of nftables by its full name; with `name` empty all chains of the table, where rules are listed."""

    family: NftFamily
    table: str
    name: str = ""


class NftRule(NamedTuple):
    """A rule of nftables, as far as telling whose it is takes.

    handle: its number in the table. comment: that of nft, or that of iptables' match ``comment``. jump: the chain
    that it leads to, by jump or goto. values: what it compares with and translates to, in the order in which it is
    written, as the packet has it (an address: 4 or 16 bytes; an interface's name: 16, the rest NUL). accepts: it ends
    with ``accept``.
    """

    chain: NftChain
    handle: int
    comment: str = ""
    jump: str = ""
    values: tuple[bytes, ...] = ()
    accepts: bool = False


class PacketFilter(Protocol):
    """Verbs on the tables of others."""

    def nft_has_chains(self, chains: Sequence[NftChain]) -> list[bool]:
        """Say for each chain whether it is there, which costs the same however many others there are."""
        ...

    def nft_rules(self, chain: NftChain) -> list[NftRule]:
        """List the rules of a chain in their order, or those of a table's chains; none where it is missing."""
        ...

    def nft_delete(self, rules: Sequence[NftRule], chains: Sequence[NftChain] = ()) -> None:
        """Delete `rules`, then `chains` with all that is in them, in one transaction.

        Raises NotFound where one of them is missing, InUse where a rule that stays leads to one of `chains`; nothing
        is changed then.
        """
        ...

    def iptables_legacy_tables(self) -> dict[str, frozenset[str]]:
        """Name the tables that the legacy ``iptables`` and ``ip6tables`` have here, by the program that reaches them.

        Read in /proc: looking with the program would make the tables. Mostly there are none.
        """
        ...

    def iptables_rules(self, program: str, table: str = "filter") -> list[str]:
        """Give the chains and rules of a table, a line each as ``iptables -S`` writes them.

        Empty where the program is not installed or refuses.
        """
        ...

    def iptables_has_rule(self, program: str, table: str, chain: str, rule: Sequence[str]) -> bool:
        """Say whether a rule is there, however ``iptables -S`` would write it: ``iptables -t TABLE -C CHAIN RULE``."""
        ...

    def iptables_restore(self, program: str, changes: Mapping[str, Sequence[str]]) -> None:
        """Change tables, by name, as ``iptables-restore --noflush --wait``: a table all at once, and nothing where a line fails.

        The lines are iptables' arguments (``-A CHAIN …``), where text in double quotes is one word and a backslash
        there takes the next character as it is, and ``:CHAIN - [0:0]``, which makes a chain or empties it.

        Raises Unsupported (no such program), PermissionDenied, KernelError with the program's own words, Busy.
        """
        ...
