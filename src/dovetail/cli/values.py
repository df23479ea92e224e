"""The types of arguments: read where they are typed, with the model's own parsers and sentences."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import click
from click.shell_completion import CompletionItem

from dovetail.api.views import DriverView, EndpointView, NetworkRow, SandboxView
from dovetail.assembly import DEFAULT_DOCKER_SOCKET, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR
from dovetail.cli.session import Session
from dovetail.errors import DovetailError, InvalidArgument
from dovetail.model.addresses import IPAddress, IPNetwork, parse_address, parse_subnet
from dovetail.model.mac import Mac
from dovetail.model.names import short
from dovetail.model.port import parse_publish
from dovetail.model.routes import parse_route
from dovetail.model.sysctls import parse_sysctl

__all__ = [
    "ADDRESS",
    "CIDR",
    "COMMAND_EXITS",
    "DEPTH",
    "DRIVER",
    "ENDPOINT",
    "MAC",
    "NAMED_ADDRESS",
    "NETWORK",
    "OPERATIONS",
    "PAIR",
    "PUBLISH",
    "PUBLISH_HELP",
    "ROUTE",
    "SANDBOX",
    "SYSCTL",
    "SYSCTL_HELP",
    "command_argument",
    "docker_socket_option",
    "once",
]

T = TypeVar("T")
V = TypeVar("V", NetworkRow, SandboxView, EndpointView, DriverView)


class _Parsed(click.ParamType[Any]):
    """A value that `parse` reads; what it refuses is a usage error with its sentence and hint."""

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read one value; click hands back what was read already."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except InvalidArgument as exc:
            hint = f" ({exc.hint})" if exc.hint else ""
            self.fail(f"{exc.message}{hint}", param, ctx)


class _Name(click.ParamType[str], Generic[V]):
    """A name, id or unique prefix of an id of something that the engine knows; completes names."""

    def __init__(self, name: str, path: str, kind: type[V], of: Callable[[V], str]) -> None:
        self.name = name
        self._path = path
        self._kind: type[V] = kind
        self._of: Callable[[V], str] = of

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse an empty name: a path without it means all of them."""
        if not value:
            article = "an" if self.name[0] in "aeiou" else "a"
            self.fail(f"{article} {self.name}'s name cannot be empty", param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Give the names that begin with `incomplete`; none where the engine may not be asked."""
        with contextlib.suppress(DovetailError, OSError):
            # click parses the options before the command without calling it: no session is made yet,
            # and no default is filled in
            given = ctx.find_root().params
            session = Session(
                state_dir=given.get("state_dir") or DEFAULT_STATE_DIR,
                run_dir=given.get("run_dir") or DEFAULT_RUN_DIR,
            )
            names = sorted({self._of(view) for view in session.get(self._path, list[self._kind])})  # type: ignore[name-defined]
            return [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return []


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise InvalidArgument(f"{text!r} is not KEY=VALUE")
    return key, value


def _named_address(text: str) -> tuple[str, IPAddress]:
    key, value = _pair(text)
    return key, parse_address(value)


def _route(text: str) -> str:
    parse_route(text)
    return text


def _publish(text: str) -> str:
    parse_publish(text)
    return text


def _number(what: str, least: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,9}", text) or int(text) < least:
            raise InvalidArgument(f"{text!r} is not a {what}", hint=f"{least} or more")
        return int(text)

    return read


def once(ctx: click.Context, param: click.Parameter, value: tuple[tuple[str, T], ...]) -> dict[str, T]:
    """Make a dictionary of pairs; a key that is given twice is a mistake, and one of the two would be lost."""
    found: dict[str, T] = {}
    for key, one in value:
        if key in found:
            raise click.BadParameter(f"{key!r} is given twice", ctx, param)
        found[key] = one
    return found


def _words(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Take off the ``--`` that sets the command apart: behind an argument click leaves it standing."""
    words = value[1:] if value[:1] == ("--",) else value
    if not words and not ctx.resilient_parsing:
        raise click.MissingParameter(ctx=ctx, param=param)
    return words


def _cidr(text: str) -> IPNetwork:
    return parse_subnet(text)


def _address(text: str) -> IPAddress:
    return parse_address(text)


command_argument = click.argument(
    "command",
    metavar="CMD...",
    nargs=-1,
    required=True,
    type=click.UNPROCESSED,
    callback=_words,
    help="The command and its arguments, best behind '--'.",
)
"""A command with its arguments, the last words of a line."""
COMMAND_EXITS = {
    "0": "CMD ended with 0.",
    "1": "CMD could not be started in a sandbox, or ended with 1.",
    "126": "CMD cannot be run.",
    "127": "CMD is not found.",
    "N": "Whatever else CMD ended with; 128 + n where signal n ended it.",
}
"""What the exit status of a command that runs CMD means."""

docker_socket_option = click.option(
    "--docker-socket",
    envvar="DOVETAIL_DOCKER_SOCKET",
    default=DEFAULT_DOCKER_SOCKET,
    show_default=True,
    metavar="PATH",
    help="Where the API of the Docker Engine listens that has dovetail as a plugin; '' for none. "
    "Also DOVETAIL_DOCKER_SOCKET.",
)
"""Docker's API, which is only read."""

CIDR = _Parsed("cidr", _cidr)
ADDRESS = _Parsed("ip", _address)
MAC = _Parsed("mac", Mac)
PAIR = _Parsed("key=value", _pair)
NAMED_ADDRESS = _Parsed("name=ip", _named_address)
PUBLISH = _Parsed("[ip:][host:]cont[/proto]", _publish)
PUBLISH_HELP = (
    "Publish CONT at the host's port HOST; PROTO is tcp, udp or sctp.  [default: tcp, any free HOST]"
)
ROUTE = _Parsed("dest [via gw]", _route)
SYSCTL = _Parsed("key=value", parse_sysctl)
SYSCTL_HELP = "A sysctl of the interface, as net.ipv4.conf.IFNAME.forwarding=1 with the word IFNAME."
OPERATIONS = _Parsed("n", _number("number of operations", 1))
DEPTH = _Parsed("n", _number("depth", 0))
NETWORK = _Name("network", "/v1/networks", NetworkRow, lambda row: row.name)
SANDBOX = _Name("sandbox", "/v1/sandboxes", SandboxView, lambda view: view.name)
ENDPOINT = _Name("endpoint", "/v1/endpoints", EndpointView, lambda view: view.container or short(view.id))
DRIVER = _Name("driver", "/v1/drivers", DriverView, lambda view: view.name)
