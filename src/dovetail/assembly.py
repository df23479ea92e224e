"""The composition root: the only place that names concrete classes."""

from __future__ import annotations

from dovetail.engine.engine import Engine

__all__ = ["build_engine"]


def build_engine(*, state_dir: str, run_dir: str) -> Engine:
    """Compose an engine on the host's kernel and the SQLite file of `state_dir`."""
    raise NotImplementedError
