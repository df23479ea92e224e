"""The daemon: one engine behind three sockets."""

from __future__ import annotations

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
    given = inherited()
    os.makedirs(docker_plugin_dir, mode=0o755, exist_ok=True)
    paths = {
        "api": (os.path.join(run_dir, "api.sock"), _API_MODE),
        "cni": (os.path.join(run_dir, "cni.sock"), _PRIVATE_MODE),
        "docker": (os.path.join(docker_plugin_dir, "dovetail.sock"), _PRIVATE_MODE),
    }
    sockets = {name: given.get(name) or listen(path, mode) for name, (path, mode) in paths.items()}
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
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in servers]
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    for thread in threads:
        thread.start()
    _notify("READY=1")
    logs.note("ready", run_dir=run_dir, state_dir=state_dir)
    stopping.wait()
    _notify("STOPPING=1")
    for server in servers:
        server.shutdown()
    watcher.stop()
    for name, (path, _) in paths.items():
        sockets[name].close()
        if name not in given and os.path.exists(path):
            os.unlink(path)
    logs.note("stopped")
    return 0


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
