"""The command line: the group of all commands, and how a run of it ends.

``dovetail daemon`` is added above (`dovetail.main`), as the daemon and the CLI do not know each other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from dovetail.assembly import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from dovetail.cli.cni import cni
from dovetail.cli.command import Noun, Verb
from dovetail.cli.demo import demo
from dovetail.cli.doctor import doctor
from dovetail.cli.driver import driver, pool
from dovetail.cli.endpoint import endpoint
from dovetail.cli.gc import gc
from dovetail.cli.network import network
from dovetail.cli.reference import reference
from dovetail.cli.run import run
from dovetail.cli.sandbox import sandbox
from dovetail.cli.session import Format, Session
from dovetail.cli.topology import topology
from dovetail.cli.trace import trace
from dovetail.cli.version import completion, version
from dovetail.errors import DovetailError, one_sentence

__all__ = ["main", "root"]

_FAILED, _USAGE, _INTERRUPTED, _PIPE = 1, 2, 130, 141  # the last two: 128 + SIGINT, 128 + SIGPIPE


@click.group(cls=Noun, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--state-dir",
    envvar="DOVETAIL_STATE_DIR",
    default=DEFAULT_STATE_DIR,
    show_default=True,
    metavar="DIR",
    help="Where networks, endpoints and addresses are kept; also DOVETAIL_STATE_DIR.",
)
@click.option(
    "--run-dir",
    envvar="DOVETAIL_RUN_DIR",
    default=DEFAULT_RUN_DIR,
    show_default=True,
    metavar="DIR",
    help="Where the daemon's sockets and the namespaces are; also DOVETAIL_RUN_DIR.",
)
@click.option(
    "--format", type=click.Choice(["table", "json"]), default="table", help="For people or for programs."
)
@click.option("--explain", is_flag=True, help="Print the commands it would amount to; change nothing.")
@click.pass_context
def root(ctx: click.Context, state_dir: str, run_dir: str, format: Format, explain: bool) -> None:  # noqa: A002 - click's
    """One container network under Docker, CNI and plain network namespaces.

    Networks are made once and joined from everywhere: by Docker containers (a network and IPAM plugin),
    by CNI containers (the plugin type 'dovetail') and by sandboxes, which are plain network namespaces.

    With a daemon running the commands talk to it; without one they do the same work themselves, on the
    same state. Wherever a NAME is asked for, an id or a unique beginning of an id will do. --format and
    --explain may also follow the command.

    Exit status: 0 done, 1 failed (one sentence on the standard error says why), 2 wrong usage.
    """
    ctx.obj = Session(
        state_dir=os.path.abspath(state_dir), run_dir=os.path.abspath(run_dir), format=format, explain=explain
    )


@click.command("reference", cls=Verb, hidden=True, explainable=False)
@click.pass_context
def _reference(ctx: click.Context) -> None:
    """Print the reference page of all commands."""
    command = ctx.find_root().command
    if isinstance(command, click.Group):
        click.echo(reference(command), nl=False)


for _command in (
    network, sandbox, run, endpoint, driver, pool, cni, trace, topology, doctor, gc, demo, version, completion,
    _reference,
):  # fmt: skip
    root.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit status; errors are a sentence on the standard error."""
    try:
        result = root.main(arguments, prog_name="dovetail", standalone_mode=False)
    except (Exception, KeyboardInterrupt) as exc:
        if os.environ.get("DOVETAIL_TRACEBACK"):
            raise
        return _fail(exc)
    return result if isinstance(result, int) else 0


def _fail(error: BaseException) -> int:
    status = _FAILED
    match error:
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            status = _USAGE
        case click.UsageError():
            path = error.ctx.command_path if error.ctx is not None else "dovetail"
            _complain(error.format_message(), hint=f"{path} --help")
            status = _USAGE
        case click.ClickException():
            _complain(error.format_message())
        case click.Abort() | KeyboardInterrupt():
            status = _INTERRUPTED
        case UnicodeEncodeError() if error.reason == "surrogates not allowed":
            # Python reads what is not UTF-8 on the command line as surrogates, PEP 383
            _complain(f"{error.object!r} is not valid UTF-8", hint="dovetail --help")
            status = _USAGE
        case BrokenPipeError():
            # whoever read the output has gone; the flush at exit must find no error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = _PIPE
        case ExceptionGroup():
            for failure in error.exceptions:
                _complain_of(failure)
        case DovetailError() | OSError():
            _complain_of(error)
        case _:
            sentence = f"internal error: {type(error).__name__}: {one_sentence(error)}"
            _complain(sentence, hint="this is a bug in dovetail; DOVETAIL_TRACEBACK=1 shows where")
    return status


def _complain_of(error: BaseException) -> None:
    if isinstance(error, DovetailError):
        message = f"{error.where}: {error.message}" if error.where else error.message
        _complain(message, hint=error.hint)
    else:
        _complain(one_sentence(error))


def _complain(sentence: str, *, hint: str = "") -> None:
    click.echo(f"dovetail: {' '.join(sentence.split())}", err=True)
    if hint:
        click.echo(f"hint: {' '.join(hint.split())}", err=True)
