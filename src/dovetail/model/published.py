"""Ports of the host that lead to a sandbox, as CNI's type ``portmap`` has them."""

from __future__ import annotations

import msgspec

from dovetail.model.addresses import IPInterface
from dovetail.model.port import PortMapping

__all__ = ["PublishedPorts"]


class PublishedPorts(msgspec.Struct, frozen=True, kw_only=True):
    """Ports of the host, and the addresses that they lead to.

    addresses: of the sandbox, at most one a family. link: the host's interface by which it is reached; empty where
    that is not known. source_nat: who asks from the sandbox's own subnet, or the host from 127.0.0.1, is answered by way
    of the host. masquerade_all: so is everybody.
    iptables: as chains of iptables in the reference plugin's form, and the rest is for that alone: mark_bit marks what is to
    be masqueraded, or the user's set_mark_chain does; conditions are matches that a packet must meet besides.
    """

    ports: tuple[PortMapping, ...]
    addresses: tuple[IPInterface, ...]
    link: str = ""
    source_nat: bool = True
    masquerade_all: bool = False
    iptables: bool = False
    mark_bit: int = 13
    set_mark_chain: str = ""
    conditions4: tuple[str, ...] = ()
    conditions6: tuple[str, ...] = ()
