"""The commands on the real kernel, each test with a daemon and without."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.root


def wait_for(condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Shell(NamedTuple):
    """Runs dovetail on directories of its own."""

    directory: Path
    words: list[str]

    def start(self, *words: str, **kwargs: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.words, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kwargs
        )

    def __call__(self, *words: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.words, *words], capture_output=True, text=True, check=False, timeout=60, **kwargs
        )

    def ok(self, *words: str, **kwargs: Any) -> str:
        done = self(*words, **kwargs)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.ok("--format", "json", *words))

    def netns(self, sandbox: str) -> str:
        return str(self.json("sandbox", "inspect", sandbox)[0]["netns"])


@pytest.fixture(params=["daemon", "alone"])
def shell(host: Any, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    words = [
        sys.executable,
        "-m",
        "dovetail",
        "--state-dir",
        f"{tmp_path}/state",
        "--run-dir",
        f"{tmp_path}/run",
    ]
    made = Shell(tmp_path, words)
    daemon = None
    if request.param == "daemon":
        with open(tmp_path / "daemon.log", "wb") as log:
            daemon = subprocess.Popen(
                [*words, "daemon", "--docker-plugin-dir", f"{tmp_path}/plugins"], stdout=log, stderr=log
            )
        wait_for(
            lambda: daemon.poll() is not None or "not running" not in made("version").stdout,
            "the daemon answers",
        )
        assert daemon.poll() is None, (tmp_path / "daemon.log").read_text()
    yield made
    if daemon is not None:
        daemon.terminate()
        assert daemon.wait(timeout=20) == 0
    for left in (tmp_path / "run" / "netns").glob("*"):  # the rest goes with the host
        host.run("umount", "-n", str(left), check=False)
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


@pytest.fixture
def web(shell: Shell) -> Shell:
    shell.ok("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    return shell


def ping(web: Shell, sandbox: str, address: str) -> bool:
    return web("sandbox", "exec", sandbox, "--", "ping", "-c1", "-W2", address).returncode == 0


def test_two_sandboxes_on_a_network_reach_each_other(web, host):
    for name in ("a", "b"):
        web.ok("sandbox", "create", name)
        web.ok("network", "connect", "web", name)

    assert ping(web, "a", "10.88.0.3")
    assert ping(web, "a", "fd88::3")
    assert ping(web, "b", "10.88.0.1")
    (eth0,) = host.ip("addr", "show", "dev", "eth0", netns=web.netns("a"))
    assert {a["local"] for a in eth0["addr_info"] if a["scope"] == "global"} == {"10.88.0.2", "fd88::2"}


def test_connect_obeys_address_interface_mac_and_ports(web, host):
    web.ok("sandbox", "create", "a")

    told = web.ok(
        *("network", "connect", "web", "a", "--ip", "10.88.0.77", "--ifname", "net7"),
        *("--mac", "02:00:00:00:00:07", "-p", "8080:80"),
    )

    assert told == "net7 10.88.0.77/24 fd88::2/64 8080->80/tcp\n"
    link = host.links(netns=web.netns("a"))["net7"]
    assert link["address"] == "02:00:00:00:00:07"
    publish = [
        item["map"] for item in host.nft("list", "map", "inet", "dovetail", "publish4") if "map" in item
    ]
    assert "10.88.0.77" in json.dumps(publish)


def test_an_interface_name_that_is_taken_is_refused_and_leaves_nothing(web, host):
    web.ok("sandbox", "create", "a")
    before = host.links().keys()

    done = web("network", "connect", "web", "a", "--ifname", "lo")

    assert done.returncode == 1
    assert "'lo'" in done.stderr
    assert host.links().keys() == before
    assert web.json("endpoint", "ls") == []


def test_everything_that_was_made_goes(web, host):
    web.ok("sandbox", "create", "a")
    web.ok("network", "connect", "web", "a", "-p", "8080:80")

    web.ok("sandbox", "rm", "a")
    web.ok("network", "rm", "web")

    assert host.links().keys() == {"lo"}
    assert host.run("nft", "list", "tables") == ""
    assert web.json("pool", "ls") == []


def test_a_namespace_that_was_adopted_stays(web, host):
    path = f"{web.directory}/mine"
    Path(path).touch()
    host.run("unshare", f"--net={path}", "true")
    try:
        web.ok("sandbox", "create", "mine", "--netns", path)
        web.ok("network", "connect", "web", "mine")
        web.ok("sandbox", "rm", "mine")

        assert host.links(netns=path).keys() == {"lo"}
    finally:
        host.run("umount", path)


@pytest.mark.parametrize("made", ["missing", "file", "directory"])
def test_what_is_no_namespace_is_not_adopted(web, made):
    path = web.directory / "x"
    if made == "file":
        path.touch()
    elif made == "directory":
        path.mkdir()

    done = web("sandbox", "create", "x", "--netns", str(path))

    assert done.returncode == 1
    assert str(path) in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert web.json("sandbox", "ls") == []


def test_exec_gives_the_status_and_streams_of_the_command(web):
    web.ok("sandbox", "create", "a")

    done = web(
        "sandbox", "exec", "a", "--", "sh", "-c", "read x; echo out $x; echo err >&2; exit 7", input="in\n"
    )

    assert (done.returncode, done.stdout, done.stderr) == (7, "out in\n", "err\n")
    assert web("sandbox", "exec", "a", "ip", "-br", "link").stdout.startswith("lo")


@pytest.mark.parametrize(("command", "status"), [("/no/such/program", 127), ("/etc/passwd", 126)])
def test_a_command_that_cannot_be_run_is_127_or_126(web, command, status):
    web.ok("sandbox", "create", "a")

    for words in (("sandbox", "exec", "a", "--", command), ("run", "--network", "web", "--", command)):
        done = web(*words)
        assert (done.returncode, done.stdout) == (status, "")
        assert done.stderr.startswith(f"dovetail: {command!r} cannot be run: ")


def test_run_makes_a_sandbox_for_one_command(web, host):
    done = web(
        "run", "--network", "web", "--ip", "10.88.0.50", "--", "sh", "-c", "ip -br -4 addr show eth0; exit 3"
    )

    assert done.returncode == 3
    assert "10.88.0.50/24" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
    assert web.json("sandbox", "ls") == []
    assert not [name for name in host.links() if name.startswith("dvh")]


def test_run_that_cannot_connect_leaves_no_sandbox(web):
    done = web("run", "--network", "web", "--ip", "10.99.0.1", "--", "echo", "never")

    assert (done.returncode, done.stdout) == (1, "")
    assert "10.99.0.1" in done.stderr
    assert web.json("sandbox", "ls") == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_run_hands_signals_on_and_cleans_up(web, number):
    script = f"trap 'echo caught; exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.05; done"
    process = web.start("run", "--network", "web", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    process.send_signal(number)
    out, err = process.communicate(timeout=20)

    assert (process.returncode, out, err) == (9, "caught\n", "")
    assert web.json("sandbox", "ls") == []


def test_a_command_killed_by_a_signal_gives_128_and_its_number(web):
    done = web("run", "--network", "web", "--", "sh", "-c", "kill -KILL $$")

    assert done.returncode == 128 + signal.SIGKILL


def test_a_published_port_leads_to_the_command(web, host):
    process = web.start("run", "--network", "web", "-p", "18080:80", "--", sys.executable, "-c", _ECHO)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    for address in ("127.0.0.1", "10.88.0.1"):
        got = host.run(sys.executable, "-c", _ASK, address, "18080")
        assert got == "hello\n"
    process.terminate()
    process.communicate(timeout=20)


_ECHO = """
import socket
server = socket.create_server(("0.0.0.0", 80))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello\\n")
    connection.close()
