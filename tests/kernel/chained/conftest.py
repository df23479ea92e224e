"""Plugins that come after another one, executed as a runtime does: ours by the daemon and without, and Go's."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cni.install import install
from dovetail.cni.server import ShimServer
from dovetail.model.part import Part

GO = "/usr/lib/cni"


class Chains:
    """A host, two ways to our plugins on one store, and containers with an interface each.

    way: ``daemon``, ``in process`` or ``go``.
    """

    way = "daemon"

    def __init__(self, directory: Path, host: Any) -> None:
        self.host = host
        self.directory = directory
        self.engine = build_engine(state_dir=str(directory / "state"), run_dir=str(directory / "run"))
        for way, run in (("daemon", "run"), ("in process", "elsewhere")):
            install(str(directory / way), run_dir=str(directory / run), state_dir=str(directory / "state"))

    def path(self, way: str = "") -> str:
        """Give the directory of the plugins."""
        way = way or self.way
        return GO if way == "go" else str(self.directory / way)

    def netns(self, container: str) -> str:
        """Give the path of a container's namespace, which is made when it is missing."""
        path = str(self.directory / container)
        if not os.path.exists(path):
            self.engine.kernel.create_netns(path).close()
        return path

    def inside(self, container: str, *command: str, check: bool = True) -> str:
        """Run a program in a container."""
        return str(self.host.run("nsenter", f"--net={self.netns(container)}", *command, check=check))

    def ip(self, container: str, *args: str) -> Any:
        """Run ``ip -j`` in a container."""
        return self.host.ip(*args, netns=self.netns(container))

    def link(self, container: str, ifname: str = "eth0") -> Any:
        """Give an interface of a container."""
        return self.host.links(self.netns(container))[ifname]

    def sysctl(self, container: str, path: str) -> str:
        """Read a sysctl of a container."""
        return self.inside(container, "cat", f"/proc/sys/{path}").strip()

    def wire(self, container: str, ifname: str = "eth0", *, net: int = 50, own: int = 2) -> dict[str, Any]:
        """Give a container an interface with a router on its other end, 10.NET.0.1; gives the result that says so."""
        router = self.netns("router")
        outer, netns = f"r{container}{ifname}", self.netns(container)
        command = f"ip link add {ifname} netns {netns} up type veth peer name {outer} netns {router}"
        self.host.run(*command.split())
        for address in (f"10.{net}.0.1/24", f"fd{net}::1/64"):
            words = ("nodad",) if ":" in address else ()
            self.inside("router", "ip", "addr", "add", address, "dev", outer, *words)
        self.inside("router", "ip", "link", "set", outer, "up")
        addresses = (f"10.{net}.0.{own}/24", f"fd{net}::{own}/64")
        for address in addresses:
            words = ("nodad",) if ":" in address else ()
            self.inside(container, "ip", "addr", "add", address, "dev", ifname, *words)
        gateways = (f"10.{net}.0.1", f"fd{net}::1")
        for gateway, family in zip(gateways, ("-4", "-6"), strict=True):
            # a second default route goes behind the first
            metric = str(1024 + net)
            self.inside(
                container,
                "ip",
                family,
                "route",
                "add",
                "default",
                "via",
                gateway,
                "dev",
                ifname,
                "metric",
                metric,
            )
        return {
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": ifname, "mac": self.link(container, ifname)["address"], "sandbox": netns}
            ],
            "ips": [
                {"interface": 0, "address": address, "gateway": gateway}
                for address, gateway in zip(addresses, gateways, strict=True)
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": gateways[0]}, {"dst": "::/0", "gw": gateways[1]}],
        }

    def call(
        self,
        verb: str,
        config: dict[str, Any],
        result: Any = None,
        *,
        container: str = "c1",
        ifname: str = "eth0",
        netns: str | None = None,
        way: str = "",
    ) -> tuple[int, Any]:
        """Execute one plugin; gives its status and what it printed."""
        directory = self.path(way)
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": ifname,
            "CNI_NETNS": self.netns(container) if netns is None else netns,
            "CNI_PATH": f"{directory}:{GO}",
        }
        document = {"cniVersion": "1.0.0", "name": "pods", **config}
        if result is not None:
            document["prevResult"] = result
        done = subprocess.run(
            [f"{directory}/{config['type']}"],
            env=environment,
            input=json.dumps(document).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def parts(self) -> list[Part]:
        """Give the parts that are kept."""
        return self.engine.parts.all()


@pytest.fixture(scope="module")
def scene(module_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chains]:
    """Share one host and its daemon, which cost more than a test does."""
    scene = Chains(tmp_path_factory.mktemp("chained"), module_host)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(scene.directory / "run" / "cni.sock"))
    listening.listen(64)
    server = ShimServer(listening, scene.engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield scene
    server.shutdown()
    listening.close()


@pytest.fixture
def chains(request: Any, scene: Chains) -> Iterator[Chains]:
    """With the daemon, or as a test asks; no container is left, and nothing of one."""
    scene.way = getattr(request, "param", "daemon")
    yield scene
    for part in scene.parts():
        scene.engine.parts.remove(part.kind, part.owner, netns=None)
    for container in ("c1", "c2", "router"):
        scene.engine.kernel.delete_netns(str(scene.directory / container))


@pytest.fixture
def go(chains: Chains) -> Chains:
    """The same where the reference plugins are installed."""
    if not os.path.isfile(f"{GO}/tuning"):
        pytest.skip("the reference plugins (containernetworking-plugins) are not installed")
    return chains
