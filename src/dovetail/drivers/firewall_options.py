"""The options by which a network whose gateway is the host says what it wants of the firewall.

A driver puts `FIREWALL` into its own table, and calls `read_firewall` in `plan_network`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from dovetail.drivers.options import Given, Option
from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress, parse_address
from dovetail.model.firewall import GATEWAY_MODES, FamilyIntent, FirewallIntent, GatewayMode
from dovetail.model.names import check_ifname
from dovetail.model.network import Network

__all__ = ["FIREWALL", "read_firewall"]

FIREWALL: Mapping[str, Option] = {
    "icc": Option("whether endpoints reach each other (true)", ("com.docker.network.bridge.enable_icc",)),
    "masquerade": Option(
        "whether traffic that leaves the network takes the host's address (true)",
        ("com.docker.network.bridge.enable_ip_masquerade",),
    ),
    "gateway_mode_ipv4": Option(
        "how IPv4 leads in and out: nat, nat-unprotected, routed, or isolated of an internal network (nat)",
        ("com.docker.network.bridge.gateway_mode_ipv4",),
    ),
    "gateway_mode_ipv6": Option("the same for IPv6 (nat)", ("com.docker.network.bridge.gateway_mode_ipv6",)),
    "protected": Option("false is short for gateway mode nat-unprotected of both families (true)"),
    "host_ipv4": Option(
        "the address that masqueraded IPv4 traffic takes (that of the link it leaves by)",
        ("com.docker.network.host_ipv4",),
    ),
    "host_ipv6": Option("the same for IPv6", ("com.docker.network.host_ipv6",)),
    "host_binding": Option(
        "the host's address of published ports that name none; one of IPv4 is of IPv4 only, and so for IPv6"
        " (every address of both)",
        ("com.docker.network.bridge.host_binding_ipv4",),
    ),
    "trusted_host_interfaces": Option(
        "links of the host, with : between them, from which published ports are reached on the endpoints' own"
        " addresses too",
        ("com.docker.network.bridge.trusted_host_interfaces",),
    ),
}

_EVERY_ADDRESS = IPv4Address("0.0.0.0")  # noqa: S104 - as a user writes it


def read_firewall(
    given: Given, network: Network, link: str, modes: Sequence[GatewayMode] = GATEWAY_MODES
) -> FirewallIntent:
    """Read what `network`, whose subnets are known, wants behind `link`, see `FirewallIntent`.

    modes: those that the driver knows. Raises InvalidArgument at ``$.options.KEY``, also for what this network
    cannot have.
    """
    binding = _binding(given)
    if binding is not None and binding.version not in network.versions:
        raise InvalidArgument(
            f"the network has no IPv{binding.version} subnet, so no port could be published on {binding}",
            where=given.where("host_binding"),
        )
    return FirewallIntent(
        link=link,
        icc=given.boolean("icc", default=True),
        internal=network.internal,
        trusted=_links(given, "trusted_host_interfaces"),
        host_binding=binding,
        ipv4=_family(given, network, 4, modes),
        ipv6=_family(given, network, 6, modes),
    )


def _family(given: Given, network: Network, version: int, modes: Sequence[GatewayMode]) -> FamilyIntent:
    name = f"gateway_mode_ipv{version}"
    protected = given.boolean("protected", default=True)
    if "protected" in given and name in given:
        raise InvalidArgument(
            "a gateway mode says as well whether the network is protected",
            where=given.where("protected"),
            hint="leave protected out",
        )
    default: GatewayMode = "nat" if protected else "nat-unprotected"
    mode = given.choice(name, modes, default)
    if mode == "isolated" and not network.internal:
        raise InvalidArgument(
            "only an internal network can be isolated from its host",
            where=given.where(name),
            hint="make it internal, or choose another mode",
        )
    masquerade = given.boolean("masquerade", default=True)
    return FamilyIntent(mode=mode, masquerade=masquerade, source=_source(given, version))


def _source(given: Given, version: int) -> IPAddress | None:
    name = f"host_ipv{version}"
    if not given.text(name):
        return None
    where = given.where(name)
    address = parse_address(given.text(name), where=where)
    if address.version != version:
        raise InvalidArgument(
            f"{address} is no IPv{version} address", where=where, hint=f"host_ipv{address.version} takes it"
        )
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise InvalidArgument(
            f"{address} is no address that traffic could leave the host with",
            where=where,
            hint="give one of the host's addresses",
        )
    return address


def _binding(given: Given) -> IPAddress | None:
    """Read the address of ports that name none; ``0.0.0.0`` is every address, of IPv6 too, as it is in Docker."""
    text, where = given.text("host_binding"), given.where("host_binding")
    if not text:
        return None
    address = parse_address(text, where=where)
    if address.is_multicast:
        raise InvalidArgument(
            f"{address} is no address of a host", where=where, hint="or leave it out for all"
        )
    return None if address == _EVERY_ADDRESS else address


def _links(given: Given, name: str) -> tuple[str, ...]:
    links = [part for part in given.text(name).split(":") if part]
    return tuple(dict.fromkeys(check_ifname(link, where=given.where(name)) for link in links))