"""
_ASK = """
import socket, sys
print(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).recv(99).decode(), end="")
"""


def test_explain_prints_what_a_shell_can_run_and_changes_nothing(web, host):
    web.ok("sandbox", "create", "a")
    links, ruleset = host.links().keys(), host.nft("list", "ruleset")

    commands = web.ok("--explain", "network", "connect", "web", "a", "-p", "8080:80")

    assert "type veth peer name eth0" in commands
    assert (host.links().keys(), host.nft("list", "ruleset")) == (links, ruleset)
    assert web.json("endpoint", "ls") == []
    script = web.directory / "commands.sh"
    script.write_text(f"set -e\n{commands}")
    host.run("sh", str(script))
    assert host.links(netns=web.netns("a"))["eth0"]["operstate"] == "UP"


def test_explain_on_an_empty_host_can_be_run_by_a_shell(shell, host):
    commands = shell.ok(
        "--explain", "network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64"
    )
    assert host.links().keys() == {"lo"}

    script = shell.directory / "commands.sh"
    script.write_text(f"set -e\n{commands}")
    host.run("sh", str(script))

    (bridge,) = (name for name in host.links() if name.startswith("dv-"))
    (addresses,) = host.ip("addr", "show", "dev", bridge)
    assert {a["local"] for a in addresses["addr_info"] if a["scope"] == "global"} == {"10.88.0.1", "fd88::1"}


def test_a_flushed_ruleset_is_a_problem_that_a_daemon_repairs(web, host):
    assert web("doctor").returncode == 0
    has_daemon = "api.sock" in os.listdir(web.directory / "run")

    host.run("nft", "flush", "ruleset")

    if has_daemon:
        wait_for(lambda: web("doctor").returncode == 0, "the daemon restores the table")
    else:
        done = web("doctor")
        assert done.returncode == 1
        assert "problem  nftables table" in done.stdout


def test_trace_shows_the_kernels_part_with_times(web):
    web.ok("sandbox", "create", "a")
    web.ok("network", "connect", "web", "a")

    text = web.ok("trace", "--last", "1")

    assert "cli network connect" in text.splitlines()[0]
    assert "driver bridge join" in text
    assert "ip addr add 10.88.0.2/24 dev eth0" in text


def test_many_commands_at_once_get_different_addresses(web):
    names = [f"s{number}" for number in range(6)]
    for name in names:
        web.ok("sandbox", "create", name)

    running = [web.start("network", "connect", "web", name) for name in names]
    for process in running:
        process.communicate(timeout=60)

    assert [process.returncode for process in running] == [0] * 6
    addresses = [view["addresses"][0] for view in web.json("endpoint", "ls")]
    assert len(set(addresses)) == 6


def test_many_that_publish_on_one_range_get_different_ports_of_it(web):
    names = [f"s{number}" for number in range(4)]
    for name in names:
        web.ok("sandbox", "create", name)

    running = [web.start("network", "connect", "web", name, "-p", "18000-18003:80") for name in names]
    errors = [process.communicate(timeout=60)[1] for process in running]

    assert errors == [""] * 4
    ports = [view["ports"][0] for view in web.json("endpoint", "ls")]
    assert sorted(port["host_port"] for port in ports) == [18000, 18001, 18002, 18003]
    assert all("host_port_end" not in port for port in ports)
    done = web("network", "connect", "web", names[0], "--ifname", "eth7", "-p", "18000-18003:80")
    assert done.returncode == 1
    assert "no tcp port of the host from 18000 to 18003 is free" in done.stderr


_FORMS = """
network create web -d bridge --subnet 10.88.0.0/24 --subnet fd88::/64 --gateway 10.88.0.254 --gateway fd88::ff --ip-range 10.88.0.128/25 -o mtu=1400 --label a=b
network create inner --internal
network ls
network inspect web inner
sandbox create box
sandbox create adopted --netns NETNS
sandbox ls
sandbox inspect box
network connect web box --ip 10.88.0.200 --ip fd88::200 --ifname net0 --mac 02:00:00:00:00:07 --alias www -p 18080:80 -p 18443:443/tcp -p 10053:53/udp
network connect inner adopted
sandbox exec box -- ip -j link
run --network web -p 18081:80 --ip 10.88.0.201 -- ip -j addr
endpoint ls
endpoint inspect box
driver ls
driver inspect bridge macvlan
pool ls
topology
doctor
trace --last 3
version
cni install --bin-dir BIN
network disconnect web box
sandbox rm box
sandbox rm adopted
network rm web inner
""".strip().splitlines()


def test_every_form_of_the_commands_gives_json(shell, host):
    host.run("ip", "netns", "add", "mine")
    places = {"NETNS": "/run/netns/mine", "BIN": f"{shell.directory}/bin"}
    try:
        for form in _FORMS:
            words = [places.get(word, word) for word in form.split()]
            assert shell.json(*words) is not None, form
    finally:
        host.run("ip", "netns", "del", "mine")
    assert host.links().keys() == {"lo"}


def test_names_ids_and_beginnings_of_ids_select(web):
    identifier = web.json("network", "inspect", "web")[0]["id"]
    sandbox = web.ok("sandbox", "create").strip()

    for ref in ("web", identifier, identifier[:6]):
        web.ok("network", "connect", ref, sandbox[:7])
        (endpoint,) = web.json("endpoint", "ls")
        assert web.json("endpoint", "inspect", endpoint["id"][:6])[0]["id"] == endpoint["id"]
        web.ok("network", "disconnect", ref, sandbox)
