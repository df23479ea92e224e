"""A directory of plugins for a real runtime: Go's, or ours once it has all that the runtimes' chains need."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from cri import Containerd, need_containerd
from dovetail.cni.plugins import PLUGINS
from long_form import ways

GO = Path("/usr/lib/cni")
# what podman writes into its configuration, and what a cluster's has
CHAIN = {"bridge", "host-local", "portmap", "firewall", "tuning", "bandwidth", "loopback"}
PORTS = {"portMappings": True}


class Directory:
    """A directory of plugins, and what is to be left of them on a private host."""

    def __init__(self, name: str, path: Path, host: Any, dovetail: Any) -> None:
        self.name, self.path, self._host, self.dovetail = name, path, host, dovetail

    def restart(self) -> None:
        """Restart the daemon, where one has a part in it."""
        if self.dovetail is not None and self.dovetail.running:
            self.dovetail.stop()
            self.dovetail.start()

    def left(self) -> list[str]:
        """List what containers that are gone have left: links, addresses, rules of theirs, endpoints."""
        found = [f"link {name}" for name in self._host.links() if name.startswith(("veth", "bwp", "dvh"))]
        kept = self._host.try_run(
            "find", "/var/lib/cni", "-name", "[0-9]*.[0-9]*", "-o", "-path", "*/results/*"
        )
        found += kept.stdout.split()
        for program in ("iptables-save", "ip6tables-save"):
            rules = self._host.run(program).splitlines()
            found += [rule for rule in rules if "CNI-DN-" in rule or ' id: \\"' in rule]
        if self._host.elements() > 0:
            found += [f"endpoint {row}" for row in self.dovetail.json("endpoint", "ls")]
        return found


@pytest.fixture
def make_directory(request: pytest.FixtureRequest, private_host: Any) -> Callable[..., Directory]:
    """Give what finds or installs a directory: ``go``, ``ours`` or ``ours with a daemon``; skips without `types`."""

    def make(name: str, types: Collection[str] = CHAIN) -> Directory:
        if name == "go":
            missing = {one for one in types if not (GO / one).exists()}
            if missing:
                pytest.skip(f"no {', '.join(sorted(missing))} in {GO} (package containernetworking-plugins)")
            return Directory(name, GO, private_host, None)
        missing = set(types) - PLUGINS.keys()
        if missing:
            pytest.skip(f"dovetail has no plugin {', '.join(sorted(missing))} yet")
        daemon = request.getfixturevalue("dovetail_daemon" if "daemon" in name else "stopped_daemon")
        path = private_host.dir / "cni-bin"
        daemon.cli("cni", "install", "--bin-dir", str(path))
        return Directory(name, path, private_host, daemon)

    return make


@pytest.fixture(params=ways(["ours with a daemon"], only_long=["go", "ours"]))
def directory(request: pytest.FixtureRequest, make_directory: Callable[..., Directory]) -> Directory:
    """A directory that has all plugins of the chains."""
    return make_directory(request.param)


@pytest.fixture
def podman(directory: Directory, make_podman: Any) -> Any:
    """A podman on the directory, with networks ``web`` of both families and ``back``, as podman itself writes them."""
    runtime = make_podman(directory.path)
    dual = ("--subnet", "10.86.0.0/24", "--subnet", "fd86::/64", "--ipv6")
    runtime("network", "create", *dual, "web")
    runtime("network", "create", "--subnet", "10.85.0.0/24", "back")
    return runtime


@pytest.fixture
def containerd(directory: Directory, private_host: Any, rootfs: Path) -> Containerd:
    """A containerd whose pods are on a chain as a cluster has it."""
    need_containerd()
    ranges = [[{"subnet": "10.90.0.0/22"}], [{"subnet": "fd90::/64"}]]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    plugins: list[dict[str, Any]] = [
        {**bridge, "ipam": {"type": "host-local", "ranges": ranges, "routes": routes}},
        {"type": "portmap", "capabilities": PORTS},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
        {"type": "firewall"},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.all.log_martians": "1"}},
    ]
    conflist = json.loads(json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
    runtime = Containerd(private_host, directory.path, conflist, rootfs)
    runtime.start()
    return runtime
