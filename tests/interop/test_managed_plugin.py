"""The managed plugin: its bundle, and what Docker, its swarm and the host's own commands make of it."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

ROOT = Path(__file__).parents[2]
NAME = "dovetail:latest"
OURS = ("-d", NAME, "--ipam-driver", NAME)
TASK = ("bb", "sh", "-c", "trap exit TERM; while :; do sleep 0.1; done")  # ends when it is asked to
SLEEP = ("bb", "sleep", "1000")
# include/uapi/linux/capability.h
CAPABILITIES = {1: "DAC_OVERRIDE", 10: "NET_BIND_SERVICE", 12: "NET_ADMIN", 19: "SYS_PTRACE", 21: "SYS_ADMIN"}


def build(*args: str) -> None:
    done = subprocess.run([ROOT / "scripts" / "build-plugin", *args], capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stderr}\nwithout a network: make plugin first"


@pytest.fixture(scope="module")
def bundle() -> Path:
    """The directory that ``make plugin`` makes, up to date."""
    build()
    return ROOT / "build" / "docker-plugin"


class Plugin:
    """The plugin in a dockerd, and the ``dovetail`` of its host, which finds it at the usual places."""

    def __init__(self, docker: Any, bundle: Path) -> None:
        self.docker = docker
        self.host = docker.host
        self.bundle = bundle

    def install(self) -> None:
        """Let Docker have it and run it, if it does not."""
        known = self.docker.attempt("plugin", "inspect", "-f", "{{.Enabled}}", NAME)
        if known.returncode:
            self("create", "dovetail", str(self.bundle))
        if known.stdout.strip() != "true":
            self("enable", NAME)

    def __call__(self, *args: str) -> str:
        return str(self.docker("plugin", *args))

    def cli(self, *args: str) -> str:
        return str(self.host.run(sys.executable, "-m", "dovetail", *args))

    def json(self, *args: str) -> Any:
        return json.loads(self.cli("--format", "json", *args))

    @property
    def pid(self) -> str:
        return str(self.host.run("cat", "/run/dovetail/daemon.pid"))

    def answers(self) -> bool:
        command = ("curl", "-s", "--unix-socket", "/run/dovetail/api.sock", "http://x/v1/ping")
        return self.host.try_run(*command).stdout == "{}"

    @property
    def enabled(self) -> bool:
        return self("inspect", "-f", "{{.Enabled}}", NAME) == "true"

    def run(self, name: str, network: str, *options: str, command: tuple[str, ...] = SLEEP) -> str:
        """Run a container; gives its address on `network`."""
        self.docker(
            "run", "-d", "--stop-timeout", "0", "--name", name, "--network", network, *options, *command
        )
        return str(self.docker.addresses(name)[network])


@pytest.fixture(scope="module")
def installed(module_dockerd: Any, bundle: Path) -> Plugin:
    made = Plugin(module_dockerd, bundle)
    made.host.run("mkdir", "-m", "700", "/var/lib/dovetail")
    made.host.shadow("/etc")
    made.host.run("mkdir", "-p", "/etc/dovetail/nftables.d")
    made.install()
    return made


@pytest.fixture
def plugin(installed: Plugin) -> Iterator[Plugin]:
    """The plugin, enabled; what a test makes on it is removed, and nothing may be left then."""
    installed.install()
    yield installed
    installed.install()
    docker, host = installed.docker, installed.host
    for container in docker("ps", "-aq").split():
        docker("rm", "-f", container)
    for network in docker("network", "ls", "-q", "--filter", f"driver={NAME}").split():
        docker("network", "rm", network)
    for sandbox in installed.json("sandbox", "ls"):
        if sandbox["face"] == "cli":
            installed.cli("sandbox", "rm", sandbox["name"])
    for network in installed.json("network", "ls"):
        installed.cli("network", "rm", network["name"])
    assert installed.json("pool", "ls") == []
    assert [link for link in host.links() if link.startswith("dv")] == []
    assert host.elements() <= 0


# -- the bundle -----------------------------------------------------------------------------------------


def digest(tree: Path) -> str:
    packed = subprocess.run(
        ["tar", "-C", str(tree), "--sort=name", "-c", "config.json", "rootfs"],
        capture_output=True,
        check=True,
    )
    return hashlib.sha256(packed.stdout).hexdigest()


def test_the_same_sources_make_the_same_bundle_byte_for_byte(bundle: Path, tmp_path: Path) -> None:
    build(str(tmp_path / "again"))

    assert digest(tmp_path / "again") == digest(bundle)


def test_the_bundle_says_what_is_in_it_and_under_which_licences(bundle: Path) -> None:
    rootfs = bundle / "rootfs"
    packages = {path.name for path in (rootfs / "var/lib/dpkg/status.d").iterdir()}

    assert {"iptables", "libc6", "nftables", "python3"} <= packages
    for package in packages:
        assert (rootfs / "usr/share/doc" / package / "copyright").exists(), package


def test_every_setting_is_in_the_manual_and_means_something_to_the_daemon() -> None:
    config = json.loads((ROOT / "packaging/docker-plugin/config.json").read_text(encoding="utf-8"))
    manual = (ROOT / "docs/how-to/docker-plugin.md").read_text(encoding="utf-8")
    known = (ROOT / "docs/reference/options.md").read_text(encoding="utf-8")

    for setting in config["env"]:
        assert f"`{setting['name']}`" in manual, setting
        assert f"`{setting['name']}`" in known, setting
    for mount in config["mounts"]:
        assert "settable" not in mount or f"`{mount['name']}.source`" in manual, mount


# -- Docker -----------------------------------------------------------------------------------------------


def test_two_containers_reach_each_other_and_the_outside_a_published_port(plugin: Plugin) -> None:
    plugin.docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "web")

    plugin.run("one", "web", "-p", "8080:80", command=("bb", "httpd", "-f", "-h", "/www"))
    two = plugin.run("two", "web")

    assert plugin.docker.pings("two", "one")
    assert plugin.docker.pings("one", two)
    assert plugin.host.get("http://127.0.0.1:8080") == "hello"
    assert plugin.host.get("http://192.0.2.1:8080", netns=plugin.host.outside()) == "hello"
    (ours,) = plugin.json("network", "ls")
    assert ours["endpoints"] == 2


def test_the_daemon_has_the_capabilities_that_it_needs_and_no_others(installed: Plugin) -> None:
    status = installed.host.run("cat", f"/proc/{installed.pid}/status")

    for each in ("Inh", "Prm", "Eff", "Bnd", "Amb"):
        (text,) = re.findall(rf"Cap{each}:\s*(\w+)", status)
        wanted = set() if each in {"Inh", "Amb"} else set(CAPABILITIES)
        assert {bit for bit in range(64) if int(text, 16) >> bit & 1} == wanted, each
    assert re.search(r"NoNewPrivs:\s*1", status)


def test_its_sockets_are_as_those_of_the_daemon_on_the_host(installed: Plugin) -> None:
    modes = installed.host.run("stat", "-c", "%a %U %n", "/run/dovetail", "/run/dovetail/api.sock",
                               "/run/dovetail/cni.sock", "/var/lib/dovetail")  # fmt: skip

    assert modes.splitlines() == [
        "755 root /run/dovetail",
        "660 root /run/dovetail/api.sock",
        "600 root /run/dovetail/cni.sock",
        "700 root /var/lib/dovetail",
    ]
    (socket,) = installed.host.run("find", "/run/docker/plugins", "-name", "dovetail.sock").split()
    assert installed.host.run("stat", "-c", "%a", socket) == "600"


def test_containers_are_known_by_their_names(plugin: Plugin) -> None:
    plugin.docker("network", "create", *OURS, "web")

    plugin.run("one", "web")

    def known() -> bool:
        return [row["container"] for row in plugin.json("endpoint", "ls")] == ["one"]

    plugin.host.wait_for(known, what="the plugin hears of it from Docker")


def test_disabling_and_enabling_it_cuts_nobody_off_and_loses_nothing(plugin: Plugin) -> None:
    plugin.cli("network", "create", "web", "--subnet", "10.77.0.0/24")
    plugin.docker(
        "network", "create", *OURS, "-o", "dovetail.network=web", "--ipam-opt", "dovetail.network=web", "web"
    )
    one = plugin.run("one", "web", "-p", "8080:80", command=("bb", "httpd", "-f", "-h", "/www"))
    before = plugin.json("endpoint", "ls")

    plugin("disable", "-f", NAME)
    try:
        assert plugin.host.try_run("test", "-e", "/run/dovetail/api.sock").returncode != 0
        assert plugin.host.get("http://127.0.0.1:8080") == "hello"
        assert plugin.host.pings(one)
        assert plugin.json("endpoint", "ls") == before, "the commands work on the same state meanwhile"
    finally:
        plugin("enable", NAME)

    assert plugin.json("endpoint", "ls") == before
    two = plugin.run("two", "web")
    assert plugin.docker.pings("one", two)


def test_a_new_bundle_takes_over_from_the_old_one(plugin: Plugin) -> None:
    plugin.docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "web")
    one = plugin.run("one", "web")

    plugin("rm", "-f", NAME)
    plugin.install()

    two = plugin.run("two", "web")
    assert two != one
    assert plugin.docker.pings("two", "one")
    plugin.docker("rm", "-f", "one", "two")
    plugin.docker("network", "rm", "web")
    assert plugin.json("network", "ls") == []


def test_docker_starts_it_again_when_it_is_killed(plugin: Plugin) -> None:
    plugin.docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "web")
    plugin.run("one", "web")
    killed = plugin.pid

    plugin.host.run("kill", "-9", killed)

    plugin.host.wait_for(
        lambda: plugin.host.try_run("cat", "/run/dovetail/daemon.pid").stdout.strip() not in {"", killed},
        timeout_s=30,
        what="another daemon",
    )
    plugin.host.wait_for(plugin.answers, what="it answers")
    plugin.run("two", "web")
    assert plugin.docker.pings("two", "one")


def test_containers_come_back_with_their_addresses_when_docker_restarts(plugin: Plugin) -> None:
    plugin.docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "web")
    plugin.run("one", "web", "--restart", "always")
    fixed = plugin.run("two", "web", "--restart", "always", "--ip", "10.77.0.99")

    plugin.docker.restart()

    assert plugin.enabled
    plugin.host.wait_for(lambda: plugin.docker.pings("one", fixed), timeout_s=30, what="they talk again")
    addresses = [plugin.docker.addresses(name)["web"] for name in ("one", "two")]
    assert len({*addresses, "10.77.0.1"}) == 3


def test_a_setting_that_cannot_be_is_told_in_dockers_log(installed: Plugin) -> None:
    """It takes Docker 12 s to give up, so this is asked of the program itself."""
    done = installed.host.try_run(
        sys.executable, "-m", "dovetail", "daemon", env={"DOVETAIL_DOCKER_SCOPE": "world"}
    )

    assert done.returncode == 2
    assert "'world'" in done.stderr


def test_docker_takes_the_settings_of_the_bundle(plugin: Plugin) -> None:
    plugin("disable", NAME)
    plugin(
        "set",
        NAME,
        "DOVETAIL_LOG_FORMAT=json",
        "DOVETAIL_LOG_LEVEL=warning",
        "state.source=/var/lib/dovetail",
    )
    try:
        plugin("enable", NAME)
        environment = plugin.host.run("cat", f"/proc/{plugin.pid}/environ").split("\0")
        plugin("disable", NAME)
    finally:
        plugin("set", NAME, "DOVETAIL_LOG_FORMAT=text", "DOVETAIL_LOG_LEVEL=info")
        plugin("enable", NAME)

    assert {"DOVETAIL_LOG_FORMAT=json", "DOVETAIL_LOG_LEVEL=warning"} <= set(environment)


# -- the host beside it -----------------------------------------------------------------------------------


def test_the_host_sees_the_namespaces_that_it_makes(plugin: Plugin) -> None:
    plugin.cli("network", "create", "web", "--subnet", "10.77.0.0/24")
    plugin.docker(
        "network", "create", *OURS, "-o", "dovetail.network=web", "--ipam-opt", "dovetail.network=web", "web"
    )
    one = plugin.run("one", "web")

    plugin.cli("sandbox", "create", "box")
    plugin.cli("network", "connect", "web", "box")

    box = "/run/dovetail/netns/box"
    assert plugin.host.pings(one, netns=box)
    assert plugin.docker.pings("one", next(iter(plugin.host.inet(box))))
    plugin.cli("run", "--network", "web", "--", "ping", "-c", "1", "-W", "2", one)


def test_it_sees_the_namespaces_that_others_make(plugin: Plugin) -> None:
    plugin.cli("network", "create", "web", "--subnet", "10.77.0.0/24")
    plugin.host.run("ip", "netns", "add", "named")
    sleeper = plugin.host.spawn("sleeper.log", "unshare", "--net", "sleep", "1000")
    children = f"/proc/{sleeper.pid}/task/{sleeper.pid}/children"
    plugin.host.wait_for(lambda: Path(children).read_text(encoding="ascii"), what="nsenter has forked")
    pid = plugin.host.run("pgrep", "-f", "^sleep 1000$")  # a process of the host, with all its capabilities

    plugin.cli("sandbox", "create", "named", "--netns", "/run/netns/named")
    plugin.cli("sandbox", "create", "process", "--netns", f"/proc/{pid}/ns/net")
    for sandbox in ("named", "process"):
        plugin.cli("network", "connect", "web", sandbox)

    (address,) = plugin.host.inet(f"/proc/{pid}/ns/net")
    assert plugin.host.pings(address, netns="/run/netns/named")
    plugin.cli("sandbox", "rm", "process")
    plugin.cli("sandbox", "rm", "named")
    plugin.host.run("kill", pid)
    plugin.host.run("ip", "netns", "del", "named")


def test_cni_containers_of_the_host_are_on_its_networks(plugin: Plugin) -> None:
    plugin.cli("network", "create", "web", "--subnet", "10.77.0.0/24")
    plugin.docker(
        "network", "create", *OURS, "-o", "dovetail.network=web", "--ipam-opt", "dovetail.network=web", "web"
    )
    one = plugin.run("one", "web")
    plugin.cli("cni", "install", "--bin-dir", str(plugin.host.dir / "cni"))
    plugin.host.run("ip", "netns", "add", "pod")
    environment = {
        "CNI_CONTAINERID": "pod", "CNI_IFNAME": "eth0", "CNI_NETNS": "/run/netns/pod",
        "CNI_PATH": str(plugin.host.dir / "cni"),
    }  # fmt: skip
    config = json.dumps({"cniVersion": "1.0.0", "name": "web", "type": "dovetail", "network": "web"})
    executable = str(plugin.host.dir / "cni" / "dovetail")

    added = plugin.host.try_run(executable, env={**environment, "CNI_COMMAND": "ADD"}, stdin=config)

    assert added.returncode == 0, added.stdout
    assert plugin.host.pings(one, netns="/run/netns/pod")
    assert "pod" in plugin.cli("endpoint", "ls")
    deleted = plugin.host.try_run(executable, env={**environment, "CNI_COMMAND": "DEL"}, stdin=config)
    assert deleted.returncode == 0, deleted.stdout
    plugin.host.run("ip", "netns", "del", "pod")


# -- a swarm ------------------------------------------------------------------------------------------------


class Swarm(Plugin):
    """A swarm of one node."""

    def service(self, name: str, network: str, *options: str, replicas: int = 1) -> list[str]:
        """Create a service and wait until it runs; gives the names of its containers."""
        flags = ("--endpoint-mode", "dnsrr", "--no-resolve-image", "--restart-delay", "0s", "--detach")
        size = ("--replicas", str(replicas))
        self.docker("service", "create", "--name", name, "--network", network, *flags, *size, *options, *TASK)
        self.host.wait_for(lambda: len(self.tasks(name)) == replicas, timeout_s=30, what=self.state(name))
        return self.tasks(name)

    def tasks(self, service: str) -> list[str]:
        return str(self.docker("ps", "--format", "{{.Names}}", "--filter", f"name={service}.")).split()

    def state(self, service: str) -> str:
        return str(self.docker("service", "ps", "--no-trunc", service))

    def clear(self) -> None:
        """Remove services, containers and networks; the plugin has nothing then, of the manager's nor of the node's."""
        for service in self.docker("service", "ls", "-q").split():
            self.docker("service", "rm", service)
        for name in self.containers():
            if "." not in name:  # a task's has; the node removes it and then its part of the network
                self.docker("rm", "-f", name)
        self.host.wait_for(lambda: not self.containers(), timeout_s=30, what="the tasks have ended")
        for network in self.docker("network", "ls", "-q", "--filter", f"driver={NAME}").split():
            self.docker("network", "rm", network)
        self.host.wait_for(lambda: not self.held(), timeout_s=30, what=f"the swarm gives back {self.held()}")

    def containers(self) -> list[str]:
        return str(self.docker("ps", "-a", "--format", "{{.Names}}")).split()

    def held(self) -> list[str]:
        rows = [row["name"] for row in self.json("network", "ls") if row["face"] == "docker"]
        return rows + [row["id"] for row in self.json("pool", "ls") if row["owner"] == "docker"]


@pytest.fixture
def swarm(plugin: Plugin, request: pytest.FixtureRequest) -> Iterator[Swarm]:
    scope = getattr(request, "param", "global")
    plugin("disable", NAME)
    plugin("set", NAME, f"DOVETAIL_DOCKER_SCOPE={scope}")
    plugin("enable", NAME)
    plugin.docker("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:2377")
    made = Swarm(plugin.docker, plugin.bundle)
    yield made
    made.clear()
    plugin.docker("swarm", "leave", "--force")
    plugin("disable", "-f", NAME)
    plugin("set", NAME, "DOVETAIL_DOCKER_SCOPE=local")
    plugin("enable", NAME)


def test_services_and_containers_are_on_a_network_of_the_swarm_before_and_after_a_restart(
    swarm: Swarm,
) -> None:
    docker = swarm.docker
    docker("network", "create", *OURS, "--scope", "swarm", "--attachable", "-o", "mtu=1400", "shop")

    first, second = swarm.service("sv", "shop", "--publish", "mode=host,target=80", replicas=2)
    swarm.run("one", "shop")

    assert docker.pings("one", "sv"), "services have names"
    assert docker.pings(first, second)
    assert docker.pings(second, "one")
    addresses = [docker.addresses(name)["shop"] for name in (first, second, "one")]
    assert len(set(addresses)) == 3
    (link,) = swarm.host.ip("link", "show", "eth0", netns=docker.netns("one"))
    assert link["mtu"] == 1400, "the option came through AllocateNetwork"
    (ours,) = swarm.json("network", "ls")
    assert ours["endpoints"] == 3
    docker("rm", "-f", "one")

    docker.restart()

    def again() -> bool:
        tasks = swarm.tasks("sv")
        return len(tasks) == 2 and not {first, second} & set(tasks)

    swarm.host.wait_for(again, timeout_s=60, what=swarm.state("sv"))
    another, gateway = swarm.run("two", "shop"), str(next(ip_network(ours["subnets"][0]).hosts()))
    addresses = [docker.addresses(name)["shop"] for name in swarm.tasks("sv")]
    assert len({*addresses, another, gateway}) == 4, "what the swarm held is not given twice"
    swarm.host.wait_for(lambda: docker.pings("two", "sv"), what="services have names again")


@pytest.mark.parametrize("swarm", ["local"], indirect=True)
def test_a_service_is_on_a_network_of_its_host(swarm: Swarm) -> None:
    docker = swarm.docker
    swarm.cli("network", "create", "web", "--subnet", "10.77.0.0/24")
    named = ("-o", "dovetail.network=web", "--ipam-driver", NAME, "--ipam-opt", "dovetail.network=web")
    docker("network", "create", "--config-only", *named, "here")
    docker("network", "create", "-d", NAME, "--scope", "swarm", "--config-from", "here", "shop")

    (task,) = swarm.service("sv", "shop")

    swarm.cli("run", "--network", "web", "--", "ping", "-c", "1", "-W", "2", docker.addresses(task)["shop"])
