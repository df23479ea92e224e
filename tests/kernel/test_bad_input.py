"""Bad input through every door where it can be made: the commands, the HTTP API, Docker's socket, CNI.

Each time the answer is one sentence that names the value, with the door's own code, and the kernel and the
store are as they were before.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dovetail.cni.install import install

pytestmark = pytest.mark.root

_UNPRIVILEGED = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


class Answer(NamedTuple):
    """What a door says: its code (exit status, HTTP status, CNI code), the sentence, and the place and hint if apart."""

    code: int
    sentence: str
    more: str = ""


class Scene:
    """A host on which everything is there that input may clash with, and the doors to it."""

    def __init__(self, host: Any, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.own_netns = f"/proc/{os.getpid()}/task/{threading.get_native_id()}/ns/net"
        for name, run_dir in (("bin", "run"), ("bin-alone", "alone")):
            install(f"{directory}/{name}", run_dir=f"{directory}/{run_dir}", state_dir=f"{directory}/state")
        (directory / "file").touch()
        self.namespaces: list[str] = []
        self.bound = socket.create_server(("", 18081))
        self.network_id, self.endpoint_id = "d" * 64, "e" * 64

    def start(self) -> None:
        """Start the daemon."""
        words = [*self._words("run"), "daemon", "--docker-plugin-dir", f"{self.directory}/plugins"]
        with open(self.directory / "daemon.log", "wb") as log:
            self.daemon = subprocess.Popen(words, stdout=log, stderr=log)
        while b"event=ready" not in (self.directory / "daemon.log").read_bytes():
            assert self.daemon.poll() is None, (self.directory / "daemon.log").read_text()

    def make(self) -> None:
        """Make what is to be clashed with."""
        for name in ("pod", "other"):
            self.host.run("ip", "netns", "add", name)
            self.namespaces.append(name)
        self.host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "up1")
        self.host.run("ip", "addr", "add", "10.55.0.1/16", "dev", "up0")
        self.host.run("ip", "link", "set", "up0", "up")
        assert self.docker("Plugin.Activate", {}).code == 200
        for command in _MADE:
            done = self.run("run", *command.format(own=self.own_netns).split())
            assert done.returncode == 0, done.stderr
        assert self.cni("bin", {}, {"network": "web"}, container="pod").code == 0
        self._be_docker()

    def _be_docker(self) -> None:
        options = {"dovetail.network": "web"}
        pool = {"AddressSpace": "dovetail-local", "Pool": "", "SubPool": "", "Options": options, "V6": False}
        answer = self.http("plugins/dovetail.sock", "POST", "/IpamDriver.RequestPool", pool)
        self.pool_id, self.pool = answer[1]["PoolID"], answer[1]["Pool"]
        data = {"AddressSpace": "dovetail-local", "Pool": self.pool}
        ids = {"NetworkID": self.network_id, "EndpointID": self.endpoint_id}
        for method, body in (
            (
                "CreateNetwork",
                {"Options": {"com.docker.network.generic": options}, "IPv4Data": [data], "IPv6Data": []},
            ),
            ("CreateEndpoint", {"Interface": {"Address": "10.88.0.99/24"}, "Options": {}}),
            ("Join", {"SandboxKey": "/run/docker/netns/e", "Options": {}}),
        ):
            assert self.docker(f"NetworkDriver.{method}", {**ids, **body}).code == 200

    def _words(self, run: str) -> list[str]:
        places = ("--state-dir", f"{self.directory}/state", "--run-dir", f"{self.directory}/{run}")
        return [sys.executable, "-m", "dovetail", *places]

    def end(self) -> None:
        self.daemon.kill()
        self.daemon.wait()
        self.bound.close()
        for name in self.namespaces:
            self.host.run("ip", "netns", "del", name, check=False)
        for mounted in self.directory.glob("*/netns/*"):
            self.host.run("umount", "-n", str(mounted), check=False)

    # -- the doors ------------------------------------------------------------------------------------

    def run(self, run: str, *words: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command; `run` names the run directory, which has a daemon or not."""
        command = [*prefix, *self._words(run), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)

    def cli(self, run: str, *words: str) -> Answer:
        done = self.run(run, *words)
        assert done.stdout == ""
        first, *rest = done.stderr.splitlines()
        assert first.startswith("dovetail: ")
        assert len(rest) <= 1
        assert all(line.startswith("hint: ") for line in rest)
        return Answer(done.returncode, first.removeprefix("dovetail: "), "".join(rest))

    def http(self, path: str, method: str, target: str, body: object) -> tuple[int, Any]:
        """Send a request; a body that is bytes goes as it is."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(90)
            caller.connect(f"{self.directory}/{path}")
            head = f"{method} {target} HTTP/1.1\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
            caller.sendall(head.encode() + data)
            reply = b"".join(iter(lambda: caller.recv(65536), b""))
        head, _, payload = reply.decode().partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(payload)

    def api(self, method: str, target: str, body: object = b"") -> Answer:
        status, reply = self.http("run/api.sock", method, target, body)
        assert reply.keys() == {"error", "kind", "where", "hint"}
        return Answer(status, reply["error"], f"{reply['where']} {reply['hint']}")

    def docker(self, method: str, body: object) -> Answer:
        status, reply = self.http("plugins/dovetail.sock", "POST", f"/{method}", body)
        if status == 200:
            return Answer(200, "")
        assert reply.keys() == {"Err", "Error"}
        assert reply["Err"] == reply["Error"]
        return Answer(status, reply["Err"])

    def cni(
        self,
        executables: str,
        environment: dict[str, str],
        config: object,
        *,
        container: str = "other",
        prefix: tuple[str, ...] = (),
    ) -> Answer:
        """Execute the plugin; what `environment` and `config` say comes on top of an ADD that would succeed."""
        given = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self.directory}/{executables}",
            "PATH": os.environ["PATH"],
        } | environment
        base = {"cniVersion": "1.0.0", "name": "web", "type": "dovetail"}
        document = json.dumps(base | config).encode() if isinstance(config, dict) else config
        done = subprocess.run(
            [*prefix, f"{self.directory}/{executables}/dovetail"],
            input=document,
            env={key: value for key, value in given.items() if value},
            capture_output=True,
            check=False,
            timeout=90,
        )
        reply = json.loads(done.stdout)
        if done.returncode == 0:
            return Answer(0, "")
        assert {"cniVersion", "code", "msg"} <= reply.keys() <= {"cniVersion", "code", "msg", "details"}
        assert done.returncode == 1
        return Answer(reply["code"], reply["msg"], reply.get("details", ""))

    # -- what must not change -------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give what the kernel and the store have."""
        with closing(sqlite3.connect(f"{self.directory}/state/dovetail.db")) as database:
            # a cursor is where the search for the next free address begins
            rows = [row for row in database.iterdump() if not row.startswith('INSERT INTO "cursors"')]
        return {"rows": rows, "links": self.links(), "ruleset": self.host.nft("list", "ruleset")}

    def links(self) -> dict[str, list[str]]:
        """Give the names of the links in each namespace."""
        found = [Path("/run/netns", name) for name in self.namespaces]
        found += self.directory.glob("*/netns/*")
        places: dict[str, tuple[str, ...]] = {"host": ()}
        places |= {path.name: ("nsenter", f"--net={path}") for path in found}
        return {
            name: sorted(link["ifname"] for link in json.loads(self.host.run(*prefix, "ip", "-j", "link")))
            for name, prefix in places.items()
        }


