"""A runtime that executes the installed plugins, with a daemon and without, on a host with a wire that a router is on."""

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

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


class Runtime:
    """Executes plugins as a runtime does. The host's card `up0` has a router on its wire, 10.5.0.254 and fd05::254.

    way: whether a daemon serves the plugin, or it runs the engine itself. Both are on one host and one store.
    """

    way = "daemon"

    def __init__(self, directory: Path, host: Any) -> None:
        self.host = host
        self.directory = directory
        self.engine = build_engine(state_dir=str(directory / "state"), run_dir=str(directory / "run"))
        for way, run in (("daemon", "run"), ("in process", "elsewhere")):
            install(str(directory / way), run_dir=str(directory / run), state_dir=str(directory / "state"))
        router = self.netns("router")
        host.run("ip", "link", "add", "up0", "up", "type", "veth", "peer", "name", "eth0", "netns", router)
        for words in ("addr add 10.5.0.254/24", "-6 addr add fd05::254/64 nodad", "link set up"):
            host.run("nsenter", f"--net={router}", "ip", *words.split(), "dev", "eth0")
        host.run("ip", "addr", "add", "10.5.0.1/24", "dev", "up0")
        host.run("ip", "route", "add", "default", "via", "10.5.0.254")

    def netns(self, name: str) -> str:
        path = str(self.directory / name)
        if not os.path.exists(path):
            self.engine.kernel.create_netns(path).close()
        return path

    def lose(self, name: str) -> None:
        """End a namespace as a container's end does."""
        self.engine.kernel.delete_netns(str(self.directory / name))

    def execute(
        self,
        verb: str,
        config: dict[str, Any],
        *,
        container: str = "c1",
        ifname: str = "eth0",
        netns: str | None = "",
        args: str = "",
        plugin: str = "",
    ) -> tuple[int, Any]:
        """Run one call; gives the exit status, and what was printed as JSON."""
        kind = config["type"]
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(self.directory / self.way),
            "CNI_ARGS": args,
        }
        if netns is not None:
            environment["CNI_NETNS"] = netns or self.netns(container)
        done = subprocess.run(
            [plugin or str(self.directory / self.way / kind)],
            env=environment,
            input=json.dumps({"cniVersion": "1.1.0", "name": "pods", **config}).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def add(self, config: dict[str, Any], **how: Any) -> Any:
        """ADD, which succeeds; gives the result."""
        status, result = self.execute("ADD", config, **how)
        assert status == 0, result
        return result

    def check(self, config: dict[str, Any], result: Any, **how: Any) -> tuple[int, str]:
        """CHECK with the result of ADD; gives the exit status and what is wrong."""
        status, error = self.execute("CHECK", {**config, "prevResult": result}, **how)
        return status, error["msg"] if error else ""

    def delete(self, config: dict[str, Any], **how: Any) -> None:
        """DEL, which succeeds."""
        status, error = self.execute("DEL", config, **how)
        assert status == 0, error

    def inside(self, *command: str, container: str = "c1", check: bool = True) -> str:
        """Run a program in a container's namespace."""
        out: str = self.host.run("nsenter", f"--net={self.netns(container)}", *command, check=check)
        return out

    def link(self, ifname: str = "eth0", *, container: str = "c1") -> Any:
        """Give a container's link as ``ip -j -d link`` has it."""
        return self.host.links(self.netns(container))[ifname]

    def addresses(self, ifname: str = "eth0", *, container: str = "c1") -> list[str]:
        """Give the global addresses that the kernel has in a container, IPv4 first."""
        (shown,) = self.host.ip("addr", "show", ifname, netns=self.netns(container))
        found = [f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] == "global"]
        return sorted(found, key=lambda text: (":" in text, text))

    def routes(self, family: str = "-4", *, container: str = "c1") -> set[tuple[str, str]]:
        """Give (destination, gateway) of a container's routes."""
        rows = self.host.ip(family, "route", netns=self.netns(container))
        return {(row["dst"], row.get("gateway", "")) for row in rows}

    def pings(self, address: str, *, container: str = "c1") -> bool:
        command = ["nsenter", f"--net={self.netns(container)}", "ping", "-c1", "-W2", address]
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=30).returncode == 0

    def held(self, network: str = "pods") -> set[str]:
        """Name the addresses that host-local has given away."""
        directory = self.directory / "leases" / network
        names = os.listdir(directory) if directory.exists() else []
        return {name for name in names if name[0].isdigit() or ":" in name}

    def ipam(self, *subnets: str, **keys: Any) -> dict[str, Any]:
        """Configure host-local, with its books in the test's directory."""
        ranges = [[{"subnet": subnet}] for subnet in subnets or ("10.60.0.0/24",)]
        return {"type": "host-local", "ranges": ranges, "dataDir": str(self.directory / "leases"), **keys}


@pytest.fixture(scope="module")
def scene(module_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Share one host and its daemon, which cost more than a test does."""
    scene = Runtime(tmp_path_factory.mktemp("interfaces"), module_host)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(scene.directory / "run" / "cni.sock"))
    listening.listen(64)
    server = ShimServer(listening, scene.engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield scene
    server.shutdown()
    listening.close()
    scene.lose("router")


@pytest.fixture
def runtime(request: Any, scene: Runtime) -> Iterator[Runtime]:
    """With the daemon, or as a test asks; no container is left, and no link of one on the host."""
    scene.way = getattr(request, "param", "daemon")
    before = set(scene.host.links())
    yield scene
    for part in scene.engine.parts.all():
        scene.engine.parts.remove(part.kind, part.owner, netns=None)
    for container in ("c1", "c2"):
        scene.lose(container)
    assert set(scene.host.links()) == before
    assert scene.held() == set()


@pytest.fixture(params=VERSIONS)
def version(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def go_plugins() -> str:
    """Give the directory of the reference plugins."""
    directory = "/usr/lib/cni"
    if not os.path.isfile(f"{directory}/ptp"):
        pytest.skip("the reference plugins are not installed (package containernetworking-plugins)")
    return directory
