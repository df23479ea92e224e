from __future__ import annotations

import os

import pytest

from dovetail.cli import explain
from dovetail.cli.main import main
from dovetail.store.sqlite import SqliteStore


@pytest.fixture
def explained(tmp_path, monkeypatch, capsys):
    """Run command lines with --explain as somebody without privileges."""
    monkeypatch.setattr(explain.os, "geteuid", lambda: 1000)

    def run(*words):
        capsys.readouterr()
        status = main(["--state-dir", str(tmp_path / "state"), "--run-dir", str(tmp_path / "run"), *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_explain_prints_commands_and_makes_nothing(explained, tmp_path):
    status, out, err = explained("--explain", "network", "create", "web", "--subnet", "10.88.0.0/24")

    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("ip link add name dv-")
    assert any(line.startswith("ip addr add 10.88.0.1/24 dev dv-") for line in lines)
    assert "nft -f -" in out
    assert os.listdir(tmp_path) == []


def test_explain_may_follow_the_command(explained):
    before = explained("--explain", "sandbox", "create", "box")

    assert explained("sandbox", "create", "box", "--explain") == before


def test_explain_in_json_is_a_list_of_commands(explained):
    status, out, _ = explained("--explain", "--format", "json", "sandbox", "create", "box")

    assert status == 0
    assert '"commands": [' in out


def test_explain_of_run_shows_the_whole_life_of_the_sandbox(explained, tmp_path, shell, monkeypatch):
    monkeypatch.setattr(explain.os, "geteuid", lambda: 0)
    monkeypatch.setattr("dovetail.kernel.linux.LinuxKernel", lambda: shell.kernel)
    shell("network", "create", "web", "--subnet", "10.88.0.0/24")
    before = SqliteStore(str(tmp_path / "state" / "dovetail.db")).networks()

    status, out, err = explained("--explain", "run", "--network", "web", "--", "echo", "a b")

    assert (status, err) == (0, "")
    lines = out.splitlines()
    (command,) = (index for index, line in enumerate(lines) if line.endswith("echo 'a b'"))
    assert any("type veth" in line for line in lines[:command])
    assert any(line.startswith("ip link del") for line in lines[command:])
    assert lines[-1].startswith("rm ")
    store = SqliteStore(str(tmp_path / "state" / "dovetail.db"))
    assert (store.networks(), store.endpoints(), store.sandboxes()) == (before, [], [])


def test_explain_of_what_fails_prints_no_command(explained):
    status, out, err = explained("--explain", "network", "rm", "nope")

    assert (status, out) == (1, "")
    assert "'nope'" in err


def test_explain_of_reading_prints_nothing(explained):
    assert explained("--explain", "network", "ls") == (0, "", "")
