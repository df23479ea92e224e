"""The trace of operations that ran without a daemon: root steps as JSON lines in ``<run-dir>/trace.jsonl``.

The file is bounded: past 1 MiB its older half goes. Writers take an exclusive flock(2), readers a
shared one. Mode 0600: a step's details name containers and addresses.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable

import msgspec

from dovetail.engine.trace import Step

__all__ = ["FILE", "merge", "read", "sink"]

FILE = "trace.jsonl"
_LIMIT = 1 << 20


def sink(run_dir: str) -> Callable[[Step], None]:
    """Make a sink for `Tracer.add_sink` that appends each root step to the file in `run_dir`.

    A trace that cannot be written must not fail the operation it tells of, so OSError ends there.
    """
    path = os.path.join(run_dir, FILE)
    encoder = msgspec.json.Encoder()

    def append(step: Step) -> None:
        try:
            _append(path, encoder.encode(step) + b"\n")
        except OSError:
            return

    return append


def _append(path: str, line: bytes) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        size = os.fstat(fd).st_size
        if size + len(line) > _LIMIT:
            newer = os.pread(fd, size, max(size - _LIMIT // 2, 0)).partition(b"\n")[2]
            os.ftruncate(fd, 0)
            os.write(fd, newer)
        os.write(fd, line)
    finally:
        os.close(fd)


def read(run_dir: str) -> list[Step]:
    """Give the steps in the file, oldest first; none where there is no file. A damaged line is passed over."""
    try:
        fd = os.open(os.path.join(run_dir, FILE), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    with open(fd, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        lines = file.read().splitlines()
    decoder = msgspec.json.Decoder(Step)
    steps = []
    for line in lines:
        try:
            steps.append(decoder.decode(line))
        except msgspec.MsgspecError:
            continue
    return steps


def merge(*traces: list[Step], last: int) -> list[Step]:
    """Give the `last` steps of all `traces` in the order they started."""
    return sorted((step for trace in traces for step in trace), key=lambda step: step.started)[-last:]
