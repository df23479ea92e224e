"""After a reboot, the first change that is made without a daemon repairs first what the reboot took away."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from dovetail.engine.engine import Engine

__all__ = ["settle"]

_MARK = "settled"


def settle(engine: Engine, run_dir: str) -> None:
    """Reconcile once a boot and host namespace, unless a daemon has; later calls cost one read of a small file.

    The mark lies in the run directory. Two processes at once may both reconcile, which is safe.
    """
    path = Path(run_dir, _MARK)
    mark = f"{engine.core.boot_id} {engine.kernel.netns_inode}\n"
    with contextlib.suppress(OSError):
        if path.read_text(encoding="ascii") == mark:
            return
    report = engine.reconcile()
    if not report.failed:
        with contextlib.suppress(OSError):  # without the mark the next call does it again
            fresh = path.with_name(f"{_MARK}.{os.getpid()}")
            fresh.write_text(mark, encoding="ascii")
            fresh.replace(path)
