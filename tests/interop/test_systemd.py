"""The units of packaging/systemd: checked by systemd's own program, and obeyed as systemd obeys them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.interop

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
SOCKETS = ("api", "cni", "docker")

# Does with sockets what systemd does: binds them with their mode, keeps them, and for each line that it reads starts
# the service with descriptors from 3 on (sd_listen_fds(3)), and says how the service ended.
_MANAGER = """
import fcntl, json, os, socket, sys

sockets, command = json.loads(sys.argv[1]), sys.argv[2:]
kept = []
for name, mode, path in sockets:
    os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    before = os.umask(0o777 & ~int(mode, 8))
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen(4096)
    os.umask(before)
    kept.append(fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, 100))
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        for number, descriptor in enumerate(kept, 3):
            os.dup2(descriptor, number, inheritable=True)
        os.environ["LISTEN_PID"] = str(os.getpid())
        os.environ["LISTEN_FDS"] = str(len(kept))
        os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _, _ in sockets)
        os.execvp(command[0], command)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def read_unit(name: str) -> dict[str, list[str]]:
    """Give the values of each key, split at blanks."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text(encoding="utf-8").splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).extend(value.split())
    return found


class Manager:
    """Runs dovetail.service in a private host as systemd would."""

    def __init__(self, host: Any) -> None:
        self._host = host
        self._notes = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notes.bind(str(host.dir / "notify"))
        self._notes.settimeout(30)
        service = read_unit("dovetail.service")
        program, *words = service["ExecStart"]
        assert program == "/usr/local/bin/dovetail"
        capabilities = ",".join(
            f"+{name.removeprefix('CAP_').lower()}" for name in service["CapabilityBoundingSet"]
        )
        limits = ("setpriv", f"--bounding-set=-all,{capabilities}", "--no-new-privs")
        listed = [
            (unit["FileDescriptorName"][0], unit["SocketMode"][0], path)
            for unit in map(read_unit, service["Sockets"])
            for path in unit["ListenStream"]
        ]
        command = (
            *(sys.executable, "-c", _MANAGER, json.dumps(listed)),
            *(*limits, sys.executable, "-m", "dovetail", *words),
        )
        self._log = (host.dir / "service.log").open("wb")
        self._process = subprocess.Popen(
            host._enter(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={
                **os.environ,
                "NOTIFY_SOCKET": str(host.dir / "notify"),
                "DOVETAIL_STATE_DIR": f"{host.dir}/state",
            },
            cwd="/",
        )
        host._spawned.append(self._process)

    def start(self) -> None:
        """Start the service; gives control back at once."""
        assert self._process.stdin is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()

    def told(self) -> str:
        """Wait for what the service tells next."""
        return self._notes.recv(4096).decode()

    def ended(self) -> str:
        """Wait for the service's end and give its exit status."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().removeprefix("ended ").strip()

    def close(self) -> None:
        """Let go of everything; the processes die with the host, which waits for them."""
        self._notes.close()
        self._log.close()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def manager(private_host: Any) -> Iterator[Manager]:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed (Debian package util-linux)")
    made = Manager(private_host)
    yield made
    made.close()


def test_the_units_are_valid_as_they_are_installed(private_host: Any) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    private_host.shadow("/etc", "/usr/local")
    private_host.run("ln", "-sf", f"{Path(sys.executable).parent}/dovetail", "/usr/local/bin/dovetail")
    units = sorted(str(unit) for unit in UNITS.iterdir())
    private_host.run("install", "-m", "644", *units, "/etc/systemd/system/")

    done = private_host.try_run("systemd-analyze", "verify", *(Path(unit).name for unit in units))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_service_is_there_before_what_starts_containers() -> None:
    service = read_unit("dovetail.service")

    assert "docker.service" in service["Before"]
    assert service["Type"] == ["notify"]
    assert service["Sockets"] == service["Requires"] == [f"dovetail-{name}.socket" for name in SOCKETS]


