"""What is measured: ways to attach a container to a network and to detach it again.

Each way has a network namespace of its own that plays the container, used again and again: making and
ending namespaces costs the kernel more than anything measured here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import LinkSpec
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac

GO = "/usr/lib/cni"  # Debian's containernetworking-plugins
VERSION = "1.0.0"
READY_S = 30.0


class Way(ABC):
    """One way; `add` and `delete` are what is timed. name: as the table has it."""

    def __init__(self, name: str, kernel: LinuxKernel, directory: Path) -> None:
        self.name = name
        self.netns = str(directory / name.replace(" ", "-").replace("/", "-").replace(",", ""))
        kernel.create_netns(self.netns).close()

    @abstractmethod
    def add(self) -> None:
        """Attach."""

    @abstractmethod
    def delete(self) -> None:
        """Detach."""


class Executed(Way):
    """A list of plugins executed as a CNI runtime does: ADD forwards with prevResult, DEL backwards."""

    def __init__(
        self, name: str, kernel: LinuxKernel, directory: Path, *, bin_dir: str, conf: dict[str, Any],
        plugins: Sequence[dict[str, Any]],
    ) -> None:  # fmt: skip
        super().__init__(name, kernel, directory)
        self._plugins = [(f"{bin_dir}/{plugin['type']}", {**conf, **plugin}) for plugin in plugins]
        self._environment = {
            "PATH": os.environ["PATH"],
            "CNI_CONTAINERID": Path(self.netns).name,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": bin_dir,
        }
        self._result: bytes = b""

    def add(self) -> None:
        result = b""
        for path, conf in self._plugins:
            result = execute(path, self._input(conf, result), {**self._environment, "CNI_COMMAND": "ADD"})
        self._result = result

    def delete(self) -> None:
        for path, conf in reversed(self._plugins):
            execute(path, self._input(conf, self._result), {**self._environment, "CNI_COMMAND": "DEL"})

    def _input(self, conf: dict[str, Any], result: bytes) -> bytes:
        return json.dumps({**conf, "prevResult": json.loads(result)} if result else conf).encode()


class Floor(Way):
    """The kernel's own time: the messages of one attachment from a warm process, with nothing around them."""

    def __init__(self, name: str, kernel: LinuxKernel, directory: Path, *, bridge: str) -> None:
        super().__init__(name, kernel, directory)
        self._kernel = kernel
        self._bridge = bridge
        kernel.add_bridge(bridge)
        kernel.add_address(bridge, ip_interface("10.97.0.1/16"))
        kernel.set_link(bridge, up=True)

    def add(self) -> None:
        kernel = self._kernel
        with kernel.open_netns(self.netns) as netns, kernel.inside(netns) as inner:
            end = LinkSpec("floor0", mac=Mac("fe:00:00:00:00:01"), master=self._bridge, hairpin=True, up=True)
            kernel.add_veth(end, LinkSpec("eth0", mac=Mac("02:00:00:00:00:01"), netns=netns))
            with inner.batch():
                inner.set_link("lo", up=True)
                inner.add_address("eth0", ip_interface("10.97.0.2/16"))
                inner.set_link("eth0", up=True)
                inner.add_route(
                    "eth0", Route(destination=ip_network("0.0.0.0/0"), gateway=ip_address("10.97.0.1"))
                )

    def delete(self) -> None:
        self._kernel.delete_links(["floor0"])


class Empty(Way):
    """An empty program: what starting any process costs here."""

    def add(self) -> None:
        execute("/bin/true", b"", {})

    delete = add


def execute(path: str, stdin: bytes, environment: dict[str, str]) -> bytes:
    """Run a program as cheaply as Python can and give its standard output; raises where it fails."""
    source, sink = os.memfd_create("stdin"), os.memfd_create("stdout")
    try:
        os.write(source, stdin)
        os.lseek(source, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, source, 0), (os.POSIX_SPAWN_DUP2, sink, 1)]
        _, status = os.waitpid(os.posix_spawn(path, [path], environment, file_actions=actions), 0)
        output = os.pread(sink, 1 << 20, 0)
    finally:
        os.close(source)
        os.close(sink)
    if status:
        message = f"{path} {environment.get('CNI_COMMAND', '')}: status {status}: {output.decode()}"
        raise RuntimeError(message)
    return output


