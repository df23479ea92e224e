"""What changes of an interface when a lease does: addresses and routes."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dovetail.model.addresses import IPInterface
from dovetail.model.attachment import Attachment, Route

__all__ = ["Readdressing"]


class Readdressing(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and routes of one interface that go, and those that come after them; each may be none."""

    ifname: str
    addresses_gone: tuple[IPInterface, ...] = ()
    addresses: tuple[IPInterface, ...] = ()
    routes_gone: tuple[Route, ...] = ()
    routes: tuple[Route, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.addresses_gone or self.addresses or self.routes_gone or self.routes)

    def addresses_of(self, present: Iterable[IPInterface]) -> tuple[IPInterface, ...]:
        """Give `present` as it is afterwards."""
        kept = [address for address in present if address not in self.addresses_gone]
        return tuple(dict.fromkeys((*kept, *self.addresses)))

    def attachment_of(self, present: Attachment) -> Attachment:
        """Give `present` as it is afterwards, unless it is of another interface."""
        if present.ifname != self.ifname:
            return present
        kept = [route for route in present.routes if route not in self.routes_gone]
        return msgspec.structs.replace(
            present,
            addresses=self.addresses_of(present.addresses),
            routes=(*kept, *(route for route in self.routes if route not in kept)),
        )
