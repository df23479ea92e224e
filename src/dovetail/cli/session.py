"""What the options before the command say, and how its result is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar

import click
import msgspec

from dovetail.assembly import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from dovetail.cli.backend import Backend, open_backend
from dovetail.model.codec import decode

__all__ = ["Format", "Session", "pass_session"]

Format: TypeAlias = Literal["table", "json"]
T = TypeVar("T")


@dataclass
class Session:
    """One run of the command line."""

    state_dir: str = DEFAULT_STATE_DIR
    run_dir: str = DEFAULT_RUN_DIR
    format: Format = "table"
    explain: bool = False
    docker_socket: str = ""
    _backend: Backend | None = field(default=None, repr=False)

    @property
    def backend(self) -> Backend:
        """The daemon, or an engine in this process, or one that only writes commands down; opened once."""
        if self._backend is None:
            self._backend = open_backend(
                self.state_dir, self.run_dir, docker_socket=self.docker_socket, explain=self.explain
            )
        return self._backend

    def get(self, path: str, kind: type[T], *, query: Mapping[str, str] | None = None) -> T:
        """Ask for a view."""
        return decode(self.request("GET", path, query=query), kind)

    def request(
        self, method: str, path: str, body: object = None, *, query: Mapping[str, str] | None = None
    ) -> bytes:
        """Send one request; raises what the API answers as a DovetailError."""
        return self.backend.request(method, path, body, query=query or {})

    def show(self, payload: bytes, text: str) -> None:
        """Print the API's payload, or `text` for people; nothing while explaining, and no line for no text."""
        if self.explain:
            return
        if self.format == "json":
            click.echo(msgspec.json.format(payload, indent=2))
        elif text:
            click.echo(text)

    def finish(self) -> None:
        """Print the commands of ``--explain``."""
        if not self.explain or self._backend is None:
            return
        if self.format == "json":
            click.echo(json.dumps({"commands": self._backend.commands}, indent=2))
        else:
            for command in self._backend.commands:
                click.echo(command)


pass_session = click.make_pass_decorator(Session, ensure=True)
