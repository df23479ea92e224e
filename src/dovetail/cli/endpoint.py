"""``dovetail endpoint``."""

from __future__ import annotations

from urllib.parse import quote

import click

from dovetail.api.views import EndpointView
from dovetail.cli import many
from dovetail.cli.command import Noun
from dovetail.cli.render import facts, interface, known, moment, table
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import ENDPOINT
from dovetail.model.attachment import DNS
from dovetail.model.codec import decode
from dovetail.model.names import short
from dovetail.model.routes import format_route

__all__ = ["endpoint"]

_REF = "Its id, a beginning of it that no other has, or the container's name where that has one endpoint."
_HEADER = ("ENDPOINT", "NETWORK", "CONTAINER", "FACE", "INTERFACE", "ADDRESSES", "PORTS", "LINK", "STATUS")


@click.group(cls=Noun)
def endpoint() -> None:
    """Show endpoints, whoever made them.

    An endpoint is what ties one sandbox to one network: one interface and its addresses.
    """


@endpoint.command(examples=("dovetail endpoint ls",))
@pass_session
def ls(session: Session) -> None:
    """List the endpoints of all networks."""
    payload = session.request("GET", "/v1/endpoints")
    rows = [
        (
            short(view.id),
            known(view.network, view.known_as),
            view.container,
            view.face,
            interface(view.ifname, view.face),
            " ".join(map(str, view.addresses)) or "-",
            " ".join(map(str, view.ports)) or "-",
            view.link or "-",
            view.status,
        )
        for view in decode(payload, list[EndpointView])
    ]
    session.show(payload, table(_HEADER, rows))


@endpoint.command(examples=("dovetail endpoint inspect 427f44f58515",))
@click.argument("refs", metavar="ENDPOINT...", nargs=-1, required=True, type=ENDPOINT, help=_REF)
@pass_session
def inspect(session: Session, refs: tuple[str, ...]) -> None:
    """Show endpoints in full.

    With --format json the result is a list, also for a single endpoint.
    """
    paths = [f"/v1/endpoints/{quote(ref, safe='')}" for ref in refs]
    many.inspect(session, paths, EndpointView, _describe)


def _describe(view: EndpointView) -> str:
    return facts(
        {
            "endpoint": view.id,
            "network": f"{known(view.network, view.known_as)} {short(view.network_id)}".rstrip(),
            "container": view.container,
            "container id": view.container_id,
            "made by": view.face,
            "status": view.status,
            "sandbox": view.sandbox_id,
            "namespace": view.netns,
            "interface": view.ifname,
            "mac": view.mac or "",
            "mtu": str(view.mtu or ""),
            "addresses": " ".join(map(str, view.addresses)),
            "gateways": " ".join(map(str, view.gateways)),
            "routes": ", ".join(map(format_route, view.routes)),
            "dns": _dns(view.dns),
            "aliases": " ".join(view.aliases),
            "ports": " ".join(map(str, view.ports)),
            "options": " ".join(f"{key}={value}" for key, value in sorted(view.options.items())),
            "sysctls": " ".join(f"{key}={value}" for key, value in sorted(view.sysctls.items())),
            "plugins": " > ".join(view.plugins),
            "host link": view.link,
            "host side": " > ".join(interface.name for interface in view.host_interfaces),
            "lease ends": moment(view.lease_ends) if view.lease_ends is not None else "",
            "created": moment(view.created),
        }
    )


def _dns(dns: DNS) -> str:
    words = {
        "nameservers": dns.nameservers,
        "search": dns.search,
        "options": dns.options,
        "domain": (dns.domain,) if dns.domain else (),
    }
    return " ".join(f"{key} {','.join(values)}" for key, values in words.items() if values)
