"""The resolver asked by real clients in a namespace: glibc, over UDP and TCP and with EDNS, and busybox's nslookup."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import pytest

from dovetail.dns.message import A, Message, Question, encode, name_from_text
from dovetail.dns.server import Resolver
from dovetail.dns.upstream import Forwarding, Server
from dovetail.dns.zone import Host, View, Zone

pytestmark = pytest.mark.root

ADDRESS = "127.0.0.11"
WEB = Host("1", ("web", "www"), (IPv4Address("10.0.0.4"), IPv6Address("fd00::4")))
DB = Host("2", ("db",), (IPv4Address("10.0.0.5"),))
MANY = [Host(f"m{n}", ("many",), (IPv4Address(0x0A010000 + n),)) for n in range(100)]
FRONT = Zone("front", [WEB, DB, *MANY])


QUERY = encode(Message(1, 0x0100, (Question(name_from_text("db"), A),)))


def unshare_net() -> None:
    """Put this thread into a namespace of its own, with its loopback up."""
    assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0  # CLONE_NEWNET
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30)


def sockets(address: str, port: int) -> tuple[socket.socket, socket.socket]:
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((address, port))
    return udp, socket.create_server((address, port))


@pytest.fixture
def resolver(host: Any) -> Iterator[Resolver]:
    resolver = Resolver()
    yield resolver
    resolver.close()


@pytest.fixture
def client(host: Any, tmp_path: Path) -> Callable[..., str]:
    """Run a program that asks the resolver, with the given options of resolv.conf(5)."""

    def run(*command: str, options: str = "") -> str:
        path = tmp_path / "resolv.conf"
        path.write_text(f"nameserver {ADDRESS}\noptions ndots:0 {options}\n", encoding="utf-8")
        mounted = (
            "unshare",
            "--mount",
            "sh",
            "-c",
            'mount --bind "$0" /etc/resolv.conf && exec "$@"',
            str(path),
        )
        environment = {**os.environ, "RES_OPTIONS": ""}
        done = subprocess.run(
            (*mounted, *command), capture_output=True, text=True, check=False, timeout=30, env=environment
        )
        return done.stdout

    return run


@pytest.mark.parametrize("options", ["", "use-vc", "edns0", "single-request", "edns0 use-vc"])
def test_glibc_finds_names_and_addresses(
    resolver: Resolver, client: Callable[..., str], options: str
) -> None:
    resolver.serve(*sockets(ADDRESS, 53), View([FRONT]))

    for name in ("web", "www.front", "WEB"):
        lines = {
            tuple(line.split()[:2]) for line in client("getent", "ahosts", name, options=options).splitlines()
        }
        assert lines >= {("10.0.0.4", "STREAM"), ("fd00::4", "STREAM")}
    assert client("getent", "ahosts", "db", options=options).split()[0] == "10.0.0.5"
    assert client("getent", "ahostsv6", "db", options=options).split()[:1] in ([], ["::ffff:10.0.0.5"])
    assert client("getent", "hosts", "10.0.0.5", options=options).split() == ["10.0.0.5", "db.front"]
    assert client("getent", "hosts", "fd00::4", options=options).split() == ["fd00::4", "web.front"]
    found = {line.split()[0] for line in client("getent", "ahosts", "many", options=options).splitlines()}
    assert len(found) == 100  # over TCP in the end, as UDP cuts them


def test_busybox_finds_names(resolver: Resolver, client: Callable[..., str]) -> None:
    resolver.serve(*sockets(ADDRESS, 53), View([FRONT]))

    found = client("busybox", "nslookup", "web")

    assert "10.0.0.4" in found
    assert "fd00::4" in found


def test_what_is_unknown_is_asked_of_another_resolver(resolver: Resolver, client: Callable[..., str]) -> None:
    other = View([Zone("elsewhere.test", [Host("9", ("api",), (IPv4Address("192.0.2.9"),))])])
    resolver.serve(*sockets("127.0.0.53", 53), other)
    gone = Server(IPv4Address("127.0.0.99"))
    resolver.serve(
        *sockets(ADDRESS, 53), View([FRONT]), Forwarding([gone, Server(IPv4Address("127.0.0.53"))])
    )

    for options in ("", "use-vc"):
        assert client("getent", "ahosts", "api.elsewhere.test", options=options).split()[0] == "192.0.2.9"
    assert client("getent", "ahosts", "nobody.elsewhere.test") == ""


def test_one_resolver_answers_in_many_namespaces(resolver: Resolver, client: Callable[..., str]) -> None:
    """A socket stays in the namespace that it was opened in, which is not that of the resolver's thread."""
    opened: list[tuple[socket.socket, socket.socket]] = []

    def open_elsewhere() -> None:
        unshare_net()
        opened.append(sockets(ADDRESS, 53))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(10)
            resolver.serve(*opened[0], View([Zone("back", [Host("7", ("db",), (IPv4Address("10.7.7.7"),))])]))
            asker.sendto(QUERY, (ADDRESS, 53))
            answers.append(asker.recv(512))

    answers: list[bytes] = []
    resolver.serve(*sockets(ADDRESS, 53), View([FRONT]))
    thread = threading.Thread(target=open_elsewhere)
    thread.start()
    thread.join(20)

    assert answers[0].endswith(IPv4Address("10.7.7.7").packed)
    assert client("getent", "hosts", "db").split()[0] == "10.0.0.5"
