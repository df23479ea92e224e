"""``dovetail version`` and ``dovetail completion``."""

from __future__ import annotations

import platform

import click
import msgspec
from click.shell_completion import get_completion_class

import dovetail
from dovetail.api.dispatch import API_VERSION, Version
from dovetail.cli.backend import find_daemon
from dovetail.cli.command import Verb
from dovetail.cli.render import facts
from dovetail.cli.session import Session, pass_session
from dovetail.errors import DovetailError
from dovetail.model.codec import decode, encode

__all__ = ["completion", "version"]


class Versions(msgspec.Struct, kw_only=True):
    """This program's, and the daemon's where one answers."""

    version: str
    api: str
    python: str
    kernel: str
    daemon: Version | None = None


@click.command(cls=Verb, examples=("dovetail version",))
@pass_session
def version(session: Session) -> None:
    """Print the versions of program and daemon."""
    versions = Versions(
        version=dovetail.__version__,
        api=API_VERSION,
        python=platform.python_version(),
        kernel=platform.release(),
    )
    try:
        daemon = find_daemon(session.run_dir)
        if daemon is not None:
            versions.daemon = decode(daemon.request("GET", "/v1/version", None, query={}), Version)
        running = (
            f"{versions.daemon.version} (pid {versions.daemon.pid})" if versions.daemon else "not running"
        )
    except DovetailError as exc:
        running = exc.message
    told = {
        "dovetail": versions.version,
        "api": versions.api,
        "python": versions.python,
        "kernel": versions.kernel,
    }
    session.show(encode(versions), facts({**told, "daemon": running}))


@click.command(
    cls=Verb,
    examples=(
        'eval "$(dovetail completion bash)"      # in ~/.bashrc',
        'eval "$(dovetail completion zsh)"       # in ~/.zshrc',
        "dovetail completion fish > ~/.config/fish/completions/dovetail.fish",
    ),
)
@click.argument(
    "shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]), help="bash, zsh or fish."
)
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the shell's completion of commands.

    It completes commands, options, and the names of networks, sandboxes, endpoints and drivers.
    """
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"{shell} has no completion", ctx)
    click.echo(found(ctx.find_root().command, {}, "dovetail", "_DOVETAIL_COMPLETE").source())
