"""Resolver settings as resolv.conf(5) has them."""

from __future__ import annotations

from dovetail.model.attachment import DNS

__all__ = ["parse_resolv_conf"]


def parse_resolv_conf(text: str) -> DNS:
    """Read the lines of a resolv.conf; what is not understood is left out, as resolvers do.

    ``search`` and ``options`` of several lines add up, as CNI's host-local reads them; the last ``domain`` counts.
    """
    domain = ""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "options": []}
    for line in text.split("\n"):
        keyword, *values = line.split() or [""]
        if not values or keyword[0] in "#;":
            continue
        if keyword == "domain":
            domain = values[0]
        elif keyword in found:
            found[keyword] += values[:1] if keyword == "nameserver" else values
    return DNS(
        nameservers=tuple(found["nameserver"]),
        domain=domain,
        search=tuple(found["search"]),
        options=tuple(found["options"]),
    )
