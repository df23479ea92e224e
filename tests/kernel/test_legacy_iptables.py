"""A host whose iptables is the legacy one: its firewall is another than the one that nfnetlink shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dovetail.features.host_firewall import HostFirewall


@pytest.fixture
def legacy(host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the legacy programs in the place of those of nftables; gives the path of the first."""
    multi = shutil.which("xtables-legacy-multi")
    if multi is None:
        pytest.skip("xtables-legacy-multi is not installed (Debian package iptables)")
    for name in ("iptables", "ip6tables"):
        (tmp_path / name).symlink_to(multi)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = subprocess.run([str(tmp_path / "iptables"), "-S", "FORWARD"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the kernel has no ip_tables")
    return str(tmp_path / "iptables")


def policy(program: str) -> str:
    return subprocess.run(
        [program, "-S", "FORWARD"], check=True, capture_output=True, text=True
    ).stdout.strip()


def test_a_policy_that_no_accept_of_ours_would_follow_is_not_set(legacy: str, kernel: Any) -> None:
    assert not HostFirewall(docker=True).close(kernel, 4)

    assert policy(legacy) == "-P FORWARD ACCEPT"


def test_one_that_was_set_by_others_stays(legacy: str, kernel: Any) -> None:
    subprocess.run([legacy, "-P", "FORWARD", "DROP"], check=True)

    assert not HostFirewall(docker=True).close(kernel, 4)

    assert policy(legacy) == "-P FORWARD DROP"
