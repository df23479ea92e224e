"""kill -9 of the daemon at each step of a real ``docker run``: nothing is without an owner, and the next one succeeds.

``tests/kernel/test_crash_walk.py`` walks the same steps with a client that plays dockerd.
"""

from __future__ import annotations

import signal
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")
HTTPD = ("bb", "httpd", "-f", "-h", "/www")
_LIMIT = 60


@pytest.mark.cnm(17)
def test_a_docker_run_whose_daemon_dies_at_any_step_leaves_nothing(
    docker: Any, dovetail_daemon: Any, nobodys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = docker.host

    def run(name: str) -> tuple[str, ...]:
        return (
            "run",
            "-d",
            "--stop-timeout",
            "0",
            "--name",
            name,
            "--network",
            "one",
            "-p",
            "8080:80",
            *HTTPD,
        )

    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    docker("run", "-d", "--name", "c1", "--network", "one", *HTTPD)
    docker("run", "-d", "--name", "c2", "--network", "one", *HTTPD)
    residents = {docker.addresses(name)["one"] for name in ("c1", "c2")}
    with docker.talking("c2", docker.addresses("c1")["one"]):
        for nth in range(_LIMIT):
            _kill(dovetail_daemon)
            dovetail_daemon.start(failpoint=f"docker:IpamDriver.RequestAddress+{nth}=kill")
            starting = host.spawn("run.log", *docker.command(*run("walker")))
            host.wait_for(
                lambda: not dovetail_daemon.running or starting.poll() is not None,  # noqa: B023 - called here
                timeout_s=60,
            )
            if dovetail_daemon.running:
                break
            dovetail_daemon.start()
            came_through = starting.wait(timeout=90) == 0
            assert nobodys(host.run, str(host.dir / "state"), docker=True) == []
            if not came_through:
                docker("rm", "-f", "walker")
                docker(*run("walker"))
            assert docker.addresses("walker")["one"] not in residents
            assert host.get("http://127.0.0.1:8080/") == "hello"
            docker("rm", "-f", "walker")
            assert nobodys(host.run, str(host.dir / "state"), docker=True) == []
    assert nth >= 15, "the walk has left something out"

    # dockerd asks for nothing a second time: what it has lost is ours to find
    monkeypatch.setenv("DOVETAIL_ORPHAN_GRACE", "0")
    _kill(dovetail_daemon)
    dovetail_daemon.start()
    assert nobodys(host.run, str(host.dir / "state")) == []
    docker("rm", "-f", "walker", "c1", "c2")
    docker("network", "rm", "one")
    assert dovetail_daemon.left() == []


def _kill(daemon: Any) -> None:
    """Kill it, unless it has died at a step of its own (the firewall is looked after) that came behind the container's."""
    try:
        daemon.stop(signal.SIGKILL)
    except AssertionError:
        assert not daemon.running
