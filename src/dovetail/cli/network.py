"""``dovetail network``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click
import msgspec

from dovetail.api.requests import ConnectRequest, DisconnectRequest, NetworkRequest, SubnetRequest
from dovetail.api.views import BindingView, EndpointView, NetworkRow, NetworkView, SubnetView
from dovetail.cli import many
from dovetail.cli.command import Noun
from dovetail.cli.render import facts, interface, known, moment, table
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import (
    ADDRESS,
    CIDR,
    DRIVER,
    MAC,
    NAMED_ADDRESS,
    NETWORK,
    PAIR,
    PUBLISH,
    PUBLISH_HELP,
    ROUTE,
    SANDBOX,
    SYSCTL,
    SYSCTL_HELP,
    once,
)
from dovetail.model.addresses import IPAddress, IPNetwork
from dovetail.model.codec import decode
from dovetail.model.mac import Mac
from dovetail.model.names import short
from dovetail.model.routes import format_route

__all__ = ["connect_request", "network", "network_path", "pair_subnets"]

_NAME = "The network's name, its id, or a beginning of the id that no other has."
_SANDBOX = "The sandbox's name or id; 'dovetail sandbox ls' lists them."


def network_path(ref: str, verb: str = "") -> str:
    """Name a network in the API."""
    return f"/v1/networks/{quote(ref, safe='')}{'/' + verb if verb else ''}"


@click.group(cls=Noun)
def network() -> None:
    """Make, show, remove and connect networks.

    A network is what endpoints reach each other on directly. One network serves Docker containers,
    CNI containers and plain sandboxes alike.
    """


@network.command(
    examples=(
        "dovetail network create web",
        "dovetail network create web --subnet 10.88.0.0/24 --subnet fd88::/64",
        "dovetail network create db --internal --subnet 10.89.0.0/24 --gateway 10.89.0.254 -o mtu=9000",
        "dovetail network create lab --subnet 10.91.0.0/24 --route '10.0.0.0/8 via 10.91.0.254' -o gateway=none",
        "dovetail network create lan -d macvlan -o parent=eth0 --subnet 192.0.2.0/24 --gateway 192.0.2.1",
        "dovetail --explain network create web        # print the ip and nft commands, change nothing",
    )
)
@click.argument("name", help="Letters, digits, '_', '.' and '-'; what everybody calls it by.")
@click.option(
    "-d",
    "--driver",
    type=DRIVER,
    default="bridge",
    show_default=True,
    help="The technique; 'dovetail driver ls' lists them, 'dovetail driver inspect DRIVER' its options.",
)
@click.option(
    "--subnet",
    "subnets",
    type=CIDR,
    multiple=True,
    help="A subnet, IPv4 or IPv6; once for each.  [default: an IPv4 one that is free]",
)
@click.option(
    "--gateway",
    "gateways",
    type=ADDRESS,
    multiple=True,
    help="The gateway of the subnet it lies in.  [default: its first free address where the host is it, else none]",
)
@click.option(
    "--ip-range",
    "ranges",
    type=CIDR,
    multiple=True,
    help="Give addresses from this part of its subnet only.  [default: all of it]",
)
@click.option(
    "--aux-address",
    "aux",
    type=NAMED_ADDRESS,
    multiple=True,
    callback=once,
    help="An address that no endpoint gets, and what it is for.",
)
@click.option("--ipv6", is_flag=True, help="Without an IPv6 --subnet: have one chosen, a /64.")
@click.option(
    "--internal",
    is_flag=True,
    help="No way out and no published ports; a network behind the host is closed both ways.",
)
@click.option(
    "--route",
    "routes",
    type=ROUTE,
    multiple=True,
    help="A route of every endpoint, as '10.0.0.0/8 via 10.88.0.254'; without 'via' it is on the link.",
)
@click.option(
    "-o",
    "--opt",
    "options",
    type=PAIR,
    multiple=True,
    callback=once,
    help="An option of the driver, as mtu=1400; 'dovetail driver inspect DRIVER' lists them.",
)
@click.option(
    "--label",
    "labels",
    type=PAIR,
    multiple=True,
    callback=once,
    help="A label of yours; dovetail only keeps it.",
)
@pass_session
def create(session: Session, /, name: str, driver: str, options: Any, labels: Any, **given: Any) -> None:
    """Make a network and print its id.

    Without --subnet it gets an IPv4 subnet that is clear of the host's routes and of every other network. One that
    is asked for and overlaps one of them is refused, naming the clash; on a parent (macvlan, ipvlan, vlan) and on a
    bridge that is there already, it may be the subnet of that wire.

    Where the host is the gateway (bridge, ptp), it takes the first free address of the subnet unless --gateway
    names another. Elsewhere the gateway is a router on the wire, if --gateway names one.

    Docker containers join the network when Docker's own network is made with '-d dovetail -o
    dovetail.network=NAME --ipam-driver dovetail --ipam-opt dovetail.network=NAME', CNI containers by the
    configuration {"type": "dovetail", "network": "NAME"}.
    """
    request = NetworkRequest(
        name=name,
        driver=driver,
        subnets=pair_subnets(**{key: given[key] for key in ("subnets", "gateways", "ranges", "aux", "ipv6")}),
        internal=given["internal"],
        routes=list(given["routes"]),
        options=options,
        labels=labels,
    )
    payload = session.request("POST", "/v1/networks", request)
    session.show(payload, decode(payload, NetworkView).id)


def pair_subnets(
    *,
    subnets: Sequence[IPNetwork],
    gateways: Sequence[IPAddress],
    ranges: Sequence[IPNetwork],
    aux: Mapping[str, IPAddress],
    ipv6: bool,
) -> list[SubnetRequest]:
    """Give each gateway, range and reserved address to the subnet it lies in.

    One that lies in none goes to the first subnet of its family (or to none at all), where the engine
    refuses it with the reason. `ipv6` adds a subnet to be chosen. Raises click.UsageError for two
    gateways or two ranges of one subnet.
    """
    wanted = [SubnetRequest(subnet=subnet) for subnet in subnets]
    for gateway in gateways:
        wanted = _assign(wanted, gateway, gateway=gateway)
    for ip_range in ranges:
        wanted = _assign(wanted, ip_range.network_address, ip_range=ip_range)
    for key, address in aux.items():
        wanted = _assign(wanted, address, aux={key: address})
    if ipv6 and not any(request.subnet is not None and request.subnet.version == 6 for request in wanted):
        wanted = [*(wanted or [SubnetRequest(version=4)]), SubnetRequest(version=6)]
    return wanted


def _assign(
    wanted: list[SubnetRequest],
    address: IPAddress,
    *,
    gateway: IPAddress | None = None,
    ip_range: IPNetwork | None = None,
    aux: dict[str, IPAddress] | None = None,
) -> list[SubnetRequest]:
    inside = [r for r in wanted if r.subnet is not None and address in r.subnet]
    family = [r for r in wanted if r.subnet is not None and r.subnet.version == address.version]
    chosen = next(iter(inside or family or wanted), None)
    if chosen is not None:
        _refuse_second(chosen, "gateway", chosen.gateway, gateway)
        _refuse_second(chosen, "IP range", chosen.ip_range, ip_range)
    changed = msgspec.structs.replace(
        chosen or SubnetRequest(version=address.version),
        **({"gateway": gateway} if gateway is not None else {}),
        **({"ip_range": ip_range} if ip_range is not None else {}),
        **({"aux": {**(chosen.aux if chosen else {}), **aux}} if aux else {}),
    )
    return [changed if request is chosen else request for request in wanted] if chosen else [*wanted, changed]


def _refuse_second(request: SubnetRequest, what: str, first: object, second: object) -> None:
    if first is not None and second is not None:
        where = request.subnet or "a subnet"
        raise click.UsageError(
            f"{where} has one {what}, and both {first} and {second} are given",
            click.get_current_context(silent=True),
        )


@network.command(examples=("dovetail network ls", "dovetail network ls --format json"))
@pass_session
def ls(session: Session) -> None:
    """List the networks, by name."""
    payload = session.request("GET", "/v1/networks")
    rows = [
        (
            known(row.name, row.known_as),
            row.driver,
            _subnets(row),
            row.link or "-",
            str(row.endpoints),
            row.face,
            short(row.id),
        )
        for row in decode(payload, list[NetworkRow])
    ]
    session.show(payload, table(("NAME", "DRIVER", "SUBNETS", "LINK", "ENDPOINTS", "FACE", "ID"), rows))


def _subnets(row: NetworkRow) -> str:
    text = " ".join(str(subnet) for subnet in row.subnets) or "-"
    notes = [
        word for word, true in (("internal", row.internal), (row.status, row.status != "active")) if true
    ]
    return f"{text} ({', '.join(notes)})" if notes else text


@network.command(examples=("dovetail network inspect web", "dovetail network inspect web --format json"))
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=NETWORK, help=_NAME)
@pass_session
def inspect(session: Session, names: tuple[str, ...]) -> None:
    """Show networks in full.

    That is: subnets and their use, options, labels, what Docker knows it as, endpoints with their addresses and
    published ports.

    With --format json the result is a list, also for a single network.
    """
    many.inspect(session, [network_path(name) for name in names], NetworkView, _describe)


def _describe(view: NetworkView) -> str:
    head = facts(
        {
            "network": view.name,
            "id": view.id,
            "driver": view.driver,
            "status": view.status,
            "scope": view.scope,
            "made by": view.face,
            "known as": ", ".join(map(_binding, view.bindings)),
            "internal": "yes" if view.internal else "",
            "parent": view.parent,
            "link": f"{view.link} (adopted)" if view.adopted else view.link,
            "mtu": str(view.mtu or ""),
            "routes": ", ".join(map(format_route, view.routes)),
            "options": _pairs(view.options),
            "labels": _pairs(view.labels),
            "created": moment(view.created),
        }
    )
    parts = [head]
    if view.subnets:
        rows = [_subnet_row(subnet) for subnet in view.subnets]
        parts.append(table(("SUBNET", "GATEWAY", "IP RANGE", "USED", "RESERVED"), rows))
    if view.endpoints:
        parts.append(table(_ENDPOINT_HEADER, [_endpoint_row(endpoint) for endpoint in view.endpoints]))
    return "\n\n".join(parts)


def _binding(binding: BindingView) -> str:
    """Write by what name and id a face knows a network, and what labels it gives it."""
    words = [f"{binding.face}:{binding.name or binding.id}"]
    words += [f"({short(binding.id)})"] if binding.name else []
    words += [_pairs(binding.labels)] if binding.labels else []
    return " ".join(words)


def _pairs(values: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in sorted(values.items()))


def _subnet_row(subnet: SubnetView) -> tuple[str, ...]:
    reserved = " ".join(f"{name}={address}" for name, address in subnet.aux.items()) or "-"
    size = (
        str(subnet.size)
        if subnet.size < 1 << 32
        else f"2^{subnet.subnet.max_prefixlen - subnet.subnet.prefixlen}"
    )
    used = f"{subnet.used} of {size}" if subnet.pool_id else "-"
    return str(subnet.subnet), str(subnet.gateway or "-"), str(subnet.ip_range or "-"), used, reserved


_ENDPOINT_HEADER = ("CONTAINER", "FACE", "INTERFACE", "ADDRESSES", "PORTS", "STATUS", "ENDPOINT")


def _endpoint_row(endpoint: EndpointView) -> tuple[str, ...]:
    return (
        endpoint.container,
        endpoint.face,
        interface(endpoint.ifname, endpoint.face),
        " ".join(map(str, endpoint.addresses)) or "-",
        " ".join(map(str, endpoint.ports)) or "-",
        endpoint.status,
        short(endpoint.id),
    )


@network.command(examples=("dovetail network rm web", "dovetail network rm web db"))
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=NETWORK, help=_NAME)
@pass_session
def rm(session: Session, names: tuple[str, ...]) -> None:
    """Remove networks.

    One that is in use is refused, naming its endpoints. Of several names the others are removed all the same.
    """
    many.remove(session, [network_path(name) for name in names])


@network.command(
    examples=(
        "dovetail network connect web box",
        "dovetail network connect web box --ip 10.88.0.10 --ifname eth1 -p 8080:80",
        "dovetail network connect web box -p 127.0.0.1:8443:443/tcp -p 5000-5009:5000-5009/udp",
    )
)
@click.argument("name", type=NETWORK, help=_NAME)
@click.argument("sandbox", type=SANDBOX, help=_SANDBOX)
@click.option(
    "--ip",
    "ips",
    type=ADDRESS,
    multiple=True,
    help="This address; once for IPv4, once for IPv6.  [default: the next free]",
)
@click.option(
    "--ifname", default="", metavar="NAME", help="The interface's name there.  [default: the next free one]"
)
@click.option("--mac", type=MAC, default=None, help="Its MAC address.  [default: made from its address]")
@click.option(
    "--alias", "aliases", multiple=True, metavar="NAME", help="Another name of the sandbox on this network."
)
@click.option("--sysctl", "sysctls", type=SYSCTL, multiple=True, callback=once, help=SYSCTL_HELP)
@click.option("-p", "--publish", type=PUBLISH, multiple=True, help=PUBLISH_HELP)
@pass_session
def connect(session: Session, /, name: str, sandbox: str, **given: Any) -> None:
    """Connect a sandbox to a network.

    Prints the interface, the addresses and the published ports. SANDBOX is one of dovetail's own, or a Docker
    or CNI container that is on another of dovetail's networks.

    A published port is reachable at the host's addresses, from the host itself and from other containers.
    HOST may be a range as long as CONT's; for a single CONT the first free port of the range is taken. Left
    out or 0, any free port is. What was chosen is printed.
    """
    request = connect_request(sandbox, **given)
    payload = session.request("POST", network_path(name, "connect"), request)
    view = decode(payload, EndpointView)
    ports = "".join(f" {mapping}" for mapping in view.ports)
    session.show(payload, f"{view.ifname} {' '.join(map(str, view.addresses))}{ports}".strip())


def connect_request(
    sandbox: str,
    *,
    ips: Sequence[IPAddress] = (),
    ifname: str = "",
    mac: Mac | None = None,
    aliases: Sequence[str] = (),
    publish: Sequence[str] = (),
    sysctls: Mapping[str, str] | None = None,
) -> ConnectRequest:
    """Put the options of ``network connect`` together."""
    return ConnectRequest(
        sandbox=sandbox,
        ips=list(ips),
        ifname=ifname,
        mac=mac,
        aliases=list(aliases),
        publish=list(publish),
        sysctls=dict(sysctls or {}),
    )


@network.command(examples=("dovetail network disconnect web box",))
@click.argument("name", type=NETWORK, help=_NAME)
@click.argument("sandbox", type=SANDBOX, help=_SANDBOX)
@pass_session
def disconnect(session: Session, name: str, sandbox: str) -> None:
    """Take a sandbox out of a network.

    Its interface, addresses and published ports go. Only what 'dovetail network connect' attached; Docker and CNI take out their own.
    """
    session.show(
        session.request("POST", network_path(name, "disconnect"), DisconnectRequest(sandbox=sandbox)), ""
    )