def dovetail(directory: Path, *arguments: str) -> str:
    """Run a dovetail command on the state below `directory`."""
    command = [*_program(directory), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def start_daemon(directory: Path, stack: ExitStack) -> int:
    """Start a daemon on the state below `directory`, wait for its sockets, and give its process id."""
    command = [*_program(directory), "daemon", "--docker-plugin-dir", str(directory / "plugins")]
    daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    stack.callback(daemon.wait, 30)
    stack.callback(daemon.terminate)
    deadline = time.monotonic() + READY_S
    while subprocess.run(
        [*_program(directory), "network", "ls"], capture_output=True, check=False
    ).returncode:
        if time.monotonic() > deadline or daemon.poll() is not None:
            message = "the daemon did not start"
            raise RuntimeError(message)
    return daemon.pid


def _program(directory: Path) -> list[str]:
    return [
        str(Path(sys.executable).parent / "dovetail"),
        "--state-dir", str(directory / "state"),
        "--run-dir", str(directory / "run"),
    ]  # fmt: skip


def go_ways(kernel: LinuxKernel, directory: Path) -> list[Way]:
    """Debian's plugins: alone, with masquerading, and the chain that nerdctl and podman write."""

    def bridge(number: int, *, masquerade: bool) -> dict[str, Any]:
        ipam = {"type": "host-local", "dataDir": str(directory / "host-local"),
                "ranges": [[{"subnet": f"10.{90 + number}.0.0/16"}]]}  # fmt: skip
        return {"type": "bridge", "bridge": f"go{number}", "isGateway": True, "isDefaultGateway": True,
                "hairpinMode": True, "ipMasq": masquerade, "ipam": ipam}  # fmt: skip

    ports = [{"hostPort": 8001, "containerPort": 80, "protocol": "tcp"}]
    portmap = {
        "type": "portmap",
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": ports},
    }
    lists: list[tuple[str, list[dict[str, Any]]]] = [
        ("go bridge", [bridge(0, masquerade=False)]),
        ("go bridge, ipMasq", [bridge(1, masquerade=True)]),
        ("go chain of four", [bridge(2, masquerade=True), portmap, {"type": "firewall"}, {"type": "tuning"}]),
    ]
    return [
        Executed(name, kernel, directory, bin_dir=GO, plugins=plugins,
                 conf={"cniVersion": VERSION, "name": f"go-{index}"})
        for index, (name, plugins) in enumerate(lists)
    ]  # fmt: skip


def our_ways(kernel: LinuxKernel, directory: Path, *, prefix: str, octet: int) -> list[Way]:
    """The same three through the installed executable of the state below `directory`."""
    bin_dir = str(directory / "bin")
    dovetail(directory, "cni", "install", "--bin-dir", bin_dir)
    ports = [{"hostPort": 8002 + octet, "containerPort": 80, "protocol": "tcp"}]
    plain = ["-o", "masquerade=false"]
    ways: list[Way] = []
    for index, (what, options, runtime) in enumerate(
        [("", plain, {}), (", masquerade", [], {}), (", masquerade and port", [], {"portMappings": ports})]
    ):
        network = f"bench{octet}-{index}"
        dovetail(directory, "network", "create", network, "--subnet", f"10.{octet + index}.0.0/16", *options)
        ways.append(
            Executed(f"{prefix}{what}", kernel, directory, bin_dir=bin_dir,
                     conf={"cniVersion": VERSION, "name": network},
                     plugins=[{"type": "dovetail", "network": network, "runtimeConfig": runtime}])
        )  # fmt: skip
    return ways
