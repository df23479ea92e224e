"""The twin hosts, one pair for all cases."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from differential.hosts import GO, TwinHosts


@pytest.fixture(scope="session")
def twins() -> Iterator[TwinHosts]:
    """Two hosts with an uplink each, in namespaces of their own."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    if not os.path.exists(f"{GO}/bridge"):
        pytest.skip(f"no plugins in {GO} (Debian package containernetworking-plugins)")
    for program in ("unshare", "nft", "iptables", "tc"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    hosts = TwinHosts()
    yield hosts
    hosts.stop()
