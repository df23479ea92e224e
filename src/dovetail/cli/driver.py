"""``dovetail driver`` and ``dovetail pool``: what networks can be made of."""

from __future__ import annotations

import click

from dovetail.api.views import DriverView, PoolView
from dovetail.cli.command import Noun
from dovetail.cli.render import facts, table
from dovetail.cli.session import Session, pass_session
from dovetail.model.codec import decode

__all__ = ["driver", "pool"]


@click.group(cls=Noun)
def driver() -> None:
    """Show the network drivers.

    A driver is a technique that networks are made with.
    """


@driver.command("ls", examples=("dovetail driver ls",))
@pass_session
def list_drivers(session: Session) -> None:
    """List the drivers and their options.

    They are given as: dovetail network create -d DRIVER -o KEY=VALUE NAME.
    """
    payload = session.request("GET", "/v1/drivers")
    parts = []
    for view in decode(payload, list[DriverView]):
        head = f"{view.name}{'' if view.addressed else '  (its networks have no subnets)'}"
        parts.append(f"{head}\n{facts(view.options, indent=2)}".rstrip())
    session.show(payload, "\n".join(parts))


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
