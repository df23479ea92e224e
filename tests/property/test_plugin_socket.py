"""Hostile requests at Docker's plugin socket of a real daemon: JSON for each, and what is refused changes nothing.

``FUZZ=20000`` sends ten times as many. Requests name things that exist, that did, and that never will, so that a run
walks through networks and endpoints in any order; what holds is not what each call does, but what none may do.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

pytestmark = pytest.mark.root

EXAMPLES = int(os.environ.get("FUZZ", "2000"))
PATIENCE_S = 60.0
# What is found depends on what came before, so there is nothing to shrink: the request itself is printed.
HOSTILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.generate,),
    database=None,
    suppress_health_check=list(HealthCheck),
)
MALFORMED = settings(HOSTILE, max_examples=EXAMPLES // 2)

GENERIC, PORTMAP = "com.docker.network.generic", "com.docker.network.portmap"
METHODS = [
    *(f"NetworkDriver.{name}" for name in ("CreateNetwork", "CreateEndpoint", "Join", "Leave") * 2),
    *(f"NetworkDriver.{name}" for name in ("DeleteNetwork", "DeleteEndpoint", "EndpointOperInfo")),
    *(f"NetworkDriver.{name}ExternalConnectivity" for name in ("Program", "Revoke")),
    *(f"NetworkDriver.{name}" for name in ("GwAllocCheck", "AllocateNetwork", "FreeNetwork")),
    *(f"NetworkDriver.Discover{name}" for name in ("New", "Delete")),
    *(f"{role}.GetCapabilities" for role in ("NetworkDriver", "IpamDriver")),
    *(f"IpamDriver.{name}" for name in ("RequestPool", "RequestAddress", "ReleaseAddress", "ReleasePool")),
    "IpamDriver.GetDefaultAddressSpaces",
    "Plugin.Activate",
]


class Daemon:
    """A daemon in the host's namespace, and what it must leave alone: network ``mine`` with endpoint ``mine``."""

    def __init__(self, host: Any, directory: Path) -> None:
        self.host = host
        self.directory = directory
        self.state_dir = str(directory / "state")
        self.socket = str(directory / "plugins" / "dovetail.sock")
        self.words = [
            sys.executable,
            "-m",
            "dovetail",
            "--state-dir",
            self.state_dir,
            "--run-dir",
            str(directory / "run"),
        ]
        with open(directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [*self.words, *f"daemon --docker-socket= --docker-plugin-dir {directory}/plugins".split()],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + PATIENCE_S
        while b"ready" not in (directory / "log").read_bytes():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log()
            time.sleep(0.01)
        self.caller = Caller(self.socket)
        for words in (
            "network create mine --subnet 10.60.0.0/24 --subnet fd60::/64",
            "sandbox create mine",
            "network connect mine mine -p 6060:80",
        ):
            host.run(*self.words, *words.split())
        self.database = sqlite3.connect(f"{self.state_dir}/dovetail.db", isolation_level=None)
        self.mine = self.rows("mine")
        self.files = self.list_files()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-3000:]

    def rows(self, name: str = "") -> list[Any]:
        """All rows of the store (but for cursors, which only say where to look next), or those about `name`."""
        found = []
        for table in (
            "networks",
            "endpoints",
            "sandboxes",
            "pools",
            "addresses",
            "ports",
            "bindings",
            "leases",
        ):
            for row in self.database.execute(f"SELECT * FROM {table} ORDER BY 1, 2"):
                if not name or any(f'"{name}"' in str(value) for value in row):
                    found.append((table, *row))
        return found

    def links(self) -> set[str]:
        """Names of the links of the thread's namespace, from the kernel itself."""
        return {name for _, name in socket.if_nameindex()}

    def list_files(self) -> set[str]:
        """Every file below the daemon's directories, SQLite's own companions left out."""
        paths = {str(path.relative_to(self.directory)) for path in self.directory.rglob("*")}
        return {path for path in paths if not path.endswith(("-wal", "-shm"))}

    def check(self, nobodys: Any) -> None:
        """What no request may have done."""
        assert self.process.poll() is None, self.log()
        assert "defect" not in self.log(), self.log()
        assert self.rows("mine") == self.mine
        assert self.list_files() == self.files
        found = nobodys(self.host.run, self.state_dir, docker=True)
        assert found == [], found

    def stop(self) -> None:
        self.database.close()
        self.caller.close()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE_S) == 0, self.log()
        self.host.run("umount", "-n", str(self.directory / "run" / "netns" / "mine"), check=False)


