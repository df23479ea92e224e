"""Whether the long forms of tests are to run, as `make soak` says with SOAK_MINUTES."""

from __future__ import annotations

import os
from collections.abc import Sequence

LONG = bool(os.environ.get("SOAK_MINUTES"))


def ways(short: Sequence[str], *, only_long: Sequence[str]) -> list[str]:
    """Give the directories of plugins that a test runs with: of `only_long`, Go's proves the test itself."""
    return [*(only_long if LONG else ()), *short]
