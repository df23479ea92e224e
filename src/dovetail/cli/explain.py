"""The engine of ``--explain``: the real host to look at, a copy of the store to write to, a list for the commands."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore

__all__ = ["explaining_engine"]


def explaining_engine(state_dir: str, run_dir: str) -> tuple[Engine, list[str]]:
    """Build an engine that changes nothing, and the list that its commands go to.

    As root it reads the real kernel and the real store; others explain on an empty host. A store that is
    not there yet counts as empty and is not made.
    """
    base = None
    if os.geteuid() == 0:
        from dovetail.kernel.linux import LinuxKernel

        base = LinuxKernel()
    path = os.path.join(state_dir, "dovetail.db")
    if os.access(path, os.R_OK | os.W_OK):
        file = SqliteStore(path)
        store = file.copy_to_memory()
        file.close()
    else:
        store = SqliteStore(":memory:")
    kernel = RecordingKernel(base)
    locks = tempfile.mkdtemp(prefix="dovetail-explain-")  # nobody else sees this store, so nobody is to wait
    atexit.register(shutil.rmtree, locks, ignore_errors=True)
    return build_engine(state_dir=locks, run_dir=run_dir, kernel=kernel, store=store), kernel.commands
