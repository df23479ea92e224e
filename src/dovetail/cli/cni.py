"""``dovetail cni``."""

from __future__ import annotations

import click

from dovetail.cli.command import Noun
from dovetail.cli.session import Session, pass_session
from dovetail.model.codec import encode

__all__ = ["cni"]


@click.group(cls=Noun)
def cni() -> None:
    """Use dovetail from CNI runtimes.

    podman, containerd, nerdctl and the kubelet are such.
    """


@cni.command(
    examples=(
        "dovetail cni install",
        "dovetail cni install --bin-dir /usr/lib/cni dovetail  # that type alone",
    ),
    explainable=False,
)
@click.argument("types", metavar="[TYPE]...", nargs=-1, help="The plugins' types; all where none is named.")
@click.option(
    "--bin-dir",
    default="/opt/cni/bin",
    show_default=True,
    metavar="DIR",
    help="The directory where the runtime looks for plugins.",
)
@pass_session
def install(session: Session, bin_dir: str, types: tuple[str, ...]) -> None:
    """Install the CNI plugins.

    One executable, in DIR, under every plugin name. It is a small C program, compiled here where there is a
    compiler and else replaced by a Python script of the same behaviour. It hands each call to the daemon, and
    runs the engine itself where none runs. The state and run directories in force now are remembered beside it.

    A plugin of another package that has the same name is put aside, into DIR/.before-dovetail, while containers
    run: each type takes the reference plugin's keys, and deletes what that has made.
    'dovetail cni uninstall' puts it back.

    A network configuration then names a network of dovetail's:
    {"cniVersion": "1.0.0", "name": "web", "plugins": [{"type": "dovetail", "network": "web",
    "capabilities": {"portMappings": true}}]}
    """
    from dovetail.cni.install import install as install_plugins

    paths = install_plugins(bin_dir, run_dir=session.run_dir, state_dir=session.state_dir, types=types)
    session.show(encode({"paths": paths}), "\n".join(paths))


@cni.command(
    examples=("dovetail cni uninstall", "dovetail cni uninstall --bin-dir /usr/lib/cni"),
    explainable=False,
)
@click.option(
    "--bin-dir",
    default="/opt/cni/bin",
    show_default=True,
    metavar="DIR",
    help="The directory where they were installed.",
)
@pass_session
def uninstall(session: Session, bin_dir: str) -> None:
    """Take the CNI plugins away.

    What had their names before is put back. Containers that are attached stay so, and are deleted by whoever has the plugin's name then.
    """
    from dovetail.cni.install import uninstall as uninstall_plugins

    paths = uninstall_plugins(bin_dir)
    session.show(encode({"paths": paths}), "\n".join(paths))
