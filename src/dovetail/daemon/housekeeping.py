"""Reconciles store and kernel again while the daemon runs.

Docker does not say everything: it forgets an endpoint whose DeleteEndpoint failed, and an address it asked
for when it died before it used it. Such things are given a grace (`Core.orphan_grace_s`), in which the
call may still come, so the reconciliation at start leaves the young ones alone. While Docker runs it is asked what it
has; not at our start, as it may be waiting for us then.

Meanwhile leases are looked after, which a CNI plugin without a daemon may have written down too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from dovetail.engine.engine import Engine
from dovetail.engine.report import Report

__all__ = ["Housekeeping", "tell"]

_LOG = logging.getLogger("dovetail")
_EVERY_S = 600.0
_MARGIN_S = 1.0
_TENDED = ("dhcp",)  # kinds of parts that change by themselves


class Housekeeping:
    """A thread that reconciles once the grace of what was there at start is over, and then now and again."""

    def __init__(self, engine: Engine, docker_runs: Callable[[], bool]) -> None:
        """Make it. docker_runs: says whether Docker may be asked (`Core.docker`)."""
        self._engine = engine
        self._docker_runs = docker_runs
        self._stopped = False
        self._called = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="housekeeping")

    def start(self) -> None:
        """Begin, after the first reconciliation."""
        for kind in _TENDED:
            self._engine.tending.start(kind)
        self._thread.start()

    def soon(self) -> None:
        """Do it again after one more grace: something has come back that may have left things behind."""
        self._called.set()

    def stop(self, timeout_s: float) -> None:
        """End the thread; a pass under way is finished."""
        self._stopped = True
        self._called.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=timeout_s)
        self._engine.tending.stop(timeout_s)

    def _run(self) -> None:
        grace_s = self._engine.core.orphan_grace_s + _MARGIN_S
        wait_s = grace_s
        while True:
            called = self._called.wait(wait_s)
            if self._stopped:
                return
            if called:
                self._called.clear()
                wait_s = grace_s
            else:
                tell(self._engine.reconcile(ask_docker=self._docker_runs()))
                self._engine.tending.look()
                wait_s = _EVERY_S


def tell(report: Report) -> None:
    """Log what a reconciliation did."""
    for event, sentences in (
        ("restored", report.restored),
        ("released", report.released),
        ("removed", report.removed),
    ):
        for sentence in sentences:
            _LOG.info(event, extra={"fields": {"what": sentence}})
    for sentence in report.failed:
        _LOG.warning("not repaired", extra={"fields": {"what": sentence}})
    for sentence in report.notes:
        _LOG.info("not looked at", extra={"fields": {"what": sentence}})