_MADE = (
    "network create web --subnet 10.88.0.0/24 --subnet fd88::/64",
    "network create four --subnet 10.44.0.0/24",
    "network create full --subnet 10.77.0.0/30",
    "network create inner --internal --subnet 10.66.0.0/24",
    "network create hosts -d host",
    "sandbox create box",
    "sandbox create free",
    "sandbox create own --netns {own}",
    "network connect web box --ip 10.88.0.50 -p 18080:80",
    "network connect full box",
)


@pytest.fixture(scope="module")
def scene(module_host: Any) -> Iterator[Scene]:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (Debian package util-linux)")
    with tempfile.TemporaryDirectory(prefix="dv-") as directory:
        os.chmod(directory, 0o755)
        made = Scene(module_host, Path(directory))
        made.start()
        try:
            made.make()
            yield made
            assert made.daemon.poll() is None
            assert "Traceback" not in (made.directory / "daemon.log").read_text()
        finally:
            made.end()


class Bad(NamedTuple):
    """One bad input: what the answer names, and for each door the request and the code it gives.

    In requests `{own}`, `{dir}` and `{pid}` stand for the host's namespace, the scene's directory, the test's process.
    """

    name: str
    names: str
    cli: tuple[str, int] | None = None
    api: tuple[str, object, int] | None = None
    docker: tuple[str, object, int] | None = None
    cni: tuple[dict[str, str], object, int] | None = None


