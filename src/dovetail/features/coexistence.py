"""Room in the host's iptables: Docker and others set the policy of ip filter FORWARD to DROP.

An accept in our own table does not help, as a drop in any base chain is final. So rules that accept
what our bridges send and get are kept in a chain of our own, ``DOVETAIL``, which is jumped to from the
chain made for that, ``DOCKER-USER``; Docker leaves it alone when it restarts. Without it (another tool
set the policy) the jump is in ``FORWARD`` itself, behind everybody else's rules, whose drops stay drops (those of
``ufw route deny``, for one), but before one that drops all. What may really pass is decided in ``table inet
dovetail``, where a drop is final as well.

What Docker's own bridges send and get is not ours to accept: ``DOCKER-USER`` comes before the rules by
which Docker opens published ports and nothing else, and keeps its internal networks in. So the chain
first returns what comes from or goes to a bridge that Docker has rules for.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from dovetail.kernel.protocol import Kernel

__all__ = ["accept_forwarding", "withdraw_forwarding"]

_USER = "DOCKER-USER"
_FORWARD = "FORWARD"
_CHAIN = "DOVETAIL"
_OURS = ("dv-+", "dvh+")  # iptables' wildcard: bridges, and hosts' ends of endpoints without one
_COMMENT = "-m comment --comment dovetail"
_JUMP = f"{_COMMENT} -j {_CHAIN}"
_RETURN = "-j RETURN"

# The rules of Docker's own chains, and those of FORWARD that lead there; DOCKER-USER is the user's.
_DOCKERS_RULE = re.compile(r"-A DOCKER(?!-USER )|.* -j DOCKER(?!-USER$)")
_BRIDGE = re.compile(r"(?<!!) -[io] (\S+)")
_DROPS_ALL = re.compile(r"-j (?:DROP|REJECT)(?: --reject-with \S+)?")


def accept_forwarding(kernel: Kernel, links: Sequence[str]) -> None:
    """Keep accept rules for our bridges and for those of `links` that are named otherwise (adopted ones).

    Nothing is done for a family whose FORWARD chain is missing, or lets all through and has no DOCKER-USER.
    Idempotent: what is there already stays where it is. Runs ``iptables``, some 3 ms each time.
    """
    for program, drops in kernel.forward_policies().items():
        rules = kernel.iptables_rules(program)
        if f"-N {_USER}" in rules:
            chain = _USER
        elif drops or _ends_with_drop(rules):
            chain = _FORWARD
        else:
            continue
        _write_chain(kernel, program, rules, links)
        _remove_ours(kernel, program, rules, but=f"-A {chain} {_JUMP}")
        if chain == _FORWARD:
            _stand_last(kernel, program, rules)
        else:
            _stand_before_return(kernel, program, rules)


def _ends_with_drop(rules: Sequence[str]) -> bool:
    """Say whether nothing gets to the end of FORWARD, whatever its policy is."""
    others = [rule for rule in _rules_of(rules, _FORWARD) if rule != _JUMP]
    return bool(others) and _DROPS_ALL.fullmatch(others[-1]) is not None


def _stand_last(kernel: Kernel, program: str, rules: Sequence[str]) -> None:
    """Put the jump behind all rules of FORWARD but one that drops all; where it is right already, nothing is done.

    One that others have come behind since is taken away after the new one is there, so no packet is lost.
    """
    present = _rules_of(rules, _FORWARD)
    others = [rule for rule in present if rule != _JUMP]
    wanted = [*others, _JUMP]
    if _ends_with_drop(rules):
        wanted[-2:] = wanted[:-3:-1]
    if present == wanted:
        return
    stale = [number for number, rule in enumerate(present, 1) if rule == _JUMP]
    if wanted[-1] == _JUMP:
        kernel.iptables(program, "-A", _FORWARD, *_JUMP.split())
    else:
        kernel.iptables(program, "-I", _FORWARD, str(len(present)), *_JUMP.split())
    for number in reversed(stale):
        kernel.iptables(program, "-D", _FORWARD, str(number))


def _stand_before_return(kernel: Kernel, program: str, rules: Sequence[str]) -> None:
    """Put the jump behind the user's own rules, whose drops come first, in DOCKER-USER, and before the RETURN there.

    It is inserted by its number, so that the RETURN is never away: Docker, which looks for it whenever it makes a
    bridge, would put another one, before our jump. Behind one, a jump is as good as gone.
    """
    present = _rules_of(rules, _USER)
    reached = present.index(_RETURN) if _RETURN in present else len(present)
    if _JUMP in present[:reached]:
        return
    if reached == len(present):
        kernel.iptables(program, "-A", _USER, *_JUMP.split())
        return
    kernel.iptables(program, "-I", _USER, str(reached + 1), *_JUMP.split())
    stale = [number for number, rule in enumerate(present, 2) if rule == _JUMP]
    for number in reversed(stale):
        kernel.iptables(program, "-D", _USER, str(number))


def withdraw_forwarding(kernel: Kernel) -> None:
    """Remove the jump and the chain; missing ones are no error."""
    for program in kernel.forward_policies():
        rules = kernel.iptables_rules(program)
        _remove_ours(kernel, program, rules)
        if f"-N {_CHAIN}" in rules:
            kernel.iptables(program, "-F", _CHAIN)
            kernel.iptables(program, "-X", _CHAIN)


def _write_chain(kernel: Kernel, program: str, rules: Sequence[str], links: Sequence[str]) -> None:
    """Make the chain what it has to be, rule by rule: what is right in it never goes, so no packet is lost."""
    named = {link for link in links if not link.startswith(tuple(each[:-1] for each in _OURS))}
    accepted = [*_OURS, *sorted(named)]
    returns = [f"-{way} {bridge} {_RETURN}" for bridge in _dockers(rules, links) for way in "io"]
    accepts = [f"-{way} {link} -j ACCEPT" for link in accepted for way in "io"]
    present = _rules_of(rules, _CHAIN)
    if f"-N {_CHAIN}" not in rules:
        kernel.iptables(program, "-N", _CHAIN)
    for rule in returns:
        if rule not in present:
            kernel.iptables(program, "-I", _CHAIN, *rule.split())
    for rule in accepts:
        if rule not in present:
            kernel.iptables(program, "-A", _CHAIN, *rule.split())
    for rule in present:
        if rule not in {*returns, *accepts}:
            kernel.iptables(program, "-D", _CHAIN, *shlex.split(rule))


def _dockers(rules: Sequence[str], links: Sequence[str]) -> list[str]:
    """Give the bridges that Docker has rules for, whatever they are named; one that we were given is ours."""
    named = {name for rule in rules if _DOCKERS_RULE.match(rule) for name in _BRIDGE.findall(rule)}
    return sorted(named.difference(links))


def _remove_ours(kernel: Kernel, program: str, rules: Sequence[str], *, but: str = "") -> None:
    """Take our rules out of the chains that are not ours, `but` left out."""
    for chain in (_USER, _FORWARD):
        for rule in _rules_of(rules, chain):
            if _COMMENT in rule and f"-A {chain} {rule}" != but:
                kernel.iptables(program, "-D", chain, *shlex.split(rule))


def _rules_of(rules: Sequence[str], chain: str) -> list[str]:
    start = f"-A {chain} "
    return [rule.removeprefix(start) for rule in rules if rule.startswith(start)]
