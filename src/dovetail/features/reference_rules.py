"""Removing what the CNI reference plugins made in the host's firewall, and what was made here in their form.

A node may change its plugins while containers run: whoever deletes a container then finds rules of the other's, of
any of the plugins' backends. They are found by their names and comments alone. Shared chains stay, as the reference
plugins leave them. Whether there is anything of a container is one question to the kernel; what nftables or its iptables
made is deleted over nfnetlink, and a process is run only where legacy iptables has tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import ip_address
from typing import Literal, TypeAlias

from dovetail.errors import InUse, NotFound
from dovetail.features.iptables_firewall import FORWARD_CHAIN, passing_rules
from dovetail.features.iptables_form import Present, Rule, present
from dovetail.features.iptables_portmap import DNAT_CHAIN
from dovetail.features.reference_names import Owner, chain_name, masquerade_hash, spoof_check_name
from dovetail.kernel.packet_filter import NftChain, NftFamily, NftRule
from dovetail.kernel.protocol import Kernel
from dovetail.kernel.xtables_text import line_of
from dovetail.model.addresses import IPAddress

__all__ = ["ALL_PARTS", "Part", "owners", "remove", "spoof_chains"]

Part: TypeAlias = Literal["masquerade", "portmap", "firewall", "macspoofchk"]
ALL_PARTS: frozenset[Part] = frozenset({"masquerade", "portmap", "firewall", "macspoofchk"})

_ATTEMPTS = 10  # others change the same tables at the same time: each of them may cost one
_FAMILIES: tuple[NftFamily, ...] = ("ip", "ip6")
_MASQUERADES = NftChain("inet", "cni_plugins_masquerade", "masq_checks")
_PORTS_TABLE = "cni_hostport"
_PORTS_CHAIN = "hostports"  # in the table from the first container on
_SPOOF_BASE = NftChain("bridge", "nat", "PREROUTING")
_OWNER = re.compile(r'(?:dnat )?name: "(?P<network>[^"]+)" id: "(?P<container>[^"]+)"')
_OWNER_NFT = re.compile(
    r"[0-9a-f]{16}-[0-9a-f]{16}, net: (?P<network>\S+), if: (?P<ifname>\S+), id: (?P<container>\S+)"
)


def remove(
    kernel: Kernel,
    owner: Owner,
    addresses: Collection[IPAddress] = (),
    parts: Collection[Part] = ALL_PARTS,
) -> bool:
    """Remove what `owner` has of `parts`; True where there was something.

    addresses: the container's on this network by this interface. With them, what is for other addresses of the
    container stays (its second interface there); without, everything of the container on the network goes, but rules of
    ``CNI-FORWARD``, which have nothing but an address to be known by. Chains named ``CNI-DN-`` are for a container
    as a whole and go in any case.

    Idempotent. Raises PermissionDenied, KernelError.
    """
    found = _remove_nft(kernel, owner, addresses, parts)
    for program, tables in kernel.iptables_legacy_tables().items():
        found |= _remove_legacy(kernel, program, tables, owner, addresses, parts)
    return found


def spoof_chains(owner: Owner) -> tuple[NftChain, NftChain]:
    """Name the chains of macspoofchk: of the interface, and of its MAC address."""
    name = f"cni-br-iface-{spoof_check_name(owner)}"
    return _SPOOF_BASE._replace(name=name), _SPOOF_BASE._replace(name=f"{name}-mac")


# -- nftables, and iptables over it -----------------------------------------------------------------


def _remove_nft(
    kernel: Kernel, owner: Owner, addresses: Collection[IPAddress], parts: Collection[Part]
) -> bool:
    asked = _places(owner, addresses, parts)
    everywhere = False
    for attempt in range(1, _ATTEMPTS + 1):
        answers = kernel.nft_has_chains(asked)
        there = [chain for chain, found in zip(asked, answers, strict=True) if found]
        rules, chains = _belongings(kernel, there, owner, addresses, everywhere=everywhere)
        if not rules and not chains:
            return attempt > 1
        try:
            kernel.nft_delete(rules, chains)
        except NotFound:  # another process was here first
            if attempt == _ATTEMPTS:
                raise
        except InUse:  # somebody's own rule leads to the chain, or has since
            if attempt == _ATTEMPTS:
                raise
            everywhere = True
        else:
            break
    return True


def _places(owner: Owner, addresses: Collection[IPAddress], parts: Collection[Part]) -> list[NftChain]:
    """Name the chains of which one is there if there is anything of the owner's."""
    places: list[NftChain] = []
    if "masquerade" in parts:
        places += [NftChain(family, "nat", chain_name(owner)) for family in _FAMILIES]
        places.append(_MASQUERADES)
    if "portmap" in parts:
        places += [NftChain(family, "nat", chain_name(owner, "DN-")) for family in _FAMILIES]
        places += [NftChain(family, _PORTS_TABLE, _PORTS_CHAIN) for family in _FAMILIES]
    if "firewall" in parts:
        versions = {address.version for address in addresses}
        places += [NftChain("ip6" if v == 6 else "ip", "filter", FORWARD_CHAIN) for v in sorted(versions)]
    if "macspoofchk" in parts and owner.ifname:
        places += spoof_chains(owner)
    return places


