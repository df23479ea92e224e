"""A dnsmasq that gives addresses on the host's bridge ``br0``: 10.9.0.0/24 and fd09::/64, for two minutes, its least."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["Dnsmasq", "wait_for"]


def wait_for(condition: Callable[[], object], what: str = "", *, timeout_s: float = 15.0) -> None:
    """Poll until `condition` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)


class Dnsmasq:
    """The bridge, and the server on it where it serves."""

    def __init__(self, host: Any, directory: Path) -> None:
        self.host, self.directory = host, directory
        self._server: subprocess.Popen[bytes] | None = None
        host.run("ip", "link", "add", "br0", "type", "bridge")
        host.run("sysctl", "-qw", "net.ipv6.conf.br0.accept_dad=0")
        host.run("ip", "addr", "add", "10.9.0.1/24", "dev", "br0")
        host.run("ip", "addr", "add", "fd09::1/64", "dev", "br0", "nodad")
        host.run("ip", "link", "set", "br0", "up")

    def serve(self, *options: str, first: str = "10.9.0.10", last: str = "10.9.0.20") -> None:
        """Start dnsmasq, or start it anew: what it has given out it knows from its file of leases."""
        self.silence()
        words = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--no-ping"]
        words += ["--interface=br0", "--bind-dynamic", "--user=root", "--log-dhcp", "--dhcp-authoritative"]
        words += [f"--pid-file={self.directory}/pid", f"--dhcp-leasefile={self.directory}/leases"]
        words += [f"--log-facility={self.directory}/log", f"--dhcp-range={first},{last},2m"]
        words += ["--dhcp-range=fd09::100,fd09::1ff,64,2m", *options]
        started = len(self.log())
        self._server = subprocess.Popen(words)
        wait_for(
            lambda: "sockets bound" in self.log()[started:] or "IP range" in self.log()[started:], "dnsmasq"
        )

    def silence(self) -> None:
        """Stop dnsmasq."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            self._server = None

    def forget(self) -> None:
        """Let a stopped dnsmasq know nothing of what it has given out."""
        (self.directory / "leases").unlink()

    def log(self) -> str:
        """Give what it has said."""
        path = self.directory / "log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def said(self, what: str) -> int:
        """Count its lines on messages of that name."""
        return sum(f" {what}(br0)" in line for line in self.log().splitlines())

    def given(self) -> dict[str, str]:
        """Give what it has given out: the client (its id, or its DUID) by address. It writes a moment after it answers."""
        lines = (self.directory / "leases").read_text(encoding="utf-8").splitlines()
        return {words[2]: words[4] for line in lines if len(words := line.split()) == 5}
