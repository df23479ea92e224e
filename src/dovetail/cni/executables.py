"""Plugins as files: which of those that runtimes find are ours."""

from __future__ import annotations

import functools
import os
import stat

__all__ = ["is_ours"]

_MARK = b"dovetail"  # in the C shim's default paths and in the stand-in; no plugin of others' has the word
_BYTES = 1 << 20  # ours are far smaller, a Go program is larger


def is_ours(path: str) -> bool:
    """Say whether the file at `path` is an executable of ours; one that cannot be read is not."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _BYTES:
            return False
        return _has_mark(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
    except OSError:
        return False


@functools.lru_cache(maxsize=256)
def _has_mark(path: str, _version: tuple[int, ...]) -> bool:
    with open(path, "rb") as file:
        return _MARK in file.read()
