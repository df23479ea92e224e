"""The packet filter's side of `RecordingKernel`: nftables, the host's other firewall, connection tracking, ports."""

from __future__ import annotations

from collections.abc import Collection

from dovetail.errors import AlreadyExists, NotFound
from dovetail.kernel.nft_text import names_table, sets_of, table_state
from dovetail.kernel.protocol import Kernel, TableState
from dovetail.kernel.recorded import Recorder, World
from dovetail.model.addresses import IPAddress
from dovetail.model.element import Element

__all__ = ["RecordingFirewall"]


class RecordingFirewall(Recorder):
    """Those verbs, recorded.

    drop_forward and rules: what `forward_policies` and `iptables_rules` answer at first where there is no base.
    Rules are listed by program, those of other tables than filter by ``iptables -t nat``.
    bound: (protocol, port) pairs that `port_is_free` denies. others: tables that are not ours. zones: firewalld's.
    programs: those that are installed.
    """

    def __init__(self, base: Kernel | None, world: World) -> None:
        super().__init__(base, world)
        self.drop_forward: dict[str, bool] = {}
        self.rules: dict[str, list[str]] = {}
        self.bound: set[tuple[str, int]] = set()
        self.others: dict[str, TableState] = {}
        self.zones: dict[str, set[str]] = {}
        self.programs: set[str] = set()

    # -- nftables -----------------------------------------------------------------------------------

    def nft_apply(self, ruleset: str, elements: Collection[Element] = ()) -> None:
        """Record ``nft -f -``; notes which sets and maps the text declares, and how many rules."""
        self._record("nft_apply", ruleset, elements)
        if not names_table(ruleset):
            return
        space = self._space
        space.state = table_state(ruleset)
        space.table = space.state is not None
        space.sets = sets_of(ruleset)
        space.elements = {(element.set, element.key): element for element in elements}
        space.elements_gone.clear()

    def nft_check(self, ruleset: str) -> str:
        """Ask the base; without one all is right."""
        return self._base.nft_check(ruleset) if self._base is not None else ""

    def nft_has_table(self, name: str = "dovetail") -> bool:
        """Say whether the recording or else the base has the table; of others, the base."""
        if self._space.table is not None and name == "dovetail":
            return self._space.table
        return self._base.nft_has_table(name) if self._base is not None else name in self.others

    def nft_table(self, name: str = "dovetail") -> TableState | None:
        """Say what the recorded table is, or the base's; of others, the base's or what `others` has."""
        if self._space.table is not None and name == "dovetail":
            return self._space.state
        return self._base.nft_table(name) if self._base is not None else self.others.get(name)

    def nft_add_elements(self, elements: Collection[Element]) -> None:
        """Record ``nft add element`` for those that are not there."""
        if not elements:
            return
        if not self.nft_has_table():
            raise NotFound("nftables table", "inet dovetail")
        there = {(e.set, e.key): e for e in self.nft_elements()}
        for element in elements:
            if self._space.sets and element.set not in self._space.sets:
                raise NotFound("nftables set", element.set)
            known = there.get((element.set, element.key))
            if known is not None and known != element:
                raise AlreadyExists("nftables element", f"{element.set} {element.key}")
        missing = [element for element in elements if (element.set, element.key) not in there]
        if not missing:
            return
        self._record("nft_add_elements", missing)
        for element in elements:
            self._space.elements[element.set, element.key] = element
            self._space.elements_gone.discard(element)

    def nft_delete_elements(self, elements: Collection[Element]) -> None:
        """Record ``nft delete element`` for those that are there."""
        there = self.nft_elements()
        present = [element for element in elements if element in there]
        if not present:
            return
        self._record("nft_delete_elements", present)
        for element in present:
            self._space.elements.pop((element.set, element.key), None)
            self._space.elements_gone.add(element)

    def nft_elements(self) -> set[Element]:
        """Read the recorded elements and the base's."""
        if not self.nft_has_table():
            return set()
        base = self._base.nft_elements() if self._base is not None and self._space.table is None else set()
        return (base - self._space.elements_gone) | set(self._space.elements.values())

    def nft_missing(self, elements: Collection[Element]) -> set[Element]:
        """Give those that are neither recorded nor the base's."""
        return set(elements) - self.nft_elements()

    # -- the host's other firewall, connection tracking, sockets ------------------------------------

    def forward_policies(self) -> dict[str, bool]:
        """Answer the base's, or `drop_forward`, as the recording changed them."""
        policies = self._base.forward_policies() if self._base is not None else dict(self.drop_forward)
        for program, rules in self._space.rules.items():
            for rule in rules if " " not in program else ():
                if rule.startswith("-P FORWARD "):
                    policies[program] = rule.endswith("DROP")
        return policies

    def iptables_rules(self, program: str, table: str = "filter") -> list[str]:
        """Answer the base's, or `rules`, as the recording changed them."""
        recorded, key = self._space.rules, self._key(program, table)
        if key not in recorded:
            base = self._base
            recorded[key] = (
                base.iptables_rules(program, table) if base is not None else [*self.rules.get(key, ())]
            )
        return [*recorded[key]]

    @staticmethod
    def _key(program: str, table: str) -> str:
        return program if table == "filter" else f"{program} -t {table}"

    def iptables(self, program: str, *args: str) -> bool:
        """Record a change."""
        rules = self.iptables_rules(program)
        self._record("iptables", program, *args)
        self._space.rules[program] = _changed(rules, *args)
        return True

    def has_program(self, name: str) -> bool:
        """Ask the base, or look in `programs`."""
        return self._base.has_program(name) if self._base is not None else name in self.programs

    def firewalld_zone(self, zone: str) -> frozenset[str]:
        """Answer the base's, or `zones`."""
        if self._base is not None:
            return self._base.firewalld_zone(zone)
        return frozenset(self.zones.get(zone, ()))

    def firewall_cmd(self, *args: str) -> bool:
        """Record a change of a zone's interfaces or sources."""
        self._record("firewall_cmd", *args)
        said = dict(argument.lstrip("-").split("=", 1) for argument in args)
        zone = self.zones.setdefault(said.pop("zone"), set())
        for what, name in said.items():
            zone.add(name) if what.startswith("add-") else zone.discard(name)
        return True

    def flush_conntrack(self, protocol: str, *, port: int = 0, address: IPAddress | None = None) -> None:
        """Record ``conntrack -D``."""
        self._record("flush_conntrack", protocol, port=port, address=address)

    def port_is_free(self, protocol: str, address: IPAddress | None, port: int) -> bool:
        """Ask the base, or look in `bound`."""
        if self._base is not None:
            return self._base.port_is_free(protocol, address, port)
        return (protocol, port) not in self.bound


def _changed(rules: list[str], action: str, chain: str, *rule: str) -> list[str]:
    """Give what ``iptables -S`` says after the change."""
    numbered = bool(rule) and rule[0].isdigit()
    line = " ".join(("-A", chain, *rule[numbered:]))
    of_chain = [index for index, there in enumerate(rules) if there.startswith(f"-A {chain} ")]
    at = of_chain[int(rule[0]) - 1] if numbered else 0
    match action:
        case "-N":
            changed = [*rules, f"-N {chain}"]
        case "-P":
            policy = f"-P {chain} "
            changed = [policy + rule[0], *(there for there in rules if not there.startswith(policy))]
        case "-A":
            changed = [*rules, line]
        case "-I":
            changed = [*rules[:at], line, *rules[at:]]
        case "-D":
            at = at if numbered else rules.index(line)
            changed = rules[:at] + rules[at + 1 :]
        case _:  # -F, -X
            gone = f"-A {chain} " if action == "-F" else f"-N {chain}"
            changed = [there for there in rules if not there.startswith(gone)]
    return changed
