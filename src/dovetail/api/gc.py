"""Collecting what belongs to nobody: told first (``GET``), then done (``POST``)."""

from __future__ import annotations

from dovetail.engine.engine import Engine
from dovetail.engine.report import Report

__all__ = ["collect", "examine"]


def examine(engine: Engine) -> Report:
    """Say what `collect` would do now; changes nothing.

    A Docker Engine that was made known is asked as well, and may take some seconds to answer.
    """
    with engine.tracer.step("cli", "gc plan"):
        return engine.plan(ask_docker=True, everything=True)


def collect(engine: Engine) -> Report:
    """Repair, release and remove what `examine` finds; what failed is in the report."""
    with engine.tracer.step("cli", "gc"):
        return engine.reconcile(ask_docker=True, everything=True)
