"""IPAM's units: pools and the addresses given out of them."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dovetail.model.addresses import IPAddress, IPNetwork

__all__ = ["Address", "AddressKind", "AddressRequest", "Pool", "PoolRequest", "Space"]

AddressKind: TypeAlias = Literal["gateway", "aux", "endpoint", "docker"]
"""What an address is held for. ``docker``: a Docker Engine asked for it over the IPAM protocol and
has not (or no longer) tied it to an endpoint."""


Space: TypeAlias = Literal["local", "global"]
"""CNM's address space. ``local``: what networks of this host use. ``global``: the books that a manager of Docker's
swarm keeps for all hosts, which take the same subnet once more from their local space when they make the network."""


class PoolRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of an IPAM driver's `request_pool`.

    `subnet` None chooses from the default ranges of family `version`, ``0.0.0.0/24`` one of that size. `ip_range` restricts dynamic
    addresses to a part of the subnet; gateway and static addresses may be anywhere in it.
    `owner` is the network's id or ``docker``. `sticky`: see `Pool`.
    """

    subnet: IPNetwork | None = None
    ip_range: IPNetwork | None = None
    version: Literal[4, 6] = 4
    owner: str = ""
    space: Space = "local"
    sticky: bool = False


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A range of addresses held for one network.

    `owner`: the id of the network it belongs to, or ``docker`` while a Docker Engine has asked for
    it and has not created its network yet. `sticky`: an address is kept for the container that had it
    (`AddressRequest.key`), and given to others only when no other is left.
    """

    id: str
    subnet: IPNetwork
    ip_range: IPNetwork | None = None
    owner: str = ""
    space: Space = "local"
    sticky: bool = False
    created: float = 0.0


class AddressRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of `request_address`: `address` None takes the next free one.

    `owner` is the endpoint's id (kind endpoint), the network's id (gateway, aux) or ``docker``.
    The same owner asking for an address that it holds gets it again. `key` says for which container
    it is, whatever its endpoint's id: ``name:web`` or ``mac:02:42:…``; empty where nobody said.
    """

    kind: AddressKind
    owner: str
    address: IPAddress | None = None
    key: str = ""


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """An address that is given out, and to whom. `boot_id` is the boot in which it was given."""

    pool_id: str
    address: IPAddress
    kind: AddressKind
    owner: str
    boot_id: str = ""
    created: float = 0.0
