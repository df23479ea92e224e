"""What the CNI reference plugins name their firewall objects after, so that either side finds the other's.

Sources: containernetworking/plugins 1.1.1 ``pkg/utils/utils.go`` and ``plugins/meta/portmap``, and for nftables, which
came later, ``pkg/ip/ipmasq_nftables_linux.go`` and ``portmap_nftables.go``.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

__all__ = [
    "Owner",
    "chain_name",
    "dnat_comment",
    "masquerade_comment",
    "masquerade_hash",
    "spoof_check_name",
]

_CHAIN_MAX = 28  # XT_EXTENSION_MAXNAMELEN - 1, include/uapi/linux/netfilter/x_tables.h
_COMMENT_MAX = 255  # XT_MAX_COMMENT_LEN - 1, include/uapi/linux/netfilter/xt_comment.h


class Owner(NamedTuple):
    """Whose an object is: CNI's network name, container id and interface name, each checked by who made this.

    The names of chains of iptables leave the interface out, so two interfaces of a container on one network share them.
    """

    network: str
    container: str
    ifname: str = ""


def chain_name(owner: Owner, prefix: str = "") -> str:
    """Name a chain of iptables: ``CNI-``, `prefix` (``DN-`` for ports) and digits of the owner's hash, 28 in all."""
    return f"CNI-{prefix}{_digits(owner.network + owner.container)}"[:_CHAIN_MAX]


def masquerade_comment(owner: Owner) -> str:
    """Write the comment of rules that masquerade."""
    return _trimmed(f'name: "{owner.network}" id: "{owner.container}"')


def dnat_comment(owner: Owner) -> str:
    """Write the comment of rules that lead to a container's ports."""
    return _trimmed(f'dnat name: "{owner.network}" id: "{owner.container}"')


def masquerade_hash(owner: Owner) -> str:
    """Give what comments in ``table inet cni_plugins_masquerade`` begin with; without an interface, of all of them."""
    network = _digits(owner.network)[:16]
    return f"{network}-{_digits(f'{owner.ifname}:{owner.container}')[:16]}" if owner.ifname else f"{network}-"


def spoof_check_name(owner: Owner) -> str:
    """Give what the chains (behind ``cni-br-iface-``) and comments (``macspoofchk-``) of macspoofchk are named after."""
    return f"{owner.container}-{owner.ifname}"


def _digits(text: str) -> str:
    return hashlib.sha512(text.encode()).hexdigest()


def _trimmed(text: str) -> str:
    return text if len(text) <= _COMMENT_MAX else f"{text[: _COMMENT_MAX - 3]}..."
