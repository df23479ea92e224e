"""``dovetail sandbox``."""

from __future__ import annotations

import os
import shlex
from urllib.parse import quote

import click

from dovetail.api.requests import SandboxRequest
from dovetail.api.views import SandboxView
from dovetail.cli import many
from dovetail.cli.command import Noun
from dovetail.cli.enter import replace_process
from dovetail.cli.render import facts, interface, known, moment, table
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import COMMAND_EXITS, SANDBOX, command_argument
from dovetail.model.codec import decode
from dovetail.model.names import short

__all__ = ["sandbox", "sandbox_path"]

_NAME = "The sandbox's name, its id, or a beginning of the id that no other has."


def sandbox_path(ref: str) -> str:
    """Name a sandbox in the API."""
    return f"/v1/sandboxes/{quote(ref, safe='')}"


@click.group(cls=Noun)
def sandbox() -> None:
    """Make, show, use and remove sandboxes.

    A sandbox is a container's network stack: a network namespace with its interfaces, routes and ports.
    Docker's and CNI's containers are listed as well while they are on a network of dovetail's.
    """


@sandbox.command(
    examples=(
        "dovetail sandbox create box",
        "dovetail sandbox create other --netns /run/netns/other     # one that exists, made by ip netns add",
    )
)
@click.argument("name", default="", help="Its name.  [default: the beginning of its id]")
@click.option(
    "--netns",
    default="",
    metavar="PATH",
    help="Adopt the namespace there, which dovetail never deletes.  [default: a new one]",
)
@pass_session
def create(session: Session, name: str, netns: str) -> None:
    """Make a sandbox and print its name.

    It has its loopback interface and nothing else until it is connected to a network.
    """
    path = os.path.abspath(netns) if netns else ""
    payload = session.request("POST", "/v1/sandboxes", SandboxRequest(name=name, netns=path))
    session.show(payload, decode(payload, SandboxView).name)


@sandbox.command(examples=("dovetail sandbox ls",))
@pass_session
def ls(session: Session) -> None:
    """List the sandboxes and the networks they are on."""
    payload = session.request("GET", "/v1/sandboxes")
    rows = [
        (view.name, _networks(view), view.face, view.netns or "-", short(view.id))
        for view in decode(payload, list[SandboxView])
    ]
    session.show(payload, table(("NAME", "NETWORKS", "FACE", "NAMESPACE", "ID"), rows))


def _networks(view: SandboxView) -> str:
    return (
        " ".join(
            f"{known(endpoint.network, endpoint.known_as)}:{interface(endpoint.ifname, endpoint.face)}"
            for endpoint in view.endpoints
        )
        or "-"
    )


@sandbox.command(examples=("dovetail sandbox inspect box",))
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=SANDBOX, help=_NAME)
@pass_session
def inspect(session: Session, names: tuple[str, ...]) -> None:
    """Show sandboxes in full.

    With --format json the result is a list, also for a single sandbox.
    """
    many.inspect(session, [sandbox_path(name) for name in names], SandboxView, _describe)


def _describe(view: SandboxView) -> str:
    head = facts(
        {
            "sandbox": view.name,
            "id": view.id,
            "container id": view.container,
            "made by": view.face,
            "namespace": f"{view.netns} (deleted with the sandbox)" if view.made else view.netns,
            "created": moment(view.created),
        }
    )
    if not view.endpoints:
        return head
    rows = [
        (
            known(endpoint.network, endpoint.known_as),
            interface(endpoint.ifname, endpoint.face),
            " ".join(map(str, endpoint.addresses)) or "-",
            " ".join(map(str, endpoint.ports)) or "-",
            short(endpoint.id),
        )
        for endpoint in view.endpoints
    ]
    return f"{head}\n\n{table(('NETWORK', 'INTERFACE', 'ADDRESSES', 'PORTS', 'ENDPOINT'), rows)}"


@sandbox.command(examples=("dovetail sandbox rm box",))
@click.argument("names", metavar="NAME...", nargs=-1, required=True, type=SANDBOX, help=_NAME)
@pass_session
def rm(session: Session, names: tuple[str, ...]) -> None:
    """Remove sandboxes, out of their networks first.

    A namespace that was adopted stays. A sandbox of Docker's or CNI's goes with its container, not here.
    """
    many.remove(session, [sandbox_path(name) for name in names])


@sandbox.command(
    "exec",
    examples=(
        "dovetail sandbox exec box -- ip addr",
        "dovetail sandbox exec box -- ping -c1 10.88.0.1",
    ),
    exits=COMMAND_EXITS,
    context_settings={"allow_interspersed_args": False},
)
@click.argument("name", type=SANDBOX, help=_NAME)
@command_argument
@pass_session
def execute(session: Session, name: str, command: tuple[str, ...]) -> None:
    """Run a command in a sandbox.

    Only the network is the sandbox's: files, processes and users stay the host's. Needs root.
    """
    view = session.get(sandbox_path(name), SandboxView)
    if session.explain:
        session.backend.commands.append(f"nsenter --net={shlex.quote(view.netns)} {shlex.join(command)}")
        return
    replace_process(view.netns, command)
