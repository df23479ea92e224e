"""``dovetail trace``."""

from __future__ import annotations

import re

import click

from dovetail.api import tracelog
from dovetail.cli.backend import find_daemon
from dovetail.cli.command import Verb
from dovetail.cli.render import Branch, clock, tree
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import DEPTH, OPERATIONS
from dovetail.engine.trace import Step
from dovetail.model.codec import decode, encode
from dovetail.model.names import short

__all__ = ["step_tree", "trace"]

_ID = re.compile(r"\b[0-9a-f]{64}\b")


@click.command(cls=Verb, examples=("dovetail trace", "dovetail trace --last 1"))
@click.option(
    "--last", type=OPERATIONS, default=20, show_default=True, help="How many operations to show, the latest."
)
@click.option("--depth", type=DEPTH, default=None, help="How many levels below each to show.  [default: all]")
@pass_session
def trace(session: Session, last: int, depth: int | None) -> None:
    """Show the last operations, step by step, timed.

    Oldest first. Each begins with the face it came by and its own words (docker NetworkDriver.Join, cni ADD, cli network
    connect), goes through the engine, IPAM and the driver, and ends with what was asked of the kernel, written as
    the command it equals. Times are milliseconds. Shown are the operations of the running daemon and those that
    ran without one.
    """
    daemon = find_daemon(session.run_dir)
    ring: list[Step] = []
    if daemon is not None:
        ring = decode(daemon.request("GET", "/v1/trace", None, query={"last": str(last)}), list[Step])
    steps = tracelog.merge(ring, tracelog.read(session.run_dir), last=last)
    session.show(encode(steps), "\n".join(step_tree(step, depth=depth) for step in steps))


def step_tree(step: Step, *, depth: int | None = None) -> str:
    """Draw one operation with its times."""
    root = _branch(step, depth)
    return tree(root._replace(text=f"{clock(step.started)}  {root.text}"))


def _branch(step: Step, depth: int | None) -> Branch:
    deeper = depth is None or depth > 0
    commands = step.detail.get("command", "").split(" ; ")
    if len(commands) > 1:
        words = f"{_ms(step.duration_ms)}  {step.layer} {step.name}{_failure(step)}"
        return Branch(words, [Branch(command) for command in commands] if deeper else [])
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
