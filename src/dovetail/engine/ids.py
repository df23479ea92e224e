"""Ids that need no state."""

from __future__ import annotations

import functools

from dovetail.model.endpoint import Owner
from dovetail.model.names import derive_id

__all__ = ["endpoint_id"]


@functools.lru_cache(maxsize=256)
def endpoint_id(owner: Owner) -> str:
    """Derive the id of the endpoint that `owner` has: the same attachment, the same id, without state."""
    return derive_id(owner.face, owner.network, owner.container, owner.ifname)
