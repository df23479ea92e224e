"""The program: the command line, and the daemon as one of its commands.

The CLI and the daemon are siblings that do not import each other; this module is above both.
"""

from __future__ import annotations

import sys
from typing import Literal

import click

from dovetail.cli.command import Verb
from dovetail.cli.main import main as run_cli
from dovetail.cli.main import root
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import docker_socket_option

__all__ = ["daemon", "main"]


@click.command(
    cls=Verb,
    examples=(
        "dovetail daemon",
        "dovetail --state-dir /tmp/d/state --run-dir /tmp/d/run daemon --docker-plugin-dir /tmp/d/plugins",
    ),
    exits={"0": "It was stopped.", "1": "It could not start; a sentence on the standard error says why."},
    explainable=False,
)
@click.option(
    "--docker-plugin-dir",
    default="/run/docker/plugins",
    show_default=True,
    metavar="DIR",
    help="Where Docker looks for plugin sockets.",
)
@click.option(
    "--docker-scope",
    type=click.Choice(["local", "global"]),
    envvar="DOVETAIL_DOCKER_SCOPE",
    default="local",
    show_default=True,
    help="Where Docker keeps networks: on each host for itself, or in its swarm, for which it takes a managed "
    "plugin only; also DOVETAIL_DOCKER_SCOPE.",
)
@click.option(
    "--docker-mac-first",
    is_flag=True,
    envvar="DOVETAIL_DOCKER_MAC_FIRST",
    help="Have Docker settle an endpoint's MAC before its address: networks with the option sticky then know a "
    "container by a MAC that is fixed, where Docker does not say its name (before 29); also DOVETAIL_DOCKER_MAC_FIRST.",
)
@docker_socket_option
@pass_session
def daemon(
    session: Session,
    docker_plugin_dir: str,
    docker_scope: Literal["local", "global"],
    docker_socket: str,
    *,
    docker_mac_first: bool,
) -> None:
    """Serve Docker, CNI and the commands.

    Until SIGTERM or SIGINT; what is under way then is finished. Its sockets: in DIR for a Docker Engine (mode 0600)
    dovetail.sock, and dovetail-NAME.sock for each other driver that Docker finds by name; in the run directory
    api.sock for the commands and the HTTP API (0660), and cni.sock for the CNI plugins (0600). systemd may pass them.

    At start, and every ten minutes, what is kept is compared with the kernel and repaired; see 'dovetail gc'. What
    another program takes out of the firewall is put back at once. Containers keep talking while no daemon runs.
    Start it before Docker, which waits 15 seconds for each call to a plugin that is not there. Needs root.

    Once Docker has called, its events are followed for the names of containers and networks.
    """
    from dovetail.daemon.daemon import run

    status = run(
        state_dir=session.state_dir,
        run_dir=session.run_dir,
        docker_plugin_dir=docker_plugin_dir,
        docker_socket=docker_socket,
        docker_scope=docker_scope,
        docker_mac_first=docker_mac_first,
    )
    if status:
        click.get_current_context().exit(status)


root.add_command(daemon)
root.commands = {"daemon": daemon, **root.commands}  # the first in the help, as it is in the manual


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(run_cli())
