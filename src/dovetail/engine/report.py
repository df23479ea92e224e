"""What a reconciliation did."""

from __future__ import annotations

import msgspec

__all__ = ["Report"]


class Report(msgspec.Struct, kw_only=True):
    """A sentence each: what was put back, given back, taken away, and what could not be."""

    restored: list[str] = []
    released: list[str] = []
    removed: list[str] = []
    failed: list[str] = []
