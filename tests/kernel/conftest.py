"""A host with dovetail on it: the daemon, the executable that runtimes run, and the commands."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dovetail.cni.install import install
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Netns

_PATIENCE_S = 60.0
_TYPES = ("cni", "interfaces", "chained")  # directories with the tests of CNI's types
_CASES = 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of each test of CNI's types leave one case in a run of everything: there are some 1,300, and `make cni` runs them.

    Which one depends on their names alone.
    """
    if os.environ.get("CNI_SAMPLE") != "yes":
        return
    here = Path(__file__).parent
    by_test: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.path.is_relative_to(here) and item.path.relative_to(here).parts[0] in _TYPES:
            by_test.setdefault(item.nodeid.partition("[")[0], []).append(item)
    kept = {
        item
        for cases in by_test.values()
        for item in sorted(cases, key=lambda case: hashlib.sha256(case.nodeid.encode()).digest())[:_CASES]
    }
    left_out = [item for cases in by_test.values() for item in cases if item not in kept]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


@pytest.fixture(autouse=True, scope="session")
def _no_docker_engine() -> Iterator[None]:
    """Let these hosts be the same whether a Docker Engine is installed on the machine or not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOVETAIL_IP_FORWARD_NO_DROP", "1")
        yield


class Installation:
    """dovetail on directories of its own. Every program is a process of its own; nothing runs in the test's."""

    def __init__(self, host: Any, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.state_dir = str(directory / "state")
        self.run_dir = str(directory / "run")
        self.elsewhere = str(directory / "elsewhere")  # a run directory without a daemon, on the same state
        self.plugin_socket = str(directory / "plugins" / "dovetail.sock")
        install(str(directory / "bin"), run_dir=self.run_dir, state_dir=self.state_dir)
        # the same for a runtime that dies with the daemon: its plugin never gets to run the engine itself
        shutil.copytree(directory / "bin", directory / "mortal")
        settings = f"run_dir={self.run_dir}\nstate_dir={self.state_dir}\npython=/bin/false\n"
        (directory / "mortal" / ".dovetail").write_text(settings, encoding="utf-8")
        self._daemon: subprocess.Popen[bytes] | None = None
        self._namespaces: list[str] = []

    # -- the daemon -----------------------------------------------------------------------------------

    def start(self, **environment: str) -> bool:
        """Start the daemon and wait until it answers; False where it died before that."""
        words = [*self._words(self.run_dir), "daemon", "--docker-plugin-dir", str(self.directory / "plugins")]
        with open(self.directory / "daemon.log", "ab") as log:
            self._daemon = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, **environment})
        deadline = time.monotonic() + _PATIENCE_S
        while self.alive and not _answers(f"{self.run_dir}/api.sock"):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.005)
        return self.alive

    @property
    def alive(self) -> bool:
        """Say whether the daemon runs."""
        return self._daemon is not None and self._daemon.poll() is None

    @property
    def pid(self) -> int:
        """Give the process id of the daemon that was started last."""
        assert self._daemon is not None
        return self._daemon.pid

    def survived(self) -> bool:
        """Say whether the daemon still answers; waits for the end of one that does not."""
        if _answers(f"{self.run_dir}/api.sock"):
            return True
        self.wait()
        return False

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send the daemon a signal and wait for its end; gives its exit status."""
        assert self._daemon is not None
        self._daemon.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the daemon's end."""
        assert self._daemon is not None
        return self._daemon.wait(timeout=_PATIENCE_S)

    def log(self) -> str:
        """Give the end of what the daemon has said, where there was one."""
        path = self.directory / "daemon.log"
        return path.read_text(encoding="utf-8")[-4000:] if path.exists() else ""

    # -- what talks to it -------------------------------------------------------------------------------

    def _words(self, run_dir: str) -> list[str]:
        directories = ("--state-dir", self.state_dir, "--run-dir", run_dir)
        return [sys.executable, "-m", "dovetail", *directories]

    def spawn(self, *words: str, run_dir: str = "") -> subprocess.Popen[str]:
        """Start a command; `run_dir` names another run directory than the daemon's."""
        return subprocess.Popen(
            [*self._words(run_dir or self.run_dir), *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def cli(self, *words: str, run_dir: str = "") -> str:
        """Run a command, which must succeed."""
        started = self.spawn(*words, run_dir=run_dir)
        output, errors = started.communicate(timeout=_PATIENCE_S)
        assert started.returncode == 0, f"{words}: {output}{errors}"
        return output

    def spawn_cni(
        self,
        verb: str,
        container: str,
        *,
        ports: Sequence[tuple[int, int]] = (),
        fallback: bool = True,
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """Execute the installed plugin as a runtime does; the namespace is made where there is none.

        It waits for the end of its input, which `outcome` gives it (or `release`, so that many go at once).
        Without `fallback` the plugin ends where it would run the engine in its own process.
        """
        mappings = [{"hostPort": outer, "containerPort": inner, "protocol": "tcp"} for outer, inner in ports]
        config = {
            "cniVersion": "1.0.0",
            "name": "pods",
            "type": "dovetail",
            "network": "web",
            "runtimeConfig": {"portMappings": mappings},
        }
        started = subprocess.Popen(
            [str(self.directory / ("bin" if fallback else "mortal") / "dovetail")],
            env={
                "PATH": os.environ["PATH"],
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": container,
                "CNI_NETNS": self.netns(container),
                "CNI_IFNAME": "eth0",
                "CNI_PATH": str(self.directory / "bin"),
                **environment,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert started.stdin is not None
        started.stdin.write(json.dumps(config).encode())
        started.stdin.flush()
        return started

    @staticmethod
    def release(started: subprocess.Popen[bytes]) -> None:
        """Let a plugin go to work."""
        assert started.stdin is not None
        started.stdin.close()
        started.stdin = None  # communicate() would flush it

    def cni(self, verb: str, container: str, **options: Any) -> tuple[int, Any]:
        """Execute the plugin and give exit status and result."""
        return self.outcome(self.spawn_cni(verb, container, **options))

    @staticmethod
    def outcome(started: subprocess.Popen[bytes]) -> tuple[int, Any]:
        """Wait for a plugin and give exit status and result."""
        output, _ = started.communicate(timeout=_PATIENCE_S)
        return started.returncode, json.loads(output) if output else None

    def add(self, container: str, **options: Any) -> list[str]:
        """ADD, which must succeed; gives the addresses that the namespace has then."""
        status, result = self.cni("ADD", container, **options)
        assert status == 0, f"{result}\n{self.log()}"
        addresses = self.addresses(container)
        assert addresses == sorted(ip["address"] for ip in result["ips"])
        return addresses

    def delete(self, container: str, **options: Any) -> None:
        """DEL, which must succeed and take the interface away."""
        status, result = self.cni("DEL", container, **options)
        assert status == 0, f"{result}\n{self.log()}"
        assert "eth0" not in self.host.links(self.netns(container))

    def forget_namespaces(self) -> list[str]:
        """Name the namespaces that were made, which the caller deletes."""
        names, self._namespaces = self._namespaces, []
        return names

    # -- namespaces and what is in them ------------------------------------------------------------------

    def netns(self, name: str) -> str:
        """Give the path of a namespace of that name, made as a runtime makes it."""
        path = f"/run/netns/{name}"
        if name not in self._namespaces:
            self.host.run("ip", "netns", "add", name)
            self._namespaces.append(name)
        return path

    def addresses(self, container: str) -> list[str]:
        """Give the global addresses that the kernel has in a namespace."""
        links = self.host.ip("addr", "show", netns=self.netns(container))
        return sorted(
            f"{address['local']}/{address['prefixlen']}"
            for link in links
            for address in link["addr_info"]
            if address["scope"] == "global"
        )

    def inside(self, container: str, *command: str) -> list[str]:
        """Write a command that runs in a namespace."""
        return ["nsenter", f"--net={self.netns(container)}", *command]

    def pings(self, container: str, address: str) -> bool:
        """Say whether a container reaches an address."""
        command = self.inside(container, "ping", "-c1", "-W5", address.partition("/")[0])
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=30).returncode == 0

    @contextmanager
    def talking(self, container: str, *addresses: str) -> Iterator[None]:
        """Let a container ping `addresses` for as long as the ``with`` takes; not one answer may be missing."""
        pings = [
            subprocess.Popen(
                self.inside(container, "ping", "-q", "-i", "0.05", "-W", "10", address.partition("/")[0]),
                stdout=subprocess.PIPE,
                text=True,
            )
            for address in addresses
        ]
        try:
            yield
            for ping, address in zip(pings, addresses, strict=True):
                ping.send_signal(signal.SIGINT)
                output = ping.communicate(timeout=30)[0]
                found = re.search(r"(\d+) packets transmitted, (\d+) received", output)
                assert found is not None, output
                sent, received = map(int, found.groups())
                assert sent - received <= 1, f"{address}: {output}"  # the last may be under way
        finally:
            for ping in pings:
                ping.kill()
                ping.communicate()

    @contextmanager
    def greeting(self, container: str, port: int) -> Iterator[None]:
        """Serve a port in a container: who connects gets the container's name."""
        code = (
            "import socket, sys\n"
            "s = socket.create_server(('::', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)\n"
            "print('up', flush=True)\n"
            "while True:\n"
            "    c, _ = s.accept()\n"
            "    with c: c.sendall(sys.argv[2].encode())\n"
        )
        command = self.inside(container, sys.executable, "-IS", "-c", code, str(port), container)
        server = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
            yield
        finally:
            server.kill()
            server.communicate()

    @staticmethod
    def greeted(port: int, address: str = "127.0.0.1") -> str:
        """Connect to a published port of the host and give what it says; an empty string when it cannot."""
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=5) as connection:
            return connection.recv(100).decode()
        return ""

    def end(self) -> None:
        """Stop the daemon and take away what the test made."""
        if self.alive:
            self.stop(signal.SIGKILL)
        for name in self._namespaces:
            self.host.run("ip", "netns", "del", name, check=False)
        for directory in (self.run_dir, self.elsewhere):
            for mounted in Path(directory, "netns").glob("*"):
                self.host.run("umount", "-n", str(mounted), check=False)
        shutil.rmtree(self.directory)


@dataclass
class _DockerEndpoint:
    """An endpoint as dockerd knows it: the addresses by pool, the interface's name in the host's namespace."""

    id: str = field(default_factory=lambda: os.urandom(32).hex())
    held: list[tuple[str, str]] = field(default_factory=list)
    source: str = ""


class RefusedError(Exception):
    """The plugin answered with an error."""


class DockerEngine:
    """Calls the plugin socket as dockerd does, undoes what failed as dockerd does, and retries as dockerd does.

    Source: cnm.md §1.5 of the project's notes; moby ``daemon/libnetwork`` (endpoint.go, network.go, sandbox.go).
    """

    def __init__(self, installation: Installation) -> None:
        """Load the plugin. `on_broken` is called when a connection breaks, before the retry."""
        self._installation = installation
        self._ids: dict[str, str] = {}
        self._pools: list[tuple[str, str]] = []  # id and gateway
        self._endpoints: dict[str, _DockerEndpoint] = {}
        self.on_broken: Callable[[], object] | None = None
        self.call("Plugin.Activate")

    @property
    def ids(self) -> dict[str, str]:
        """The network, as a request names it."""
        return self._ids

    @property
    def pool_ids(self) -> list[str]:
        """Its pools, in the order of their subnets."""
        return [pool_id for pool_id, _ in self._pools]

    def create_network(self, *subnets: str, network: str = "") -> None:
        """``docker network create``, over `network` where that is given. Raises RefusedError, all undone."""
        options = {"dovetail.network": network} if network else {}
        ids = {"NetworkID": os.urandom(32).hex()}
        data: dict[bool, list[dict[str, str]]] = {False: [], True: []}
        self._pools = []
        try:
            for subnet in subnets:
                data[":" in subnet].append(self._request_pool(subnet, options))
            generic = {"com.docker.network.generic": options}
            body = {**ids, "Options": generic, "IPv4Data": data[False], "IPv6Data": data[True]}
            self.call("NetworkDriver.CreateNetwork", body)
        except RefusedError:
            self._release_pools()
            raise
        self._ids = ids

    def _request_pool(self, subnet: str, options: dict[str, str]) -> dict[str, str]:
        asked = {"AddressSpace": "dovetail-local", "Pool": subnet, "SubPool": "", "Options": options}
        pool = self.call("IpamDriver.RequestPool", {**asked, "V6": ":" in subnet})
        self._pools.append((pool["PoolID"], ""))
        gateway = pool.get("Data", {}).get("com.docker.network.gateway")
        if not gateway:
            kind = {"RequestAddressType": "com.docker.network.gateway"}
            body = {"PoolID": pool["PoolID"], "Address": "", "Options": kind}
            gateway = self.call("IpamDriver.RequestAddress", body)["Address"]
        self._pools[-1] = (pool["PoolID"], gateway)
        return {"AddressSpace": "dovetail-local", "Pool": pool["Pool"], "Gateway": gateway}

    def delete_network(self) -> None:
        """``docker network rm``: IPAM first."""
        self._release_pools()
        self.call("NetworkDriver.DeleteNetwork", self._ids)

    def _release_pools(self) -> None:
        for pool_id, gateway in self._pools:
            if gateway:
                body = {"PoolID": pool_id, "Address": gateway.partition("/")[0]}
                self.call("IpamDriver.ReleaseAddress", body)
            self.call("IpamDriver.ReleasePool", {"PoolID": pool_id})

    def start(self, container: str, port: int) -> list[str]:
        """``docker start`` with a published port; gives the addresses. Raises RefusedError, all undone."""
        endpoint = _DockerEndpoint()
        ids = self._ids | {"EndpointID": endpoint.id}
        for pool_id, _ in self._pools:  # where the second is refused, dockerd forgets the first
            reply = self.call("IpamDriver.RequestAddress", {"PoolID": pool_id, "Address": ""})
            endpoint.held.append((pool_id, reply["Address"]))
        v4, v6 = (address for _, address in endpoint.held)
        self._endpoints[container] = endpoint
        try:
            made = self.call(
                "NetworkDriver.CreateEndpoint", {**ids, "Interface": {"Address": v4, "AddressIPv6": v6}}
            )
        except RefusedError:
            self._release(container)
            raise
        try:
            joined = self.call("NetworkDriver.Join", {**ids, "SandboxKey": f"/run/docker/netns/{container}"})
            self._take_interface(container, joined, made["Interface"]["MacAddress"], [v4, v6])
            binding = {"Proto": 6, "IP": "", "Port": 80, "HostIP": "", "HostPort": port, "HostPortEnd": port}
            options = {"com.docker.network.portmap": [binding]}
            self.call("NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": options})
        except RefusedError:
            self.call("NetworkDriver.Leave", ids)
            self._end(container)
            raise
        with contextlib.suppress(RefusedError):
            self.call("NetworkDriver.EndpointOperInfo", ids)
        return [v4, v6]

    def _take_interface(self, container: str, joined: Any, mac: str, addresses: list[str]) -> None:
        """Move what Join left into the container, as libnetwork's osl does."""
        run, source = self._installation.host.run, joined["InterfaceName"]["SrcName"]
        self._endpoints[container].source = source
        run("ip", "link", "set", "dev", source, "netns", self._installation.netns(container))
        batch = [f"link set dev {source} name eth0", f"link set dev eth0 address {mac}"]
        batch += [f"addr add {address} dev eth0{' nodad' * (':' in address)}" for address in addresses]
        batch += ["link set dev eth0 up", *map(_static_route, joined.get("StaticRoutes", []))]
        batch += [f"route add default via {joined['Gateway']}"]
        batch += [f"route add default via {joined['GatewayIPv6']}"]
        run(*self._installation.inside(container, "ip", "-batch", "-"), stdin="\n".join(batch))

    def stop(self, container: str) -> None:
        """``docker stop``; an error of one call keeps dockerd from none of the others."""
        ids = self._ids | {"EndpointID": self._endpoints[container].id}
        with contextlib.suppress(RefusedError):
            self.call("NetworkDriver.RevokeExternalConnectivity", ids)
        self._end(container)

    def _end(self, container: str) -> None:
        endpoint = self._endpoints[container]
        ids = self._ids | {"EndpointID": endpoint.id}
        with contextlib.suppress(RefusedError):
            self.call("NetworkDriver.Leave", ids)
        if endpoint.source:
            run = self._installation.host.run
            batch = f"link set eth0 down\nlink set eth0 name {endpoint.source}\nlink set {endpoint.source} netns {os.getpid()}"
            run(*self._installation.inside(container, "ip", "-batch", "-"), stdin=batch, check=False)
        with contextlib.suppress(RefusedError):
            self.call("NetworkDriver.DeleteEndpoint", ids)
        self._release(container)

    def _release(self, container: str) -> None:
        for pool_id, address in self._endpoints.pop(container).held:
            body = {"PoolID": pool_id, "Address": address.partition("/")[0]}
            with contextlib.suppress(RefusedError):
                self.call("IpamDriver.ReleaseAddress", body)

    def call(self, method: str, body: object = None) -> Any:
        """Send one call and give the reply; raises RefusedError. A retry has an empty body, which is dockerd's defect."""
        payload = json.dumps(body).encode() if body is not None else b""
        try:
            return self._once(method, payload)
        except (OSError, http.client.HTTPException):
            if self.on_broken is None:
                raise
        self.on_broken()
        return self._once(method, b"")

    def _once(self, method: str, payload: bytes) -> Any:
        connection = http.client.HTTPConnection("plugin.moby.localhost", timeout=_PATIENCE_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_PATIENCE_S)
        try:
            connection.sock.connect(self._installation.plugin_socket)
            connection.request("POST", f"/{method}", payload)
            answer = connection.getresponse()
            reply = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200 or reply.get("Err"):
            raise RefusedError(f"{method}: {answer.status} {reply}")
        return reply


def _static_route(route: dict[str, Any]) -> str:
    """Write a route of a Join reply for ``ip -batch``; RouteType 1 is on the link, 0 leads by NextHop."""
    by = f" via {route['NextHop']}" if route["RouteType"] == 0 else ""
    return f"route add {route['Destination']}{by} dev eth0"


def _answers(path: str) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PATIENCE_S)
            connection.connect(path)
            connection.sendall(b"GET /v1/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return connection.recv(100).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


@pytest.fixture
def kernel(host: Any) -> Iterator[LinuxKernel]:
    handle = LinuxKernel()
    yield handle
    handle.close()


@pytest.fixture
def box(kernel: LinuxKernel, tmp_path: Path) -> Iterator[Netns]:
    path = str(tmp_path / "box")
    with kernel.create_netns(path) as netns:
        yield netns
    kernel.delete_netns(path)


@pytest.fixture
def installation(host: Any, tmp_path: Path) -> Iterator[Installation]:
    """dovetail installed on a fresh host, no daemon started yet."""
    made = Installation(host, tmp_path)
    yield made
    made.end()


@pytest.fixture(scope="session")
def make_installation() -> Callable[[Any, Path], Installation]:
    """Give what installs dovetail on a host, for scenes that several tests share; the caller ends it."""
    return Installation


@pytest.fixture
def make_docker_engine(installation: Installation) -> Callable[[], DockerEngine]:
    """Give what plays dockerd to the daemon, which runs by then."""
    return lambda: DockerEngine(installation)


@pytest.fixture(scope="session")
def refused() -> type[RefusedError]:
    """The error of a call that the plugin refused."""
    return RefusedError
