"""The HTTP API without HTTP: a method, a path and a body in, a status and JSON out.

The daemon forwards ``/v1/*`` here; the CLI calls it in its own process when no daemon runs. So both
ways give the same result, byte for byte.

==========================================  =======  ====================================  ======================
path                                        method   request                               reply
==========================================  =======  ====================================  ======================
``/v1/networks``                            GET                                            list of NetworkRow
``/v1/networks``                            POST     NetworkRequest                        201 NetworkView
``/v1/networks/REF``                        GET                                            NetworkView
``/v1/networks/REF``                        DELETE                                         ``{}``
``/v1/networks/REF/connect``                POST     ConnectRequest                        201 EndpointView
``/v1/networks/REF/disconnect``             POST     DisconnectRequest                     ``{}``
``/v1/sandboxes``                           GET                                            list of SandboxView
``/v1/sandboxes``                           POST     SandboxRequest                        201 SandboxView
``/v1/sandboxes/REF``                       GET                                            SandboxView
``/v1/sandboxes/REF``                       DELETE                                         ``{}``
``/v1/endpoints``, ``/v1/endpoints/REF``    GET                                            EndpointView
``/v1/drivers``                             GET                                            list of DriverView
``/v1/drivers/REF``                         GET                                            DriverView
``/v1/pools``                               GET                                            list of PoolView
``/v1/trace?last=N``                        GET                                            list of Step
``/v1/trace/next?after=N&wait_s=S``         GET                                            TraceNews
``/v1/topology``                            GET                                            Topology
``/v1/doctor``                              GET                                            list of Check
``/v1/gc``                                  GET                                            Report
``/v1/gc``                                  POST                                           Report
``/v1/version``, ``/v1/ping``               GET                                            Version, ``{}``
==========================================  =======  ====================================  ======================

REF is a name, an id or a unique prefix of an id. Every failure is a `problems.Problem`.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote

import msgspec

import dovetail
from dovetail.api import gc, operations
from dovetail.api.attachments import all_endpoint_views, find_endpoint_view
from dovetail.api.doctor import examine
from dovetail.api.problems import Problem, problem_of
from dovetail.api.requests import ConnectRequest, DisconnectRequest, NetworkRequest, SandboxRequest
from dovetail.api.topology import topology
from dovetail.api.views import (
    DriverView,
    driver_view,
    network_rows,
    network_view,
    pool_views,
    sandbox_view,
    sandbox_views,
)
from dovetail.engine.engine import Engine
from dovetail.engine.trace import Step
from dovetail.errors import InvalidArgument, NotFound
from dovetail.model.codec import decode, encode

__all__ = ["API_VERSION", "Reply", "TraceNews", "Version", "dispatch"]

API_VERSION = "v1"
_TRACE_LAST = 20
_FOLLOW_AT_MOST_S = 30.0  # a client that has gone away holds a thread no longer
_OK, _CREATED, _NOT_FOUND, _NOT_ALLOWED = 200, 201, 404, 405


class Reply(NamedTuple):
    """An HTTP status and a JSON payload."""

    status: int
    payload: bytes


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """What answers. pid: of the process; store: the id of its store; netns: inode of its network namespace."""

    version: str
    api: str
    python: str
    kernel: str
    pid: int
    store: str
    netns: int


class TraceNews(msgspec.Struct, frozen=True, kw_only=True):
    """What has finished since; `next` is the ``after`` of the next request. Without ``after`` there are no steps."""

    next: int
    steps: list[Step] = []


class _Call(NamedTuple):
    """One request, its path taken apart: `ref` is the REF of the route, empty where it has none."""

    ref: str
    query: Mapping[str, str]
    body: bytes


_Handler: TypeAlias = Callable[[Engine, _Call], object]


def dispatch(engine: Engine, method: str, path: str, query: Mapping[str, str], body: bytes) -> Reply:
    """Carry out one request. Raises nothing: what fails becomes a `Problem`. Blocks; safe under threads."""
    try:
        found = _route(method, path)
        if isinstance(found, Reply):
            return found
        handler, ref = found
        result = handler(engine, _Call(ref, query, body))
        status = _CREATED if handler in _MAKES else _OK
        return Reply(status, encode({} if result is None else result))
    except Exception as exc:
        status, problem = problem_of(exc)
        return Reply(status, encode(problem))


def _route(method: str, path: str) -> tuple[_Handler, str] | Reply:
    version, _, rest = path.strip("/").partition("/")
    noun, _, tail = rest.partition("/")
    ref, verb = tail, ""
    for word in ("connect", "disconnect"):
        if noun == "networks" and tail.endswith(f"/{word}"):
            ref, verb = tail.removesuffix(f"/{word}"), word
    methods = _ROUTES.get((noun, bool(ref), verb)) if version == API_VERSION else None
    if methods is None:
        return _refusal(_NOT_FOUND, f"there is nothing at {path}")
    if method not in methods:
        known = ", ".join(sorted(methods))
        return _refusal(_NOT_ALLOWED, f"{method} is not a method of {path}: it takes {known}")
    return methods[method], unquote(ref)


def _refusal(status: int, sentence: str) -> Reply:
    return Reply(
        status, encode(Problem(error=sentence, kind="NotFound" if status == _NOT_FOUND else "NotAllowed"))
    )


# -- handlers -------------------------------------------------------------------------------------


def _create_network(engine: Engine, call: _Call) -> object:
    return operations.create_network(engine, decode(call.body, NetworkRequest))


def _connect(engine: Engine, call: _Call) -> object:
    return operations.connect(engine, call.ref, decode(call.body, ConnectRequest))


def _disconnect(engine: Engine, call: _Call) -> None:
    operations.disconnect(engine, call.ref, decode(call.body, DisconnectRequest))


def _create_sandbox(engine: Engine, call: _Call) -> object:
    return operations.create_sandbox(engine, decode(call.body or b"{}", SandboxRequest))


def _network(engine: Engine, call: _Call) -> object:
    return network_view(engine, engine.networks.get(call.ref))


def _sandbox(engine: Engine, call: _Call) -> object:
    return sandbox_view(engine, engine.sandboxes.get(call.ref))


def _endpoint(engine: Engine, call: _Call) -> object:
    return find_endpoint_view(engine, call.ref)


def _drivers(engine: Engine, _call: _Call) -> list[DriverView]:
    return [driver_view(driver) for _, driver in sorted(engine.core.drivers.items())]


def _trace(engine: Engine, call: _Call) -> list[Step]:
    text = call.query.get("last", str(_TRACE_LAST))
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise InvalidArgument(
            f"{text!r} is not a number of operations", where="last", hint="write it as last=20"
        )
    return engine.tracer.recent(int(text))


def _trace_next(engine: Engine, call: _Call) -> TraceNews:
    """Wait for the next operations: a client that follows asks again and again, with no state kept for it here."""
    if call.ref != "next":
        raise NotFound("trace", call.ref, hint="there is /v1/trace/next")
    after, wait_s = call.query.get("after"), call.query.get("wait_s", "0")
    for where, text in (("after", after), ("wait_s", wait_s)):
        if text is not None and not re.fullmatch("[0-9]{1,15}", text):
            raise InvalidArgument(f"{text!r} is not a number", where=where, hint=f"write it as {where}=20")
    number, steps = engine.tracer.follow(
        None if after is None else int(after), min(float(wait_s), _FOLLOW_AT_MOST_S)
    )
    return TraceNews(next=number, steps=steps)


def _version(engine: Engine, _call: _Call) -> Version:
    return Version(
        version=dovetail.__version__,
        api=API_VERSION,
        python=platform.python_version(),
        kernel=platform.release(),
        pid=os.getpid(),
        store=engine.core.store.id,
        netns=engine.kernel.netns_inode,
    )


# (noun, whether a REF follows, verb) -> method -> handler
_ROUTES: dict[tuple[str, bool, str], dict[str, _Handler]] = {
    ("networks", False, ""): {"GET": lambda engine, _: network_rows(engine), "POST": _create_network},
    ("networks", True, ""): {
        "GET": _network,
        "DELETE": lambda engine, call: operations.delete_network(engine, call.ref),
    },
    ("networks", True, "connect"): {"POST": _connect},
    ("networks", True, "disconnect"): {"POST": _disconnect},
    ("sandboxes", False, ""): {"GET": lambda engine, _: sandbox_views(engine), "POST": _create_sandbox},
    ("sandboxes", True, ""): {
        "GET": _sandbox,
        "DELETE": lambda engine, call: operations.delete_sandbox(engine, call.ref),
    },
    ("endpoints", False, ""): {
        "GET": lambda engine, _: all_endpoint_views(engine),
    },
    ("endpoints", True, ""): {"GET": _endpoint},
    ("drivers", False, ""): {"GET": _drivers},
    ("drivers", True, ""): {"GET": lambda engine, call: driver_view(engine.core.driver(call.ref))},
    ("pools", False, ""): {"GET": lambda engine, _: pool_views(engine)},
    ("trace", False, ""): {"GET": _trace},
    ("trace", True, ""): {"GET": _trace_next},
    ("topology", False, ""): {"GET": lambda engine, _: topology(engine)},
    ("doctor", False, ""): {"GET": lambda engine, _: examine(engine)},
    ("gc", False, ""): {
        "GET": lambda engine, _: gc.examine(engine),
        "POST": lambda engine, _: gc.collect(engine),
    },
    ("version", False, ""): {"GET": _version},
    ("ping", False, ""): {"GET": lambda _engine, _call: None},
}
_MAKES: frozenset[_Handler] = frozenset({_create_network, _connect, _create_sandbox})
