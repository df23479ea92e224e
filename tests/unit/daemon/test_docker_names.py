"""The thread that follows Docker, and the reader of its API, against a Docker that answers badly or not at all."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cnm.docker_api import DockerApi
from dovetail.daemon.docker_names import DockerNames
from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError, NotFound
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
_NETWORK = {"Id": "d" * 64, "Name": "shop", "IPAM": {"Config": [{"Subnet": "10.77.0.5/24"}]}, "Labels": None}
Answer = Callable[[str, socket.socket], None]


class Docker:
    """Listens where Docker would; `answer` gets the path of each request, and the connection to write to."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.asked: list[str] = []
        self.answer: Answer = lambda path, connection: connection.sendall(plain(self.fitting(path)))
        self.open: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.path)
        self._listening.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    @staticmethod
    def fitting(path: str) -> Any:
        """Give what Docker 20.10 answers, in form."""
        return _NETWORK if path.startswith("/networks/") else [_NETWORK] if path == "/networks" else []

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.open.append(connection)
            with contextlib.suppress(OSError):  # who asked may have gone
                self._serve_one(connection)

    def _serve_one(self, connection: socket.socket) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            part = connection.recv(65536)
            if not part:
                return
            request += part
        path = request.split()[1].decode()
        self.asked.append(path)
        if path.startswith("/events"):
            connection.sendall(_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        else:
            self.answer(path, connection)
            connection.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for each in (self._listening, *self.open):
            each.close()


def plain(value: Any, status: str = "200 OK") -> bytes:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Docker]:
    made = Docker(tmp_path / "docker.sock")
    yield made
    made.close()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "state").mkdir()
    store = SqliteStore(str(tmp_path / "dovetail.db"))
    return build_engine(
        state_dir=str(tmp_path / "state"), run_dir=str(tmp_path), kernel=RecordingKernel(), store=store
    )


def test_what_docker_has_is_read_with_host_bits_and_nulls_as_it_keeps_them(docker: Docker) -> None:
    has = DockerApi(docker.path).has(["d" * 64, "e" * 64])

    assert has.ids == {"d" * 64}
    assert [str(subnet) for subnet in has.subnets] == ["10.77.0.0/24"]
    assert has.endpoints == set()
    assert docker.asked == ["/networks", f"/networks/{'d' * 64}"]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (plain({"message": "no\nroom"}, "500 Internal Server Error"), "answers 500: no room"),
        (plain(b"<html>", "502 Bad Gateway"), "answers 502: <html>"),
        (plain(b"{"), "answers what is not understood"),
        (plain({"message": "an object"}), "answers what is not understood"),
        (plain([{"Id": "x", "Name": "y", "IPAM": {"Config": [{"Subnet": "?"}]}}]), "on what is no subnet"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n[", "the connection to Docker at"),
        (b"", "the connection to Docker at"),
        (b"nonsense\r\n\r\n", "the connection to Docker at"),
    ],
)
def test_a_bad_answer_is_a_sentence_and_nothing_is_taken_from_it(
    docker: Docker, answer: bytes, sentence: str
) -> None:
    docker.answer = lambda _, connection: connection.sendall(answer)

    with pytest.raises(DovetailError, match=sentence) as caught:
        DockerApi(docker.path).has([])

    assert docker.path in str(caught.value)


def test_a_docker_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(DovetailError, match="no Docker listens at .*/nobody.sock"):
        DockerApi(str(tmp_path / "nobody.sock")).networks()
    with pytest.raises(DovetailError, match="too long for a socket"):
        DockerApi(f"/{'x' * 200}").networks()


def test_a_network_that_goes_while_it_is_asked_about_has_no_endpoints(docker: Docker) -> None:
    def answer(path: str, connection: socket.socket) -> None:
        gone = plain({"message": "no such network"}, "404 Not Found")
        connection.sendall(plain([_NETWORK]) if path == "/networks" else gone)

    docker.answer = answer

    assert DockerApi(docker.path).has(["d" * 64]).endpoints == set()
    with pytest.raises(NotFound):
        DockerApi(docker.path).network("d" * 64)


def test_the_thread_waits_for_dockers_first_call_and_ends_when_it_is_told(
    docker: Docker, engine: Engine
) -> None:
    followed = threading.Event()
    names = DockerNames(engine, DockerApi(docker.path), followed.set)
    names.start()
    with engine.tracer.step("cli", "network ls"):
        pass
    assert not names.docker_runs
    assert docker.asked == []

    with engine.tracer.step("docker", "Plugin.Activate"):
        pass

    assert followed.wait(10)
    assert [path.partition("?")[0] for path in docker.asked] == ["/events", "/networks"]
    assert names.docker_runs
    names.stop(10)
    assert not names._thread.is_alive()


def test_a_docker_that_ends_is_followed_again_when_it_calls_again(docker: Docker, engine: Engine) -> None:
    followed = threading.Semaphore(0)
    names = DockerNames(engine, DockerApi(docker.path), followed.release)
    names.start()
    for _ in range(2):
        with engine.tracer.step("docker", "Plugin.Activate"):
            pass
        assert followed.acquire(timeout=10)
        docker.open[-2].shutdown(socket.SHUT_RDWR)  # of the events
        _wait(lambda: not names.docker_runs)

    names.stop(10)
    assert not names._thread.is_alive()


def test_a_stop_before_docker_ever_called_ends_the_thread(docker: Docker, engine: Engine) -> None:
    names = DockerNames(engine, DockerApi(docker.path), lambda: None)
    names.start()

    names.stop(10)

    assert not names._thread.is_alive()
    assert docker.asked == []


def test_events_end_whether_docker_or_we_end_them(docker: Docker) -> None:
    api = DockerApi(docker.path)
    for end in ("docker", "stop"):
        with api.events({"container": ("rename",)}, for_s=60) as events:
            docker.open[-1].shutdown(socket.SHUT_RDWR) if end == "docker" else events.stop()
            assert list(events) == []
        events.stop()


def _wait(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    pytest.fail("it did not happen")
