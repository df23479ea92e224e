"""Routing by source address, as CNI's type ``sbr`` has it."""

from __future__ import annotations

import msgspec

from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import Route

__all__ = ["Source", "SourceRouting"]


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An address; what is sent from it goes by `table`, which has a default route by `gateway` and `routes`.

    table 0: not chosen yet, or not known. gateway_given: it is an administrator's, and comes before a default route
    that is there.
    """

    address: IPInterface
    gateway: IPAddress | None = None
    gateway_given: bool = False
    table: int = 0
    routes: tuple[Route, ...] = ()


class SourceRouting(msgspec.Struct, frozen=True, kw_only=True):
    """Each address of the sandbox's interface `ifname` has a table of its own.

    sources: the addresses; none where they are not known, and then those that the interface has. table: an
    administrator's, for all addresses; its routes are his, and none is moved. source_hints: the routes stay in the
    main table too, and say which address to send from.
    """

    ifname: str
    sources: tuple[Source, ...] = ()
    table: int = 0
    source_hints: bool = False
