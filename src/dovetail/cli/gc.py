"""``dovetail gc``."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from dovetail.cli.command import Verb
from dovetail.cli.render import table
from dovetail.cli.session import Session, pass_session
from dovetail.cli.values import docker_socket_option
from dovetail.engine.report import Finding, Report
from dovetail.errors import DovetailError
from dovetail.model.codec import decode

__all__ = ["gc"]

_PATH = "/v1/gc"
_HEADER = ("ACTION", "KIND", "WHAT", "WHY", "AGE")
_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


@click.command(
    cls=Verb,
    examples=(
        "dovetail gc                # show what belongs to nobody, ask, and remove it",
        "dovetail gc --dry-run --format json",
        "dovetail gc --yes          # for a script or a timer",
    ),
    exits={"0": "It is done, or there was nothing to do.", "1": "It failed, or was not confirmed."},
)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("-f", "-y", "--force", "--yes", "confirmed", is_flag=True, help="Do not ask.")
@docker_socket_option
@pass_session
def gc(session: Session, dry_run: bool, confirmed: bool, docker_socket: str) -> None:
    """Collect what belongs to nobody, and show it first.

    That is what a crash, a restart of the host or a lost call of Docker's has left: endpoints without a container,
    interfaces, addresses and pools that nobody uses, networks half made or half deleted, sandboxes without a
    namespace; and what is missing of the networks that are there is put back. The daemon does the same when it
    starts, a minute later, and then every ten minutes. What is younger than a minute is left alone, as the call that it waits for may come.

    What Docker has forgotten only Docker can tell, so it is asked: by the daemon, at the daemon's --docker-socket, or
    where none runs by this command, at the one that is given here. The daemon removes by itself only what Docker had listed before;
    here all networks are shown that Docker does not have, unless a container is on them.

    With --format json nothing is asked: without --yes it is only shown.
    """
    session.docker_socket = docker_socket
    plan = session.request("GET", _PATH)
    report = decode(plan, Report)
    as_json = session.format == "json"
    if not session.explain and (dry_run or (as_json and not confirmed) or not report.findings):
        session.show(plan, _told(report))
        _raise(report)
        return
    if not confirmed and not session.explain:
        click.echo(_told(report))
        _confirm()
    payload = session.request("POST", _PATH)
    done = decode(payload, Report)
    session.show(payload, _told(done) if confirmed else _count(done.findings))
    _raise(done)


def _confirm() -> None:
    """Ask; an input that is at its end is no."""
    try:
        if click.confirm("Do this?", err=True):
            return
    except click.Abort:
        click.echo(err=True)
    raise DovetailError("not confirmed, so nothing was done", hint="dovetail gc --yes does not ask")


def _told(report: Report) -> str:
    rows = [
        (finding.action, finding.kind, finding.what, finding.why, _age(finding))
        for finding in report.findings
    ]
    text = table(_HEADER, rows) if rows else "Everything belongs to somebody."
    return "\n".join([text, *(f"note: {note}" for note in report.notes)])


def _age(finding: Finding) -> str:
    """Write how long ago it was made: the largest unit, and how many."""
    seconds = int(time.time() - finding.since) if finding.since else -1
    return next((f"{seconds // size} {unit}" for size, unit in _UNITS if seconds >= size), "-")


def _count(findings: Sequence[Finding]) -> str:
    past = {"restore": "restored", "release": "released", "remove": "removed"}
    counts = [(word, sum(finding.action == action for finding in findings)) for action, word in past.items()]
    return ", ".join(f"{word} {count}" for word, count in counts if count) or "nothing was left to do"


def _raise(report: Report) -> None:
    failures = [DovetailError(sentence) for sentence in report.failed]
    if failures:
        raise ExceptionGroup("not everything could be collected", failures)
