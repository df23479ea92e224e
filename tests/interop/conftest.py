"""Real peers in a host of their own: dockerd, podman and the daemon, in namespaces that die with the test."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_APPLETS = ("sh", "sleep", "ping", "wget", "httpd", "ip", "nc", "cat", "mkdir", "echo", "true", "ls")
_BUSYBOX = "/bin/busybox"
_CGROUPS = Path("/sys/fs/cgroup")


def wait_for(condition: Callable[[], object], *, timeout_s: float = 15.0, what: str = "") -> None:
    """Poll until `condition` is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what or condition}"
        time.sleep(0.02)


# What runs inside keeps things below /var/lib whatever it is told (libcni its results, podman a cache of
# blobs): that goes into an overlay. -n: libmount would make /run/mount on the real host first. systemd shares /run.
_SET_UP = """
set -e
mount -n -t tmpfs -o mode=755 tmpfs /run
mount -n --make-shared /run
mkdir -m 1777 /run/lock
mkdir -p /run/overlay/upper /run/overlay/work
mount -n -t overlay -o lowerdir=/var/lib,upperdir=/run/overlay/upper,workdir=/run/overlay/work overlay /var/lib
ip link set lo up
echo up
read
"""


class PrivateHost:
    """A host of its own: network, mounts (a fresh /run), processes. `dir` is seen inside and outside."""

    wait_for = staticmethod(wait_for)

    def __init__(self, directory: Path) -> None:
        self.dir = directory
        self.cgroup = f"dovetail-{os.getpid()}-{time.monotonic_ns():x}"
        self._spawned: list[subprocess.Popen[bytes]] = []
        self._boot()

    def _boot(self) -> None:
        flags = ("--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
        # bash is process 1 there: it reaps what its children leave, and ends when its input does
        self._unshare = subprocess.Popen(
            ["unshare", *flags, "bash", "-c", _SET_UP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._unshare.stdout is not None
        assert self._unshare.stdout.readline() == "up\n", "the private host did not come up"
        children = Path(f"/proc/{self._unshare.pid}/task/{self._unshare.pid}/children").read_text(
            encoding="ascii"
        )
        self._pid = int(children.split()[0])

    def reboot(self) -> None:
        """Cut its power and start it again: what is on disk is there, what is below /run on a host has gone.

        The id of the boot is another one, as a reboot makes it.
        """
        self.stop()
        for gone in ("docker/exec", "docker/pid", "docker/docker.sock", "dv"):
            path = self.dir / gone
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._boot()
        boot_id = self.dir / "boot_id"
        boot_id.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
        self.run("mount", "-n", "--bind", str(boot_id), "/proc/sys/kernel/random/boot_id")

    def _enter(self, command: tuple[str, ...]) -> list[str]:
        return ["nsenter", "-t", str(self._pid), "-m", "-n", "-p", "--", *command]

    def try_run(
        self, *command: str, timeout_s: float = 60, env: dict[str, str] | None = None, stdin: str = ""
    ) -> Any:
        """Run a program inside and give what subprocess gives."""
        return subprocess.run(
            self._enter(command),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            env={**os.environ, **(env or {})},
            cwd="/",
        )

    def run(self, *command: str, timeout_s: float = 60, env: dict[str, str] | None = None) -> str:
        """Run a program inside; it must succeed. Gives its output without the last newline."""
        done = self.try_run(*command, timeout_s=timeout_s, env=env)
        assert done.returncode == 0, (
            f"{' '.join(command)}: exit {done.returncode}: {done.stderr}{done.stdout}"
        )
        return str(done.stdout).rstrip("\n")

    def spawn(self, log: str, *command: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start a program inside, its output in ``dir/LOG``."""
        with (self.dir / log).open("ab") as output:
            started = subprocess.Popen(
                self._enter(command), stdout=output, stderr=output, env={**os.environ, **(env or {})}, cwd="/"
            )
        self._spawned.append(started)
        return started

    def spawn_fed(self, log: str, *command: str) -> subprocess.Popen[bytes]:
        """The same for one that reads: its input stays open."""
        with (self.dir / log).open("ab") as output:
            started = subprocess.Popen(
                self._enter(command), stdin=subprocess.PIPE, stdout=output, stderr=output, cwd="/"
            )
        self._spawned.append(started)
        return started

    def shadow(self, *directories: str) -> None:
        """Let what runs inside write to `directories`: it sees its changes, and nobody else does."""
        for directory in directories:
            layers = f"/run/shadow{directory}"
            self.run("mkdir", "-p", f"{layers}/upper", f"{layers}/work")
            options = f"lowerdir={directory},upperdir={layers}/upper,workdir={layers}/work"
            done = self.try_run("mount", "-n", "-t", "overlay", "-o", options, "overlay", directory)
            if "unknown filesystem type" in done.stderr:
                pytest.skip("the kernel has no overlay file system")
            assert done.returncode == 0, done.stderr

    def log(self, name: str) -> str:
        """Read what a spawned program wrote."""
        return (self.dir / name).read_text(encoding="utf-8", errors="replace")

    def ip(self, *args: str, netns: str = "") -> Any:
        """Give the JSON of ``ip -j``; `netns` is a path inside."""
        prefix = ("nsenter", f"--net={netns}") if netns else ()
        return json.loads(self.run(*prefix, "ip", "-j", "-d", *args) or "[]")

    def links(self) -> set[str]:
        """Give the names of the host's links."""
        return {link["ifname"] for link in self.ip("link", "show")}

    def elements(self) -> int:
        """Count the elements in all sets and maps of our table; -1 without the table."""
        done = self.try_run("nft", "-j", "list", "table", "inet", "dovetail")
        if done.returncode:
            return -1
        entries = [entry.get("set") or entry.get("map") for entry in json.loads(done.stdout)["nftables"]]
        return sum(len(entry.get("elem", [])) for entry in entries if entry)

    def get(self, url: str, *, netns: str = "", wait_s: int = 3) -> str:
        """Fetch a URL with curl, from the host or from a namespace; an empty string when it cannot."""
        prefix = ("nsenter", f"--net={netns}") if netns else ()
        done = self.try_run(*prefix, "curl", "-gsS", "--max-time", str(wait_s), url)
        return str(done.stdout).strip() if done.returncode == 0 else ""

    def pings(self, address: str, *, netns: str = "") -> bool:
        """Say whether an address is reached, from the host or from a namespace."""
        prefix = ("nsenter", f"--net={netns}") if netns else ()
        return self.try_run(*prefix, "ping", "-c", "1", "-W", "2", address).returncode == 0

    def inet(self, netns: str = "") -> set[str]:
        """Give the IPv4 addresses of a namespace, loopback left out."""
        links = self.ip("-4", "addr", "show", "scope", "global", netns=netns)
        return {address["local"] for link in links for address in link["addr_info"]}

    def outside(self) -> str:
        """Give the namespace of a machine beyond the host: 192.0.2.2, which reaches 192.0.2.1 and has no route on."""
        if self.try_run("ip", "netns", "exec", "outside", "true").returncode:
            self.run("ip", "netns", "add", "outside")
            self.run("ip", "link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", "outside")
            self.run("ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
            self.run("ip", "link", "set", "wan", "up")
            self.run("ip", "-n", "outside", "addr", "add", "192.0.2.2/24", "dev", "eth0")
            self.run("ip", "-n", "outside", "link", "set", "eth0", "up")
        return "/run/netns/outside"

    def stop(self) -> None:
        """Kill all that is inside; the mounts and namespaces go with it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._unshare.wait(timeout=20)
        for stream in (self._unshare.stdin, self._unshare.stdout):
            assert stream is not None
            stream.close()
        for process in self._spawned:
            process.wait(timeout=20)
        self._spawned = []
        # dockerd runs managed plugins in control groups of their own, wherever it has the containers'
        plugins = [path.name for path in self.dir.glob("docker/data/plugins/" + "[0-9a-f]" * 64)]
        for name in (self.cgroup, *plugins):
            for directory in [*sorted(_CGROUPS.glob(f"*/{name}")), _CGROUPS / name]:
                _remove_cgroup(directory)


def _remove_cgroup(directory: Path) -> None:
    """Remove a control group and those in it; one that was removed under another controller's name is gone."""
    if not directory.is_dir():
        return
    for child in directory.iterdir():
        if child.is_dir():
            _remove_cgroup(child)

    def removed() -> bool:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return True
        except OSError:  # EBUSY: its last process is still being reaped
            return False
        return True

    wait_for(removed, what=f"{directory} is empty")


class DovetailDaemon:
    """The daemon in a private host, and the commands that talk to it."""

    def __init__(self, host: PrivateHost) -> None:
        self.host = host
        self.env = {"DOVETAIL_DOCKER_SOCKET": str(host.dir / "docker" / "docker.sock")}
        self._dirs = ("--state-dir", str(host.dir / "state"), "--run-dir", str(host.dir / "dv"))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *, failpoint: str = "") -> None:
        """Start it and wait until it answers; `failpoint` as in DOVETAIL_FAILPOINT."""
        env = self.env | ({"DOVETAIL_FAILPOINT": failpoint} if failpoint else {})
        self._process = self.host.spawn("dovetail.log", *self.command(), env=env)
        wait_for(self._answers, what="dovetail answers")

    def command(self) -> tuple[str, ...]:
        """Give the command line that it is started by."""
        return (sys.executable, "-m", "dovetail", *self._dirs, "daemon")

    def _answers(self) -> bool:
        assert self.running, self.host.log("dovetail.log")
        socket = str(self.host.dir / "dv" / "api.sock")
        command = ("curl", "-s", "--max-time", "2", "--unix-socket", socket, "http://x/v1/ping")
        return self.host.try_run(*command).stdout == "{}"

    @property
    def running(self) -> bool:
        """Say whether it lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; gives the exit status."""
        assert self._process is not None
        pid = (self.host.dir / "dv" / "daemon.pid").read_text(encoding="ascii").strip()
        self.host.run("kill", f"-{int(number)}", pid)
        return self._process.wait(timeout=30)

    def wait_dead(self) -> None:
        """Wait until it has died by itself."""
        assert self._process is not None
        self._process.wait(timeout=30)

    def try_cli(self, *args: str) -> Any:
        """Run a ``dovetail`` command and give what subprocess gives."""
        return self.host.try_run(sys.executable, "-m", "dovetail", *self._dirs, *args, env=self.env)

    def cli(self, *args: str) -> str:
        """Run a ``dovetail`` command; it must succeed."""
        return self.host.run(sys.executable, "-m", "dovetail", *self._dirs, *args, env=self.env)

    def json(self, *args: str) -> Any:
        """Run a command with ``--format json``."""
        return json.loads(self.cli("--format", "json", *args))

    def left(self) -> list[str]:
        """List what is left of networks, endpoints, sandboxes, pools, links and elements; nothing is empty."""
        found = [
            f"{noun}: {row}"
            for noun in ("network", "endpoint", "sandbox", "pool")
            for row in self.json(noun, "ls")
        ]
        found += [f"link: {name}" for name in self.host.links() if name.startswith("dv")]
        if self.host.elements() > 0:
            found.append(f"{self.host.elements()} nftables elements")
        return found


class ContainerRuntime:
    """What docker and podman have in common: their command line."""

    def __init__(self, host: PrivateHost, *command: str, env: dict[str, str] | None = None) -> None:
        self.host = host
        self._command = command
        self._env = env or {}

    def command(self, *args: str) -> tuple[str, ...]:
        """Write a command line."""
        return (*self._command, *args)

    def attempt(self, *args: str, timeout_s: float = 90) -> Any:
        """Run a command and give what subprocess gives."""
        return self.host.try_run(*self.command(*args), timeout_s=timeout_s, env=self._env)

    def __call__(self, *args: str) -> str:
        """Run a command; it must succeed."""
        done = self.attempt(*args)
        assert done.returncode == 0, f"{self._command[0]} {' '.join(args)}: {done.stderr}\n{self.journal()}"
        return str(done.stdout).strip()

    def refused(self, *args: str) -> str:
        """Run a command; it must fail. Gives what it says."""
        done = self.attempt(*args)
        assert done.returncode != 0, done.stdout
        return str(done.stderr)

    def journal(self) -> str:
        """Give the end of a daemon's log, where there is a daemon."""
        return ""

    def addresses(self, container: str) -> dict[str, str]:
        """Give the IPv4 address on each network as ``inspect`` has it."""
        text = self("inspect", "--format", "{{json .NetworkSettings.Networks}}", container)
        return {name: entry["IPAddress"] for name, entry in json.loads(text).items()}

    def netns(self, container: str) -> str:
        """Give the path of a container's network namespace."""
        return f"/proc/{self('inspect', '--format', '{{.State.Pid}}', container)}/ns/net"

    def pings(self, container: str, address: str) -> bool:
        """Say whether a container reaches an address."""
        return self.attempt("exec", container, "ping", "-c", "1", "-W", "2", address).returncode == 0

    @contextmanager
    def talking(self, container: str, address: str, *, at_least: int = 100) -> Iterator[None]:
        """Let a container ping `address` for as long as the ``with`` takes; not one answer may be missing.

        It is the host's ping in the container's namespace, so that it is no child of the runtime.
        """
        pid_file, log = self.host.dir / "ping.pid", self.host.dir / "ping.log"
        for left in (pid_file, log):
            left.unlink(missing_ok=True)
        ping = f"exec ping -q -i 0.1 -W 10 {address}"
        script = f"echo $$ >{pid_file} && exec nsenter --net={self.netns(container)} sh -c '{ping}'"
        process = self.host.spawn("ping.log", "sh", "-c", script)
        wait_for(lambda: pid_file.exists() and pid_file.read_text().strip(), what="the ping has started")
        yield
        self.host.run("kill", "-INT", pid_file.read_text().strip())
        process.wait(timeout=30)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", self.host.log("ping.log"))
        assert found is not None, self.host.log("ping.log")
        sent, received = map(int, found.groups())
        assert sent >= at_least
        assert sent - received <= 1, self.host.log("ping.log")  # the last may be under way


class Dockerd(ContainerRuntime):
    """A real dockerd in a private host."""

    def __init__(self, host: PrivateHost, *options: str) -> None:
        """Write its command line; `options` are of dockerd."""
        base = host.dir / "docker"
        base.mkdir()
        self._socket = f"unix://{base / 'docker.sock'}"
        super().__init__(host, "docker", "-H", self._socket)
        self._pidfile = base / "pid"
        self._daemon = (
            # the usual place below /run, as a managed plugin's socket has a path that is as long again
            *("dockerd", "--data-root", str(base / "data"), "--exec-root", "/run/docker"),
            *("-H", self._socket, "--pidfile", str(self._pidfile), "--cgroup-parent", f"/{host.cgroup}"),
            *options,
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.begin()
        self.wait_until_up()

    def begin(self) -> None:
        """Start it."""
        self._process = self.host.spawn("dockerd.log", *self._daemon)

    def wait_until_up(self) -> None:
        """Wait until it answers: its networks are restored then."""
        try:
            wait_for(lambda: self.attempt("version").returncode == 0, timeout_s=60, what="dockerd answers")
        except AssertionError as exc:
            raise AssertionError(self.journal()) from exc

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send a signal and wait until it is gone."""
        assert self._process is not None
        self.host.run("kill", f"-{int(number)}", self._pidfile.read_text(encoding="ascii").strip())
        self._process.wait(timeout=60)
        self._pidfile.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start, as a package upgrade does."""
        self.stop()
        self.start()

    def journal(self) -> str:
        """Give the end of its log."""
        return self.host.log("dockerd.log")[-3000:]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        """Call the Engine API of 20.10; it must succeed. Gives the JSON, or None where there is none."""
        command = ("curl", "-sS", "--fail-with-body", "--unix-socket", self._socket.removeprefix("unix://"))
        data = ("-H", "Content-Type: application/json", "-d", json.dumps(body)) if body is not None else ()
        text = self.host.run(*command, "-X", method, *data, f"http://docker/v1.41{path}")
        return json.loads(text) if text else None


class Podman(ContainerRuntime):
    """A real podman 4 on its CNI backend, which executes our plugins; it has no daemon, and ours may run or not."""

    def __init__(self, host: PrivateHost, plugins: Path | None = None) -> None:
        """Write its configuration; `plugins` is its only directory of plugins, ours where there is none."""
        base = host.dir / "podman"
        self.dovetail = DovetailDaemon(host)
        if plugins is None:
            plugins = host.dir / "cni-bin"
            self.dovetail.cli("cni", "install", "--bin-dir", str(plugins))
        self._networks = base / "net.d"
        self._networks.mkdir(parents=True)
        configuration = base / "containers.conf"
        configuration.write_text(
            f"""
            [containers]
            default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
            [engine]
            events_logger = "none"
            lock_type = "file"  # others are in /dev/shm, which is the real host's
            [network]
            network_backend = "cni"
            cni_plugin_dirs = ["{plugins}"]
            network_config_dir = "{self._networks}"
            """,
            encoding="utf-8",
        )
        directories = [f"--{name}={base / name}" for name in ("root", "runroot", "tmpdir")]
        flags = ("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--runtime", "runc")
        super().__init__(host, "podman", *directories, *flags, env={"CONTAINERS_CONF": str(configuration)})

    def run(self, *args: str) -> str:
        """Run ``podman run -d`` in the host's control group."""
        return self("run", "-d", "--stop-timeout", "0", "--cgroup-parent", f"/{self.host.cgroup}", *args)

    def configure(self, name: str, *plugins: dict[str, Any]) -> None:
        """Write a network configuration list."""
        document = {"cniVersion": "1.0.0", "name": name, "plugins": plugins}
        (self._networks / f"{name}.conflist").write_text(json.dumps(document), encoding="utf-8")


def _need(*programs: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    packages = {"dockerd": "docker.io", "docker": "docker.io", _BUSYBOX: "busybox-static"}
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian package {packages.get(program, program)})")


@contextmanager
def _private_host() -> Iterator[PrivateHost]:
    """A host of its own. Its directory has a short name, as a socket's path holds 107 bytes."""
    _need("unshare", "nsenter", "ip", "nft")
    directory = Path(tempfile.mkdtemp(prefix="dv-"))
    host = PrivateHost(directory)
    try:
        yield host
    finally:
        host.stop()
        shutil.rmtree(directory)


@pytest.fixture
def private_host() -> Iterator[PrivateHost]:
    """A host of its own."""
    with _private_host() as host:
        yield host


@pytest.fixture
def dovetail_daemon(private_host: PrivateHost) -> DovetailDaemon:
    """The daemon, started; its Docker plugin socket is where dockerd looks."""
    daemon = DovetailDaemon(private_host)
    daemon.start()
    return daemon


@pytest.fixture
def stopped_daemon(private_host: PrivateHost) -> DovetailDaemon:
    """The commands alone: nobody answers, and the plugins run the engine themselves."""
    return DovetailDaemon(private_host)


@pytest.fixture
def rootfs(private_host: PrivateHost) -> Path:
    """A tar archive of a root file system with busybox."""
    return _make_rootfs(private_host)


def _make_rootfs(private_host: PrivateHost) -> Path:
    _need(_BUSYBOX, "curl")
    tree = private_host.dir / "rootfs"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(_BUSYBOX, tree / "bin" / "busybox")
    for applet in _APPLETS:
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "www").mkdir()
    (tree / "www" / "index.html").write_text("hello\n", encoding="ascii")
    archive = private_host.dir / "rootfs.tar"
    subprocess.run(["tar", "-C", str(tree), "-cf", str(archive), "."], check=True, timeout=60)
    return archive


@pytest.fixture
def make_dockerd(private_host: PrivateHost, rootfs: Path) -> Callable[..., Dockerd]:
    """Give what starts a dockerd with options of its own, with image ``bb``: busybox and ``/www/index.html``."""
    return lambda *options: _start_dockerd(private_host, rootfs, *options)


def _start_dockerd(private_host: PrivateHost, rootfs: Path, *options: str) -> Dockerd:
    _need("dockerd", "docker")
    made = Dockerd(private_host, *options)
    made.start()
    made("import", str(rootfs), "bb")
    return made


@pytest.fixture
def dockerd(make_dockerd: Callable[..., Dockerd]) -> Dockerd:
    """A dockerd, with image ``bb``."""
    return make_dockerd()


@pytest.fixture(scope="module")
def module_dockerd() -> Iterator[Dockerd]:
    """A dockerd that has its socket at the usual place as well, with nothing of ours; one for all tests of a module."""
    with _private_host() as host:
        yield _start_dockerd(host, _make_rootfs(host), "-H", "unix:///run/docker.sock")


@pytest.fixture(scope="module")
def module_docker() -> Iterator[tuple[Dockerd, DovetailDaemon]]:
    """A dockerd beside a daemon that knows its socket, one for all tests of a module: a start takes seconds."""
    with _private_host() as host:
        daemon = DovetailDaemon(host)
        daemon.start()
        yield _start_dockerd(host, _make_rootfs(host)), daemon


@pytest.fixture
def docker(dovetail_daemon: DovetailDaemon, dockerd: Dockerd) -> Dockerd:
    """A dockerd beside the daemon."""
    return dockerd


@pytest.fixture
def make_podman(private_host: PrivateHost, rootfs: Path) -> Callable[..., Podman]:
    """Give what starts a podman on a directory of plugins, with image ``bb``."""
    _need("podman", "runc", "conmon")

    def make(plugins: Path | None = None) -> Podman:
        runtime = Podman(private_host, plugins)
        runtime("import", str(rootfs), "bb")
        return runtime

    return make


@pytest.fixture
def podman(make_podman: Callable[..., Podman]) -> Podman:
    """A podman with image ``bb`` and our plugins, which find a daemon when one runs (`dovetail_daemon`)."""
    return make_podman()
