"""A macvlan network by the commands alone, with a daemon and without; each is a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.root

LAN = ("-d", "macvlan", "-o", "parent=up0", "--subnet", "10.5.0.0/24", "--gateway", "10.5.0.254")


class Shell(NamedTuple):
    """Runs dovetail on directories of its own, on a host whose card `up0` has 10.5.0.1."""

    host: Any
    words: list[str]

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self.words, *words], capture_output=True, text=True, check=False, timeout=60)

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok("--format", "json", *words))

    def ping(self, sandbox: str, address: str) -> bool:
        return self("sandbox", "exec", sandbox, "--", "ping", "-c1", "-W2", address).returncode == 0

    def made(self) -> set[str]:
        return set(self.host.links()) - {"lo", "up0", "wire0"}


@pytest.fixture
def shell(host: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    host.run("ip", "link", "add", "up0", "up", "type", "veth", "peer", "name", "wire0")
    host.run("ip", "link", "set", "wire0", "up")
    host.run("ip", "addr", "add", "10.5.0.1/24", "dev", "up0")
    directories = ("--state-dir", f"{tmp_path}/state", "--run-dir", f"{tmp_path}/run")
    made = Shell(host, [sys.executable, "-m", "dovetail", *directories])
    daemon = None
    if getattr(request, "param", "daemon") == "daemon":
        with open(tmp_path / "daemon.log", "wb") as log:
            words = [*made.words, "daemon", "--docker-plugin-dir", f"{tmp_path}/plugins"]
            daemon = subprocess.Popen(words, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while "not running" in made("version").stdout:
            assert time.monotonic() < deadline, (tmp_path / "daemon.log").read_text()
    yield made
    for sandbox in made.json("sandbox", "ls"):
        made("sandbox", "rm", sandbox["name"])
    for network in made.json("network", "ls"):
        made("network", "rm", network["name"])
    if daemon is not None:
        daemon.terminate()
        assert daemon.wait(timeout=20) == 0


@pytest.mark.parametrize("shell", ["daemon", "alone"], indirect=True)
def test_sandboxes_are_on_the_wire_and_everything_goes(shell: Shell) -> None:
    shell.ok("network", "create", "lan", *LAN, "--ip-range", "10.5.0.128/25", "-o", "host_access=true")
    for name in ("a", "b"):
        shell.ok("sandbox", "create", name)
        assert shell.ok("network", "connect", "lan", name).startswith("eth0 10.5.0.1")

    assert shell.ping("a", "10.5.0.130")
    assert shell.ping("a", "10.5.0.128"), "the host, by the interface that it has for them"
    shell.host.run("ping", "-c1", "-W2", "10.5.0.129")
    view = shell.json("network", "inspect", "lan")[0]
    assert (view["parent"], view["subnets"][0]["aux"]["host"]) == ("up0", "10.5.0.128")
    assert "parent up0  link dv-" in shell.ok("topology")
    assert all(check["verdict"] != "problem" for check in shell.json("doctor") if check["name"] != "daemon")

    shell.ok("network", "disconnect", "lan", "a")
    shell.ok("sandbox", "rm", "a", "b")
    shell.ok("network", "rm", "lan")
    assert shell.made() == set()


def test_explain_writes_the_commands_and_a_shell_makes_the_same(shell: Shell) -> None:
    shell.ok("network", "create", "lan", *LAN)
    shell.ok("sandbox", "create", "a")

    commands = shell.ok("--explain", "network", "connect", "lan", "a")

    assert "ip link add link up0 name eth0 address" in commands
    assert "type macvlan mode bridge" in commands
    netns = shell.json("sandbox", "inspect", "a")[0]["netns"]
    assert set(shell.host.links(netns)) == {"lo"}
    shell.host.run("sh", "-e", stdin=commands)
    link = shell.host.links(netns)["eth0"]
    assert (link["linkinfo"]["info_kind"], "UP" in link["flags"]) == ("macvlan", True)
    shell.host.run("nsenter", f"--net={netns}", "ip", "link", "del", "eth0")


def test_what_cannot_be_is_told_in_a_sentence_with_the_place(shell: Shell) -> None:
    shell.ok("network", "create", "lan", *LAN)
    shell.ok("sandbox", "create", "a")
    refusals = {
        (
            "network",
            "create",
            "x",
            "-d",
            "macvlan",
            "-o",
            "parent=nope",
        ): "options.parent: no such interface: 'nope'",
        (
            "network",
            "create",
            "x",
            "-d",
            "ipvlan",
            "-o",
            "parent=up0",
        ): "'up0' carries the macvlan network 'lan'",
        ("network", "create", "x", "-d", "macvlan", "-o", "parent=up0", "-o", "mode=passthru"): (
            "passthru wants 'up0' for itself, and network 'lan' is on it"
        ),
        ("network", "connect", "lan", "a", "-p", "8080:80"): "a macvlan network cannot publish ports",
        ("network", "connect", "lan", "a", "--ip", "10.5.0.1"): "reserves it",
    }

    for words, sentence in refusals.items():
        done = shell(*words)
        assert done.returncode == 1, words
        assert sentence in done.stderr, done.stderr

    assert shell.made() == set()
    assert [network["name"] for network in shell.json("network", "ls")] == ["lan"]
    assert shell.json("endpoint", "ls") == []
