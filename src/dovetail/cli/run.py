"""``dovetail run``: a sandbox for one command."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Sequence
from typing import Any

import click

from dovetail.api.requests import SandboxRequest
from dovetail.api.views import SandboxView
from dovetail.cli.command import Verb
from dovetail.cli.enter import FORWARDED, run_beside
from dovetail.cli.network import connect_request, network_path
from dovetail.cli.sandbox import sandbox_path
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import (
    ADDRESS,
    COMMAND_EXITS,
    MAC,
    NETWORK,
    PUBLISH,
    PUBLISH_HELP,
    SYSCTL,
    SYSCTL_HELP,
    command_argument,
    once,
)
from dovetail.model.codec import decode

__all__ = ["run"]


@click.command(
    cls=Verb,
    examples=(
        "dovetail run --network web -- ip addr",
        "dovetail run --network web -p 8080:80 -- python3 -m http.server 80",
        "dovetail run --network web --network db --ip 10.88.0.9 -- ping -c1 10.88.0.1",
    ),
    exits=COMMAND_EXITS,
    context_settings={"allow_interspersed_args": False},
)
@click.option(
    "--network",
    "networks",
    type=NETWORK,
    multiple=True,
    required=True,
    help="A network to connect to; several may be.",
)
@click.option(
    "--name", default="", metavar="NAME", help="The sandbox's name.  [default: the beginning of its id]"
)
@click.option(
    "--ip",
    "ips",
    type=ADDRESS,
    multiple=True,
    help="This address on the first network; once for IPv4, once for IPv6.",
)
@click.option("--mac", type=MAC, default=None, help="This MAC address on the first network.")
@click.option("--sysctl", "sysctls", type=SYSCTL, multiple=True, callback=once, help=SYSCTL_HELP)
@click.option("-p", "--publish", type=PUBLISH, multiple=True, help=PUBLISH_HELP)
@command_argument
@pass_session
def run(
    session: Session, /, networks: tuple[str, ...], name: str, command: tuple[str, ...], **given: Any
) -> None:
    """Run a command in a sandbox of its own.

    The sandbox is made, connected, and removed when CMD has ended. Signals sent to dovetail go on to CMD.
    Nothing but CMD writes to the standard output. Ports are published on the first network.
    """
    for index, network in enumerate(networks):
        if network in networks[:index]:
            raise click.UsageError(f"network {network!r} is given twice", click.get_current_context())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED | {signal.SIGCHLD})
    try:
        status = _run(session, networks, name, command, **given)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if status:
        click.get_current_context().exit(status)


def _run(
    session: Session,
    networks: Sequence[str],
    name: str,
    command: Sequence[str],
    **given: Any,
) -> int:
    made = decode(session.request("POST", "/v1/sandboxes", SandboxRequest(name=name)), SandboxView)
    try:
        for index, network in enumerate(networks):
            request = connect_request(made.id, **(given if index == 0 else {}))
            session.request("POST", network_path(network, "connect"), request)
        if not session.explain:
            return run_beside(made.netns, command)
        session.backend.commands.append(f"nsenter --net={shlex.quote(made.netns)} {shlex.join(command)}")
        return 0
    finally:
        session.request("DELETE", sandbox_path(made.id))
