"""Which program of iptables an address belongs to."""

from __future__ import annotations

from collections.abc import Iterable

from dovetail.model.addresses import IPInterface

__all__ = ["PROGRAMS", "by_program"]

PROGRAMS = {4: "iptables", 6: "ip6tables"}
"""The programs by IP version."""


def by_program(addresses: Iterable[IPInterface]) -> list[tuple[str, list[IPInterface]]]:
    """Sort addresses by the program that has rules for them; those that have none are left out."""
    sorted_out: dict[int, list[IPInterface]] = {4: [], 6: []}
    for address in addresses:
        sorted_out[address.version].append(address)
    return [(PROGRAMS[version], ours) for version, ours in sorted_out.items() if ours]
