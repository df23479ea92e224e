"""A CNI plugin with no daemon beside it: the same engine in this process. The shim executes it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dovetail.engine.engine import Engine

__all__ = ["main"]


def main() -> int:
    """Read the environment and standard input, answer, and give the exit status."""
    from dovetail.cni.plugin import run

    environ = {name: value for name, value in os.environ.items() if name.startswith("CNI_")}
    outcome = run(
        environ,
        sys.stdin.buffer.read() if environ.get("CNI_COMMAND") not in {None, "VERSION"} else b"",
        _engine,
        plugin=os.environ.get("DOVETAIL_CNI_TYPE", "dovetail"),
    )
    sys.stdout.buffer.write(outcome.stdout)
    sys.stderr.buffer.write(outcome.stderr)
    return outcome.status


def _engine() -> Engine:
    """Compose the engine; what the last reboot left is repaired first, once."""
    from dovetail.api import tracelog
    from dovetail.api.settle import settle
    from dovetail.assembly import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, build_engine

    run_dir = os.environ.get("DOVETAIL_RUN_DIR") or DEFAULT_RUN_DIR
    engine = build_engine(
        state_dir=os.environ.get("DOVETAIL_STATE_DIR") or DEFAULT_STATE_DIR, run_dir=run_dir
    )
    engine.tracer.add_sink(tracelog.sink(run_dir), whole=True)
    settle(engine, run_dir)
    return engine


if __name__ == "__main__":
    sys.exit(main())
