"""A form of iptables: chains and rules that are to be there, made in one change and compared without one.

What is there already stays as it is and where it is, so making a form twice changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from dovetail.errors import InvalidArgument, KernelError
from dovetail.kernel.protocol import Kernel
from dovetail.kernel.xtables_text import WORD_MAX, line_of, words_of

__all__ = [
    "Form",
    "Present",
    "Rule",
    "Wanted",
    "check_chain",
    "check_conditions",
    "commented",
    "differences",
    "make",
    "planned",
    "present",
]

Rule: TypeAlias = tuple[str, ...]
"""What stands behind ``-A CHAIN`` in the order in which ``iptables -S`` writes it."""

_ATTEMPTS = 10  # others change the same tables at the same time: each of them may cost one
# At most 28 characters: XT_EXTENSION_MAXNAMELEN - 1, include/uapi/linux/netfilter/x_tables.h
_CHAIN = re.compile(r"[^\s!\"'\\#-][^\s\"'\\]{0,27}")
_BUILT_IN = frozenset({"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"})
# Options by which a rule would be another command, in another table, lead elsewhere, run a program or be left out: iptables.8,
# "OPTIONS". Long ones may be cut short as far as they stay clear (getopt_long); matches have --pol and --set themselves.
_COMMANDS = re.compile(r"-[fnvx0]*[ADIRLSFZNXPEtjgcwWCMhV46].*|--")  # short ones may stand together
_LONG_COMMANDS = (
    " append check delete delete-chain flush goto help insert ipv4 ipv6 jump list list-rules modprobe new-chain policy"
    " rename-chain replace set-counters table version wait zero"
)
_OF_MATCHES = frozenset({"pol", "set"})
_ABBREVIATION_MIN = 3


class Wanted(NamedTuple):
    """A rule that is to be in `chain`.

    first: where it is missing it comes before the rules that are there, though behind the ones wanted first before it;
    else behind all. jumps: any rule there that leads to the same chain will do.
    """

    chain: str
    rule: Rule
    first: bool = False
    jumps: bool = False


class Form(NamedTuple):
    """What is to be in a table.

    chains: those that are to be there. rules: in the order in which they are made. whole: chains that have the
    rules named and no others. only: a chain whose name here says that rules elsewhere which lead to it, and are not
    wanted, go.
    """

    table: str
    chains: tuple[str, ...] = ()
    rules: tuple[Wanted, ...] = ()
    whole: Mapping[str, Sequence[Rule]] = {}
    only: str = ""


class Present(NamedTuple):
    """What is in a table: the rules by chain, in their order."""

    chains: Mapping[str, list[Rule]]

    def has(self, wanted: Wanted) -> int:
        """Give the place of a rule in its chain, -1 where it is missing."""
        return _place(self.chains.get(wanted.chain, ()), wanted)


def present(lines: Iterable[str]) -> Present:
    """Read what ``iptables -S`` says."""
    chains: dict[str, list[Rule]] = {}
    for line in lines:
        action, chain, *rule = words_of(line)
        rules = chains.setdefault(chain, [])
        if action == "-A":
            rules.append(tuple(rule))
    return Present(chains)


def planned(form: Form, there: Present) -> list[str]:
    """Give the lines for ``iptables-restore`` that make `form` of what is there; none where it is there."""
    lines = [f"-N {chain}" for chain in (*form.chains, *form.whole) if chain not in there.chains]
    for chain, rules in form.whole.items():
        if there.chains.get(chain, []) != list(rules):
            lines += [f":{chain} - [0:0]"] if there.chains.get(chain) else []
            lines += [line_of(("-A", chain, *rule)) for rule in rules]
    lines += _added(form.rules, there)
    if form.only:
        lines += _removed(form, there)
    return lines


def _added(wanted: Sequence[Wanted], there: Present) -> list[str]:
    lines: list[str] = []
    state = {chain: list(rules) for chain, rules in there.chains.items()}
    behind: dict[str, int] = {}
    for one in wanted:
        rules = state.setdefault(one.chain, [])
        place = _place(rules, one)
        if place < 0 and one.first and behind.get(one.chain, 0) < len(rules):
            place = behind.get(one.chain, 0)
            rules.insert(place, one.rule)
            lines.append(line_of(("-I", one.chain, str(place + 1), *one.rule)))
        elif place < 0:
            place = len(rules)
            rules.append(one.rule)
            lines.append(line_of(("-A", one.chain, *one.rule)))
        if one.first:
            behind[one.chain] = place + 1
    return lines


def _removed(form: Form, there: Present) -> list[str]:
    return [
        line_of(("-D", chain, *rule))
        for chain, rules in there.chains.items()
        for rule in rules
        if _target(rule) == form.only
        and not any(one.chain == chain and _place([rule], one) == 0 for one in form.rules)
    ]


def _place(rules: Sequence[Rule], wanted: Wanted) -> int:
    for place, rule in enumerate(rules):
        if _bare(rule) == _bare(wanted.rule) or (wanted.jumps and _target(rule) == _target(wanted.rule)):
            return place
    return -1


def _bare(rule: Rule) -> Rule:
    """Leave the comment out: versions of the plugins differ in some."""
    if "--comment" not in rule:
        return rule
    at = rule.index("--comment")
    return rule[: at - 2] + rule[at + 2 :]


def _target(rule: Rule) -> str:
    return rule[rule.index("-j") + 1] if "-j" in rule[:-1] else ""


def make(kernel: Kernel, program: str, form: Form) -> None:
    """Make `form`: a process that lists the table, and one that changes it where there is something to change.

    A chain that another process makes between the two is a refusal, and then all is looked at again.

    Raises Unsupported (no such program), PermissionDenied, KernelError with the program's own words.
    """
    tried: list[str] = []
    for _ in range(_ATTEMPTS):
        lines = planned(form, _known(kernel, program, form))
        if not lines:
            return
        try:
            kernel.iptables_restore(program, {form.table: lines})
        except KernelError:
            if lines == tried:  # nobody else has changed anything: it is the lines that are wrong
                raise
            tried = lines
        else:
            return
    kernel.iptables_restore(program, {form.table: tried})


def differences(kernel: Kernel, program: str, form: Form) -> list[str]:
    """Say in a sentence each what of `form` is missing; changes nothing, and makes no chain to look."""
    there = _known(kernel, program, form)
    in_table = f"{program} table {form.table}"
    found = [
        f"chain {chain!r} is missing in {in_table}"
        for chain in (*form.chains, *form.whole)
        if chain not in there.chains
    ]
    wanted = [*form.rules, *(Wanted(chain, rule) for chain, rules in form.whole.items() for rule in rules)]
    return found + [
        f"rule `-A {one.chain} {line_of(one.rule)}` is missing in {in_table}"
        for one in wanted
        if there.has(one) < 0
    ]


def _known(kernel: Kernel, program: str, form: Form) -> Present:
    """Read the table; a rule of the user's words, which iptables may write in others, is asked for where it may be there."""
    there = present(kernel.iptables_rules(program, form.table))
    if not form.only:
        return there
    for one in form.rules:
        rules = there.chains.get(one.chain, [])
        if _target(one.rule) != form.only or one.jumps or there.has(one) >= 0:
            continue
        if (place := _like(rules, one.rule)) >= 0 and kernel.iptables_has_rule(
            program, form.table, one.chain, one.rule
        ):
            rules[place] = one.rule
    return there


