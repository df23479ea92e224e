"""The daemon: one engine behind its sockets.

::

    <run-dir>/api.sock                    0660   HTTP: /v1/…, /metrics      the CLI, programs
    <run-dir>/cni.sock                    0600   one frame a call           the CNI executable
    <docker-plugin-dir>/dovetail.sock     0600   HTTP: /Type.Method         dockerd
    <docker-plugin-dir>/dovetail-X.sock   0600   the same; networks are of technique X

The sockets accept from the first moment and answer after store and kernel have been reconciled.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

from dovetail.api.dispatch import dispatch
from dovetail.api.problems import Problem
from dovetail.assembly import build_engine
from dovetail.cni.server import ShimServer
from dovetail.cnm import server as plugin
from dovetail.cnm.docker_api import DockerApi
from dovetail.cnm.wire import Scope
from dovetail.daemon import metrics
from dovetail.daemon.docker_names import DockerNames
from dovetail.daemon.housekeeping import Housekeeping, tell
from dovetail.daemon.http import Application, HttpServer, Request, Response
from dovetail.daemon.logs import operation_sink, set_up
from dovetail.daemon.metrics import Metrics
from dovetail.daemon.signals import StopSignals
from dovetail.daemon.sockets import Listening, from_systemd, hold_run_dir, listen, plugin_name
from dovetail.daemon.systemd import notify
from dovetail.daemon.watcher import FirewallWatcher
from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError, PermissionDenied
from dovetail.kernel.netns import stay
from dovetail.model.codec import encode

__all__ = ["TECHNIQUES", "run"]

_DRAIN_S = 20.0
_OBJECTS = 20_000  # some 4 MB of them wait for the collector at the most
_MODES = {"api": 0o660}
_MODE = 0o600
TECHNIQUES = ("ipvlan", "macvlan", "ptp", "vlan")
"""Network drivers that Docker finds under names of their own: ``driver: macvlan`` becomes ``dovetail-macvlan``."""


class _Service(NamedTuple):
    """Something that serves one socket on a thread."""

    thread: threading.Thread
    shutdown: Callable[[], None]


def run(
    *,
    state_dir: str,
    run_dir: str,
    docker_plugin_dir: str,
    docker_socket: str = "",
    docker_scope: Scope = "local",
    docker_mac_first: bool = False,
) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status. Raises DovetailError where it cannot start.

    docker_socket: of Docker's API, for names and for what Docker has forgotten; empty for none.
    docker_scope: where Docker is told to keep networks, see `NetworkDriver.get_capabilities`.
    docker_mac_first: whether Docker is to settle an endpoint's MAC before its address, see `IpamDriver`.

    Needs CAP_NET_ADMIN and CAP_SYS_ADMIN. With sockets from systemd (names ``api``, ``docker``, ``cni``) those
    are used and left in place; others are made, and removed at the end.
    """
    logger = set_up(os.environ)
    with ExitStack() as stack:
        stop = stack.enter_context(StopSignals())
        _make_directory(run_dir)
        stack.enter_context(hold_run_dir(run_dir))
        sockets = _sockets(run_dir, docker_plugin_dir, stack)
        engine = build_engine(state_dir=state_dir, run_dir=run_dir, docker_socket=docker_socket)
        stack.callback(engine.core.store.close)
        counters = Metrics(engine)
        engine.tracer.add_sink(operation_sink(logger))
        engine.tracer.add_sink(counters.sink)
        watcher = FirewallWatcher(
            engine
        )  # listens before the reconciliation, so that it misses nothing after
        stack.callback(watcher.stop, _DRAIN_S)
        housekeeping = Housekeeping(engine, lambda: names is not None and names.docker_runs)
        stack.callback(housekeeping.stop, _DRAIN_S)
        names = DockerNames(engine, DockerApi(docker_socket), housekeeping.soon) if docker_socket else None
        tell(engine.reconcile())
        watcher.start()
        housekeeping.start()
        if names is not None:
            stack.callback(names.stop, _DRAIN_S)
            names.start()
        plugin_server = partial(plugin.PluginServer, engine, docker_scope, by_mac=docker_mac_first)
        services = _serve(sockets, engine, counters, plugin_server)
        # What is there now stays: a collection that went through it would take 10 ms out of some container's start,
        # and with the usual threshold every start would hold a small one.
        gc.collect()
        gc.freeze()
        gc.set_threshold(_OBJECTS)
        paths = {name: listening.path for name, listening in sockets.items()}
        logger.info("ready", extra={"fields": {"pid": os.getpid(), **paths}})
        notify(os.environ, "READY=1")
        stop.wait()
        notify(os.environ, "STOPPING=1")
        logger.info("stopping")
        _stop(services)
    logger.info("stopped")
    return 0


