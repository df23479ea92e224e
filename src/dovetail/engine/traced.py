"""A kernel whose changes are steps of the trace.

Reading verbs pass through untouched; each changing one becomes a ``kernel`` step that carries the
``ip``, ``nft`` or ``sysctl`` command it equals. A batch is one step with the commands of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, cast

from dovetail.engine.trace import Step, Tracer
from dovetail.kernel.commands import MUTATING, describe
from dovetail.kernel.protocol import Kernel, Netns

__all__ = ["traced"]

_BATCH = "batch"


def traced(kernel: Kernel, tracer: Tracer) -> Kernel:
    """Wrap `kernel` so that `tracer` sees what it changes."""
    return cast("Kernel", _TracedKernel(kernel, tracer))


class _TracedKernel:
    def __init__(self, kernel: Kernel, tracer: Tracer) -> None:
        self._kernel = kernel
        self._tracer = tracer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._kernel, name)

    def inside(self, netns: Netns) -> AbstractContextManager[Kernel]:
        return _Inside(self._kernel.inside(netns), self._tracer)

    def batch(self) -> AbstractContextManager[None]:
        return _Batch(self._tracer.step("kernel", _BATCH), self._kernel.batch())


class _Inside:
    """The ``with`` of a traced handle to another namespace."""

    __slots__ = ("_manager", "_tracer")

    def __init__(self, manager: AbstractContextManager[Kernel], tracer: Tracer) -> None:
        self._manager = manager
        self._tracer = tracer

    def __enter__(self) -> Kernel:
        return traced(self._manager.__enter__(), self._tracer)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._manager.__exit__(kind, exc, traceback)


class _Batch:
    """The ``with`` of a traced batch: what is collected is sent before the step ends."""

    __slots__ = ("_batch", "_step")

    def __init__(self, step: AbstractContextManager[Step], batch: AbstractContextManager[None]) -> None:
        self._step = step
        self._batch = batch

    def __enter__(self) -> None:
        self._step.__enter__()
        self._batch.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._batch.__exit__(kind, exc, traceback)
        except BaseException as failed:
            self._step.__exit__(type(failed), failed, failed.__traceback__)
            raise
        self._step.__exit__(kind, exc, traceback)


def _traced_verb(verb: str) -> Callable[..., Any]:
    def call(self: _TracedKernel, *args: Any, **kwargs: Any) -> Any:
        tracer = self._tracer
        batch = tracer.innermost()
        if batch is not None and batch.name == _BATCH:
            # it has no time of its own: all are sent at the end
            tracer.describe(batch, lambda: _and(batch, describe(verb, *args, **kwargs)))
            return getattr(self._kernel, verb)(*args, **kwargs)
        with tracer.step("kernel", verb) as step:
            tracer.describe(step, lambda: _and(step, describe(verb, *args, **kwargs)))
            return getattr(self._kernel, verb)(*args, **kwargs)

    return call


for _verb in MUTATING:
    setattr(_TracedKernel, _verb, _traced_verb(_verb))


def _and(step: Step, commands: Sequence[str]) -> dict[str, str]:
    told = step.detail.get("command")
    return {"command": " ; ".join([told, *commands] if told else commands)}