@pytest.mark.parametrize("name", SOCKETS)
def test_the_sockets_are_those_that_the_daemon_makes_itself(name: str, private_host: Any) -> None:
    daemon = (sys.executable, "-m", "dovetail", "--state-dir", f"{private_host.dir}/state", "daemon")
    private_host.spawn("dovetail.log", *daemon)
    unit = read_unit(f"dovetail-{name}.socket")
    private_host.wait_for(
        lambda: "event=ready" in private_host.log("dovetail.log"), what="the daemon is ready"
    )

    directory = Path(unit["ListenStream"][0]).parent
    if name == "docker":
        made = private_host.run("find", str(directory), "-type", "s").splitlines()
        assert sorted(unit["ListenStream"]) == sorted(made)
    for path in unit["ListenStream"]:
        modes = private_host.run("stat", "-c", "%a %U %G", path)
        assert modes == f"{unit['SocketMode'][0].lstrip('0')} root root"
    assert unit["FileDescriptorName"] == [name]
    assert unit["Service"] == ["dovetail.service"]


def test_the_service_serves_on_the_sockets_of_the_manager_with_the_rights_of_the_unit(
    manager: Manager, private_host: Any
) -> None:
    run, dovetail = private_host.run, (sys.executable, "-m", "dovetail")
    run("iptables", "-P", "FORWARD", "DROP")  # so that room must be made beside it
    manager.start()
    assert manager.told() == "READY=1"

    # the commands, by api.sock
    run(*dovetail, "network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    run(*dovetail, "sandbox", "create", "box")
    told = run(*dovetail, "network", "connect", "web", "box", "-p", "80:80", "-p", "53:53/udp")
    assert told == "eth0 10.88.0.2/24 fd88::2/64 80->80/tcp 53->53/udp"
    assert "running" not in run(*dovetail, "version")
    doctor = run(*dovetail, "doctor")
    assert [line for line in doctor.splitlines() if not line.startswith("ok ")] == []
    # Docker, by its plugin directory
    curl = ("curl", "-sS", "--unix-socket", "/run/docker/plugins/dovetail.sock", "-X", "POST")
    assert "NetworkDriver" in json.loads(run(*curl, "http://x/Plugin.Activate"))["Implements"]
    # a CNI runtime, by cni.sock
    run(*dovetail, "cni", "install", "--bin-dir", f"{private_host.dir}/bin")
    run("ip", "netns", "add", "pod")
    script = f'exec {private_host.dir}/bin/dovetail <<< \'{{"cniVersion": "1.0.0", "name": "web", "type": "dovetail"}}\''
    environment = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "pod",
        "CNI_NETNS": "/run/netns/pod",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": f"{private_host.dir}/bin",
    }
    result = json.loads(run("bash", "-c", script, env=environment))
    assert result["ips"][0]["address"] == "10.88.0.3/24"
    run("ip", "netns", "exec", "pod", "ping", "-c", "1", "-W", "2", "10.88.0.2")
    assert "cni ADD" in run(*dovetail, "trace")


def test_a_stop_leaves_the_managers_sockets_and_callers_wait_for_the_next_start(
    manager: Manager, private_host: Any
) -> None:
    paths = {name: read_unit(f"dovetail-{name}.socket")["ListenStream"][0] for name in SOCKETS}
    manager.start()
    assert manager.told() == "READY=1"
    private_host.run(sys.executable, "-m", "dovetail", "network", "create", "web")

    private_host.run("kill", private_host.run("cat", "/run/dovetail/daemon.pid"))

    assert manager.told() == "STOPPING=1"
    assert manager.ended() == "0"
    modes = private_host.run("stat", "-c", "%a", *paths.values()).split()
    assert modes == ["660", "600", "600"]
    command = ("curl", "-sS", "--unix-socket", paths["api"], "http://x/v1/networks")
    waiting = private_host.spawn("answer", *command)
    manager.start()
    assert manager.told() == "READY=1"
    assert waiting.wait(timeout=30) == 0
    assert [network["name"] for network in json.loads(private_host.log("answer"))] == ["web"]
