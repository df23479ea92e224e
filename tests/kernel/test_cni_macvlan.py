"""A macvlan network under CNI: the installed executable, with a daemon and without, under every version."""

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
from dovetail.model.addresses import parse_address, parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec

pytestmark = pytest.mark.root
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


class Runtime:
    """Executes the plugin as a runtime does, on a host whose card `up0` has a router, 10.5.0.254, on its wire.

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
        for command in ("link set dev eth0 up", "addr add 10.5.0.254/24 dev eth0"):
            host.run("nsenter", f"--net={router}", "ip", *command.split())
        lan = SubnetSpec(subnet=parse_subnet("10.5.0.0/24"), gateway=parse_address("10.5.0.254"))
        lan6 = SubnetSpec(subnet=parse_subnet("fd05::/64"), version=6)
        self.engine.networks.create(
            NetworkSpec(name="lan", driver="macvlan", subnets=(lan, lan6), options={"parent": "up0"})
        )

    def netns(self, name: str) -> str:
        path = str(self.directory / name)
        if not os.path.exists(path):
            self.engine.kernel.create_netns(path).close()
        return path

    def call(
        self, verb: str, version: str = "1.1.0", *, container: str = "c1", netns: str | None = "", **conf: Any
    ) -> tuple[int, Any]:
        environment = {
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(self.directory / self.way),
        }
        if netns is not None:
            environment["CNI_NETNS"] = netns or self.netns(container)
        config = {"cniVersion": version, "name": "pods", "type": "dovetail", "network": "lan", **conf}
        done = subprocess.run(
            [str(self.directory / self.way / "dovetail")],
            env=environment,
            input=json.dumps(config).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def addresses(self, container: str) -> list[str]:
        """Give the global addresses that the kernel has in a container, IPv4 first."""
        (shown,) = self.host.ip("addr", "show", "eth0", netns=self.netns(container))
        found = [f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] == "global"]
        return sorted(found, key=lambda text: (":" in text, text))

    def pings(self, container: str, address: str) -> bool:
        command = ["nsenter", f"--net={self.netns(container)}", "ping", "-c1", "-W2", address]
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=30).returncode == 0


@pytest.fixture(scope="module")
def scene(module_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """Share one host and its daemon, which cost more than a test does."""
    scene = Runtime(tmp_path_factory.mktemp("macvlan"), module_host)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(scene.directory / "run" / "cni.sock"))
    listening.listen(64)
    server = ShimServer(listening, scene.engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield scene
    server.shutdown()
    listening.close()
    scene.engine.networks.delete("lan")
    scene.engine.kernel.delete_netns(scene.netns("router"))


@pytest.fixture
def runtime(request: Any, scene: Runtime) -> Iterator[Runtime]:
    """With the daemon, or as a test asks; no container is left."""
    scene.way = getattr(request, "param", "daemon")
    yield scene
    for endpoint in scene.engine.endpoints.all():
        scene.engine.endpoints.detach(endpoint.id)
    for container in ("c1", "c2"):
        scene.engine.kernel.delete_netns(str(scene.directory / container))


@pytest.fixture(params=VERSIONS)
def version(request: Any) -> str:
    return str(request.param)


def knows(version: str, verb: str) -> bool:
    """Say whether a version of the specification has the verb (cni.md §1.1)."""
    since = {"CHECK": (0, 4), "GC": (1, 1), "STATUS": (1, 1)}
    return tuple(map(int, version.split(".")[:2])) >= since.get(verb, (0, 0))


BOTH = pytest.mark.parametrize("runtime", ["daemon", "in process"], indirect=True)


@BOTH
def test_add_puts_the_container_on_the_wire_and_del_takes_it_off(runtime: Runtime, version: str) -> None:
    status, result = runtime.call("ADD", version)

    assert status == 0, result
    assert result["cniVersion"] == version
    link = runtime.host.links(runtime.netns("c1"))["eth0"]
    assert link["linkinfo"]["info_kind"] == "macvlan"
    found = runtime.addresses("c1")
    if version in {"0.1.0", "0.2.0"}:
        assert found == [result["ip4"]["ip"], result["ip6"]["ip"]]
        assert result["ip4"]["gateway"] == "10.5.0.254"
    else:
        assert found == [ip["address"] for ip in result["ips"]]
        (interface,) = result["interfaces"]
        assert (interface["name"], interface["mac"]) == ("eth0", link["address"])
        assert interface["sandbox"] == runtime.netns("c1")
        assert [route["dst"] for route in result["routes"]] == ["0.0.0.0/0"], "IPv6 has no gateway"
    assert runtime.pings("c1", "10.5.0.254")

    if knows(version, "CHECK"):
        assert runtime.call("CHECK", version, prevResult=result) == (0, None)
    assert runtime.call("DEL", version) == (0, None)
    assert runtime.call("DEL", version) == (0, None)
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert set(runtime.host.links()) == {"lo", "up0"}
    assert runtime.engine.endpoints.all() == []


@BOTH
def test_del_without_a_namespace_finds_the_interface_where_it_was_put(runtime: Runtime, version: str) -> None:
    runtime.call("ADD", version)

    assert runtime.call("DEL", version, netns=None) == (0, None)

    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.engine.endpoints.all() == []


def test_del_after_the_namespace_is_gone_releases_everything(runtime: Runtime, version: str) -> None:
    runtime.call("ADD", version)
    path = runtime.netns("c1")
    runtime.engine.kernel.delete_netns(path)

    assert runtime.call("DEL", version, netns=path) == (0, None)

    assert runtime.engine.endpoints.all() == []
    assert [row.kind for row in runtime.engine.core.store.addresses()] == ["gateway"]


@pytest.mark.parametrize("version", [v for v in VERSIONS if knows(v, "CHECK")])
def test_check_says_what_differs(runtime: Runtime, version: str) -> None:
    status, result = runtime.call("ADD", version)
    assert status == 0, result
    inside = ("nsenter", f"--net={runtime.netns('c1')}", "ip")
    runtime.host.run(*inside, "link", "set", "eth0", "type", "macvlan", "mode", "private")
    lost = runtime.addresses("c1")[0]
    runtime.host.run(*inside, "addr", "del", lost, "dev", "eth0")

    status, error = runtime.call("CHECK", version, prevResult=result)

    assert (status != 0, error["code"]) == (True, 105)
    assert "in mode private, not in mode bridge" in error["msg"]
    assert f"lost address {lost}" in error["msg"]


@pytest.mark.parametrize("version", [v for v in VERSIONS if knows(v, "GC")])
def test_gc_takes_what_is_not_valid_off_the_wire(runtime: Runtime, version: str) -> None:
    for container in ("c1", "c2"):
        assert runtime.call("ADD", version, container=container)[0] == 0

    valid = [{"containerID": "c2", "ifname": "eth0"}]
    assert runtime.call("GC", version, **{"cni.dev/valid-attachments": valid}) == (0, None)

    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert set(runtime.host.links(runtime.netns("c2"))) == {"lo", "eth0"}
    assert runtime.call("STATUS", version) == (0, None)


def test_two_containers_talk(runtime: Runtime, version: str) -> None:
    for container in ("c1", "c2"):
        status, result = runtime.call("ADD", version, container=container)
        assert status == 0, result

    for one, other in (("c1", "c2"), ("c2", "c1")):
        for address in runtime.addresses(other):
            assert runtime.pings(one, address.partition("/")[0])


def test_a_published_port_is_refused_and_nothing_is_left(runtime: Runtime, version: str) -> None:
    mappings = [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]

    status, error = runtime.call("ADD", version, runtimeConfig={"portMappings": mappings})

    assert (status, error["code"]) == (1, 7)
    assert "a macvlan network cannot publish ports" in error["msg"]
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.engine.endpoints.all() == []


def test_a_name_that_is_taken_is_refused_and_stays(runtime: Runtime, version: str) -> None:
    runtime.host.run("nsenter", f"--net={runtime.netns('c1')}", "ip", "link", "add", "eth0", "type", "ifb")

    status, error = runtime.call("ADD", version)

    assert (status, error["code"]) == (1, 104)
    assert runtime.host.links(runtime.netns("c1"))["eth0"]["linkinfo"]["info_kind"] == "ifb"
