"""A host whose iptables is the legacy one: its firewall is another than the one that nfnetlink shows."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dovetail.features.coexistence import accept_forwarding, withdraw_forwarding
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


def forward(program: str) -> list[str]:
    listed = subprocess.run([program, "-S"], check=True, capture_output=True, text=True).stdout
    return [line for line in listed.splitlines() if "FORWARD" in line or "DOVETAIL" in line]


def test_a_policy_that_drops_is_seen_and_our_bridges_pass_it(legacy: str, kernel: Any) -> None:
    subprocess.run([legacy, "-P", "FORWARD", "DROP"], check=True)

    accept_forwarding(kernel, ["dv-1"])
    accept_forwarding(kernel, ["dv-1"])

    assert kernel.forward_policies() == {"iptables": True}
    assert forward(legacy) == [
        "-P FORWARD DROP",
        "-N DOVETAIL",
        "-A FORWARD -m comment --comment dovetail -j DOVETAIL",
        *(f"-A DOVETAIL -{way} {links} -j ACCEPT" for links in ("dv-+", "dvh+") for way in "io"),
    ]
    withdraw_forwarding(kernel)
    assert forward(legacy) == ["-P FORWARD DROP"]


def test_rules_of_both_kinds_are_seen_where_the_programs_are_mixed(
    legacy: str, host: Any, kernel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run([legacy, "-P", "FORWARD", "DROP"], check=True)
    path = os.environ["PATH"].partition(":")[2]
    monkeypatch.setenv("PATH", path)
    host.run("iptables", "-P", "FORWARD", "DROP")

    accept_forwarding(kernel, ["dv-1"])

    assert kernel.forward_policies() == {"iptables": True, "iptables-legacy": True}
    for program in ("iptables", "iptables-legacy"):
        assert "-A FORWARD -m comment --comment dovetail -j DOVETAIL" in forward(program)


def test_the_policy_is_set_before_forwarding_is_on_there_too(legacy: str, kernel: Any) -> None:
    assert HostFirewall(docker=True).close(kernel, 4)

    assert policy(legacy) == "-P FORWARD DROP"


def test_one_that_was_set_by_others_stays(legacy: str, kernel: Any) -> None:
    subprocess.run([legacy, "-P", "FORWARD", "DROP"], check=True)

    assert not HostFirewall(docker=True).close(kernel, 4)

    assert policy(legacy) == "-P FORWARD DROP"
