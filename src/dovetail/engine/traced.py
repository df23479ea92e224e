"""A kernel whose changes are steps of the trace.

Reading verbs pass through untouched; each changing one becomes a ``kernel`` step that carries the
``ip``, ``nft`` or ``sysctl`` command it equals. A batch is one step with the commands of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from dovetail.engine.trace import Step, Tracer
from dovetail.kernel.commands import describe
from dovetail.kernel.protocol import Kernel, Netns

__all__ = ["traced"]

_BATCH = "batch"
_CHANGES = frozenset(
    {
        "create_netns",
        "delete_netns",
        "add_bridge",
        "add_veth",
        "set_link",
        "set_bridge_port",
        "delete_links",
        "add_address",
        "delete_address",
        "add_route",
        "set_sysctl",
        "nft_apply",
        "nft_add_elements",
        "nft_delete_elements",
        "iptables",
        "flush_conntrack",
    }
)


def traced(kernel: Kernel, tracer: Tracer) -> Kernel:
    """Wrap `kernel` so that `tracer` sees what it changes."""
    return cast("Kernel", _TracedKernel(kernel, tracer))


class _TracedKernel:
    def __init__(self, kernel: Kernel, tracer: Tracer) -> None:
        self._kernel = kernel
        self._tracer = tracer

    def __getattr__(self, verb: str) -> Any:
        attribute = getattr(self._kernel, verb)
        if verb not in _CHANGES:
            return attribute
        wrapped = self._step(verb, attribute)
        self.__dict__[verb] = wrapped
        return wrapped

    def _step(self, verb: str, call: Callable[..., Any]) -> Callable[..., Any]:
        tracer = self._tracer

        def traced_verb(*args: Any, **kwargs: Any) -> Any:
            batch = tracer.innermost()
            if (
                batch is not None and batch.name == _BATCH
            ):  # it has no time of its own: all are sent at the end
                tracer.describe(batch, lambda: _and(batch, describe(verb, *args, **kwargs)))
                return call(*args, **kwargs)
            with tracer.step("kernel", verb) as step:
                tracer.describe(step, lambda: _and(step, describe(verb, *args, **kwargs)))
                return call(*args, **kwargs)

        return traced_verb

    @contextmanager
    def inside(self, netns: Netns) -> Iterator[Kernel]:
        with self._kernel.inside(netns) as kernel:
            yield traced(kernel, self._tracer)

    @contextmanager
    def batch(self) -> Iterator[None]:
        with self._tracer.step("kernel", _BATCH), self._kernel.batch():
            yield


def _and(step: Step, commands: Sequence[str]) -> dict[str, str]:
    told = step.detail.get("command")
    return {"command": " ; ".join([told, *commands] if told else commands)}
