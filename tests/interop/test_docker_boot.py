"""A host that reboots, a dockerd that is there first, and containers that outlive their daemons."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")

# Keeps the plugin's socket as systemd does with dovetail-docker.socket, and starts what stands behind it for each line.
_ACTIVATOR = """
import os, socket, sys
os.makedirs("/run/docker/plugins", exist_ok=True)
made = socket.socket(socket.AF_UNIX)
made.bind("/run/docker/plugins/dovetail.sock")
made.listen(4096)
kept = os.dup(made.fileno())
print("listening", flush=True)
for _ in sys.stdin:
    if os.fork() == 0:
        os.dup2(kept, 3, inheritable=True)
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "docker"}
        os.execvp(sys.argv[1], sys.argv[1:])
"""


def run(docker: Any, name: str, *words: str) -> None:
    docker("run", "-d", "--stop-timeout", "0", "--name", name, *words)


def wait_until_running(docker: Any, *names: str) -> None:
    docker.host.wait_for(
        lambda: set(docker("ps", "--format", "{{.Names}}").split()) >= set(names),
        timeout_s=60,
        what=f"{names} are back",
    )


def test_a_reboot_brings_everything_back_at_addresses_that_nobody_else_has(
    docker: Any, dovetail_daemon: Any, nobodys: Callable[..., list[str]]
) -> None:
    host = docker.host
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/28", "one")
    docker("network", "create", "-d", "dovetail", "--subnet", "10.79.0.0/24", "dockers")
    run(docker, "c1", "--restart", "always", "--network", "one", "-p", "8080:80", *HTTPD)
    run(docker, "c2", "--restart", "always", "--network", "one", "--ip", "10.77.0.9", *SLEEP)
    run(docker, "c3", "--network", "one", *SLEEP)
    run(docker, "d1", "--restart", "always", "--network", "dockers", *SLEEP)
    dovetail_daemon.cli("sandbox", "create", "box")
    dovetail_daemon.cli("network", "connect", docker_network(dovetail_daemon), "box")
    taken = {e["addresses"][0] for e in dovetail_daemon.json("endpoint", "ls")}
    assert len(taken) == 5

    host.reboot()
    assert host.run("cat", "/proc/sys/kernel/random/boot_id") != _boot_id()
    assert not host.links() - {"lo"}
    dovetail_daemon.start()
    docker.start()

    wait_until_running(docker, "c1", "c2", "d1")
    docker("start", "c3")
    addresses = [docker.addresses(name)["one"] for name in ("c1", "c2", "c3")]
    assert addresses[1] == "10.77.0.9"
    assert len({*addresses, "10.77.0.1"}) == 4
    assert docker.pings("c3", addresses[0])
    assert docker.pings("c1", "10.77.0.1")
    assert docker.pings("d1", "10.79.0.1")
    assert host.get("http://127.0.0.1:8080/") == "hello"
    assert len(dovetail_daemon.json("endpoint", "ls")) == 4
    assert dovetail_daemon.json("sandbox", "ls") == [
        s for s in dovetail_daemon.json("sandbox", "ls") if s["face"] == "docker"
    ]
    docker("rm", "-f", "d1")  # its address is in Docker's books, not in ours
    docker("network", "rm", "dockers")
    assert nobodys(host.run, str(host.dir / "state"), docker=True) == []

    run(docker, "c4", "--network", "one", *SLEEP)
    assert docker.addresses("c4")["one"] not in {*addresses, "10.77.0.1"}
    docker("rm", "-f", "c1", "c2", "c3", "c4")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []


def docker_network(dovetail: Any) -> str:
    """Give our name of the network on 10.77.0.0/28."""
    (name,) = [n["name"] for n in dovetail.json("network", "ls") if n["subnets"] == ["10.77.0.0/28"]]
    return str(name)


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def test_a_dockerd_that_is_there_first_waits_at_the_socket_for_the_daemon_to_start(
    docker: Any, dovetail_daemon: Any
) -> None:
    host = docker.host
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    run(docker, "c1", "--restart", "always", "--network", "one", "-p", "8080:80", *HTTPD)
    host.reboot()

    activator = host.spawn_fed("activator.log", "python3", "-c", _ACTIVATOR, *dovetail_daemon.command())
    host.wait_for(lambda: "listening" in host.log("activator.log"), what="the socket is there")
    before = len(host.log("dockerd.log"))
    docker.begin()
    host.wait_for(lambda: connections("/run/docker/plugins/dovetail.sock", host), what="dockerd waits")
    assert not answers(docker)
    activator.stdin.write(b"start\n")
    activator.stdin.flush()

    docker.wait_until_up()
    wait_until_running(docker, "c1")
    assert host.get("http://127.0.0.1:8080/") == "hello"
    said = host.log("dockerd.log")[before:]
    assert "retrying in" not in said, said
    docker("rm", "-f", "c1")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []


def answers(docker: Any) -> bool:
    words = (
        "curl",
        "-s",
        "--max-time",
        "1",
        "--unix-socket",
        str(docker.host.dir / "docker" / "docker.sock"),
    )
    return bool(docker.host.try_run(*words, "http://docker/_ping").stdout)


def connections(path: str, host: Any) -> bool:
    """Say whether somebody has connected to a socket that nobody serves yet."""
    return len([line for line in host.run("cat", "/proc/net/unix").splitlines() if line.endswith(path)]) > 1


@pytest.mark.cnm(18)
def test_traffic_flows_on_while_dockerd_and_the_daemon_come_and_go_in_any_order(
    make_dockerd: Any, dovetail_daemon: Any, nobodys: Callable[..., list[str]]
) -> None:
    """With --live-restore containers outlive dockerd; a later stop does not revoke their ports (cnm.md §1.5)."""
    docker = make_dockerd("--live-restore")
    host = docker.host
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    run(docker, "c1", "--network", "one", "-p", "8080:80", *HTTPD)
    run(docker, "c2", "--network", "one", *SLEEP)
    addresses = {name: docker.addresses(name) for name in ("c1", "c2")}
    with docker.talking("c2", addresses["c1"]["one"], at_least=20):
        docker.restart()
        dovetail_daemon.stop()
        dovetail_daemon.start()
        docker.stop(signal.SIGKILL)
        dovetail_daemon.stop(signal.SIGKILL)
        assert host.get("http://127.0.0.1:8080/") == "hello"
        docker.begin()
        dovetail_daemon.start()
        docker.wait_until_up()
        docker.stop()
        dovetail_daemon.stop(signal.SIGKILL)
        dovetail_daemon.start()
        docker.start()
        assert host.get("http://127.0.0.1:8080/") == "hello"
        assert {name: docker.addresses(name) for name in ("c1", "c2")} == addresses
    run(docker, "c3", "--network", "one", *SLEEP)
    assert docker.addresses("c3")["one"] not in {"10.77.0.1", *(each["one"] for each in addresses.values())}
    assert nobodys(host.run, str(host.dir / "state"), docker=True) == []

    docker("rm", "-f", "c1")

    assert host.get("http://127.0.0.1:8080/", wait_s=1) == ""
    assert [e["container"] for e in dovetail_daemon.json("endpoint", "ls")] == ["c2", "c3"]
    assert nobodys(host.run, str(host.dir / "state"), docker=True) == []
    docker("rm", "-f", "c2", "c3")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []
