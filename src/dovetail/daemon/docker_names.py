"""Follows Docker's events for the names of containers and networks, on a thread of its own.

dockerd may be waiting for us at any time, so it is never called from where it waits, and no lock of the engine's is
held while it is called. It is not called before it has called us: connecting to its socket would start a Docker that
systemd is to start on demand, and one that was stopped would come back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from dovetail.cnm.docker_api import DockerApi, DockerEvent, Events
from dovetail.cnm.names import Names
from dovetail.engine.engine import Engine
from dovetail.engine.trace import Step
from dovetail.errors import DovetailError, one_sentence

__all__ = ["DockerNames"]

_LOG = logging.getLogger("dovetail")
_FOLLOW_S = 600.0
"""After so long all is listed again: Docker drops events that it cannot get rid of in time."""
_RETRY_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
_SOON_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class DockerNames:
    """A thread that notes Docker's names while Docker runs."""

    def __init__(self, engine: Engine, api: DockerApi, followed: Callable[[], None]) -> None:
        """Make it; it begins with `start`, and with Docker's first call or what containers of Docker's there are.

        followed: called each time Docker is found to run.
        """
        self._engine = engine
        self._names = Names(engine, api)
        self._api = api
        self._when_followed = followed
        self._events: Events | None = None
        self._runs = threading.Event()  # Docker does, as far as we know
        self._stop = threading.Event()
        self._said = ""
        self._thread = threading.Thread(target=self._run, daemon=True, name="docker-names")
        engine.tracer.add_sink(self._heard)

    def start(self) -> None:
        """Begin; containers that Docker has here are a sign of it."""
        core = self._engine.core
        if any(e.owner.face == "docker" and e.boot_id == core.boot_id for e in core.store.endpoints()):
            self._runs.set()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the thread."""
        self._stop.set()
        self._runs.set()
        if self._events is not None:
            self._events.stop()
        if self._thread.ident is not None:
            self._thread.join(timeout=timeout_s)

    @property
    def docker_runs(self) -> bool:
        """Say whether Docker may be asked without starting it."""
        return self._runs.is_set()

    def _heard(self, step: Step) -> None:
        if step.layer == "docker":
            self._runs.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._runs.wait()
            for wait_s in (0.0, *_RETRY_S):
                if self._stop.wait(wait_s):
                    return
                if self._followed():
                    break
            self._runs.clear()

    def _followed(self) -> bool:
        """Follow Docker until it ends; False where it could not be asked."""
        reached = False
        try:
            while not self._stop.is_set():
                with self._api.events(Names.events, for_s=_FOLLOW_S) as self._events:
                    self._names.learn_all()
                    reached = True
                    self._when_followed()
                    self._say("Docker's names are learned")
                    began = time.monotonic()
                    for event in self._events:
                        self._learn(event)
                        if self._stop.is_set():
                            return True
                if time.monotonic() - began < _FOLLOW_S / 2:
                    break  # Docker has ended
        except DovetailError as exc:
            if not self._stop.is_set():
                self._say("no names from Docker", error=one_sentence(exc))
        return reached

    def _learn(self, event: DockerEvent) -> None:
        for wait_s in _SOON_S:
            if self._names.learn(event) or self._stop.wait(wait_s):
                return

    def _say(self, sentence: str, **fields: str) -> None:
        """Log what is new."""
        if sentence != self._said:
            self._said = sentence
            _LOG.info(sentence, extra={"fields": {"socket": self._api.path, **fields}})
