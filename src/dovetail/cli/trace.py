"""``dovetail trace``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from dovetail.api import tracelog
from dovetail.api.dispatch import TraceNews
from dovetail.cli.backend import Backend, find_daemon
from dovetail.cli.command import Verb
from dovetail.cli.render import Branch, clock, headline, tree
from dovetail.cli.sequence import Operation, commands, operations, parts
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import DEPTH, OPERATIONS
from dovetail.engine.trace import Step
from dovetail.errors import NotFound
from dovetail.model.codec import decode, encode
from dovetail.model.names import short

__all__ = ["sequence_text", "step_tree", "trace"]

_ID = re.compile(r"\b[0-9a-f]{64}\b")
_ALL = 100_000_000
_WAIT_S = 20
_QUIET_S = 1
"""How long nothing must come before an operation is taken for finished and drawn."""


@click.command(
    cls=Verb,
    examples=(
        "dovetail trace --last 1",
        "dovetail trace --face docker --sequence --last 1 --depth 0     # the latest docker run, call by call",
        "dovetail trace --sequence --follow",
    ),
)
@click.option(
    "--last", type=OPERATIONS, default=20, show_default=True, help="How many operations to show, the latest."
)
@click.option("--depth", type=DEPTH, default=None, help="How many levels below each to show.  [default: all]")
@click.option(
    "--face",
    type=click.Choice(["docker", "cni", "cli", "engine"]),
    help="Only what came by this face; engine is what the daemon did by itself.",
)
@click.option("-s", "--sequence", is_flag=True, help="Draw the calls that belong together as one sequence.")
@click.option("-f", "--follow", is_flag=True, help="Go on and show what the daemon does, as it does it.")
@pass_session
def trace(
    session: Session, last: int, depth: int | None, face: str | None, *, sequence: bool, follow: bool
) -> None:
    """Show the last operations, step by step, timed.

    Oldest first. Each begins with the face it came by and its own words (docker NetworkDriver.Join, cni ADD, cli network
    connect), goes through the engine, IPAM and the driver, and ends with what was asked of the kernel, written as
    the command it equals. Times are milliseconds. Shown is what the running daemon has done since its start, and
    what the commands and CNI plugins did where no daemon ran.

    With --sequence the calls of one 'docker network create', 'docker run' or 'docker network rm' stand together,
    numbered: when each came, how long it took, what it asked and was answered. --last then counts sequences, and
    --depth 0 leaves out the commands below each call. With --follow and --format json each operation is one line.
    """
    daemon = find_daemon(session.run_dir)
    if follow and daemon is None:
        raise NotFound("daemon", session.run_dir, hint="start it with: dovetail daemon")
    ring: list[Step] = []
    after = 0
    if daemon is not None:
        after = _next(daemon, None).next
        query = {"last": str(_ALL if sequence or face else last)}
        ring = decode(daemon.request("GET", "/v1/trace", None, query=query), list[Step])
    everything = (_of_face(face, ring), _of_face(face, tracelog.read(session.run_dir)))
    steps = tracelog.merge(*everything, last=_ALL if sequence else last)
    if not follow or steps:
        _show(session, operations(steps)[-last:] if sequence else steps, depth, lines=follow)
    if follow and daemon is not None:
        for news in _follow(daemon, after, settle=sequence):
            steps = _of_face(face, news)
            _show(session, operations(steps) if sequence else steps, depth, lines=True)


def _of_face(face: str | None, steps: list[Step]) -> list[Step]:
    return [step for step in steps if face in {None, step.layer}]


def _next(daemon: Backend, after: int | None, wait_s: int = 0) -> TraceNews:
    query = {} if after is None else {"after": str(after), "wait_s": str(wait_s)}
    return decode(daemon.request("GET", "/v1/trace/next", None, query=query), TraceNews)


def _follow(daemon: Backend, after: int, *, settle: bool) -> Iterator[list[Step]]:
    """Give what the daemon does, for ever; with `settle` only when nothing more has come for a moment."""
    held: list[Step] = []
    while True:
        news = _next(daemon, after, _QUIET_S if held else _WAIT_S)
        after = news.next
        held += news.steps
        if held and not (settle and news.steps):
            yield held
            held = []


def _show(session: Session, drawn: list[Operation] | list[Step], depth: int | None, *, lines: bool) -> None:
    if session.format == "json" and lines:
        for one in drawn:
            click.echo(encode(one))
        return
    if lines and not drawn:
        return
    text = "\n".join(
        sequence_text(one, depth=depth) if isinstance(one, Operation) else step_tree(one, depth=depth)
        for one in drawn
    )
    session.show(encode(drawn), text)


def step_tree(step: Step, *, depth: int | None = None) -> str:
    """Draw one operation with its times."""
    root = _branch(step, depth)
    return tree(root._replace(text=f"{clock(step.started)}  {root.text}"))


def sequence_text(operation: Operation, *, depth: int | None = None) -> str:
    """Draw one operation as numbered calls: when each came and how long it took, in milliseconds, and its commands."""
    took = (operation.ended - operation.started) * 1000
    here = sum(step.duration_ms for step in operation.steps)
    share = f", {here:.1f} of them in dovetail" if len(operation.steps) > 1 else ""
    lines = [headline(f"{clock(operation.started)}  {operation.title}  ({took:.1f} ms{share})")]
    for number, step in enumerate(parts(operation), 1):
        at = (step.started - operation.started) * 1000
        lines.append(f"{at:8.1f} {step.duration_ms:7.2f}  {number:2}  {_call(step)}")
        if depth is None or depth > 0:
            lines += [f"{'':22}{_ID.sub(_cut, command)}" for command in commands(step)]
    return "\n".join(lines)


def _call(step: Step) -> str:
    """Write a call: its name, what it asked, and what it was answered."""
    name = step.name if step.layer == "docker" else f"{step.layer}: {step.name}"
    asked = " ".join(
        f"{key} {_ID.sub(_cut, value)}"
        for key, value in step.detail.items()
        if value and key not in {"answer", "command"}
    )
    answer = step.detail.get("answer", "")
    return f"{name:<42} {asked}{'  ->  ' + answer if answer else ''}{_failure(step)}".rstrip()


def _branch(step: Step, depth: int | None) -> Branch:
    deeper = depth is None or depth > 0
    commands_ = step.detail.get("command", "").split(" ; ")
    if len(commands_) > 1:
        words = f"{_ms(step.duration_ms)}  {step.layer} {step.name}{_failure(step)}"
        return Branch(words, [Branch(command) for command in commands_] if deeper else [])
    below = (
        [_branch(child, None if depth is None else depth - 1) for child in step.children] if deeper else []
    )
    return Branch(f"{_ms(step.duration_ms)}  {_words(step)}", below)


def _ms(duration_ms: float) -> str:
    return f"{duration_ms:.2f} ms" if duration_ms < 10 else f"{duration_ms:.1f} ms"


def _words(step: Step) -> str:
    detail = dict(step.detail)
    command = detail.pop("command", "")
    if command:
        lines = command.splitlines()
        words = f"{step.layer}: {lines[0]}{' …' if len(lines) > 1 else ''}"
    else:
        words = f"{step.layer} {step.name}"
    told = " ".join(f"{key}={_ID.sub(_cut, value)}" for key, value in detail.items() if value)
    return f"{words}{'  ' + told if told else ''}{_failure(step)}"


def _failure(step: Step) -> str:
    return f"  FAILED: {step.error}" if step.error else ""


def _cut(found: re.Match[str]) -> str:
    return short(found[0])
