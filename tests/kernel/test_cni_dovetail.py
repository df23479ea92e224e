"""The installed CNI executable, run as a runtime runs it, under every version of the specification."""

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

from dovetail.api import tracelog
from dovetail.assembly import build_engine
from dovetail.cni.install import install
from dovetail.cni.server import ShimServer
from dovetail.engine.trace import Step
from dovetail.model.addresses import parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec

pytestmark = pytest.mark.root
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")


class Runtime:
    """Executes the plugin with the environment and input of one call."""

    def __init__(self, directory: Path, host: Any, driver: str) -> None:
        self.host = host
        self.directory = directory
        self.engine = build_engine(state_dir=str(directory / "state"), run_dir=str(directory / "run"))
        install(str(directory / "bin"), run_dir=str(directory / "run"), state_dir=str(directory / "state"))
        self.engine.networks.create(
            NetworkSpec(
                name="web",
                driver=driver,
                subnets=(
                    SubnetSpec(subnet=parse_subnet("10.88.0.0/24")),
                    SubnetSpec(subnet=parse_subnet("fd88::/64"), version=6),
                ),
            )
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
            "CNI_PATH": str(self.directory / "bin"),
        }
        if netns is not None:
            environment["CNI_NETNS"] = netns or self.netns(container)
        config = {"cniVersion": version, "name": "pods", "type": "dovetail", "network": "web", **conf}
        done = subprocess.run(
            [str(self.directory / "bin" / "dovetail")],
            env=environment,
            input=json.dumps(config).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None


WAYS = [("daemon", "bridge"), ("in process", "bridge")]
on_ptp_too = pytest.mark.parametrize("runtime", [*WAYS, ("daemon", "ptp")], indirect=True, ids=" ".join)


@pytest.fixture(params=WAYS, ids=" ".join)
def runtime(request: Any, host: Any, tmp_path: Path) -> Iterator[Runtime]:
    """With a daemon or without, on a network of one driver or another."""
    way, driver = request.param
    runtime = Runtime(tmp_path, host, driver)
    server = None
    if way == "daemon":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "run" / "cni.sock"))
        listening.listen(64)
        server = ShimServer(listening, runtime.engine)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield runtime
    if server is not None:
        server.shutdown()
        listening.close()
    for container in ("c1", "c2"):
        runtime.engine.kernel.delete_netns(str(tmp_path / container))


@pytest.fixture(params=VERSIONS)
def version(request: Any) -> str:
    return str(request.param)


def knows(version: str, verb: str) -> bool:
    """Say whether a version of the specification has the verb (cni.md §1.1)."""
    since = {"CHECK": (0, 4), "GC": (1, 1), "STATUS": (1, 1)}
    return tuple(map(int, version.split(".")[:2])) >= since.get(verb, (0, 0))


@on_ptp_too
def test_add_gives_the_container_an_address_and_del_takes_it_away(runtime: Runtime, version: str) -> None:
    status, result = runtime.call("ADD", version)

    assert status == 0, result
    assert result["cniVersion"] == version
    found = runtime.host.ip("addr", "show", "eth0", netns=runtime.netns("c1"))[0]["addr_info"]
    on_link = {f"{a['local']}/{a['prefixlen']}" for a in found if a["scope"] == "global"}
    if version in {"0.1.0", "0.2.0"}:
        assert on_link == {result["ip4"]["ip"], result["ip6"]["ip"]}
    else:
        assert on_link == {ip["address"] for ip in result["ips"]}
        assert result["interfaces"][-1]["sandbox"] == runtime.netns("c1")
    runtime.host.run("nsenter", f"--net={runtime.netns('c1')}", "ping", "-c1", "-W2", "10.88.0.1")

    if knows(version, "CHECK"):
        assert runtime.call("CHECK", version, prevResult=result) == (0, None)
    assert runtime.call("DEL", version)[0] == 0
    assert runtime.call("DEL", version)[0] == 0
    assert "eth0" not in runtime.host.links(runtime.netns("c1"))
    assert not [name for name in runtime.host.links() if name.startswith("dvh")]


@pytest.mark.parametrize("verb", ["CHECK", "GC", "STATUS"])
def test_a_verb_that_a_version_does_not_know_is_code_1(runtime: Runtime, version: str, verb: str) -> None:
    if knows(version, verb):
        _, result = runtime.call("ADD", version)
        assert runtime.call(verb, version, prevResult=result) == (0, None)
        return

    status, error = runtime.call(verb, version)

    assert (status, error["code"]) == (1, 1)
    assert verb in error["msg"]


