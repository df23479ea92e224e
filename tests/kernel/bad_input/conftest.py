"""A host on which everything is there that bad input may clash with, and the doors to it."""

from __future__ import annotations

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
            head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
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


@pytest.fixture
def make_scene() -> type[Scene]:
    """Make a scene of one's own."""
    return Scene
