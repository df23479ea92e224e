"""The daemon's log: a line an event on the standard error, as ``event key=value`` or as JSON.

One line for each public operation, with its milliseconds. Under systemd the journal has the time, so
the lines have none.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from dovetail.engine.trace import Step

__all__ = ["operation_sink", "set_up"]

FACES = frozenset({"docker", "cni", "cli"})


def set_up(environ: Mapping[str, str]) -> logging.Logger:
    """Send the log to the standard error; ``DOVETAIL_LOG_FORMAT=json`` and ``DOVETAIL_LOG_LEVEL`` are obeyed."""
    logger = logging.getLogger("dovetail")
    handler = logging.StreamHandler(sys.stderr)
    journal = "JOURNAL_STREAM" in environ
    as_json = environ.get("DOVETAIL_LOG_FORMAT", "") == "json"
    handler.setFormatter(_Json() if as_json else _KeyValue(timed=not journal))
    logger.handlers = [handler]
    logger.propagate = False
    level = environ.get("DOVETAIL_LOG_LEVEL", "info").upper()
    logger.setLevel(level if level in logging.getLevelNamesMapping() else logging.INFO)
    return logger


def operation_sink(logger: logging.Logger) -> Callable[[Step], None]:
    """Make a sink for the tracer that writes a line for each operation of a face, and each failure."""

    def write(step: Step) -> None:
        if step.layer not in FACES and not step.error:
            return
        fields = {"face": step.layer, **step.detail, "ms": f"{step.duration_ms:.2f}"}
        if step.error:
            fields["error"] = step.error
        logger.log(logging.WARNING if step.error else logging.INFO, step.name, extra={"fields": fields})

    return write


class _KeyValue(logging.Formatter):
    """``event key=value``, values quoted where they need it."""

    def __init__(self, *, timed: bool) -> None:
        super().__init__()
        self._timed = timed

    def format(self, record: logging.LogRecord) -> str:
        parts = [f"time={_time(record)}"] if self._timed else []
        if record.levelno >= logging.WARNING:
            parts.append(f"level={record.levelname.lower()}")
        parts.append(f"event={_quote(record.getMessage())}")
        parts += [f"{key}={_quote(str(value))}" for key, value in _fields(record).items()]
        if record.exc_info:
            parts.append(f"traceback={_quote(self.formatException(record.exc_info))}")
        return " ".join(parts)


class _Json(logging.Formatter):
    """An object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields = getattr(record, "fields", None)
    return dict(fields) if isinstance(fields, dict) else {}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds")


def _quote(text: str) -> str:
    plain = text and all(character.isprintable() and character not in ' "=' for character in text)
    return text if plain else json.dumps(text, ensure_ascii=False)
