"""The daemon: one engine behind three sockets."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from urllib.parse import parse_qsl, urlsplit

from dovetail.api.dispatch import dispatch
from dovetail.assembly import build_engine
from dovetail.cni.server import ShimServer
from dovetail.cnm.server import CONTENT_TYPE, PluginServer
from dovetail.daemon import logs
from dovetail.daemon.http import Answer, Handler, UnixHTTPServer
from dovetail.daemon.metrics import CONTENT_TYPE as METRICS_TYPE
from dovetail.daemon.metrics import Metrics
from dovetail.daemon.sockets import inherited, listen
from dovetail.daemon.watcher import FirewallWatcher
from dovetail.engine.engine import Engine

__all__ = ["run"]

_API_MODE, _PRIVATE_MODE = 0o660, 0o600


def run(*, state_dir: str, run_dir: str, docker_plugin_dir: str) -> int:
    """Serve until SIGTERM or SIGINT; gives the exit status.

    Store and kernel are reconciled before the first request is answered. Needs root.
    """
    logs.set_up()
    engine = build_engine(state_dir=state_dir, run_dir=run_dir)
    metrics = Metrics(engine)
    engine.tracer.add_sink(logs.operation)
    engine.tracer.add_sink(metrics.operation)
    sockets, made = _sockets(run_dir, docker_plugin_dir)
    report = engine.reconcile()
    for sentence in [*report.restored, *report.released, *report.removed, *report.failed]:
        logs.note("reconciled", what=sentence)
    watcher = FirewallWatcher(engine)
    watcher.start()
    servers: list[UnixHTTPServer | ShimServer] = [
        UnixHTTPServer(sockets["api"], _api(engine, metrics)),
        UnixHTTPServer(sockets["docker"], _plugin(PluginServer(engine))),
        ShimServer(sockets["cni"], engine),
    ]
    logs.note("ready", run_dir=run_dir, state_dir=state_dir)
    _serve_until_told_to_stop(servers)
    watcher.stop()
    for listening in sockets.values():
        listening.close()
    for path in made:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    logs.note("stopped")
    return 0


def _sockets(run_dir: str, docker_plugin_dir: str) -> tuple[dict[str, socket.socket], list[str]]:
    """Take systemd's sockets and make the others; gives them by name, and the paths that were made here."""
    given = inherited()
    os.makedirs(docker_plugin_dir, mode=0o755, exist_ok=True)
    wanted = {
        "api": (os.path.join(run_dir, "api.sock"), _API_MODE),
        "cni": (os.path.join(run_dir, "cni.sock"), _PRIVATE_MODE),
        "docker": (os.path.join(docker_plugin_dir, "dovetail.sock"), _PRIVATE_MODE),
    }
    sockets = {name: given.get(name) or listen(path, mode) for name, (path, mode) in wanted.items()}
    return sockets, [path for name, (path, _) in wanted.items() if name not in given]


def _serve_until_told_to_stop(servers: list[UnixHTTPServer | ShimServer]) -> None:
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    for server in servers:
        threading.Thread(target=server.serve_forever, daemon=True).start()
    _notify("READY=1")
    stopping.wait()
    _notify("STOPPING=1")
    for server in servers:
        server.shutdown()


def _plugin(server: PluginServer) -> Handler:
    def handle(_: str, path: str, body: bytes) -> Answer:
        return (*server.handle(path, body), CONTENT_TYPE)

    return handle


def _api(engine: Engine, metrics: Metrics) -> Handler:
    def handle(method: str, path: str, body: bytes) -> Answer:
        split = urlsplit(path)
        if split.path == "/metrics":
            return 200, metrics.text(), METRICS_TYPE
        reply = dispatch(engine, method, split.path, dict(parse_qsl(split.query)), body)
        return reply.status, reply.payload, "application/json"

    return handle


def _notify(state: str) -> None:
    """Tell systemd (sd_notify(3)); nothing without it."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + address[1:] if address.startswith("@") else address)
            notify.send(state.encode())