def make(**fields: object) -> dict[str, object]:
    return {"name": "x", **fields}


def join(**fields: object) -> dict[str, object]:
    return {"sandbox": "free", **fields}


def runtime(**fields: object) -> dict[str, object]:
    return {"runtimeConfig": fields}


def docker_network(**generic: str) -> dict[str, object]:
    data = [{"AddressSpace": "dovetail-local", "Pool": "10.7.0.0/24"}]
    return {"NetworkID": "a" * 64, "Options": {"com.docker.network.generic": generic}, "IPv4Data": data}


def docker_pool(subnet: str = "", **options: str) -> dict[str, object]:
    return {"AddressSpace": "dovetail-local", "Pool": subnet, "Options": options}


def docker_endpoint(**interface: str) -> dict[str, object]:
    return {"NetworkID": "d" * 64, "EndpointID": "b" * 64, "Interface": interface, "Options": {}}


def docker_ports(**binding: object) -> dict[str, object]:
    given = {"HostIP": "", "HostPort": 8080, "HostPortEnd": 8080, "Port": 80, "Proto": 6, **binding}
    ids = {"NetworkID": "d" * 64, "EndpointID": "e" * 64}
    return {**ids, "Options": {"com.docker.network.portmap": [given]}}


CREATE, CONNECT = "POST /v1/networks", "POST /v1/networks/web/connect"
NEW, ENDPOINT = "NetworkDriver.CreateNetwork", "NetworkDriver.CreateEndpoint"
POOL, ADDRESS = "IpamDriver.RequestPool", "IpamDriver.RequestAddress"
PUBLISH = "NetworkDriver.ProgramExternalConnectivity"


def port(number: int, **fields: object) -> dict[str, object]:
    return runtime(portMappings=[{"hostPort": number, "containerPort": 80, "protocol": "tcp", **fields}])


