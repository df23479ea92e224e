"""Timed step trees: what each operation did, in which order, and how long each part took.

A face opens the root step (``docker`` NetworkDriver.Join, ``cni`` ADD, ``cli`` network create);
every step opened on the same thread below it becomes its child. Finished roots go to the ring
and to the sinks. Opening and closing a step costs about 2 µs.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from dovetail.errors import one_sentence

__all__ = ["Step", "Tracer"]

_RING = 256


class Step(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One timed step.

    layer: ``docker`` ``cni`` ``cli`` (the faces), ``engine``, ``ipam``, ``driver``, ``feature``,
    ``kernel``, ``store``. started: seconds since the epoch. duration_ms is 0 until it ends.
    """

    layer: str
    name: str
    detail: dict[str, str] = {}
    started: float = 0.0
    duration_ms: float = 0.0
    error: str = ""
    children: list[Step] = []


class Tracer:
    """Collects step trees; safe under threads."""

    def __init__(self, *, on_step: Callable[[Step], None] | None = None) -> None:
        """Make a tracer. `on_step` is called as each step begins; tests make it fail or kill there."""
        self._local = threading.local()
        self._ring: deque[Step] = deque(maxlen=_RING)
        self._sinks: list[Callable[[Step], None]] = []
        self._on_step = on_step

    @contextmanager
    def step(self, layer: str, name: str, **detail: str) -> Iterator[Step]:
        """Time what the ``with`` holds; an exception is noted on the step and goes on."""
        step = Step(layer=layer, name=name, detail=detail, started=time.time(), children=[])
        stack = self._stack()
        if stack:
            stack[-1].children.append(step)
        stack.append(step)
        begun = time.perf_counter()
        try:
            if self._on_step is not None:
                self._on_step(step)
            yield step
        except BaseException as exc:
            step.error = one_sentence(exc)
            raise
        finally:
            step.duration_ms = round((time.perf_counter() - begun) * 1000, 3)
            stack.pop()
            if not stack:
                self._ring.append(step)
                for sink in self._sinks:
                    sink(step)

    def note(self, key: str, value: str) -> None:
        """Write a detail on the step that is open on this thread, if one is."""
        stack = self._stack()
        if stack:
            stack[-1].detail = {**stack[-1].detail, key: value}

    def add_sink(self, sink: Callable[[Step], None]) -> None:
        """Hand each finished root step to `sink` as well (a stream, metrics, a file)."""
        self._sinks.append(sink)

    def recent(self, last: int = _RING) -> list[Step]:
        """Give the last finished root steps, oldest first."""
        return list(self._ring)[-last:]

    def _stack(self) -> list[Step]:
        stack: list[Step] | None = getattr(self._local, "stack", None)
        if stack is None:
            stack = self._local.stack = []
        return stack
