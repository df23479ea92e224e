"""What who has no rights is told, and what everybody is told where the disk is full."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

# nobody, who may read what root reads: the checkout may be in a directory that others may not enter
_READING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
_UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *_READING)


@pytest.mark.parametrize("words", ["network ls", "network create x", "sandbox exec box -- true", "doctor"])
def test_without_rights_a_command_says_what_it_may_not(words: str, scene: Any) -> None:
    before = scene.state()

    for run, place in (("run", "run/api.sock"), ("alone", "state")):
        done = scene.run(run, *words.split(), prefix=_UNPRIVILEGED)

        assert done.returncode == 1
        said = done.stdout if words == "doctor" else done.stderr
        assert f"no permission to {'talk' if run == 'run' else 'write'} to" in said
        assert f"{scene.directory}/{place}" in said
        assert "run as root" in said
        assert "Traceback" not in done.stderr
    assert scene.state() == before


@pytest.mark.parametrize("path", ["run/api.sock", "run/cni.sock", "plugins/dovetail.sock"])
def test_without_rights_nobody_connects(path: str, scene: Any) -> None:
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    command = [*_UNPRIVILEGED, sys.executable, "-c", code, f"{scene.directory}/{path}"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert "PermissionError" in done.stderr


@pytest.mark.parametrize("executables", ["bin", "bin-alone"])
def test_without_rights_the_cni_plugin_says_so_in_json(executables: str, scene: Any) -> None:
    before = scene.state()

    answer = scene.cni(executables, {}, {}, prefix=_UNPRIVILEGED)

    assert answer.code == 5  # what the sentence names is whether Python may be run at all
    assert scene.state() == before


def test_a_full_disk_is_one_sentence_at_every_door(host: Any, make_scene: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="dv-") as directory:
        scene = make_scene(host, Path(directory))
        pool = {"AddressSpace": "dovetail-local", "Pool": "10.7.0.0/24"}
        state = scene.directory / "state"
        state.mkdir()
        host.run("mount", "-n", "-t", "tmpfs", "-o", "size=1m", "none", str(state))
        try:
            scene.start()
            assert scene.run("run", "network", "create", "web").returncode == 0
            assert scene.run("run", "sandbox", "create", "free").returncode == 0
            before = scene.links()
            _fill(state)

            answers = [
                scene.cli("run", "network", "create", "x"),
                scene.cli("alone", "network", "connect", "web", "free"),
                scene.api("POST", "/v1/networks", {"name": "x"}),
                scene.docker("IpamDriver.RequestPool", pool),
            ]

            assert [answer.code for answer in answers] == [1, 1, 500, 500]
            for answer in answers:
                assert str(state) in answer.sentence
                assert "no space left" in answer.sentence
            assert scene.links() == before
            (state / "junk").unlink()
            assert scene.run("run", "network", "connect", "web", "free").returncode == 0
            assert [row["name"] for row in scene.http("run/api.sock", "GET", "/v1/networks", b"")[1]] == [
                "web"
            ]
        finally:
            scene.end()
            host.run("umount", "-n", str(state))


def _fill(directory: Path) -> None:
    """Leave no room, not even in the log that SQLite has written already."""
    with closing(sqlite3.connect(directory / "dovetail.db", isolation_level=None)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(directory / "junk", "wb", buffering=0) as junk, contextlib.suppress(OSError):
        while True:
            junk.write(bytes(4096))
