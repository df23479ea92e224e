"""What the demonstration prints as it goes: a line a step, with its time, and whether it went well."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import click

from dovetail.errors import DovetailError, one_sentence

__all__ = ["Report", "StepFailedError"]

T = TypeVar("T")


class StepFailedError(Exception):
    """A step did not give what it should have; the text says what came instead."""


@dataclass
class Report:
    """Prints the steps; `failed` counts those that went wrong."""

    failed: int = 0
    begun: float = field(default_factory=time.monotonic)

    def title(self, text: str) -> None:
        """Begin a chapter."""
        click.echo(f"\n{click.style(text, bold=True)}")

    def note(self, text: str) -> None:
        """Say something that is no step."""
        click.echo(f"   --           {text}")

    @contextmanager
    def step(self, text: str, *, vital: bool = False) -> Iterator[list[str]]:
        """Time one step and print its line, with what it appends to the list behind.

        A failure is printed and counted; what is `vital` for the steps after it is raised again.
        """
        begun = time.monotonic()
        results: list[str] = []
        try:
            yield results
        except (DovetailError, StepFailedError, OSError, ExceptionGroup) as exc:
            self.failed += 1
            self._line(
                click.style("FAILED", fg="red"), time.monotonic() - begun, f"{text}: {one_sentence(exc)}"
            )
            if vital:
                raise
        else:
            told = f"  {' '.join(results)}" if results else ""
            self._line(click.style("ok    ", fg="green"), time.monotonic() - begun, f"{text}{told}")

    def expect(self, text: str, fetch: Callable[[], str], wanted: str) -> None:
        """Take a step that must give `wanted`."""
        with self.step(text):
            got = fetch()
            if got.strip() != wanted.strip():
                raise StepFailedError(f"got {got!r} instead of {wanted!r}")

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.begun

    def _line(self, verdict: str, seconds: float, text: str) -> None:
        click.echo(f"   {verdict} {seconds * 1000:7.0f} ms  {text}")
