"""The options of a ptp network."""

from __future__ import annotations

from collections.abc import Mapping

from dovetail.drivers.firewall_options import FIREWALL
from dovetail.drivers.network_options import ADDRESSED
from dovetail.drivers.options import Option
from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress
from dovetail.model.firewall import GatewayMode
from dovetail.model.network import Network
from dovetail.model.routes import format_route

__all__ = ["KNOWN", "MODES", "check_network"]

MODES: tuple[GatewayMode, ...] = ("nat", "nat-unprotected", "routed")
"""Without the host no endpoint would reach another, so none is isolated from it."""

KNOWN: Mapping[str, Option] = {
    **{name: option for name, option in ADDRESSED.items() if name not in {"gateway", "gwbridge"}},
    **FIREWALL,
    "route": Option("routes of every endpoint by way of the gateway, as 10.0.0.0/8 via 10.88.0.1"),
    "gateway_mode_ipv4": FIREWALL["gateway_mode_ipv4"]._replace(
        meaning="how IPv4 leads in and out: nat, nat-unprotected or routed (nat)"
    ),
}


def check_network(network: Network) -> None:
    """Refuse what is not by way of the host, on a network whose subnets and routes are known: InvalidArgument."""
    if not network.subnets:
        raise InvalidArgument(
            "a ptp network leads to addresses, and no IPAM gives it a subnet",
            where="$.subnets",
            hint="give --subnet, or leave the IPAM out",
        )
    for index, subnet in enumerate(network.subnets):
        if subnet.gateway is None:
            raise InvalidArgument(
                f"{subnet.subnet} has no gateway, and on a ptp network everything goes by way of it",
                where=f"$.subnets[{index}].gateway",
            )
        if subnet.default_gateway != subnet.gateway:
            raise InvalidArgument(
                f"the default route of {subnet.subnet} cannot lead via {subnet.default_gateway}: on a ptp network"
                " an endpoint reaches the host and nobody else by itself",
                where=f"$.subnets[{index}].aux",
            )
    _check_routes(network, [subnet.gateway for subnet in network.subnets])


def _check_routes(network: Network, gateways: list[IPAddress | None]) -> None:
    for route in network.routes:
        if route.gateway is None or route.gateway not in gateways:
            mine = [g for g in gateways if g is not None and g.version == route.destination.version]
            raise InvalidArgument(
                f"the route {format_route(route)!r} is not by way of the gateway, and on a ptp network everything is",
                where="$.options.route",
                hint=f"write it as {route.destination} via {mine[0]}" if mine else "",
            )
