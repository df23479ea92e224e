"""What an error looks like in the API: a sentence, its kind, its place, what to do next, and a status."""

from __future__ import annotations

import logging

import msgspec

from dovetail.errors import (
    Busy,
    Conflict,
    DovetailError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PoolExhausted,
    Unsupported,
    one_sentence,
)

__all__ = ["Problem", "problem_of"]

_LOG = logging.getLogger(__name__)

# RFC 9110 §15; the first class that fits decides
_STATUSES: tuple[tuple[type[DovetailError], int], ...] = (
    (InvalidArgument, 400),
    (Unsupported, 400),
    (NotFound, 404),
    (Conflict, 409),
    (PoolExhausted, 409),
    (PermissionDenied, 403),
    (Busy, 503),
)
_INTERNAL = 500


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """The body of every reply that is not a success.

    error: one sentence. kind: the class of `dovetail.errors`. where: the place in the request
    (``$.subnets[0].gateway``), empty where there is none. hint: the next step, empty where there is none.
    """

    error: str
    kind: str
    where: str = ""
    hint: str = ""


def problem_of(error: Exception) -> tuple[int, Problem]:
    """Give the HTTP status and the body for `error`.

    A group (a deletion that went on past failures) has the status of its members where they agree. What is not
    ours is a bug: its traceback goes to the log, its class and text to the caller.
    """
    if isinstance(error, DovetailError):
        message = " ".join(error.message.split())
        return _status(error), Problem(
            error=message, kind=type(error).__name__, where=error.where, hint=error.hint
        )
    if isinstance(error, ExceptionGroup):
        statuses = {_status(member) for member in error.exceptions}
        status = statuses.pop() if len(statuses) == 1 else _INTERNAL
        return status, Problem(error=f"{error.message}: {one_sentence(error)}", kind="ExceptionGroup")
    _LOG.error("api.internal_error", exc_info=error)
    text = f"internal error: {type(error).__name__}: {one_sentence(error)}"
    return _INTERNAL, Problem(
        error=text, kind="InternalError", hint="this is a bug in dovetail; please report it"
    )


def _status(error: Exception) -> int:
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), _INTERNAL)
