"""The private host: a tmpfs for /run, a daemon, and a namespace that plays the world outside."""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from dovetail.cli.backend import DaemonBackend, find_daemon
from dovetail.cli.demo.report import StepFailedError
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.netns import entered, open_netns
from dovetail.kernel.protocol import LinkSpec

__all__ = ["HOST_ADDRESS", "Stage", "call", "wait_for"]

# documentation ranges, RFC 5737 and RFC 3849: nothing real can be meant
HOST_ADDRESS = "192.0.2.1"
HOST_ADDRESS6 = "2001:db8::1"
_HOST_LINK, _OUTSIDE_LINK = "wan0", "eth0"
_OUTSIDE = "/run/netns/outside"
_TIMEOUT_S = 30.0
_PLUGIN_DIR = "/run/docker/plugins"  # where dockerd looks, moby pkg/plugins/discovery_unix.go


class Stage:
    """Paths, the daemon and the world outside; everything it starts is stopped by `close`."""

    plugin_socket = f"{_PLUGIN_DIR}/dovetail.sock"

    def __init__(self, scratch: str) -> None:
        self.scratch = scratch
        self.state_dir = os.path.join(scratch, "state")
        self.run_dir = "/run/dovetail"
        self.kernel = LinuxKernel()
        self.outside = _OUTSIDE
        self._undo = ExitStack()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._lost: list[str] = []

    def furnish(self) -> None:
        """Give this mount namespace a /run of its own, the host a name and a loopback interface."""
        call("mount", "-n", "--make-rprivate", "/")  # -n: without /run/mount on the real host
        for directory in ("/run", "/var/lib/cni"):
            if os.path.isdir(directory):
                call("mount", "-n", "-t", "tmpfs", "-o", "mode=0755", "tmpfs", directory)
        # nobody answers names here, and a resolver that is not reachable takes 5 s to say so
        resolver = Path(self.scratch, "resolv.conf")
        resolver.touch()
        if os.path.exists("/etc/resolv.conf"):
            call("mount", "-n", "--bind", str(resolver), os.path.realpath("/etc/resolv.conf"))
        socket.sethostname("demo")
        os.makedirs("/run/netns")
        self.kernel.set_link("lo", up=True)

    def make_outside(self) -> None:
        """Make a namespace with a wire to this host; it knows no route to the containers, like the real world."""
        with self.kernel.create_netns(self.outside) as outside, self.kernel.inside(outside) as there:
            for kernel in (self.kernel, there):  # IPv6 works at once: nobody else can have these addresses
                kernel.set_sysctl("net/ipv6/conf/default/accept_dad", "0")
            self.kernel.add_veth(
                LinkSpec(name=_HOST_LINK, up=True), LinkSpec(name=_OUTSIDE_LINK, netns=outside, up=True)
            )
            for text in (f"{HOST_ADDRESS}/24", f"{HOST_ADDRESS6}/64"):
                self.kernel.add_address(_HOST_LINK, ipaddress.ip_interface(text))
            for text in ("192.0.2.2/24", "2001:db8::2/64"):
                there.add_address(_OUTSIDE_LINK, ipaddress.ip_interface(text))

    def start_daemon(self) -> None:
        """Start ``dovetail daemon`` on private directories and wait until it answers."""
        log = open(os.path.join(self.scratch, "daemon.log"), "wb")  # noqa: SIM115 - the daemon's for its life
        with log:
            self._daemon = subprocess.Popen(
                [*self.command, "daemon", "--docker-plugin-dir", _PLUGIN_DIR], stdout=log, stderr=log
            )
        wait_for(self._answers, "the daemon")

    @property
    def command(self) -> list[str]:
        """The words that run dovetail on this stage."""
        return [sys.executable, "-m", "dovetail", "--state-dir", self.state_dir, "--run-dir", self.run_dir]

    def _answers(self) -> bool:
        if self._daemon is not None and self._daemon.poll() is not None:
            log = Path(self.scratch, "daemon.log").read_text(encoding="utf-8", errors="replace").strip()
            last = log.splitlines()[-1] if log else "it said nothing"
            raise StepFailedError(f"the daemon ended with status {self._daemon.returncode}: {last}")
        return find_daemon(self.run_dir) is not None and os.path.exists(self.plugin_socket)

    def stop_daemon(self) -> None:
        """Send SIGTERM; raises where the daemon does not end well or leaves a socket."""
        if self._daemon is None:
            return
        self._daemon.send_signal(signal.SIGTERM)
        try:
            status = self._daemon.wait(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            raise StepFailedError("the daemon did not stop") from None
        sockets = [path for path in (self.plugin_socket, f"{self.run_dir}/api.sock") if os.path.exists(path)]
        if status or sockets:
            raise StepFailedError(f"the daemon ended with status {status} and left {sockets or 'nothing'}")

    @property
    def daemon(self) -> DaemonBackend:
        """A connection to the daemon's API."""
        daemon = find_daemon(self.run_dir)
        if daemon is None:
            raise StepFailedError("the daemon does not answer")
        return daemon

    def dovetail(self, *arguments: str) -> str:
        """Run a command of dovetail's as a person would, and give what it prints."""
        return call(*self.command, *arguments)

    def serve(self, netns: str, text: str) -> None:
        """Serve a page with `text` on port 80 of the namespace at `netns` with Python's own HTTP server."""
        directory = Path(self.scratch, f"www-{os.path.basename(netns)}")
        directory.mkdir()
        (directory / "index.html").write_text(text, encoding="ascii")
        with open_netns(netns) as opened, entered(opened):
            server = subprocess.Popen(
                [sys.executable, "-m", "http.server", "80", "--bind", "::", "--directory", str(directory)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self._undo.callback(_end, server)
        wait_for(lambda: _listens(netns), "the web server")

    def fetch(self, address: str, port: int = 80, *, netns: str = "") -> str:
        """Fetch ``http://ADDRESS:PORT/`` from the namespace at `netns`, or from the host."""
        try:
            with _connected(address, port, netns) as connection:
                client = http.client.HTTPConnection(address, port, timeout=5)
                client.sock = connection
                client.request("GET", "/")
                return client.getresponse().read().decode()
        except OSError as exc:
            raise StepFailedError(f"{address} port {port} cannot be reached: {exc}") from exc

    def seen_outside_as(self, netns: str) -> str:
        """Connect from `netns` to the world outside and give the address that it sees."""
        with open_netns(self.outside) as opened, entered(opened):
            listening = socket.create_server(("192.0.2.2", 7))
        listening.settimeout(5)
        with listening:
            seen: list[str] = []
            thread = threading.Thread(target=lambda: seen.append(listening.accept()[1][0]))
            thread.start()
            with contextlib.suppress(OSError):
                _connected("192.0.2.2", 7, netns).close()
            thread.join(timeout=6)
        if not seen:
            raise StepFailedError("nothing came out")
        return seen[0]

    def close(self) -> None:
        """Stop what is still running."""
        self._undo.close()
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.kill()
            self._daemon.wait(timeout=_TIMEOUT_S)


def call(*command: str, stdin: bytes = b"", environ: dict[str, str] | None = None) -> str:
    """Run a program to its end and give its output; raises with what it said where it fails."""
    try:
        done = subprocess.run(
            command, input=stdin, env=environ, capture_output=True, check=False, timeout=_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as exc:
        raise StepFailedError(f"{command[0]} did not end within {_TIMEOUT_S:g} s") from exc
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
        raise StepFailedError(f"{' '.join(command[:4])} ended with status {done.returncode}: {said}")
    return done.stdout.decode()


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = _TIMEOUT_S) -> None:
    """Poll `condition` until it is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise StepFailedError(f"{what} was not ready within {timeout_s:g} s")
        time.sleep(0.01)


def _connected(address: str, port: int, netns: str) -> socket.socket:
    with _in(netns):
        return socket.create_connection((address, port), timeout=5)


@contextlib.contextmanager
def _in(netns: str) -> Iterator[None]:
    if not netns:
        yield
        return
    with open_netns(netns) as opened, entered(opened):
        yield


def _listens(netns: str) -> bool:
    try:
        _connected("127.0.0.1", 80, netns).close()
    except OSError:
        return False
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