CASES = [
    Bad(
        "unknown network", "'nope'",
        cli=("network connect nope free", 1), api=("POST /v1/networks/nope/connect", join(), 404),
        docker=(NEW, docker_network(**{"dovetail.network": "nope"}), 500), cni=({}, {"network": "nope"}, 7),
    ),
    Bad(
        "unknown network as pool", "'nope'", docker=(POOL, docker_pool(**{"dovetail.network": "nope"}), 500),
    ),
    Bad(
        "unknown sandbox", "'nope'", cli=("network connect web nope", 1), api=(CONNECT, {"sandbox": "nope"}, 404),
    ),
    Bad(
        "unknown driver", "'ring'", cli=("network create x -d ring", 1), api=(CREATE, make(driver="ring"), 404),
        docker=(NEW, docker_network(**{"dovetail.driver": "ring"}), 500),
    ),
    Bad(
        "unknown option of a driver", "'colour'", cli=("network create x -o colour=red", 1),
        api=(CREATE, make(options={"colour": "red"}), 400), docker=(NEW, docker_network(colour="red"), 400),
    ),
    Bad(
        "unknown option of ours", "'dovetail.nme'",
        cli=("network create x -o dovetail.nme=x", 1), api=(CREATE, make(options={"dovetail.nme": "x"}), 400),
        docker=(NEW, docker_network(**{"dovetail.nme": "x"}), 400),
    ),
    Bad("unknown option of our pools", "'dovetail.nme'", docker=(POOL, docker_pool(**{"dovetail.nme": "x"}), 400)),
    Bad("unknown CNI argument", "COLOUR", cni=({"CNI_ARGS": "COLOUR=red"}, {}, 4)),
    Bad(
        "a value that the option cannot have", "'tall'", cli=("network create x -o mtu=tall", 1),
        api=(CREATE, make(options={"mtu": "tall"}), 400), docker=(NEW, docker_network(mtu="tall"), 400),
    ),
    Bad(
        "malformed CIDR", "'10.7.0.0/33'", cli=("network create x --subnet 10.7.0.0/33", 2),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/33"}]), 400), docker=(POOL, docker_pool("10.7.0.0/33"), 400),
        cni=({}, runtime(ips=["10.7.0.0/33"]), 7),
    ),
    Bad(
        "CIDR with host bits", "'10.7.0.1/24'", cli=("network create x --subnet 10.7.0.1/24", 2),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.1/24"}]), 400), docker=(POOL, docker_pool("10.7.0.1/24"), 400),
    ),
    Bad(
        "malformed address", "'10.88.0'", cli=("network connect web free --ip 10.88.0", 2),
        api=(CONNECT, join(ips=["10.88.0"]), 400),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.88.0"}, 400), cni=({"CNI_ARGS": "IP=10.88.0"}, {}, 7),
    ),
    Bad(
        "malformed MAC", "'02:zz'", cli=("network connect web free --mac 02:zz", 2),
        api=(CONNECT, join(mac="02:zz"), 400),
        docker=(ENDPOINT, docker_endpoint(Address="10.88.0.98/24", MacAddress="02:zz"), 400),
        cni=({}, runtime(mac="02:zz"), 7),
    ),
    Bad(
        "multicast MAC", "'01:00:5e:00:00:01'", cli=("network connect web free --mac 01:00:5e:00:00:01", 2),
        api=(CONNECT, join(mac="01:00:5e:00:00:01"), 400),
        docker=(ENDPOINT, docker_endpoint(Address="10.88.0.98/24", MacAddress="01:00:5e:00:00:01"), 400),
        cni=({"CNI_ARGS": "MAC=01:00:5e:00:00:01"}, {}, 7),
    ),
    Bad(
        "malformed port", "'web:80'", cli=("network connect web free -p web:80", 2),
        api=(CONNECT, join(publish=["web:80"]), 400),
    ),
    Bad(
        "port out of range", "70000", cli=("network connect web free -p 70000:80", 2),
        api=(CONNECT, join(publish=["70000:80"]), 400), docker=(PUBLISH, docker_ports(HostPort=70000), 400),
        cni=({}, port(70000), 7),
    ),
    Bad(
        "protocol that has no ports", "icmp", cli=("network connect web free -p 8080:80/icmp", 2),
        api=(CONNECT, join(publish=["8080:80/icmp"]), 400), cni=({}, port(8080, protocol="icmp"), 7),
    ),
    Bad("protocol number that has no ports", "protocol 1 ", docker=(PUBLISH, docker_ports(Proto=1), 400)),
    Bad(
        "gateway outside the subnet", "10.8.0.1",
        cli=("network create x --subnet 10.7.0.0/24 --gateway 10.8.0.1", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/24", "gateway": "10.8.0.1"}]), 400),
        docker=(
            NEW,
            {**docker_network(), "IPv4Data": [{"AddressSpace": "x", "Pool": "10.7.0.0/24", "Gateway": "10.8.0.1/24"}]},
            400,
        ),
    ),
    Bad(
        "IP range outside the subnet", "10.9.0.0/24",
        cli=("network create x --subnet 10.7.0.0/24 --ip-range 10.9.0.0/24", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/24", "ip_range": "10.9.0.0/24"}]), 400),
        docker=(POOL, {**docker_pool("10.7.0.0/24"), "SubPool": "10.9.0.0/24"}, 400),
    ),
    Bad(
        "gateway that is reserved", "10.7.0.9",
        cli=("network create x --subnet 10.7.0.0/24 --gateway 10.7.0.9 --aux-address nas=10.7.0.9", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.7.0.0/24", "gateway": "10.7.0.9", "aux": {"nas": "10.7.0.9"}}]), 400),
    ),
    Bad(
        "taken address", "10.88.0.50", cli=("network connect web free --ip 10.88.0.50", 1),
        api=(CONNECT, join(ips=["10.88.0.50"]), 409),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.88.0.50"}, 409), cni=({}, runtime(ips=["10.88.0.50/24"]), 101),
    ),
    Bad(
        "the gateway's address", "10.88.0.1", cli=("network connect web free --ip 10.88.0.1", 1),
        api=(CONNECT, join(ips=["10.88.0.1"]), 409),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.88.0.1"}, 409), cni=({}, runtime(ips=["10.88.0.1"]), 101),
    ),
    Bad(
        "address outside the network", "10.99.0.1", cli=("network connect web free --ip 10.99.0.1", 1),
        api=(CONNECT, join(ips=["10.99.0.1"]), 400),
        docker=(ADDRESS, {"PoolID": "POOL", "Address": "10.99.0.1"}, 400), cni=({}, runtime(ips=["10.99.0.1"]), 7),
    ),
    Bad(
        "two addresses of a family", "IPv4", cli=("network connect web free --ip 10.88.0.7 --ip 10.88.0.8", 1),
        api=(CONNECT, join(ips=["10.88.0.7", "10.88.0.8"]), 400), cni=({}, runtime(ips=["10.88.0.7", "10.88.0.8"]), 7),
    ),
    Bad(
        "exhausted pool", "10.77.0.0/30", cli=("network connect full free", 1),
        api=("POST /v1/networks/full/connect", join(), 409),
        docker=(ADDRESS, {"PoolID": "FULL", "Address": ""}, 500), cni=({}, {"network": "full"}, 102),
    ),
    Bad(
        "duplicate network", "'web'", cli=("network create web", 1), api=(CREATE, {"name": "web"}, 409),
        docker=(NEW, docker_network(**{"dovetail.name": "web"}), 409),
    ),
    Bad(
        "duplicate sandbox", "'box'", cli=("sandbox create box", 1), api=("POST /v1/sandboxes", {"name": "box"}, 409),
    ),
    Bad(
        "name that is none", "'a/b'", cli=("network create a/b", 1), api=(CREATE, {"name": "a/b"}, 400),
        docker=(NEW, docker_network(**{"dovetail.name": "a/b"}), 400), cni=({}, {"name": "a/b"}, 7),
    ),
    Bad(
        "second attachment", "box", cli=("network connect web box", 1), api=(CONNECT, {"sandbox": "box"}, 409),
    ),
    Bad(
        "second ADD", "eth0", cni=({"CNI_CONTAINERID": "pod", "CNI_NETNS": "/run/netns/pod"}, {}, 104),
    ),
    Bad(
        "pool that overlaps another", "10.88.0.0/24", cli=("network create x --subnet 10.88.0.0/25", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.88.0.0/25"}]), 409), docker=(POOL, docker_pool("10.88.0.0/25"), 409),
    ),
    Bad(
        "pool that overlaps a route", "10.55.0.0/16", cli=("network create x --subnet 10.55.7.0/24", 1),
        api=(CREATE, make(subnets=[{"subnet": "10.55.7.0/24"}]), 409), docker=(POOL, docker_pool("10.55.7.0/24"), 409),
    ),
    Bad(
        "published port", "18080", cli=("network connect web free -p 18080:80", 1),
        api=(CONNECT, join(publish=["18080:80"]), 409),
        docker=(PUBLISH, docker_ports(HostPort=18080, HostPortEnd=18080), 409), cni=({}, port(18080), 103),
    ),
    Bad(
        "port of a local process", "18081", cli=("network connect web free -p 18081:80", 1),
        api=(CONNECT, join(publish=["18081:80"]), 409),
        docker=(PUBLISH, docker_ports(HostPort=18081, HostPortEnd=18081), 409), cni=({}, port(18081), 103),
    ),
    Bad(
        "range without a free port", "18080 to 18081", cli=("network connect web free -p 18080-18081:80", 1),
        api=(CONNECT, join(publish=["18080-18081:80"]), 409),
        docker=(PUBLISH, docker_ports(HostPort=18080, HostPortEnd=18081), 409),
    ),
    Bad(
        "port of a family that the endpoint lacks", "[fd00::1]:8080->80/tcp",
        cli=("network connect four free -p [fd00::1]:8080:80", 1),
        api=("POST /v1/networks/four/connect", join(publish=["[fd00::1]:8080:80"]), 400),
        docker=(PUBLISH, docker_ports(HostIP="fd00::1"), 400), cni=({}, {"network": "four"} | port(8080, hostIP="fd00::1"), 7),
    ),
    Bad(
        "port of an internal network", "'inner'", cli=("network connect inner free -p 8080:80", 1),
        api=("POST /v1/networks/inner/connect", join(publish=["8080:80"]), 400),
        cni=({}, {"network": "inner"} | port(8080), 7),
    ),
    Bad(
        "interface name that is taken", "'lo'", cli=("network connect web free --ifname lo", 1),
        api=(CONNECT, join(ifname="lo"), 409), cni=({"CNI_IFNAME": "lo"}, {}, 104),
    ),
    Bad(
        "interface name that is none", "'a:b'", cli=("network connect web free --ifname a:b", 1),
        api=(CONNECT, join(ifname="a:b"), 400), cni=({"CNI_IFNAME": "a:b"}, {}, 4),
    ),
    Bad(
        "namespace that is missing", "/run/netns/gone", cli=("sandbox create x --netns /run/netns/gone", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "/run/netns/gone"}, 400),
        cni=({"CNI_NETNS": "/run/netns/gone"}, {}, 4),
    ),
    Bad(
        "namespace that is a file", "{dir}/file", cli=("sandbox create x --netns {dir}/file", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "{dir}/file"}, 400), cni=({"CNI_NETNS": "{dir}/file"}, {}, 4),
    ),
    Bad(
        "namespace of another kind", "/proc/{pid}/ns/mnt", cli=("sandbox create x --netns /proc/{pid}/ns/mnt", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "/proc/{pid}/ns/mnt"}, 400),
        cni=({"CNI_NETNS": "/proc/{pid}/ns/mnt"}, {}, 4),
    ),
    Bad(
        "namespace that is another one to each", "/proc/self/ns/net",
        cli=("sandbox create x --netns /proc/self/ns/net", 1),
        api=("POST /v1/sandboxes", {"name": "x", "netns": "/proc/self/ns/net"}, 400),
    ),
    Bad(
        "the host's own namespace", "own", cli=("network connect web own", 1), api=(CONNECT, {"sandbox": "own"}, 400),
        cni=({"CNI_NETNS": "{own}"}, {}, 4),
    ),
    Bad(
        "namespace of a container on the host's network", "hosts", cli=("network connect hosts free", 1),
        api=("POST /v1/networks/hosts/connect", join(), 400), cni=({}, {"network": "hosts"}, 2),
    ),
    Bad(
        "what is not JSON", "JSON", api=(CREATE, b"{", 400), docker=(NEW, b"{", 400), cni=({}, b"{", 6),
    ),
    Bad(
        "JSON of another form", "str", api=(CREATE, {"name": 5}, 400), docker=(NEW, {"NetworkID": 5}, 400),
    ),
    Bad("a list for an object", "object", api=(CREATE, [], 400), docker=(NEW, [], 400), cni=({}, b"[]", 6)),
    Bad("field that there is not", "colour", api=(CREATE, make(colour="red"), 400)),
    Bad("path with a null byte", "'/a\\x00b'", api=("POST /v1/sandboxes", {"name": "x", "netns": "/a\0b"}, 400)),
    Bad("path that there is not", "/v1/colours", api=("GET /v1/colours", b"", 404)),
    Bad("method that there is not", "DELETE", api=("DELETE /v1/networks", b"", 405)),
    Bad("call that there is not", "NetworkDriver.Paint", docker=("NetworkDriver.Paint", {}, 404)),
    Bad("verb that there is not", "PAINT", cni=({"CNI_COMMAND": "PAINT"}, {}, 4)),
    Bad("version that there is not", "9.9.9", cni=({}, {"cniVersion": "9.9.9"}, 1)),
    Bad("container without a name", "CNI_CONTAINERID", cni=({"CNI_CONTAINERID": ""}, {}, 4)),
    Bad("list for a port", "portMappings", cni=({}, runtime(portMappings="80"), 7)),
    Bad("removal of what is in use", "box", cli=("network rm full", 1), api=("DELETE /v1/networks/full", b"", 409)),
    Bad("removal of what Docker uses", "docker network", cli=("network rm web", 1), api=("DELETE /v1/networks/web", b"", 409)),
    Bad("disconnection of what is not connected", "free", cli=("network disconnect web free", 1),
        api=("POST /v1/networks/web/disconnect", join(), 404)),
]  # fmt: skip


def filled(value: Any, scene: Scene) -> Any:
    """Put the scene's own values into a request."""
    if isinstance(value, dict):
        return {key: filled(one, scene) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one, scene) for one in value]
    if not isinstance(value, str):
        return value
    for key, text in (
        ("{own}", scene.own_netns),
        ("{dir}", str(scene.directory)),
        ("{pid}", str(os.getpid())),
    ):
        value = value.replace(key, text)
    return {"POOL": scene.pool_id, "FULL": "dovetail/10.77.0.0/30"}.get(value, value)


