"""What Docker calls containers and networks is learned from its events, and never in a call that it waits for."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

SLEEP = ("bb", "sleep", "1000")
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")


@pytest.fixture(scope="module")
def shop(module_docker: Any) -> Any:
    """Docker's network ``shop``, labelled; it is ours under a name that we chose."""
    docker, dovetail = module_docker
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "--label", "team=blue", "shop")
    return docker, dovetail


@pytest.fixture
def clean(shop: Any) -> Iterator[None]:
    yield
    docker, _ = shop
    for container in docker("ps", "-aq").split():
        docker("rm", "-f", container)


def names(dovetail: Any) -> set[str]:
    return {endpoint["container"] for endpoint in dovetail.json("endpoint", "ls")}


def wait_for_names(dovetail: Any, *wanted: str) -> None:
    dovetail.host.wait_for(lambda: names(dovetail) == set(wanted), what=f"{wanted} in {names(dovetail)}")


def run(docker: Any, name: str, *options: str) -> str:
    return str(docker("run", "-d", "--stop-timeout", "0", "--name", name, *options, *SLEEP))


@pytest.mark.usefixtures("clean")
def test_a_container_has_its_name_and_id_wherever_it_is_shown(shop: Any) -> None:
    docker, dovetail = shop
    identifier = run(docker, "one", "--network", "shop")

    wait_for_names(dovetail, "one")

    (endpoint,) = dovetail.json("endpoint", "inspect", "one")
    assert endpoint["container_id"] == identifier
    assert endpoint["addresses"] == [f"{docker.addresses('one')['shop']}/24"]
    (sandbox,) = dovetail.json("sandbox", "inspect", "one")
    assert sandbox["container"] == identifier
    assert sandbox["netns"] == docker("inspect", "--format", "{{.NetworkSettings.SandboxKey}}", "one")
    assert "one  docker  eth*" in dovetail.cli("topology")
    assert "10.77.0." in dovetail.cli("sandbox", "exec", "one", "--", "ip", "addr", "show", "eth0")
    assert "\none        docker" in dovetail.cli("network", "inspect", "shop")


@pytest.mark.usefixtures("clean")
def test_a_name_is_followed_through_renames_and_restarts(shop: Any) -> None:
    docker, dovetail = shop
    run(docker, "one", "--network", "shop")
    wait_for_names(dovetail, "one")
    (before,) = dovetail.json("endpoint", "ls")

    docker("rename", "one", "uno")
    wait_for_names(dovetail, "uno")
    assert "uno" in {sandbox["name"] for sandbox in dovetail.json("sandbox", "ls")}

    docker("restart", "-t", "0", "uno")
    wait_for_names(dovetail, "uno")
    (after,) = dovetail.json("endpoint", "ls")
    assert after["id"] != before["id"]


@pytest.mark.usefixtures("clean")
def test_a_container_that_is_connected_while_it_runs_has_its_name_on_both_networks(shop: Any) -> None:
    docker, dovetail = shop
    docker("network", "create", *OURS, "--subnet", "10.78.0.0/24", "second")
    run(docker, "one", "--network", "shop")

    docker("network", "connect", "second", "one")

    def networks() -> set[tuple[str, ...]]:
        return {tuple(e["known_as"]) for e in dovetail.json("endpoint", "ls") if e["container"] == "one"}

    dovetail.host.wait_for(lambda: networks() == {("shop",), ("second",)}, what="its name on both")
    docker("network", "disconnect", "second", "one")
    docker("network", "rm", "second")


@pytest.mark.usefixtures("clean")
def test_a_network_keeps_its_name_and_is_found_by_dockers(shop: Any) -> None:
    docker, dovetail = shop
    identifier = docker("network", "inspect", "--format", "{{.ID}}", "shop")
    dovetail.host.wait_for(
        lambda: dovetail.json("network", "ls")[0]["known_as"] == ["shop"], what="the network's name"
    )

    (network,) = dovetail.json("network", "inspect", "shop")

    assert network["name"] == f"docker-{identifier[:12]}"
    assert network["bindings"] == [
        {"face": "docker", "id": identifier, "name": "shop", "labels": {"team": "blue"}, "made": True}
    ]
    assert f"docker-{identifier[:12]} (shop)" in dovetail.cli("network", "ls")
    assert f"docker:shop ({identifier[:12]}) team=blue" in dovetail.cli("network", "inspect", "shop")
    assert dovetail.cli("run", "--network", "shop", "--", "ping", "-c", "1", "-W", "2", "10.77.0.1")


@pytest.mark.usefixtures("clean")
def test_a_daemon_that_starts_anew_learns_what_happened_meanwhile(shop: Any) -> None:
    docker, dovetail = shop
    run(docker, "one", "--network", "shop")
    wait_for_names(dovetail, "one")

    dovetail.stop(signal.SIGKILL)
    docker("rename", "one", "uno")
    dovetail.start()

    wait_for_names(dovetail, "uno")


@pytest.mark.usefixtures("clean")
def test_a_dockerd_that_starts_anew_is_followed_again(shop: Any) -> None:
    docker, dovetail = shop
    run(docker, "one", "--network", "shop")
    wait_for_names(dovetail, "one")

    docker.restart()
    docker("start", "one")
    wait_for_names(dovetail, "one")
    docker("rename", "one", "uno")

    wait_for_names(dovetail, "uno")


@pytest.mark.usefixtures("clean")
def test_many_containers_at_once_all_have_their_names(shop: Any) -> None:
    docker, dovetail = shop
    wanted = [f"many{number}" for number in range(8)]
    started = [
        docker.host.spawn(
            "many.log", *docker.command("run", "-d", "--name", name, "--network", "shop", *SLEEP)
        )
        for name in wanted
    ]
    for process in started:
        assert process.wait(timeout=120) == 0, docker.host.log("many.log")

    wait_for_names(dovetail, *wanted)


def test_a_docker_that_never_called_is_never_called(private_host: Any, dovetail_daemon: Any) -> None:
    """Connecting would start one that systemd starts on demand: here a listener that says whether anybody came."""
    script = (
        "import os, socket, sys\n"
        "os.makedirs(os.path.dirname(sys.argv[1]), exist_ok=True)\n"
        "s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print('up', flush=True)\n"
        "s.accept(); print('called', flush=True)\n"
        "while True: s.accept()\n"
    )
    socket_path = dovetail_daemon.env["DOVETAIL_DOCKER_SOCKET"]
    private_host.spawn("listener.log", "python3", "-c", script, socket_path)
    private_host.wait_for(lambda: "up" in private_host.log("listener.log"), what="the listener is up")
    dovetail_daemon.cli("network", "create", "web")
    dovetail_daemon.stop()
    dovetail_daemon.start()
    assert private_host.log("listener.log") == "up\n"

    plugin = ("curl", "-sS", "--unix-socket", "/run/docker/plugins/dovetail.sock", "-X", "POST")
    assert "NetworkDriver" in json.loads(private_host.run(*plugin, "http://x/Plugin.Activate"))["Implements"]

    private_host.wait_for(lambda: "called" in private_host.log("listener.log"), what="Docker is asked then")
