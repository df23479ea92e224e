"""``macspoofchk`` of the reference plugins: a port of a bridge sends with its container's MAC address or not at all.

In ``table bridge nat``, for interface eth0 of container ctr1 behind port vethX::

    chain PREROUTING                 iifname "vethX" jump cni-br-iface-ctr1-eth0
    chain cni-br-iface-ctr1-eth0     jump cni-br-iface-ctr1-eth0-mac
    chain cni-br-iface-ctr1-eth0-mac ether saddr a6:48:de:f0:67:0d return
                                     drop

Each rule has the comment ``macspoofchk-ctr1-eth0``. The port itself goes with the container, so what is left of a
container is harmless; `remove` takes it away, whichever side made it. Source: containernetworking/plugins
``pkg/link/spoofcheck.go``.
"""

from __future__ import annotations

import re

from dovetail.errors import InvalidArgument
from dovetail.features import reference_rules
from dovetail.features.reference_names import Owner, spoof_check_name
from dovetail.features.reference_rules import Part, spoof_chains
from dovetail.kernel.packet_filter import NftChain, NftRule
from dovetail.kernel.protocol import Kernel
from dovetail.model.mac import Mac
from dovetail.model.names import check_ifname

__all__ = ["differences", "make", "remove", "spoof_check_text", "sweep"]

_BASE = NftChain("bridge", "nat", "PREROUTING")
_CHAIN = re.compile(r"cni-br-iface-.")
_NAME = re.compile(r"[a-zA-Z0-9_.\-]+")  # string, nftables' src/scanner.l
_PART: frozenset[Part] = frozenset({"macspoofchk"})
_COMMENT_MAX = 128  # NFTNL_UDATA_COMMENT_MAXLEN, libnftnl's include/libnftnl/udata.h


def spoof_check_text(owner: Owner, port: str, mac: Mac, stale: tuple[int, ...] = ()) -> str:
    """Write the rules in nft's language. `stale`: handles of rules in PREROUTING that lead to chains of the owner's.

    Raises InvalidArgument for an interface or a container whose name cannot stand in a rule of nftables.
    """
    check_ifname(port)
    name = spoof_check_name(owner)
    comment = f"macspoofchk-{name}"
    if not _NAME.fullmatch(name) or len(comment) >= _COMMENT_MAX or '"' in port:
        raise InvalidArgument(
            f"the MAC address of interface {owner.ifname!r} of container {owner.container!r} cannot be checked",
            where="$.macspoofchk",
            hint="nftables takes letters, digits, '_', '.' and '-', together at most 115",
        )
    ours, ours_mac = (" ".join(chain) for chain in spoof_chains(owner))
    said = f'comment "{comment}"'
    lines = [
        "add table bridge nat",
        f"add chain {' '.join(_BASE)} {{ type filter hook prerouting priority -300; policy accept; }}",
        f"add chain {ours}",
        f"add chain {ours_mac}",
        f"flush chain {ours}",
        f"flush chain {ours_mac}",
        *(f"delete rule {' '.join(_BASE)} handle {handle}" for handle in stale),
        f'add rule {" ".join(_BASE)} iifname "{port}" jump {ours.rpartition(" ")[2]} {said}',
        f"add rule {ours} jump {ours_mac.rpartition(' ')[2]} {said}",
        f"add rule {ours_mac} ether saddr {mac} return {said}",
        f"add rule {ours_mac} drop {said}",
    ]
    return "\n".join(lines)


def make(kernel: Kernel, owner: Owner, port: str, mac: Mac) -> None:
    """Check what comes from the bridge port `port`; idempotent. Runs ``nft`` once, where there is something to do."""
    if not differences(kernel, owner, port, mac):
        return
    stale = tuple(rule.handle for rule in _jumps(kernel, owner))
    kernel.nft_apply(spoof_check_text(owner, port, mac, stale))


def differences(kernel: Kernel, owner: Owner, port: str, mac: Mac) -> list[str]:
    """Say what is missing of what `make` makes; changes nothing and runs no process."""
    ours, ours_mac = spoof_chains(owner)
    name = port.encode().ljust(16, b"\0")  # IFNAMSIZ, include/uapi/linux/if.h
    wanted = (
        (
            any(_is(rule.values, name) for rule in _jumps(kernel, owner)),
            f"what comes from {port!r} is not checked",
        ),
        (
            any(rule.jump == ours_mac.name for rule in kernel.nft_rules(ours)),
            f"chain {ours.name!r} leads nowhere",
        ),
        (
            [rule.values for rule in kernel.nft_rules(ours_mac)] == [(mac.packed(),), ()],
            f"chain {ours_mac.name!r} does not keep to {mac}",
        ),
    )
    return [f"macspoofchk: {sentence}" for right, sentence in wanted if not right]


def remove(kernel: Kernel, owner: Owner) -> bool:
    """Remove them, over nfnetlink; True where there was something. The table and PREROUTING stay."""
    return reference_rules.remove(kernel, owner, parts=_PART)


def sweep(kernel: Kernel) -> bool:
    """Remove those of ports that are gone, whoever made them; True where there were some. For garbage collection."""
    dead = [
        rule for rule in kernel.nft_rules(_BASE) if _CHAIN.match(rule.jump) and not _has_port(kernel, rule)
    ]
    names = {name for rule in dead for name in (rule.jump, f"{rule.jump}-mac")}
    asked = [_BASE._replace(name=name) for name in sorted(names)]
    there = kernel.nft_has_chains(asked)
    kernel.nft_delete(dead, [chain for chain, found in zip(asked, there, strict=True) if found])
    return bool(dead)


def _has_port(kernel: Kernel, rule: NftRule) -> bool:
    """Say whether the port that a rule is for is there; yes where the rule does not say which it is for."""
    if len(rule.values) != 1:
        return True
    return kernel.link(rule.values[0].rstrip(b"\0").decode(errors="replace")) is not None


def _jumps(kernel: Kernel, owner: Owner) -> list[NftRule]:
    ours = spoof_chains(owner)[0].name
    return [rule for rule in kernel.nft_rules(_BASE) if rule.jump == ours]


def _is(values: tuple[bytes, ...], name: bytes) -> bool:
    return len(values) == 1 and values[0].ljust(len(name), b"\0") == name
