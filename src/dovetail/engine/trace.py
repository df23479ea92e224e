"""Timed step trees: what each operation did, in which order, and how long each part took.

A face opens the root step (``docker`` NetworkDriver.Join, ``cni`` ADD, ``cli`` network create);
every step opened on the same thread below it becomes its child. Finished roots go to the ring
and to the sinks. Opening and closing a step costs about 2 µs; what takes longer to say about a step is
written when somebody reads it (`Tracer.describe`).
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType

import msgspec

from dovetail.errors import one_sentence

__all__ = ["Step", "Tracer"]

_RING = 256

_Writing = list[tuple["Step", Callable[[], dict[str, str]]]]
"""Details that are not written yet."""


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


class _Thread(threading.local):
    """What is open on one thread; `waiting` holds back what is finished until the caller has its answer."""

    def __init__(self) -> None:
        self.stack: list[Step] = []
        self.writing: _Writing = []
        self.waiting: list[tuple[Step, _Writing]] | None = None


class Tracer:
    """Collects step trees; safe under threads."""

    def __init__(self, *, on_step: Callable[[Step], None] | None = None) -> None:
        """Make a tracer. `on_step` is called as each step begins; tests make it fail or kill there."""
        self._thread = _Thread()
        self._ring: deque[tuple[int, Step, _Writing]] = deque(maxlen=_RING)
        self._numbers = itertools.count(1)
        self._news = threading.Condition()
        self._followers = 0
        self._sinks: list[tuple[Callable[[Step], None], bool]] = []
        self._on_step = on_step

    def step(self, layer: str, name: str, **detail: str) -> AbstractContextManager[Step]:
        """Time what the ``with`` holds; an exception is noted on the step and goes on."""
        return _Timing(self, Step(layer=layer, name=name, detail=detail, children=[]))

    def describe(self, step: Step, write: Callable[[], dict[str, str]]) -> None:
        """Have `write` called for more details of an open `step` of this thread, when somebody reads them."""
        self._thread.writing.append((step, write))

    def innermost(self) -> Step | None:
        """Give the step that was opened last on this thread and is still open."""
        stack = self._thread.stack
        return stack[-1] if stack else None

    def note(self, key: str, value: str) -> None:
        """Write a detail on the step that is open on this thread, if one is."""
        step = self.innermost()
        if step is not None:
            step.detail = {**step.detail, key: value}

    def hold_back(self) -> None:
        """Keep what this thread finishes from the sinks until `let_go`: the caller has its answer by then."""
        self._thread.waiting = []

    def let_go(self) -> None:
        """Tell the sinks of what was held back."""
        waiting, self._thread.waiting = self._thread.waiting or [], None
        for step, writing in waiting:
            self._tell(step, writing)

    def add_sink(self, sink: Callable[[Step], None], *, whole: bool = False) -> None:
        """Hand each finished root step to `sink` as well (metrics, the log; a file takes it `whole`, in all detail)."""
        self._sinks.append((sink, whole))

    def recent(self, last: int = _RING) -> list[Step]:
        """Give the last finished root steps, oldest first."""
        return [_written(step, writing) for _, step, writing in list(self._ring)[-last:]]

    def follow(self, after: int | None, wait_s: float) -> tuple[int, list[Step]]:
        """Give what finished after root step number `after`, oldest first, with the number to go on from.

        Waits up to `wait_s` for the first one. With `after` None nothing is given but the number, at once. Who
        follows too slowly misses what has left the ring.
        """
        if after is None:
            ring = list(self._ring)
            return (ring[-1][0] if ring else 0), []
        deadline = time.monotonic() + wait_s
        with self._news:
            self._followers += 1
            try:
                while not (found := [entry for entry in list(self._ring) if entry[0] > after]):
                    left = deadline - time.monotonic()
                    if left <= 0:
                        return after, []
                    self._news.wait(left)
            finally:
                self._followers -= 1
        return max(number for number, _, _ in found), [_written(step, writing) for _, step, writing in found]

    def begin(self, step: Step) -> None:
        """Open `step` on this thread; `step` does, and `end` closes it."""
        stack = self._thread.stack
        if stack:
            stack[-1].children.append(step)
        stack.append(step)
        if self._on_step is not None:
            self._on_step(step)

    def end(self) -> None:
        """Close the step that was opened last on this thread."""
        thread = self._thread
        step = thread.stack.pop()
        if thread.stack:
            return
        writing, thread.writing = thread.writing, []
        self._ring.append((next(self._numbers), step, writing))
        if self._followers:  # it counts itself in before it looks, so it sees this step or is woken
            with self._news:
                self._news.notify_all()
        if thread.waiting is None:
            self._tell(step, writing)
        else:
            thread.waiting.append((step, writing))

    def _tell(self, step: Step, writing: _Writing) -> None:
        for sink, whole in self._sinks:
            sink(_written(step, writing) if whole else step)


class _Timing:
    """The ``with`` of one step. A class, as it is opened a dozen times an operation and a generator costs twice that."""

    __slots__ = ("_begun", "_step", "_tracer")

    def __init__(self, tracer: Tracer, step: Step) -> None:
        self._tracer = tracer
        self._step = step
        self._begun = 0.0

    def __enter__(self) -> Step:
        self._step.started = time.time()
        self._begun = time.perf_counter()
        try:
            self._tracer.begin(self._step)
        except BaseException as exc:
            self._end(exc)
            raise
        return self._step

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(exc)

    def _end(self, exc: BaseException | None) -> None:
        if exc is not None:
            self._step.error = one_sentence(exc)
        self._step.duration_ms = round((time.perf_counter() - self._begun) * 1000, 3)
        self._tracer.end()


def _written(step: Step, writing: _Writing) -> Step:
    for part, write in writing:
        part.detail = {**part.detail, **write()}
    writing.clear()
    return step
