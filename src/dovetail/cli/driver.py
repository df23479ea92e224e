"""``dovetail driver`` and ``dovetail pool``: what networks can be made of."""

from __future__ import annotations

import textwrap
from urllib.parse import quote

import click

from dovetail.api.views import DriverView, PoolView
from dovetail.cli import many
from dovetail.cli.command import Noun
from dovetail.cli.render import facts, table
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import DRIVER
from dovetail.model.codec import decode

__all__ = ["driver", "pool"]

_WIDTH = 88


@click.group(cls=Noun)
def driver() -> None:
    """Show the network drivers.

    A driver is a technique that networks are made with. It is given as: dovetail network create -d DRIVER NAME.
    """


@driver.command("ls", examples=("dovetail driver ls",))
@pass_session
def list_drivers(session: Session) -> None:
    """List the drivers, and what an endpoint gets on each.

    PLUGIN is the driver's name in Docker: docker network create -d PLUGIN, or driver: PLUGIN in a compose file.
    """
    payload = session.request("GET", "/v1/drivers")
    rows = [
        (view.name, view.plugin if view.addressed else "-", view.summary)
        for view in decode(payload, list[DriverView])
    ]
    session.show(payload, table(("DRIVER", "PLUGIN", "AN ENDPOINT GETS"), rows))


@driver.command(examples=("dovetail driver inspect macvlan", "dovetail driver inspect bridge --format json"))
@click.argument("names", metavar="DRIVER...", nargs=-1, required=True, type=DRIVER, help="The driver's name.")
@pass_session
def inspect(session: Session, names: tuple[str, ...]) -> None:
    """Show drivers in full, with their options.

    An option is given as -o KEY=VALUE, to 'dovetail network create' and to 'docker network create' alike.
    Docker's own name of an option, below it, means the same.

    With --format json the result is a list, also for a single driver.
    """
    many.inspect(session, [f"/v1/drivers/{quote(name, safe='')}" for name in names], DriverView, _describe)


def _describe(view: DriverView) -> str:
    head = facts(
        {
            "driver": view.name,
            "an endpoint gets": view.summary,
            "in Docker": f"docker network create -d {view.plugin}" if view.addressed else "",
            "subnets": "yes" if view.addressed else "none",
            "gateway": _gateway(view),
        }
    )
    rows: list[tuple[str, str]] = []
    for key, option in view.options.items():
        first, *more = textwrap.wrap(option.meaning, _WIDTH)
        rows += [(key, first), *(("", line) for line in more)]
        rows += [("", f"in Docker {synonym}") for synonym in option.synonyms]
    return f"{head}\n\n{table(('OPTION', 'MEANING (DEFAULT)'), rows)}" if rows else head


def _gateway(view: DriverView) -> str:
    if not view.addressed:
        return ""
    return "the host" if view.is_gateway else "a router on the wire, where --gateway names one"


@click.group(cls=Noun)
def pool() -> None:
    """Show the address pools."""


@pool.command("ls", examples=("dovetail pool ls",))
@pass_session
def list_pools(session: Session) -> None:
    """List the pools, whose they are and how full they are."""
    payload = session.request("GET", "/v1/pools")
    rows = [
        (
            str(view.subnet),
            str(view.ip_range or "-"),
            view.network or view.owner or "-",
            str(view.used),
            str(view.size),
        )
        for view in decode(payload, list[PoolView])
    ]
    session.show(payload, table(("SUBNET", "IP RANGE", "NETWORK", "USED", "SIZE"), rows))
