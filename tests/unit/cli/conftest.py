"""The command line over an engine on a recording kernel, and over a socket where the same engine answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest

from dovetail.api.dispatch import dispatch
from dovetail.assembly import build_engine
from dovetail.cli import backend as backend_module
from dovetail.cli.main import main
from dovetail.engine.engine import Engine
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore


class Ran(NamedTuple):
    """Exit status and what went to the two streams."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


class Shell(NamedTuple):
    """Runs command lines; `run_dir` is where a daemon's socket would be."""

    run: Callable[..., Ran]
    engine: Engine
    kernel: RecordingKernel
    run_dir: Path

    def __call__(self, *words: str) -> Ran:
        return self.run(*words)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Give a command line whose in-process engine is one on a recording kernel."""
    kernel = RecordingKernel()
    state, run_dir = tmp_path / "state", tmp_path / "run"
    for directory in (state, run_dir):
        directory.mkdir()
    store = SqliteStore(str(state / "dovetail.db"))
    engine = build_engine(state_dir=str(state), run_dir=str(run_dir), kernel=kernel, store=store)
    monkeypatch.setattr(backend_module, "build_engine", lambda **_: engine)

    def run(*words: str) -> Ran:
        capsys.readouterr()
        status = main(["--state-dir", str(state), "--run-dir", str(run_dir), *words])
        out, err = capsys.readouterr()
        return Ran(status, out, err)

    return Shell(run, engine, kernel, run_dir)


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    engine: Engine
    requests: list[str]


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        self.server.requests.append(f"{self.command} {self.path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        reply = dispatch(self.server.engine, self.command, split.path, dict(parse_qsl(split.query)), body)
        self.send_response(reply.status)
        self.send_header("Content-Length", str(len(reply.payload)))
        self.end_headers()
        self.wfile.write(reply.payload)

    do_POST = do_DELETE = do_GET

    def address_string(self) -> str:
        return ""

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def daemon(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let the engine answer on the API socket instead; gives the requests that came."""

    def refuse(**_: object) -> Engine:
        raise AssertionError("an engine was built although a daemon runs")

    monkeypatch.setattr(backend_module, "build_engine", refuse)
    server = _Server(str(shell.run_dir / "api.sock"), _Handler)
    server.engine, server.requests = shell.engine, []
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.requests
    server.shutdown()
    thread.join()
    server.server_close()
