"""The same request for several names: go on past a failure, and fail at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from dovetail.cli.session import Session
from dovetail.errors import DovetailError
from dovetail.model.codec import decode

__all__ = ["inspect", "remove"]

T = TypeVar("T")


def inspect(session: Session, paths: Sequence[str], kind: type[T], describe: Callable[[T], str]) -> None:
    """Show what is at each of `paths`; raises what failed once the rest is shown."""
    payloads: list[bytes] = []
    failures: list[DovetailError] = []
    for path in paths:
        try:
            payloads.append(session.request("GET", path))
        except DovetailError as exc:
            failures.append(exc)
    if payloads or not failures:
        texts = [describe(decode(payload, kind)) for payload in payloads]
        session.show(b"[" + b",".join(payloads) + b"]", "\n\n\n".join(texts))
    _raise(failures)


def remove(session: Session, paths: Sequence[str]) -> None:
    """Delete what is at each of `paths`; raises what failed once the rest is gone."""
    failures: list[DovetailError] = []
    for path in paths:
        try:
            session.request("DELETE", path)
        except DovetailError as exc:
            failures.append(exc)
    if not failures:
        session.show(b"{}", "")
    _raise(failures)


def _raise(failures: list[DovetailError]) -> None:
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise ExceptionGroup("", failures)
