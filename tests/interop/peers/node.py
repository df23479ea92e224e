"""A private host whose runtime is `differential.libcni`: what a test does with a directory of plugins there."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from differential.libcni import Attachment, PluginError, Runtime

_ECHO = """
import os, socket, sys
kind, port, ready = sys.argv[1:]
server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("::", int(port)))
if kind == "tcp":
    server.listen()
with open(ready + ".new", "w") as file:
    file.write(str(os.getpid()))
os.rename(ready + ".new", ready)
while True:
    if kind == "udp":
        _, peer = server.recvfrom(64)
        server.sendto(peer[0].removeprefix("::ffff:").encode(), peer)
    else:
        client, peer = server.accept()
        with client:
            client.sendall(peer[0].removeprefix("::ffff:").encode())
"""
_ASK = """
import socket, sys
kind, address, port = sys.argv[1:]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
client = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
client.settimeout(2)
try:
    client.connect((address, int(port)))
    if kind == "udp":
        client.send(b"?")
    print(client.recv(64).decode())
except OSError:
    pass
"""


class Node:
    """A private host whose runtime has a directory of plugins, and maybe then another."""

    def __init__(self, host: Any, chain: list[dict[str, Any]], *path: str) -> None:
        self.host = host
        self.conflist = {"cniVersion": "1.0.0", "name": "pods", "plugins": chain}
        self.runtime = Runtime(*path, enter=lambda command: host._enter(tuple(command)))
        self.addresses: dict[str, str] = {}
        self.results: dict[str, Any] = {}
        self.outside = host.outside()

    def attach(self, name: str, ifname: str = "eth0", *, ports: Any = None, network: Any = None) -> None:
        """Make a container's namespace where there is none, and ADD it; each has a port of its own."""
        if self.host.try_run("test", "-e", f"/run/netns/{name}").returncode != 0:
            self.host.run("ip", "netns", "add", name)
        result = self.runtime.add(network or self.conflist, self.attachment(name, ifname, ports=ports))
        self.results[name] = result
        self.addresses.setdefault(name, result["ips"][0]["address"].partition("/")[0])

    def detach(self, name: str, ifname: str = "eth0", *, ports: Any = None, network: Any = None) -> None:
        """DEL it, twice; the namespace stays, so that what is left in it would be seen.

        Go's 1.1.1 fails the first time on ipMasq of ours, which has no chain of iptables to be taken away; a runtime tries
        again, and so does this.
        """
        for attempt in range(2):
            try:
                self.runtime.delete(network or self.conflist, self.attachment(name, ifname, ports=ports))
            except PluginError as exc:
                if attempt or "-t nat -D POSTROUTING" not in exc.message:
                    raise
        assert ifname not in {
            link["ifname"] for link in self.host.ip("link", "show", netns=f"/run/netns/{name}")
        }

    def check(self, name: str) -> None:
        """CHECK it."""
        self.runtime.check(self.conflist, self.attachment(name))

    def attachment(self, name: str, ifname: str = "eth0", *, ports: Any = None) -> Attachment:
        """Give what the runtime knows of it."""
        port = {"hostPort": 8000 + int(name[1:]), "containerPort": 80, "protocol": "tcp"}
        given = {"portMappings": [port] if ports is None else ports}
        return Attachment(name, f"/run/netns/{name}", ifname, capabilities=given)

    def traces(self, name: str) -> list[str]:
        """List where a container's id or address still is: rules, elements, files of addresses."""
        word = re.compile(rf"(?<![\w.]){re.escape(self.addresses[name])}(?![\w.])|\b{name}\b")
        texts = [self.host.run(*command) for command in (("iptables-save",), ("nft", "list", "ruleset"))]
        lines = [line.strip() for text in texts for line in text.splitlines() if word.search(line)]
        files = self.host.try_run("grep", "-rlE", rf"^{name}\b", "/var/lib/cni/networks").stdout.split()
        return lines + files

    @contextmanager
    def talking(self, name: str, address: str) -> Iterator[None]:
        """Let a container ping for as long as the ``with`` takes; not one answer may be missing."""
        command = ("nsenter", f"--net=/run/netns/{name}", "ping", "-q", "-i", "0.02", "-W", "5", address)
        process = self.host.spawn(
            "ping.log", "sh", "-c", f"echo $$ >{self.host.dir}/ping.pid && exec {' '.join(command)}"
        )
        pid_file = self.host.dir / "ping.pid"
        self.host.wait_for(
            lambda: pid_file.exists() and pid_file.read_text().strip(), what="the ping has started"
        )
        yield
        self.host.run("kill", "-INT", pid_file.read_text().strip())
        process.wait(timeout=30)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", self.host.log("ping.log"))
        assert found is not None, self.host.log("ping.log")
        sent, received = map(int, found.groups())
        assert sent - received <= 1, self.host.log("ping.log")  # the last may be under way
        assert received > 5

    @contextmanager
    def echoing(self, netns: str, *, udp: bool = False, port: int = 80) -> Iterator[None]:
        """Let a program in a namespace tell each client, in both families, which address it came from."""
        ready = self.host.dir / "echo.ready"
        ready.unlink(missing_ok=True)
        kind = "udp" if udp else "tcp"
        command = ("nsenter", f"--net={netns}", sys.executable, "-c", _ECHO, kind, str(port), str(ready))
        process = self.host.spawn("echo.log", *command)
        self.host.wait_for(ready.exists, what="it echoes")
        yield
        self.host.run("kill", ready.read_text(encoding="ascii"))
        process.wait(timeout=20)

    def seen(self, address: str, port: int = 80, *, netns: str = "", udp: bool = False) -> str:
        """Connect to what echoes; gives the address that it sees, or nothing when it is not reached."""
        prefix = ("nsenter", f"--net={netns}") if netns else ()
        kind = "udp" if udp else "tcp"
        return str(
            self.host.try_run(*prefix, sys.executable, "-c", _ASK, kind, address, str(port)).stdout.strip()
        )

    def reaches(self, address: str, port: int = 80, *, netns: str, udp: bool = False) -> None:
        """Wait until it is reached: IPv6 on a link that has come up needs its time to find neighbours."""
        self.host.wait_for(
            lambda: self.seen(address, port, netns=netns, udp=udp), what=f"{address} is reached"
        )