def _belongings(
    kernel: Kernel,
    there: Sequence[NftChain],
    owner: Owner,
    addresses: Collection[IPAddress],
    *,
    everywhere: bool,
) -> tuple[list[NftRule], list[NftChain]]:
    """Give the rules and the chains that are the owner's; `everywhere`: rules that lead to them are where nobody puts them."""
    packed = {address.packed for address in addresses}
    rules: list[NftRule] = []
    chains: list[NftChain] = []
    for chain in there:
        match chain:
            case NftChain("inet"):
                rules += [rule for rule in kernel.nft_rules(chain) if _masquerades(rule, owner)]
            case NftChain(table="cni_hostport"):
                rules += [
                    rule
                    for rule in kernel.nft_rules(chain._replace(name=""))
                    if rule.comment == owner.container and (not packed or packed.intersection(rule.values))
                ]
            case NftChain(table="filter"):
                rules += [rule for rule in kernel.nft_rules(chain) if _lets_pass(rule, packed)]
            case _:
                entry = "" if everywhere else _entry(chain, owner)
                listed = kernel.nft_rules(chain._replace(name=entry))
                jumps = [rule for rule in listed if rule.jump == chain.name]
                kept = [rule for rule in jumps if _is_others(rule, packed)]
                rules += [rule for rule in jumps if rule not in kept and rule.chain.name != chain.name]
                chains += [] if kept else [chain]
    inner = {chain.name for chain in chains}
    return [rule for rule in rules if rule.chain.name not in inner], chains


def _lets_pass(rule: NftRule, packed: set[bytes]) -> bool:
    """Say whether a rule of ``CNI-FORWARD`` is one of a container's two; an administrator's own ones say something else."""
    return rule.accepts and len(rule.values) == 1 and rule.values[0] in packed


def _entry(chain: NftChain, owner: Owner) -> str:
    """Name the chain in which rules lead to one of a container."""
    if chain.family == "bridge":
        return _SPOOF_BASE.name
    return DNAT_CHAIN if chain.name == chain_name(owner, "DN-") else "POSTROUTING"


def _is_others(rule: NftRule, packed: set[bytes]) -> bool:
    """Say whether a rule is for an address which is not one of those to be removed."""
    sources = [value for value in rule.values if len(value) in (4, 16)]
    return bool(packed) and rule.chain.name == "POSTROUTING" and bool(sources) and not packed & {*sources}


def _masquerades(rule: NftRule, owner: Owner) -> bool:
    if not rule.comment.startswith(masquerade_hash(owner)):
        return False
    return bool(owner.ifname) or rule.comment.endswith(f", id: {owner.container}")