def ask(scene: Scene, door: str, case: Bad) -> tuple[Answer, int]:
    """Make the bad input through a door; gives the answer and the code that it should have."""
    if door.startswith("cli") and case.cli:
        words, code = case.cli
        return scene.cli("run" if door == "cli" else "alone", *filled(words, scene).split()), code
    if door == "api" and case.api:
        target, body, code = case.api
        return scene.api(*target.split(), filled(body, scene)), code
    if door == "docker" and case.docker:
        method, body, code = case.docker
        return scene.docker(method, filled(body, scene)), code
    assert case.cni is not None
    environment, config, code = case.cni
    executables = "bin" if door == "cni" else "bin-alone"
    return scene.cni(executables, filled(environment, scene), filled(config, scene)), code


DOORS = [
    pytest.param(door, case, id=f"{door}-{case.name.replace(' ', '-')}")
    for case in CASES
    for door in ("cli", "cli-alone", "api", "docker", "cni", "cni-alone")
    if getattr(case, door.partition("-")[0]) is not None
]


@pytest.mark.parametrize(("door", "case"), DOORS)
def test_bad_input_is_one_sentence_with_its_code_and_changes_nothing(
    door: str, case: Bad, scene: Scene
) -> None:
    before = scene.state()

    answer, code = ask(scene, door, case)

    assert answer.code == code, answer
    assert filled(case.names, scene) in f"{answer.sentence} {answer.more}"
    assert "\n" not in answer.sentence
    assert "Traceback" not in answer.sentence
    assert "internal error" not in answer.sentence
    assert scene.state() == before


