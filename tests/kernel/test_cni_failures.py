"""A full disk, a locked database and a namespace that vanishes, at each step of an ADD and of a DEL.

The runtime gets an error of its code, the kernel is as it was, and DEL afterwards takes away what could not be
written while it lasted.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cni.plugin import run
from dovetail.engine.trace import Step
from dovetail.model.addresses import parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.store.sqlite import SqliteStore

pytestmark = pytest.mark.root
_LIMIT = 60


class Disk:
    """The state directory as a small file system of its own, full or with room, its database locked or free."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        subprocess.run(["mount", "-n", "-t", "tmpfs", "-o", "size=8m", "none", directory], check=True)
        self._junk = directory / "junk"
        self._lock: sqlite3.Connection | None = None

    def fill(self) -> None:
        """Leave no room, not even in the log that SQLite has written already."""
        with sqlite3.connect(self.directory / "dovetail.db", isolation_level=None) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        with open(self._junk, "wb", buffering=0) as junk:
            for size in (1 << 20, 1 << 12):
                with contextlib.suppress(OSError):
                    while True:
                        junk.write(bytes(size))

    def lock(self) -> None:
        """Hold the write lock, as another program would."""
        self._lock = sqlite3.connect(self.directory / "dovetail.db", isolation_level=None)
        self._lock.execute("BEGIN IMMEDIATE")

    def recover(self) -> None:
        """Make room and let go."""
        self._junk.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def unmount(self) -> None:
        self.recover()
        subprocess.run(["umount", "-n", "-l", self.directory], check=True)


class Plugin:
    """The plugin's side of CNI with an engine whose steps are seen, on the disk."""

    def __init__(self, host: Any, directory: Path) -> None:
        self.host = host
        self.disk = Disk(directory / "state")
        self._passed: int | None = None
        self._at = 0
        self._then: Callable[[], object] = lambda: None
        self.engine = build_engine(
            state_dir=str(self.disk.directory),
            run_dir=str(directory / "run"),
            store=SqliteStore(str(self.disk.directory / "dovetail.db"), busy_timeout_s=0.05),
            on_step=self._on_step,
        )
        subnets = (parse_subnet("10.88.0.0/24"), parse_subnet("fd88::/64"))
        self.engine.networks.create(
            NetworkSpec(name="web", subnets=tuple(SubnetSpec(subnet=s, version=s.version) for s in subnets))
        )

    def _on_step(self, step: Step) -> None:
        if self._passed is not None:
            self._passed += 1
            if self._passed == self._at:
                self._then()

    def netns(self) -> str:
        if not os.path.exists("/run/netns/c1"):
            self.host.run("ip", "netns", "add", "c1")
        return "/run/netns/c1"

    def call(self, verb: str, *, at: int = 0, then: Callable[[], object] = lambda: None) -> tuple[int, Any]:
        """Answer one call, with `then` happening at the step `at`; gives exit status and result."""
        environment = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
        mappings = [{"hostPort": 8080, "containerPort": 80}]
        config = {"cniVersion": "1.0.0", "name": "pods", "type": "dovetail", "network": "web"}
        stdin = json.dumps({**config, "runtimeConfig": {"portMappings": mappings}}).encode()
        self._passed, self._at, self._then = 0, at, then
        outcome = run({**environment, "CNI_NETNS": self.netns()}, stdin, lambda: self.engine)
        reached, self._passed = self._passed >= at, None
        if not reached:
            raise LookupError(at)  # the walk is over
        return outcome.status, json.loads(outcome.stdout) if outcome.stdout else None

    def in_kernel(self) -> list[str]:
        """Name what the host has of the container."""
        ports = self.host.nft("list", "map", "inet", "dovetail", "publish4")[1]["map"].get("elem", [])
        return [name for name in self.host.links() if name.startswith("dvh")] + [str(port) for port in ports]


@pytest.fixture
def plugin(host: Any, tmp_path: Path) -> Iterator[Plugin]:
    made = Plugin(host, tmp_path)
    yield made
    made.disk.recover()
    made.call("DEL")
    made.engine.networks.delete("web")
    made.engine.core.store.close()
    host.run("ip", "netns", "del", "c1")
    made.disk.unmount()


@pytest.mark.parametrize(("misfortune", "code"), [("fill", 5), ("lock", 11)])
def test_an_add_that_cannot_be_written_down_leaves_the_kernel_as_it_was(
    plugin: Plugin, nobodys: Any, misfortune: str, code: int
) -> None:
    failed = 0
    for nth in range(1, _LIMIT):
        try:
            status, result = plugin.call("ADD", at=nth, then=getattr(plugin.disk, misfortune))
        except LookupError:
            break
        if status:
            failed += 1
            assert result["code"] == code, result
            assert str(plugin.disk.directory) in result["msg"]
            assert plugin.in_kernel() == []
            assert "eth0" not in plugin.host.links(plugin.netns())
        plugin.disk.recover()
        assert plugin.call("DEL") == (0, None)
        assert nobodys(plugin.host.run, str(plugin.disk.directory)) == []
        assert plugin.in_kernel() == []
    assert failed > 5


@pytest.mark.parametrize(("misfortune", "code"), [("fill", 5), ("lock", 11)])
def test_a_del_that_cannot_be_written_down_can_be_repeated(
    plugin: Plugin, nobodys: Any, misfortune: str, code: int
) -> None:
    failed = 0
    for nth in range(1, _LIMIT):
        assert plugin.call("ADD")[0] == 0
        try:
            status, result = plugin.call("DEL", at=nth, then=getattr(plugin.disk, misfortune))
        except LookupError:
            break
        failed += status
        assert not status or result["code"] == code, result
        plugin.disk.recover()
        assert plugin.call("DEL") == (0, None)
        assert nobodys(plugin.host.run, str(plugin.disk.directory)) == []
        assert plugin.in_kernel() == []
    assert failed > 2


def test_a_namespace_that_vanishes_midway_leaves_nothing(plugin: Plugin, nobodys: Any) -> None:
    """Its descriptor is open, so it lives until the ADD is done, and dies with the interface then."""
    for nth in range(1, _LIMIT):
        try:
            plugin.call("ADD", at=nth, then=lambda: plugin.host.run("ip", "netns", "del", "c1", check=False))
        except LookupError:
            break
        assert plugin.call("DEL") == (0, None)
        assert nobodys(plugin.host.run, str(plugin.disk.directory)) == []
        assert plugin.in_kernel() == []
    assert nth > 5


def test_a_namespace_that_is_gone_when_the_plugin_goes_on_by_itself_is_code_4(installation: Any) -> None:
    """The executable has opened it, finds no daemon, and the engine that it starts opens the path again."""
    installation.cli("network", "create", "web")
    python = installation.directory / "python"
    python.write_text(f'#!/bin/sh\nip netns del c1\nexec {sys.executable} "$@"\n', encoding="ascii")
    python.chmod(0o755)
    settings = installation.directory / "bin" / ".dovetail"
    settings.write_text(settings.read_text().replace(sys.executable, str(python)))

    status, result = installation.cni("ADD", "c1")

    assert (status, result["code"]) == (1, 4)
    assert "/run/netns/c1 does not exist" in result["msg"]
    assert [name for name in installation.host.links() if name.startswith("dvh")] == []