def _sockets(run_dir: str, docker_plugin_dir: str, stack: ExitStack) -> dict[str, Listening]:
    sockets = from_systemd(os.environ, os.getpid())
    for listening in sockets.values():
        stack.callback(listening.close)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    places = {
        "api": os.path.join(run_dir, "api.sock"),
        "cni": os.path.join(run_dir, "cni.sock"),
    }
    if docker_plugin_dir:
        plugins = ("dovetail", *(f"dovetail-{technique}" for technique in TECHNIQUES))
        paths = [os.path.join(docker_plugin_dir, f"{plugin}.sock") for plugin in plugins]
        places |= {plugin_name(path): path for path in paths}
    for name, path in places.items():
        if name not in sockets:
            _make_directory(os.path.dirname(path))
            sockets[name] = listen(path, _MODES.get(name, _MODE))
            stack.callback(sockets[name].close)
    return sockets


def _serve(
    sockets: dict[str, Listening],
    engine: Engine,
    counters: Metrics,
    plugin_server: Callable[[str], plugin.PluginServer],
) -> list[_Service]:
    services = []
    for name, listening in sockets.items():
        if name == "cni":
            shims = ShimServer(listening.socket, engine, begin=stay)
            serve, shutdown = shims.serve_forever, shims.shutdown
        else:
            technique = name.removeprefix("docker").removeprefix("-")
            application = _api(engine, counters) if name == "api" else _docker(plugin_server(technique))
            server = HttpServer(listening.socket, application)
            serve, shutdown = server.serve_forever, _bounded(server)
        thread = threading.Thread(target=serve, daemon=True, name=name)
        thread.start()
        services.append(_Service(thread, shutdown))
    return services


def _bounded(server: HttpServer) -> Callable[[], None]:
    return lambda: server.shutdown(_DRAIN_S)


def _stop(services: list[_Service]) -> None:
    """Stop all at once, so that the longest request decides how long it takes."""
    stoppers = [threading.Thread(target=service.shutdown, daemon=True) for service in services]
    for stopper in stoppers:
        stopper.start()
    for thread in (*stoppers, *(service.thread for service in services)):
        thread.join(timeout=_DRAIN_S)


def _api(engine: Engine, counters: Metrics) -> Application:
    def answer(request: Request) -> Response:
        if request.path == "/metrics" and request.method in {"GET", "HEAD"}:
            return Response(200, counters.render(), metrics.CONTENT_TYPE)
        reply = dispatch(engine, request.method, request.path, request.query, request.body)
        return Response(reply.status, reply.payload)

    def refuse(status: int, message: str) -> Response:
        return Response(status, encode(Problem(error=message, kind="InvalidArgument")))

    return Application(answer, refuse)


def _docker(plugin_server: plugin.PluginServer) -> Application:
    def answer(request: Request) -> Response:
        if request.method != "POST":
            return refuse(405, f"{request.method} is no method of the plugin protocol: it takes POST")
        return Response(*plugin_server.handle(request.path, request.body), plugin.CONTENT_TYPE)

    def refuse(status: int, message: str) -> Response:
        return Response(status, plugin.error_body(message), plugin.CONTENT_TYPE)

    return Application(answer, refuse)


def _make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except PermissionError as exc:
        raise PermissionDenied(f"no permission to make {path}", hint="run as root") from exc
    except OSError as exc:
        raise DovetailError(f"the directory {path} cannot be made: {exc.strerror}") from exc
