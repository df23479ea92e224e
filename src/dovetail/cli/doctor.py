"""``dovetail doctor``."""

from __future__ import annotations

import click

from dovetail.api.dispatch import Version
from dovetail.api.doctor import Check
from dovetail.cli.backend import API_SOCKET, find_daemon
from dovetail.cli.command import Verb
from dovetail.cli.session import Session, pass_session
from dovetail.errors import DovetailError
from dovetail.model.codec import decode, encode

__all__ = ["doctor"]


@click.command(
    cls=Verb,
    examples=("dovetail doctor", "dovetail doctor --format json"),
    exits={"0": "There is no problem; there may be warnings.", "1": "There is a problem."},
)
@click.pass_context
@pass_session
def doctor(session: Session, ctx: click.Context) -> None:
    """Say what is wrong here, and what to do.

    Changes nothing. Looks at privileges, nftables, forwarding and other firewalls (Docker sets the FORWARD
    policy to DROP), the networks' links, clashes of their subnets with the host's routes, and at what belongs
    to nobody.
    """
    checks = [*_daemon(session), *_engine(session)]
    session.show(encode(checks), "\n".join(map(_line, checks)))
    if any(check.verdict == "problem" for check in checks):
        ctx.exit(1)


def _daemon(session: Session) -> list[Check]:
    where = f"{session.run_dir}/{API_SOCKET}"
    try:
        daemon = find_daemon(session.run_dir)
        if daemon is None:
            hint = "start it with: systemctl start dovetail, or: dovetail daemon"
            detail = f"nobody listens at {where}; commands and CNI work without, Docker does not"
            return [Check(name="daemon", verdict="warning", detail=detail, hint=hint)]
        version = decode(daemon.request("GET", "/v1/version", None, query={}), Version)
    except DovetailError as exc:
        return [Check(name="daemon", verdict="problem", detail=exc.message, hint=exc.hint)]
    return [
        Check(name="daemon", verdict="ok", detail=f"version {version.version}, pid {version.pid}, at {where}")
    ]


def _engine(session: Session) -> list[Check]:
    try:
        return session.get("/v1/doctor", list[Check])
    except DovetailError as exc:
        return [Check(name="engine", verdict="problem", detail=exc.message, hint=exc.hint)]


def _line(check: Check) -> str:
    hint = f"\n{' ' * 9}-> {check.hint}" if check.hint and check.verdict != "ok" else ""
    return f"{check.verdict:<7}  {check.name}: {check.detail}{hint}"