class Caller:
    """A connection that is kept, as dockerd keeps its."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(self._path)
        self._stream = self._socket.makefile("rb")

    def close(self) -> None:
        self._stream.close()
        self._socket.close()

    def send(self, method: str, body: bytes, style: str = "length") -> tuple[int, Any]:
        """Send a request, and give the status and the answer; the connection must live on unless it was to be closed."""
        head = f"POST /{method} HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n".encode()
        length = b"Content-Length: %d\r\n" % len(body)
        match style:
            case "chunked":
                half = len(body) // 2
                parts = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (body[:half], body[half:]) if p)
                data = [head + b"Transfer-Encoding: chunked\r\n\r\n" + parts + b"0\r\n\r\n"]
            case "pieces":
                whole = head + length + b"\r\n" + body
                step = max(1, len(whole) // 7)
                data = [whole[at : at + step] for at in range(0, len(whole), step)]
            case "close":
                data = [head + length + b"Connection: close\r\n\r\n" + body]
            case _:
                data = [head + length + b"\r\n" + body]
        for part in data:
            self._socket.sendall(part)
        status, reply, closes = self.answer()
        assert closes == (style == "close")
        if closes:
            assert self._stream.read(1) == b""
            self.close()
            self._open()
        return status, reply

    def answer(self) -> tuple[int, Any, bool]:
        """Read one answer, which is JSON."""
        line = self._stream.readline()
        assert line.startswith(b"HTTP/1.1 "), f"the connection was dropped: {line!r}"
        fields = {}
        while (field := self._stream.readline().strip()) != b"":
            name, _, value = field.partition(b":")
            fields[name.lower()] = value.strip()
        reply = json.loads(self._stream.read(int(fields[b"content-length"])))
        return int(line.split()[1]), reply, fields.get(b"connection") == b"close"


@pytest.fixture(scope="module")
def daemon(module_host: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(module_host, tmp_path_factory.mktemp("d"))
    yield made
    made.stop()


# -- what is asked ------------------------------------------------------------------------------------------

NAMES = ["a" * 64, "b" * 64, "net", "mine", "docker-" + "a" * 12]
NETWORK_IDS = st.sampled_from(["a" * 64, "b" * 64, "short", "A" * 64, "../../etc", "\u2603", "x" * 300])
ENDPOINT_IDS = st.sampled_from(["c" * 64, "d" * 64, "e" * 64, "f", "../e", "%00", "\u00e9" * 40])
SUBNETS = st.sampled_from(
    [
        "10.66.0.0/24",
        "10.67.0.0/30",
        "fd66::/64",
        "10.60.0.0/24",
        "10.60.0.0/16",
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0/28",
        "10.66.0.0/33",
        "10.66.0.1/24",
        "x",
        "",
        "224.0.0.0/8",
        "127.0.0.0/8",
        "10.66.0.0",
        "fd66::/129",
    ]
)
INTERFACES = st.sampled_from(
    [
        "10.66.0.1/24",
        "10.66.0.5/24",
        "10.66.0.6/24",
        "10.67.0.2/30",
        "fd66::5/64",
        "10.60.0.2/24",
        "10.60.0.9/24",
        "",
        "10.66.0.5",
        "999.1.1.1/8",
        "10.66.0.5/99",
        "fe80::1%eth0/64",
        "0.0.0.0/0",
        "10.66.0.255/24",
    ]
)
ADDRESSES = st.sampled_from(
    ["", "10.66.0.5", "10.66.0.6", "10.66.0.255", "10.60.0.2", "fd66::5", "x", "10.66.0.5/24"]
)
POOL_IDS = st.sampled_from(
    [
        "dovetail/10.66.0.0/24",
        "again:dovetail/10.66.0.0/24",
        "shared:dovetail/10.60.0.0/24",
        "dovetail/10.60.0.0/24",
        "dovetail/10.67.0.0/30",
        "shared:again:x",
        "shared:",
        "",
        "x",
        "dovetail/fd66::/64",
    ]
)
MACS = st.sampled_from(
    ["", "02:42:00:00:00:01", "02-42-00-00-00-02", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "x"]
)
PATHS = st.sampled_from(
    [
        "/run/docker/netns/c1",
        "/proc/self/ns/net",
        "/etc/passwd",
        "/dev/zero",
        "/run/../etc",
        "",
        "x",
        "/",
        "/x\n",
    ]
)
WORDS = st.one_of(
    st.sampled_from(
        [
            "",
            "x",
            "mine",
            "true",
            "none",
            "bridge",
            "macvlan",
            "null",
            "host",
            "mtu",
            "1400",
            "-1",
            "9" * 5000,
            "lo",
            "dv-0",
            "eth0",
            "a/b",
            "..",
            "net/ipv4/ip_forward",
            "; rm -rf /",
            "$(reboot)",
            "{{.}}",
            "\x00",
            "10.0.0.0/8 via 10.66.0.9",
            "default via 10.66.0.9",
            "0.0.0.0/0",
            "kernel.core_pattern=|/bin/sh",
        ]
    ),
    st.text(max_size=20),
)
OPTION_KEYS = st.one_of(
    st.sampled_from(
        [
            "mtu",
            "icc",
            "masquerade",
            "bridge",
            "route",
            "gateway",
            "gwbridge",
            "ifname_prefix",
            "sticky",
            "parent",
            "hairpin",
            "dovetail.network",
            "dovetail.name",
            "dovetail.driver",
            "dovetail.x",
            "com.docker.network.x",
            "com.docker.network.bridge.name",
            "com.docker.network.endpoint.ifname",
            "RequestAddressType",
            "com.docker.network.endpoint.name",
            "com.docker.network.endpoint.macaddress",
            "dovetail.sticky",
        ]
    ),
    WORDS,
)
TEXTS = st.dictionaries(OPTION_KEYS, WORDS, max_size=3)
JUNK = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=5,
)
PORTS = st.one_of(st.sampled_from([0, 1, 80, 6060, 6061, 65535, 65536, -1, 2**40]), st.integers(0, 70000))
BINDINGS = st.lists(
    st.fixed_dictionaries(
        {"Proto": st.sampled_from([6, 17, 132, 1, 256]), "Port": PORTS, "HostPort": PORTS},
        optional={
            "HostPortEnd": PORTS,
            "HostIP": st.sampled_from(["", "127.0.0.1", "::1", "0.0.0.0", "x"]),
            "IP": WORDS,
        },
    ),
    max_size=3,
)
IPAM_DATA = st.lists(
    st.fixed_dictionaries(
        {
            "AddressSpace": st.sampled_from(["dovetail-local", "LocalDefault", "null", "dovetail-global"]),
            "Pool": SUBNETS,
        },
        optional={"Gateway": INTERFACES, "AuxAddresses": st.dictionaries(WORDS, INTERFACES, max_size=2)},
    ),
    max_size=2,
)
OPTIONS = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            GENERIC: TEXTS,
            PORTMAP: BINDINGS,
            "com.docker.network.internal": st.booleans(),
            "com.docker.network.enable_ipv6": st.booleans(),
            "com.docker.network.endpoint.ifname": WORDS,
            "com.docker.network.endpoint.dnsservers": st.lists(WORDS, max_size=2),
        },
    ),
    TEXTS,
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "NetworkID": NETWORK_IDS,
    "EndpointID": ENDPOINT_IDS,
    "SandboxKey": PATHS,
    "PoolID": POOL_IDS,
    "Address": ADDRESSES,
    "Pool": SUBNETS,
    "SubPool": SUBNETS,
    "V6": st.booleans(),
    "AddressSpace": st.sampled_from(["dovetail-local", "dovetail-global", "x"]),
    "IPv4Data": IPAM_DATA,
    "IPv6Data": IPAM_DATA,
    "Options": OPTIONS,
    "Interface": st.fixed_dictionaries(
        {}, optional={"Address": INTERFACES, "AddressIPv6": INTERFACES, "MacAddress": MACS}
    ),
}
USUAL = {  # what a method takes, which most requests have
    "NetworkDriver.CreateNetwork": ("NetworkID", "IPv4Data", "Options"),
    "NetworkDriver.CreateEndpoint": ("NetworkID", "EndpointID", "Interface"),
    "NetworkDriver.Join": ("NetworkID", "EndpointID", "SandboxKey"),
    "NetworkDriver.ProgramExternalConnectivity": ("NetworkID", "EndpointID", "Options"),
    "IpamDriver.RequestPool": ("Pool", "Options"),
    "IpamDriver.ReleasePool": ("PoolID",),
    "IpamDriver.RequestAddress": ("PoolID", "Address"),
    "IpamDriver.ReleaseAddress": ("PoolID", "Address"),
}


@st.composite
def bodies(draw: st.DrawFn, method: str) -> bytes:
    """A body with what the method takes, and with too much, too little or something else in some places."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return draw(st.one_of(st.binary(max_size=30), st.just(b""), st.just(b"null"), st.just(b"[" * 50_000)))
    usual = USUAL.get(method, ("NetworkID", "EndpointID"))
    names = {*usual, *draw(st.lists(st.sampled_from([*FIELDS]), max_size=2))}
    body: dict[str, Any] = {name: draw(FIELDS[name]) for name in sorted(names)}
    if kind == 1:
        body[draw(st.sampled_from([*FIELDS]))] = draw(JUNK)
    if kind == 2:
        body = {name.lower() if draw(st.booleans()) else name.upper(): value for name, value in body.items()}
    if kind == 3:
        body.pop(draw(st.sampled_from(sorted(body))))
    text = json.dumps(body).encode()
    return text[: draw(st.integers(0, len(text)))] if kind == 4 else text


REQUESTS = st.sampled_from(METHODS).flatmap(
    lambda method: st.tuples(
        st.just(method),
        bodies(method),
        st.sampled_from(["length", "length", "length", "chunked", "pieces", "close"]),
    )
)


@pytest.mark.cnm(2, 3)
def test_every_request_gets_json_and_what_is_refused_changes_nothing(daemon: Daemon, nobodys: Any) -> None:
    counts = {"done": 0, "refused": 0}

    @HOSTILE
    @given(REQUESTS)
    def send(request: tuple[str, bytes, str]) -> None:
        before = (daemon.rows(), daemon.links())

        status, reply = daemon.caller.send(*request)

        assert isinstance(reply, dict)
        if status == 200:
            counts["done"] += 1
            return
        counts["refused"] += 1
        assert 400 <= status < 600
        assert reply.keys() == {"Err", "Error"}
        assert reply["Err"] == reply["Error"] != ""
        assert "internal error" not in reply["Err"]
        assert (daemon.rows(), daemon.links()) == before

    send()

    daemon.check(nobodys)
    assert min(counts.values()) > EXAMPLES // 20, f"both kinds have to come up: {counts}"


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["cut", "drop", "double", "flip", "insert"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=3,
)


def mutated(data: bytes, mutations: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, piece in mutations:
        at = int(where * len(data))
        match kind:
            case "cut":
                data = data[:at]
            case "drop":
                data = data[:at] + data[at + len(piece) :]
            case "double":
                data = data[:at] + data[at : at + 40] + data[at:]
            case "flip":
                data = data[:at] + bytes(b ^ 0x20 for b in data[at : at + 1]) + data[at + 1 :]
            case _:
                data = data[:at] + piece + data[at:]
    return data


@MALFORMED
@given(
    st.sampled_from(
        [
            b"POST /Plugin.Activate HTTP/1.1\r\nHost: \r\nContent-Length: 0\r\n\r\n",
            b'POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nContent-Length: 38\r\n\r\n{"NetworkID": "gone","EndpointID":"e"}',
            b"POST /NetworkDriver.Leave HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            b"GET /NetworkDriver.GetCapabilities HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
        ]
    ),
    MUTATIONS,
)
@pytest.mark.cnm(2)
def test_bytes_that_are_hardly_a_request_get_json_too(
    daemon: Daemon, data: bytes, mutations: list[tuple[str, float, bytes]]
) -> None:
    data = mutated(data, mutations)

    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(PATIENCE_S)
        caller.connect(daemon.socket)
        with contextlib.suppress(BrokenPipeError):
            caller.sendall(data)
        caller.shutdown(socket.SHUT_WR)
        reply = b"".join(iter(lambda: caller.recv(65536), b""))

    if not data:
        assert reply == b""
        return
    head, _, body = reply.rpartition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 "), f"{data!r} got {reply!r}"
    assert body == b"" or isinstance(json.loads(body), dict)


@pytest.mark.cnm(9, 14)
def test_the_same_calls_at_the_same_time_are_answered_and_end_in_one_state(
    daemon: Daemon, nobodys: Any
) -> None:
    network, threads = {"NetworkID": "9" * 64}, 8
    pool = {"AddressSpace": "dovetail-local", "Pool": "10.69.0.0/24", "Options": {}, "V6": False}
    pool_id = json.dumps(daemon.caller.send("IpamDriver.RequestPool", json.dumps(pool).encode())[1]["PoolID"])
    data = {
        **network,
        "Options": {},
        "IPv4Data": [{"AddressSpace": "dovetail-local", "Pool": "10.69.0.0/24"}],
    }
    callers = [Caller(daemon.socket) for _ in range(threads)]

    def all_at_once(method: str, body: Any) -> list[tuple[int, Any]]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda caller: caller.send(method, json.dumps(body).encode()), callers))

    assert {status for status, _ in all_at_once("NetworkDriver.CreateNetwork", data)} == {200}
    for number in range(EXAMPLES // 200):
        ids = {**network, "EndpointID": f"{number:064x}"}
        made = all_at_once(
            "NetworkDriver.CreateEndpoint",
            {**ids, "Interface": {"Address": f"10.69.0.{number % 200 + 2}/24"}},
        )
        assert {status for status, _ in made} == {200}
        assert len({reply["Interface"]["MacAddress"] for _, reply in made}) == 1
        joined = all_at_once("NetworkDriver.Join", {**ids, "SandboxKey": f"/run/docker/netns/{number}"})
        assert {
            reply["InterfaceName"]["SrcName"] for status, reply in joined if status == 200
        } <= daemon.links()
        mapping = [{"Proto": 6, "Port": 80, "HostPort": 7000, "HostPortEnd": 7000}]
        for method, body in (
            ("ProgramExternalConnectivity", {**ids, "Options": {PORTMAP: mapping}}),
            ("RevokeExternalConnectivity", ids),
            ("Leave", ids),
            ("DeleteEndpoint", ids),
        ):
            assert {status for status, _ in all_at_once(f"NetworkDriver.{method}", body)} == {200}, method
    assert {status for status, _ in all_at_once("NetworkDriver.DeleteNetwork", network)} == {200}
    assert {s for s, _ in all_at_once("IpamDriver.ReleasePool", {"PoolID": json.loads(pool_id)})} == {200}

    for caller in callers:
        caller.close()
    assert "9" * 64 not in str(daemon.rows())
    daemon.check(nobodys)
