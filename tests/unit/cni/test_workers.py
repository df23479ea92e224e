"""Threads that wait at one socket: as many as there are calls, few when there are none."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dovetail.cni.workers import Workers

TIMEOUT_S = 20


class Rig:
    """Workers whose calls wait until `let_go` is set."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(self.path)
        self.listening.listen(64)
        self.let_go = threading.Event()
        self.workers = Workers(self.listening, self._serve)
        self.thread = threading.Thread(target=self.workers.run, daemon=True)
        self.thread.start()

    def _serve(self, connection: socket.socket) -> None:
        connection.sendall(b"begun")
        assert self.let_go.wait(TIMEOUT_S)
        connection.sendall(b"ended")

    def call(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT_S)
        client.connect(self.path)
        return client

    @property
    def alive(self) -> int:
        return sum(thread.name == "cni" for thread in threading.enumerate())


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "s")
    yield rig
    rig.let_go.set()
    rig.workers.stop(TIMEOUT_S)
    rig.thread.join(TIMEOUT_S)
    rig.listening.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def read(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += client.recv(count - len(data))
    return data


def test_calls_at_once_are_served_at_once_and_their_threads_go_again(rig: Rig) -> None:
    clients = [rig.call() for _ in range(40)]

    assert [read(client, 5) for client in clients] == [b"begun"] * 40
    rig.let_go.set()
    assert [read(client, 5) for client in clients] == [b"ended"] * 40

    for client in clients:
        assert client.recv(1) == b"", "the connection is closed behind the answer"
        client.close()
    wait_for(lambda: rig.alive <= 3)
    with rig.call() as late:
        assert read(late, 10) == b"begunended"


def test_stopping_waits_for_the_calls_under_way(rig: Rig) -> None:
    client = rig.call()
    read(client, 5)
    stopper = threading.Thread(target=rig.workers.stop, args=(TIMEOUT_S,))
    stopper.start()

    assert stopper.is_alive()
    rig.let_go.set()
    stopper.join(TIMEOUT_S)

    assert read(client, 5) == b"ended"
    client.close()
    wait_for(lambda: rig.alive == 0)


def test_stopping_does_not_close_the_socket_which_may_be_systemds(rig: Rig) -> None:
    rig.workers.stop(TIMEOUT_S)

    with rig.call() as waiting:  # in the backlog, for the next daemon
        assert waiting.fileno() >= 0
    assert rig.listening.fileno() >= 0