@on_ptp_too
def test_del_without_a_namespace_or_a_result_releases_everything(runtime: Runtime, version: str) -> None:
    runtime.call("ADD", version)

    assert runtime.call("DEL", version, netns=None) == (0, None)
    assert runtime.engine.endpoints.all() == []
    assert "eth0" not in runtime.host.links(runtime.netns("c1"))
    assert runtime.call("DEL", version, netns=None, prevResult={"cniVersion": "junk"}) == (0, None)


@on_ptp_too
@pytest.mark.parametrize("version", [v for v in VERSIONS if knows(v, "CHECK")])
def test_check_says_what_differs(runtime: Runtime, version: str) -> None:
    _, result = runtime.call("ADD", version)
    runtime.host.run("nsenter", f"--net={runtime.netns('c1')}", "ip", "addr", "flush", "dev", "eth0")

    status, error = runtime.call("CHECK", version, prevResult=result)

    assert status != 0
    assert error["code"] == 105
    assert "10.88.0.2" in error["msg"]


@on_ptp_too
def test_gc_detaches_what_is_not_valid_and_an_absent_list_does_nothing(runtime: Runtime) -> None:
    runtime.call("ADD", container="c1")
    runtime.call("ADD", container="c2")

    assert runtime.call("GC") == (0, None)
    assert len(runtime.engine.endpoints.all()) == 2
    valid = [{"containerID": "c2", "ifname": "eth0"}]
    assert runtime.call("GC", **{"cni.dev/valid-attachments": valid}) == (0, None)
    assert [e.owner.container for e in runtime.engine.endpoints.all()] == ["c2"]


def test_status_is_fine_with_a_network_and_50_without(runtime: Runtime) -> None:
    assert runtime.call("STATUS") == (0, None)

    status, error = runtime.call("STATUS", network="nowhere")
    assert (status, error["code"]) == (1, 50)


BAD: list[tuple[dict[str, Any], int]] = [
    ({"network": "nowhere"}, 7),
    ({"cniVersion": "9.9.9"}, 1),
    ({"name": ""}, 7),
    ({"runtimeConfig": {"ips": ["10.9.9.9"]}}, 7),
    ({"runtimeConfig": {"ips": ["10.88.0.1"]}}, 101),
    ({"runtimeConfig": {"mac": "zz"}}, 7),
    ({"runtimeConfig": {"portMappings": [{"hostPort": 99999, "containerPort": 80}]}}, 7),
]


def test_bad_configuration_has_its_code_and_leaves_nothing(runtime: Runtime, version: str) -> None:
    for change, code in BAD:
        status, error = runtime.call("ADD", version, **change)

        assert (status, error["code"]) == (1, code), (change, error)
        assert error["cniVersion"] in {version, "1.1.0"}
    assert "eth0" not in runtime.host.links(runtime.netns("c1"))
    assert runtime.engine.endpoints.all() == []


def test_a_missing_namespace_is_code_4(runtime: Runtime, version: str, tmp_path: Path) -> None:
    for path in (str(tmp_path / "missing"), "/etc/hostname"):
        status, error = runtime.call("ADD", version, netns=path)
        assert (status, error["code"]) == (1, 4)
        assert path in error["msg"]


@on_ptp_too
def test_an_interface_that_exists_is_refused_and_stays(runtime: Runtime, version: str) -> None:
    runtime.host.run("nsenter", f"--net={runtime.netns('c1')}", "ip", "link", "add", "eth0", "type", "ifb")

    status, error = runtime.call("ADD", version)

    assert (status, error["code"]) == (1, 104)
    assert runtime.host.links(runtime.netns("c1"))["eth0"]["linkinfo"]["info_kind"] == "ifb"


@on_ptp_too
def test_ports_are_published_whatever_the_case_of_keys(runtime: Runtime, version: str) -> None:
    mappings = [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP"}]
    status, result = runtime.call("ADD", version, runtimeConfig={"portMappings": mappings})

    assert status == 0, result
    elements = json.dumps(runtime.host.nft("list", "map", "inet", "dovetail", "publish4"))
    assert "8080" in elements
    assert "10.88.0.2" in elements


def test_the_trace_has_the_call_with_the_commands_it_equals(runtime: Runtime) -> None:
    assert runtime.call("ADD")[0] == 0

    steps = [*runtime.engine.tracer.recent(), *tracelog.read(str(runtime.directory / "run"))]
    add = next(step for step in steps if (step.layer, step.name) == ("cni", "ADD"))
    commands = [line for step in _all(add) for line in step.detail.get("command", "").split(" ; ") if line]
    assert any(line.startswith("ip link add name dvh") for line in commands), commands
    assert any("ip addr add 10.88.0.2/24 dev eth0" in line for line in commands), commands


def _all(step: Step) -> Iterator[Step]:
    yield step
    for child in step.children:
        yield from _all(child)
