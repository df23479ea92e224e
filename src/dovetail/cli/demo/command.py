"""The command: it starts the private host, and looks before and after at the real one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile

import click

from dovetail.cli.command import Verb
from dovetail.cli.demo.footprint import Footprint
from dovetail.errors import NotFound, PermissionDenied

__all__ = ["demo"]

_TIMEOUT_S = 180
_NEEDED = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2", "nft": "nftables"}


@click.command(
    cls=Verb,
    examples=("dovetail demo", "dovetail demo --no-docker"),
    explainable=False,
)
@click.option(
    "--docker/--no-docker", default=True, help="Use a real Docker Engine too, where dockerd is installed."
)
@click.option("--inside", hidden=True, default="", metavar="DIR")
@click.pass_context
def demo(ctx: click.Context, inside: str, docker: bool) -> None:
    """Show it all at work, in a private host.

    In namespaces of its own it starts a daemon, makes network 'web' and attaches to it a sandbox from the command
    line, a container as a CNI runtime does, one as dockerd does over the plugin socket, and one of a real Docker
    Engine where dockerd is installed. One of them serves HTTP, the others fetch it, directly and through a
    published port. Then come the topology, the trace and the times of the attachments, and everything is
    taken down again. Needs root; takes about 20 s with Docker and 5 s without. Exit status 1 if any step fails.
    """
    if inside:
        from dovetail.cli.demo.play import play

        status = play(inside, docker=docker)
    else:
        status = _outside(docker=docker)
    if status:
        ctx.exit(status)


def _outside(*, docker: bool) -> int:
    """Run the play in its private host; give its status, or 1 where it left anything behind."""
    if os.geteuid() != 0:
        raise PermissionDenied(
            "the demonstration makes network namespaces", hint="run as root: sudo dovetail demo"
        )
    for program, package in _NEEDED.items():
        if shutil.which(program) is None:
            raise NotFound("program", program, hint=f"install {package}")
    before = Footprint.of_host()
    scratch = tempfile.mkdtemp(prefix="dovetail-demo-")
    try:
        status = _play_in_private(scratch, docker=docker)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    left = Footprint.of_host().beyond(before, mark=scratch)
    if os.path.exists(scratch):
        left.append(f"directory {scratch}")
    if left:
        click.echo(f"LEFT BEHIND: {'; '.join(left)}")
        return 1
    click.echo(f"The real host is as it was: {Footprint.WORDS}.")
    return status


def _play_in_private(scratch: str, *, docker: bool) -> int:
    """Start this command again under new mount, network, UTS and PID namespaces; they die with it.

    The PID namespace makes sure of it: when its first process ends, the kernel ends all the others.
    """
    command = [
        "unshare", "--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc",
        sys.executable, "-m", "dovetail", "demo", "--inside", scratch, "--docker" if docker else "--no-docker",
    ]  # fmt: skip
    sys.stdout.flush()
    environ = {key: value for key, value in os.environ.items() if not key.startswith("DOVETAIL_")}
    with subprocess.Popen(command, env=environ) as inner:  # its output is ours
        try:
            return inner.wait(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            inner.kill()
            click.echo(f"FAILED: not done within {_TIMEOUT_S} s")
            return 1
        except KeyboardInterrupt:
            inner.send_signal(signal.SIGTERM)
            inner.wait(timeout=30)
            raise
