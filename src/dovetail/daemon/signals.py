"""Waits for the signals that end the daemon.

A Python handler runs in the main thread, between two of its bytecodes. A main thread that waits for a lock is woken
by a signal only if the kernel gave it to that thread, after it began to wait: one that came a moment earlier, or that
another thread took, stays unseen until something else wakes it. So the wait is on a pipe, into which the
interpreter's C handler writes the number of the signal wherever it runs (signal.set_wakeup_fd).
"""

from __future__ import annotations

import os
import signal
from types import TracebackType

__all__ = ["StopSignals"]


class StopSignals:
    """SIGTERM and SIGINT, noted from the moment this is entered in the main thread until it is left."""

    def __enter__(self) -> StopSignals:
        self._read, self._write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._write, False)  # set_wakeup_fd asks for it
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)
        }
        return self

    def wait(self) -> None:
        """Return when one has come, at once if it came before."""
        while not set(os.read(self._read, 64)) & set(self._before):
            pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read)
        os.close(self._write)
