"""The demonstration itself, without the real Docker Engine (the interop tier has one)."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.root


def test_the_demonstration_goes_well_and_leaves_nothing(host):
    done = subprocess.run(
        [sys.executable, "-m", "dovetail", "demo", "--no-docker"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout
    assert "Every step went well" in done.stdout
    assert "The real host is as it was" in done.stdout
    assert "network web" in done.stdout
    assert host.links().keys() == {"lo"}
