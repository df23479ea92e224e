"""The API over a recording kernel and a store in memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dovetail.api.dispatch import dispatch
from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine
from dovetail.kernel.recording import RecordingKernel
from dovetail.store.sqlite import SqliteStore


class Answer(NamedTuple):
    """Status and decoded payload."""

    status: int
    body: Any


class Api(NamedTuple):
    """An engine and a way to ask it."""

    engine: Engine
    kernel: RecordingKernel

    def __call__(
        self,
        method: str,
        path: str,
        body: object = None,
        query: dict[str, str] | None = None,
        raw: bytes = b"",
    ) -> Answer:
        payload = json.dumps(body).encode() if body is not None else raw
        reply = dispatch(self.engine, method, path, query or {}, payload)
        return Answer(reply.status, json.loads(reply.payload))


@pytest.fixture
def make_api(tmp_path: Path) -> Callable[[], Api]:
    """Make an API on an empty host."""

    def make() -> Api:
        kernel = RecordingKernel()
        state = tmp_path / "state"
        state.mkdir(exist_ok=True)
        store = SqliteStore(str(tmp_path / "dovetail.db"))
        return Api(
            build_engine(state_dir=str(state), run_dir=str(tmp_path / "run"), kernel=kernel, store=store),
            kernel,
        )

    return make


@pytest.fixture
def api(make_api: Callable[[], Api]) -> Api:
    """Make an API with network web and sandboxes a and b."""
    made = make_api()
    assert (
        made("POST", "/v1/networks", {"name": "web", "subnets": [{"subnet": "10.88.0.0/24"}]}).status == 201
    )
    for name in ("a", "b"):
        assert made("POST", "/v1/sandboxes", {"name": name}).status == 201
    return made
