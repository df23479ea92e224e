"""The daemon's life: how it starts, where it refuses to, and how it ends."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

_MODES = {"run/api.sock": 0o660, "run/cni.sock": 0o600, "plugins/dovetail.sock": 0o600}


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


class Daemons:
    """Starts daemons on directories below one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started: list[subprocess.Popen[str]] = []

    def words(self, *, run: str = "run", plugins: str = "plugins") -> list[str]:
        places = ("--state-dir", f"{self.directory}/state", "--run-dir", f"{self.directory}/{run}")
        command = ("daemon", "--docker-plugin-dir", f"{self.directory}/{plugins}")
        return [sys.executable, "-m", "dovetail", *places, *command]

    def start(self) -> subprocess.Popen[str]:
        """Start one and wait until it answers."""
        with open(self.directory / "log", "a", encoding="utf-8") as log:
            started = subprocess.Popen(self.words(), stderr=log, text=True)
        self._started.append(started)
        wait_for(lambda: started.poll() is not None or self.answers(), "the daemon answers")
        assert started.poll() is None, self.log()
        return started

    def answers(self) -> bool:
        try:
            return self.ask("GET", "/v1/ping") == b"{}"
        except OSError:
            return False

    def refused(self, prefix: tuple[str, ...] = (), **places: str) -> str:
        """Try to start one; it must end by itself with status 1. Gives what it says."""
        command = [*prefix, *self.words(**places)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (1, "")
        return done.stderr

    def ask(self, method: str, path: str, body: object = None) -> bytes:
        """Send one request and give the body of the reply."""
        data = json.dumps(body).encode() if body is not None else b""
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(60)
            caller.connect(f"{self.directory}/run/api.sock")
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
            caller.sendall(head.encode() + data)
            reply = b"".join(iter(lambda: caller.recv(65536), b""))
        return reply.partition(b"\r\n\r\n")[2]

    def log(self) -> str:
        return (self.directory / "log").read_text(encoding="utf-8")

    def modes(self) -> dict[str, int]:
        """Give the modes of the sockets that are there."""
        found = {}
        for name in _MODES:
            path = self.directory / name
            if path.exists():
                assert stat.S_ISSOCK(path.stat().st_mode)
                found[name] = stat.S_IMODE(path.stat().st_mode)
        return found

    def stop(self) -> None:
        for daemon in self._started:
            daemon.kill()
            daemon.wait()


@pytest.fixture
def daemons(host: Any, tmp_path: Path) -> Iterator[Daemons]:
    made = Daemons(tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_daemon_has_served_on_three_sockets_and_leaves_none(daemons, number):
    daemon = daemons.start()
    assert daemons.modes() == _MODES

    daemon.send_signal(number)

    assert daemon.wait(timeout=30) == 0
    assert daemons.modes() == {}
    assert os.listdir(daemons.directory / "plugins") == []
    assert not (daemons.directory / "run" / "daemon.pid").exists()


def test_a_signal_that_another_thread_of_the_daemon_takes_stops_it_too(daemons):
    daemon = daemons.start()
    wait_for(lambda: "event=ready" in daemons.log() and _asleep(daemon.pid), "the main thread waits")
    others = sorted(int(tid) for tid in os.listdir(f"/proc/{daemon.pid}/task") if int(tid) != daemon.pid)

    # one of them, the first that has not ended since it was listed: the signal ends them all
    assert any(_tgkill(daemon.pid, tid, signal.SIGTERM) == 0 for tid in others)

    assert daemon.wait(timeout=30) == 0
    assert daemons.modes() == {}


def _asleep(pid: int) -> bool:
    stat_line = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8")
    return stat_line.rpartition(")")[2].split()[0] == "S"


def _tgkill(pid: int, tid: int, number: int) -> int:
    return ctypes.CDLL(None, use_errno=True).tgkill(pid, tid, number)  # tgkill(2), in glibc since 2.30


def test_the_sockets_of_a_killed_daemon_are_replaced(daemons):
    killed = daemons.start()
    killed.kill()
    killed.wait()
    assert daemons.modes() == _MODES

    daemons.start()

    assert daemons.modes() == _MODES
    assert daemons.answers()


def test_a_second_daemon_is_refused_in_one_sentence_and_the_first_goes_on(daemons):
    daemon = daemons.start()
    directory = daemons.directory

    same = daemons.refused()
    other = daemons.refused(run="other")

    assert (
        same
        == f"dovetail: process {daemon.pid} is the daemon of {directory}/run already\nhint: stop it first\n"
    )
    assert other == (
        f"dovetail: process {daemon.pid} listens on {directory}/plugins/dovetail.sock already\n"
        "hint: stop that daemon first\n"
    )
    assert os.listdir(directory / "other") == []
    assert daemons.answers()
    assert daemons.modes() == _MODES


def test_a_daemon_without_rights_is_refused_in_one_sentence(daemons):
    # nobody, who may read what root reads: the checkout may be in a directory that others may not enter
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    unprivileged = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *reading)

    said = daemons.refused(unprivileged)

    assert said.splitlines()[0].startswith(f"dovetail: no permission to make {daemons.directory}")
    assert said.splitlines()[1:] == ["hint: run as root"]
    assert os.listdir(daemons.directory) == []


def test_a_socket_that_cannot_be_made_leaves_no_other(daemons):
    (daemons.directory / "plugins").write_text("", encoding="ascii")

    said = daemons.refused()

    assert len(said.splitlines()) <= 2
    assert f"{daemons.directory}/plugins" in said
    assert os.listdir(daemons.directory / "run") == []


def test_a_stop_finishes_the_request_under_way_and_takes_no_new_one(daemons):
    daemon = daemons.start()
    network = json.loads(daemons.ask("POST", "/v1/networks", {"name": "web"}))
    daemons.ask("POST", "/v1/sandboxes", {"name": "box"})
    replies: list[bytes] = []
    connect = threading.Thread(
        target=lambda: replies.append(daemons.ask("POST", "/v1/networks/web/connect", {"sandbox": "box"}))
    )

    # the request waits for the lock of its network, which the test has; see engine/locks.py
    with open(daemons.directory / "state" / "lock", "r+b") as lock:
        byte = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, int(network["id"][:15], 16), 1, 0)
        fcntl.fcntl(lock, fcntl.F_OFD_SETLK, byte)
        connect.start()
        wait_for(lambda: _sleeps(daemon.pid), "the request waits for the lock")
        daemon.terminate()
        wait_for(lambda: "event=stopping" in daemons.log(), "the daemon stops")
        assert daemon.poll() is None
        assert replies == []

    connect.join(60)
    assert json.loads(replies[0])["addresses"]
    assert daemon.wait(timeout=30) == 0
    daemons.start()
    endpoints = json.loads(daemons.ask("GET", "/v1/endpoints"))
    assert [endpoint["status"] for endpoint in endpoints] == ["joined"]
    daemons.ask("DELETE", "/v1/sandboxes/box")
    daemons.ask("DELETE", "/v1/networks/web")


def _sleeps(pid: int) -> bool:
    """Say whether a thread sleeps for a time of its own: one that waits for a lock does, all others wait for events."""
    for task in os.scandir(f"/proc/{pid}/task"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "nanosleep" in Path(task.path, "wchan").read_text(encoding="ascii"):
                return True
    return False
