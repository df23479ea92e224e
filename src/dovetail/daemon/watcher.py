"""Watches the host's firewall, so that what another program takes out of it comes back.

``nft flush ruleset`` takes our table away, a dockerd that starts may set the policy of FORWARD to DROP
without an accept for our bridges. The engine's own changes are elements of sets, which the watcher
passes over, so it does not run after each container; and what it restores is nothing when all is there.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time

from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError, one_sentence
from dovetail.kernel.nft_events import FirewallEvents

__all__ = ["FirewallWatcher"]

_LOG = logging.getLogger("dovetail")
_QUIET_S = 0.2
_AT_MOST_S = 2.0
_ANYWAY_S = 60.0  # the legacy iptables programs change another firewall, which has no events


class FirewallWatcher:
    """A thread that calls `Engine.restore_firewall` a moment after the ruleset changed."""

    def __init__(self, engine: Engine) -> None:
        """Begin to listen in the namespace of the calling thread."""
        self._engine = engine
        self._events = FirewallEvents()
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._watch, daemon=True, name="firewall-watch")
        self._told: list[str] = []

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread, if it was started."""
        os.write(self._stop_write, b"x")
        if self._thread.ident is not None:
            self._thread.join(timeout=timeout_s)
        self._events.close()

    def _watch(self) -> None:
        self._tell()
        while True:
            changed, stopped = self._wait(_ANYWAY_S)
            if stopped:
                return
            if not changed or (self._events.drain() and self._settle()):
                self._restore()

    def _wait(self, timeout_s: float) -> tuple[bool, bool]:
        """Say whether there is news, and whether it is time to stop; neither when the time is up."""
        news = self._events.fileno()
        poller = select.poll()
        for descriptor in (news, self._stop_read):
            poller.register(descriptor, select.POLLIN)
        ready = dict(poller.poll(timeout_s * 1000))
        return news in ready, self._stop_read in ready

    def _settle(self) -> bool:
        """Wait until nothing has changed for a moment; True unless it is time to stop."""
        deadline = time.monotonic() + _AT_MOST_S
        while time.monotonic() < deadline:
            changed, stopped = self._wait(_QUIET_S)
            if stopped:
                return False
            if not changed:
                return True
            self._events.drain()
        return True

    def _restore(self) -> None:
        try:
            with self._engine.tracer.step("engine", "restore firewall"):
                done = self._engine.restore_firewall()
            self._tell()
        except (DovetailError, OSError) as exc:
            _LOG.warning("firewall not restored", extra={"fields": {"error": one_sentence(exc)}})
            return
        for sentence in done:
            _LOG.info("firewall restored", extra={"fields": {"what": sentence}})

    def _tell(self) -> None:
        """Warn of the user's rules that cannot be used, once until that changes."""
        try:
            problems = self._engine.firewall_problems()
        except (DovetailError, OSError) as exc:
            problems = [one_sentence(exc)]
        for sentence in problems:
            if sentence not in self._told:
                _LOG.warning("rules of the user not in force", extra={"fields": {"what": sentence}})
        self._told = problems
