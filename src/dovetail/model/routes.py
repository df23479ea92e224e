"""Routes as people write them, in the words of ``ip route``."""

from __future__ import annotations

import ipaddress

from dovetail.errors import InvalidArgument
from dovetail.model.addresses import EVERYWHERE, IPAddress, IPNetwork, parse_address, parse_subnet
from dovetail.model.attachment import Route

__all__ = ["format_route", "parse_route", "parse_routes"]

_HINT = "write it as 10.0.0.0/8 via 10.88.0.254, or 10.0.0.0/8 for what is on the link"
_NUMBERS = {"metric": "priority", "mtu": "mtu", "advmss": "advmss"}
_MOST = 2**32 - 1  # an attribute of 32 bits, RTA_PRIORITY and RTA_METRICS of include/uapi/linux/rtnetlink.h


def parse_routes(text: str, *, where: str = "") -> tuple[Route, ...]:
    """Read routes with commas between them; see `parse_route`."""
    return tuple(parse_route(part, where=where) for part in text.split(","))


def parse_route(text: str, *, where: str = "") -> Route:
    """Read ``DESTINATION [via GATEWAY] [metric N] [mtu N] [advmss N]``; without ``via`` it is on the link.

    DESTINATION is a subnet, an address, or ``default`` where there is a gateway. Raises InvalidArgument.
    """
    words = text.split()
    if not words or len(words) % 2 == 0:
        raise InvalidArgument(f"{text.strip()!r} is not a route", where=where, hint=_HINT)
    gateway: IPAddress | None = None
    numbers: dict[str, int] = {}
    for word, value in zip(words[1::2], words[2::2], strict=True):
        if word == "via" and gateway is None:
            gateway = parse_address(value, where=where)
        elif word in _NUMBERS and _NUMBERS[word] not in numbers:
            numbers[_NUMBERS[word]] = _number(word, value, where)
        else:
            known = ", ".join(("via", *_NUMBERS))
            raise InvalidArgument(
                f"{word!r} cannot stand here in the route {text.strip()!r}",
                where=where,
                hint=f"known are {known}",
            )
    destination = _destination(words[0], gateway, where)
    if gateway is not None and gateway.version != destination.version:
        raise InvalidArgument(
            f"the route to {destination} cannot lead via {gateway}, which is of the other family", where=where
        )
    return Route(destination=destination, gateway=gateway, **numbers)


def _destination(text: str, gateway: IPAddress | None, where: str) -> IPNetwork:
    if text == "default":
        if gateway is None:
            raise InvalidArgument(
                "a default route needs a gateway", where=where, hint="or write 0.0.0.0/0 for one on the link"
            )
        return EVERYWHERE[gateway.version]
    if "/" in text:
        return parse_subnet(text, where=where)
    return ipaddress.ip_network(parse_address(text, where=where))


def _number(word: str, value: str, where: str) -> int:
    if value.isascii() and value.isdigit() and len(value) < 11 and 0 < int(value) <= _MOST:
        return int(value)
    raise InvalidArgument(f"{value!r} is not a number for {word!r}", where=where, hint=f"1 to {_MOST}")


def format_route(route: Route) -> str:
    """Write a route as `parse_route` reads it."""
    words = [str(route.destination)]
    if route.gateway is not None:
        words += ["via", str(route.gateway)]
    for word, field in _NUMBERS.items():
        number: int = getattr(route, field)
        words += [word, str(number)] if number else []
    return " ".join(words)
