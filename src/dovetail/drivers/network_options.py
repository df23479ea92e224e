"""The options that a network of every driver with addresses has, read once for all of them.

A driver puts `ADDRESSED` into its own table, and calls `settle` in `plan_network`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from dovetail.drivers.options import Given, Option
from dovetail.errors import InvalidArgument
from dovetail.model.attachment import Route
from dovetail.model.names import check_ifname
from dovetail.model.network import Network
from dovetail.model.routes import format_route, parse_routes

__all__ = [
    "ADDRESSED",
    "bridge_to_adopt",
    "follows_uplink",
    "is_sticky",
    "settle",
    "without_gateway",
]

ADDRESSED: Mapping[str, Option] = {
    "mtu": Option(
        "largest packet, in bytes; auto is what the link of the host's default route has",
        ("com.docker.network.driver.mtu",),
    ),
    "route": Option("routes of every endpoint, as 10.0.0.0/8 via 10.88.0.254, 10.99.0.0/16"),
    "gateway": Option("auto, or none: no gateway address is taken and there is no default route (auto)"),
    "gwbridge": Option(
        "whether Docker gives a container without a gateway an interface on docker_gwbridge (false)"
    ),
    "ifname_prefix": Option(
        "what the interface's name begins with; the lowest free number follows (eth)",
        ("com.docker.network.container_iface_prefix",),
    ),
    "sticky": Option(
        "whether a container that comes back gets the address that its name or MAC had before (false)"
    ),
}
"""In words that hold for every driver; one that has more to say about an option has it again in its own table."""

_PREFIX_MAX = 12  # of IFNAMSIZ - 1 = 15 characters, so that three are left for a number


def without_gateway(options: Mapping[str, str], known: Mapping[str, Option]) -> frozenset[int]:
    """Give the families for which a network with these `options` wants no gateway address.

    known: the options of its driver. A family of gateway mode ``isolated`` wants none either, as nothing of the host's
    is on that link. Raises InvalidArgument for an option that cannot be read.
    """
    given = _only(options, known, "gateway", "gateway_mode_ipv4", "gateway_mode_ipv6")
    if given.choice("gateway", ("auto", "none"), "auto") == "none":
        return frozenset((4, 6))
    return frozenset(version for version in (4, 6) if given.text(f"gateway_mode_ipv{version}") == "isolated")


def bridge_to_adopt(options: Mapping[str, str], known: Mapping[str, Option]) -> str:
    """Name the bridge that a network is to be on, which may be there with the network's subnet; empty for one of its own."""
    return _only(options, known, "bridge").text("bridge")


def follows_uplink(options: Mapping[str, str], known: Mapping[str, Option]) -> bool:
    """Say whether the MTU is that of the host's uplink."""
    return _only(options, known, "mtu").mtu_is_auto()


def is_sticky(options: Mapping[str, str], known: Mapping[str, Option]) -> bool:
    """Say whether addresses are kept for those that had them."""
    return _only(options, known, "sticky").boolean("sticky", default=False)


def _only(options: Mapping[str, str], known: Mapping[str, Option], *names: str) -> Given:
    """Read some options before the driver reads all of them."""
    some = {name: known[name] for name in names if name in known}
    keys = {*some, *(synonym for option in some.values() for synonym in option.synonyms)}
    return Given("", {key: value for key, value in options.items() if key in keys}, some)


def settle(network: Network, given: Given) -> Network:
    """Fill in routes, the interface's prefix and what is said about ``docker_gwbridge``; the subnets are known.

    Raises InvalidArgument, for a route that no endpoint could have too.
    """
    gwbridge = given.boolean("gwbridge", default=False)
    if gwbridge and network.internal:
        raise InvalidArgument(
            "an internal network cannot lead out by docker_gwbridge",
            where=given.where("gwbridge"),
            hint="leave gwbridge out, or --internal",
        )
    routes = network.routes
    if given.text("route"):
        more = parse_routes(given.text("route"), where=given.where("route"))
        routes = (*routes, *(route for route in more if route not in routes))
    _check_routes(network, routes, given.where("route") if "route" in given else "$.routes")
    return msgspec.structs.replace(
        network,
        routes=routes,
        gwbridge=gwbridge,
        ifname_prefix=_prefix(given),
    )


def _prefix(given: Given) -> str:
    prefix = given.text("ifname_prefix") or "eth"
    where = given.where("ifname_prefix")
    check_ifname(prefix, where=where)
    if len(prefix.encode()) > _PREFIX_MAX or prefix[-1].isdigit():
        raise InvalidArgument(
            f"{prefix!r} cannot be what a name begins with: a number follows it",
            where=where,
            hint=f"at most {_PREFIX_MAX} characters, and no digit at the end",
        )
    return prefix


def _check_routes(network: Network, routes: Iterable[Route], where: str) -> None:
    subnets = [subnet.subnet for subnet in network.subnets]
    on_link = [*subnets, *(r.destination for r in routes if r.gateway is None and r.destination.prefixlen)]
    seen: set[tuple[object, int]] = set()
    for route in routes:
        text = format_route(route)
        if not any(route.destination.version == subnet.version for subnet in subnets):
            raise InvalidArgument(
                f"the route {text!r} is of a family that network {network.name!r} has no subnet of",
                where=where,
            )
        if route.destination in subnets:
            raise InvalidArgument(
                f"{route.destination} is a subnet of the network, which needs no route", where=where
            )
        if network.internal and not route.destination.prefixlen:
            raise InvalidArgument("an internal network has no default route", where=where)
        if route.gateway is not None and not any(route.gateway in subnet for subnet in on_link):
            raise InvalidArgument(
                f"the gateway of the route {text!r} is in no subnet of network {network.name!r}",
                where=where,
                hint=f"give a route for {route.gateway} on the link as well, or another gateway",
            )
        if (route.destination, route.priority) in seen:
            raise InvalidArgument(f"there are two routes to {route.destination}", where=where)
        seen.add((route.destination, route.priority))