@pytest.mark.parametrize("words", ["network ls", "network create x", "sandbox exec box -- true", "doctor"])
def test_without_rights_a_command_says_what_it_may_not(words: str, scene: Scene) -> None:
    before = scene.state()

    for run, place in (("run", "run/api.sock"), ("alone", "state")):
        done = scene.run(run, *words.split(), prefix=_UNPRIVILEGED)

        assert done.returncode == 1
        said = done.stdout if words == "doctor" else done.stderr
        assert f"no permission to {'talk' if run == 'run' else 'write'} to" in said
        assert f"{scene.directory}/{place}" in said
        assert "run as root" in said
        assert "Traceback" not in done.stderr
    assert scene.state() == before


@pytest.mark.parametrize("path", ["run/api.sock", "run/cni.sock", "plugins/dovetail.sock"])
def test_without_rights_nobody_connects(path: str, scene: Scene) -> None:
    code = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    command = [*_UNPRIVILEGED, sys.executable, "-c", code, f"{scene.directory}/{path}"]

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    assert "PermissionError" in done.stderr


@pytest.mark.parametrize("executables", ["bin", "bin-alone"])
def test_without_rights_the_cni_plugin_says_so_in_json(executables: str, scene: Scene) -> None:
    before = scene.state()

    answer = scene.cni(executables, {}, {}, prefix=_UNPRIVILEGED)

    assert answer.code == 5  # what the sentence names is whether Python may be run at all
    assert scene.state() == before