def _like(rules: Sequence[Rule], rule: Rule) -> int:
    """Give the place of a rule that leads where `rule` leads, for the same ports."""
    marks = (_target(rule), *_after(rule, "-p"), *_after(rule, "--dports"))
    for place, there in enumerate(rules):
        if (_target(there), *_after(there, "-p"), *_after(there, "--dports")) == marks:
            return place
    return -1


def _after(rule: Rule, option: str) -> Rule:
    return rule[rule.index(option) + 1 :][:1] if option in rule else ()


def commented(comment: str) -> Rule:
    """Write the match that carries a comment."""
    return ("-m", "comment", "--comment", comment)


def check_chain(name: str, *, where: str = "") -> str:
    """Give `name` back if it may name a chain of iptables that an administrator has, or that is made for one."""
    if not _CHAIN.fullmatch(name) or not name.isprintable() or name in _BUILT_IN:
        raise InvalidArgument(
            f"{name!r} cannot be the name of a chain of iptables",
            where=where,
            hint="at most 28 characters without quotes or white space, not one of iptables' own chains",
        )
    return name


def check_conditions(words: Iterable[str], *, where: str = "") -> Rule:
    """Give matches of iptables back as a rule's words, if they cannot make it another rule than one with matches.

    Whether iptables knows them shows when the rule is made.
    """
    checked = tuple(words)
    for index, word in enumerate(checked):
        at = f"{where}[{index}]" if where else ""
        if not word.isprintable() or len(word.encode()) > WORD_MAX:
            raise InvalidArgument(
                f"{word[:40]!r} cannot be part of a rule of iptables",
                where=at,
                hint=f"at most {WORD_MAX} bytes, without line breaks or other control characters",
            )
        if _is_command(word):
            raise InvalidArgument(
                f"{word!r} is not a match of iptables",
                where=at,
                hint="conditions say which packets are meant, such as -s 192.0.2.0/24",
            )
    return checked


def _is_command(word: str) -> bool:
    name = word.removeprefix("--").partition("=")[0]
    if name == word or len(name) < _ABBREVIATION_MIN or name in _OF_MATCHES:
        return _COMMANDS.fullmatch(word) is not None
    return f" {name}" in _LONG_COMMANDS
