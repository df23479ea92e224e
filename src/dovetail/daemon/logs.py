"""One line an operation: ``event key=value …``, or JSON with ``DOVETAIL_LOG_FORMAT=json``."""

from __future__ import annotations

import json
import logging
import os
import sys
import time

from dovetail.engine.trace import Step

__all__ = ["note", "operation", "set_up"]

_log = logging.getLogger("dovetail")


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = getattr(record, "fields", {})
        if os.environ.get("DOVETAIL_LOG_FORMAT") == "json":
            line = {
                "time": record.created,
                "level": record.levelname.lower(),
                "event": record.getMessage(),
                **fields,
            }
            return json.dumps(line)
        pairs = " ".join(f"{key}={_quoted(value)}" for key, value in fields.items())
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(record.created))
        text = f"{when} {record.levelname.lower()} {record.getMessage()} {pairs}".rstrip()
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text) if not text or any(c in text for c in ' "=\n') else text


def set_up() -> None:
    """Write the log to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def operation(step: Step) -> None:
    """Log a finished root step; a sink for the tracer."""
    fields: dict[str, object] = {"face": step.layer, **step.detail, "ms": round(step.duration_ms, 2)}
    if step.error:
        fields["error"] = step.error
    _log.log(logging.WARNING if step.error else logging.INFO, step.name, extra={"fields": fields})


def note(event: str, **fields: object) -> None:
    """Log something that is no operation."""
    _log.info(event, extra={"fields": fields})