# -- legacy iptables ----------------------------------------------------------------------------------


def _remove_legacy(
    kernel: Kernel,
    program: str,
    tables: Collection[str],
    owner: Owner,
    addresses: Collection[IPAddress],
    parts: Collection[Part],
) -> bool:
    version = 6 if program.startswith("ip6") else 4
    ours = {f"{address}/{address.max_prefixlen}" for address in addresses if address.version == version}
    changes: dict[str, list[str]] = {}
    if "nat" in tables and ("masquerade" in parts or "portmap" in parts):
        there = present(kernel.iptables_rules(program, "nat"))
        names = [chain_name(owner)] if "masquerade" in parts else []
        names += [chain_name(owner, "DN-")] if "portmap" in parts else []
        changes["nat"] = [line for name in names for line in _without_chain(there, name, ours)]
    if "filter" in tables and "firewall" in parts and ours:
        listed = present(kernel.iptables_rules(program, "filter")).chains.get(FORWARD_CHAIN, [])
        theirs = {rule for address in ours for rule in passing_rules(address)}
        changes["filter"] = [line_of(("-D", FORWARD_CHAIN, *rule)) for rule in listed if rule in theirs]
    changes = {table: lines for table, lines in changes.items() if lines}
    if changes:
        kernel.iptables_restore(program, changes)
    return bool(changes)


def _without_chain(there: Present, name: str, addresses: Collection[str]) -> list[str]:
    """Give the lines that remove a chain and what leads to it, as `_belongings` does."""
    if name not in there.chains:
        return []
    jumps = [
        (chain, rule) for chain, rules in there.chains.items() for rule in rules if rule[-2:] == ("-j", name)
    ]
    kept = [
        one for one in jumps if one[0] == "POSTROUTING" and addresses and not _mentions(one[1], addresses)
    ]
    lines = [line_of(("-D", chain, *rule)) for chain, rule in jumps if (chain, rule) not in kept]
    return lines if kept else [*lines, f"-F {name}", f"-X {name}"]


def _mentions(rule: Rule, addresses: Collection[str]) -> bool:
    return "-s" not in rule or rule[rule.index("-s") + 1] in addresses


# -- whose they are -------------------------------------------------------------------------------------


def owners(kernel: Kernel) -> Mapping[Owner, frozenset[IPAddress]]:
    """Say whose masquerading and ports of iptables there are, with the addresses that are masqueraded.

    For garbage collection: `remove` takes both. The interface is empty where the rules do not name it.
    """
    found: dict[Owner, set[IPAddress]] = {}
    chains = [NftChain(family, "nat", name) for family in _FAMILIES for name in ("POSTROUTING", DNAT_CHAIN)]
    for chain in (*chains, _MASQUERADES):
        for rule in kernel.nft_rules(chain):
            sources = [value for value in rule.values if len(value) in (4, 16)][:1]
            _note(found, rule.comment, map(ip_address, sources if chain.name != DNAT_CHAIN else []))
    for program, tables in kernel.iptables_legacy_tables().items():
        there = present(kernel.iptables_rules(program, "nat") if "nat" in tables else ()).chains
        for rule in (*there.get("POSTROUTING", ()), *there.get(DNAT_CHAIN, ())):
            source = rule[1].partition("/")[0] if rule[:1] == ("-s",) else ""
            comment = rule[rule.index("--comment") + 1] if "--comment" in rule else ""
            _note(found, comment, [ip_address(source)] if source else [])
    return {owner: frozenset(addresses) for owner, addresses in found.items()}


def _note(found: dict[Owner, set[IPAddress]], comment: str, addresses: Iterable[IPAddress]) -> None:
    match = _OWNER.fullmatch(comment) or _OWNER_NFT.match(comment)
    if match is not None:
        owner = Owner(match["network"], match["container"], match.groupdict().get("ifname") or "")
        found.setdefault(owner, set()).update(addresses)