def test_a_full_disk_is_one_sentence_at_every_door(host: Any) -> None:
    with tempfile.TemporaryDirectory(prefix="dv-") as directory:
        scene = Scene(host, Path(directory))
        state = scene.directory / "state"
        state.mkdir()
        host.run("mount", "-n", "-t", "tmpfs", "-o", "size=1m", "none", str(state))
        try:
            scene.start()
            assert scene.run("run", "network", "create", "web").returncode == 0
            assert scene.run("run", "sandbox", "create", "free").returncode == 0
            before = scene.links()
            _fill(state)

            answers = [
                scene.cli("run", "network", "create", "x"),
                scene.cli("alone", "network", "connect", "web", "free"),
                scene.api("POST", "/v1/networks", {"name": "x"}),
                scene.docker(POOL, docker_pool("10.7.0.0/24")),
            ]

            assert [answer.code for answer in answers] == [1, 1, 500, 500]
            for answer in answers:
                assert str(state) in answer.sentence
                assert "no space left" in answer.sentence
            assert scene.links() == before
            (state / "junk").unlink()
            assert scene.run("run", "network", "connect", "web", "free").returncode == 0
            assert [row["name"] for row in scene.http("run/api.sock", "GET", "/v1/networks", b"")[1]] == [
                "web"
            ]
        finally:
            scene.end()
            host.run("umount", "-n", str(state))


def _fill(directory: Path) -> None:
    """Leave no room, not even in the log that SQLite has written already."""
    with closing(sqlite3.connect(directory / "dovetail.db", isolation_level=None)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with open(directory / "junk", "wb", buffering=0) as junk, contextlib.suppress(OSError):
        while True:
            junk.write(bytes(4096))
