"""Room in the host's other firewall: Docker sets the policy of ip filter FORWARD to DROP.

An accept in our own table does not help, as a drop in any base chain is final. So rules that accept
what our bridges send and get are kept in the chain made for that, ``DOCKER-USER``, which Docker
leaves alone when it restarts; without it (another tool set the policy) in ``FORWARD`` itself.
What may really pass is decided in ``table inet dovetail``, where a drop is final as well.

Our own bridges are covered by one pair of rules that never changes, adopted ones by a chain
``DOVETAIL`` that is written anew when they change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from dovetail.kernel.protocol import Kernel

__all__ = ["accept_forwarding", "withdraw_forwarding"]

_USER = "DOCKER-USER"
_FORWARD = "FORWARD"
_ADOPTED = "DOVETAIL"
_OURS = "dv-+"  # iptables' wildcard: every link whose name begins with dv-
_COMMENT = ("-m", "comment", "--comment", "dovetail")
_JUMP = (*_COMMENT, "-j", _ADOPTED)
_RETURN = ("-j", "RETURN")


def accept_forwarding(kernel: Kernel, links: Sequence[str]) -> None:
    """Keep accept rules for our bridges and for those of `links` that are named otherwise (adopted ones).

    Nothing is done for a family whose FORWARD chain is missing, or accepts and has no DOCKER-USER.
    Idempotent: what is there already stays where it is. Runs ``iptables``, some 3 ms each time.
    """
    adopted = sorted({link for link in links if not link.startswith(_OURS[:-1])})
    for program, drops in kernel.forward_policies().items():
        if kernel.iptables(program, "-S", _USER):
            chain = _USER
        elif drops:
            chain = _FORWARD
        else:
            continue
        if adopted:
            _write_adopted(kernel, program, adopted)
        else:
            _remove_adopted(kernel, program)
        rules = [*_accepts(_OURS), *([_JUMP] if adopted else [])]
        missing = [rule for rule in rules if not kernel.iptables(program, "-C", chain, *rule)]
        if missing and chain == _USER:
            _append_before_return(kernel, program, missing)
        for rule in missing if chain == _FORWARD else ():
            kernel.iptables(program, "-I", _FORWARD, *rule)


def withdraw_forwarding(kernel: Kernel) -> None:
    """Remove the rules from both chains; missing ones are no error."""
    for program in kernel.forward_policies():
        _remove_adopted(kernel, program)
        for chain in (_USER, _FORWARD):
            for rule in _accepts(_OURS):
                _delete(kernel, program, chain, rule)


def _accepts(link: str) -> Iterator[tuple[str, ...]]:
    yield ("-i", link, *_COMMENT, "-j", "ACCEPT")
    yield ("-o", link, *_COMMENT, "-j", "ACCEPT")


def _append_before_return(kernel: Kernel, program: str, rules: Sequence[tuple[str, ...]]) -> None:
    """Put `rules` behind the user's own, whose drops come first, and before Docker's trailing RETURN.

    The RETURN is taken out and put back behind: iptables inserts by number only. A chain that ends
    without it returns all the same, so a packet in between sees no difference.
    """
    returns = kernel.iptables(program, "-C", _USER, *_RETURN)
    if returns:
        kernel.iptables(program, "-D", _USER, *_RETURN)
    for rule in rules:
        kernel.iptables(program, "-A", _USER, *rule)
    if returns:
        kernel.iptables(program, "-A", _USER, *_RETURN)


def _write_adopted(kernel: Kernel, program: str, links: Sequence[str]) -> None:
    """Write the chain for `links`; its last rule carries their digest, so an equal chain is left alone."""
    digest = hashlib.sha256(" ".join(links).encode()).hexdigest()[:12]
    seal = ("-m", "comment", "--comment", f"dovetail:{digest}", *_RETURN)
    if kernel.iptables(program, "-C", _ADOPTED, *seal):
        return
    if kernel.iptables(program, "-S", _ADOPTED):
        kernel.iptables(program, "-F", _ADOPTED)
    else:
        kernel.iptables(program, "-N", _ADOPTED)
    for link in links:
        for rule in _accepts(link):
            kernel.iptables(program, "-A", _ADOPTED, *rule)
    kernel.iptables(program, "-A", _ADOPTED, *seal)


def _remove_adopted(kernel: Kernel, program: str) -> None:
    if not kernel.iptables(program, "-S", _ADOPTED):
        return
    for chain in (_USER, _FORWARD):
        _delete(kernel, program, chain, _JUMP)
    kernel.iptables(program, "-F", _ADOPTED)
    kernel.iptables(program, "-X", _ADOPTED)


def _delete(kernel: Kernel, program: str, chain: str, rule: tuple[str, ...]) -> None:
    if kernel.iptables(program, "-C", chain, *rule):
        kernel.iptables(program, "-D", chain, *rule)
