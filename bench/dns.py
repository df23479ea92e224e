"""What an answer of the resolver costs: ``python bench/dns.py [--json] [--seconds S]``.

`from memory`: CPU time of `Answers.answer` alone, in this process, for a question that was asked before (`kept`) and
for one whose bytes are new (`anew`: the letters' case differs each time), by the number of hosts in the zone. `over UDP`: a
resolver in this process answers over loopback what a process of its own asks on another CPU, some tens of questions
under way at a time; `answers/s` is what one core gives, `cpu/answer` this process's CPU time for each answer, with the
kernel's share for receiving and sending; with one under way, `between` is the way to and fro as an asker sees it. `forwarded` is
the same for a question that a third process answers, through a socket of its own each.
`--asyncio` answers the same bytes with a datagram endpoint of asyncio's instead, `--dnsmasq` with Debian's dnsmasq.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable
from ipaddress import IPv4Address
from multiprocessing.connection import Connection
from typing import Any

from dovetail.dns.answer import Answers
from dovetail.dns.message import A, Message, Question, encode, name_from_text
from dovetail.dns.server import Resolver
from dovetail.dns.upstream import Forwarding, Server
from dovetail.dns.zone import Host, View, Zone

UNDER_WAY = 32
HOSTS = (10, 1_000, 10_000)


def view(hosts: int) -> View:
    """Make a network of hosts, ten of which share an alias."""
    made = []
    for number in range(hosts):
        names = (f"host{number}", "service") if number < 10 else (f"host{number}",)
        made.append(Host(f"{number:064x}", names, (IPv4Address(0x0A000002 + number),)))
    return View((Zone("front", made),))


def query(name: str, number: int = 0) -> bytes:
    """Write a question for an address."""
    return encode(Message(number, 0x0100, (Question(name_from_text(name), A),)))


def cased(name: str, bits: int) -> str:
    """Write a name with upper-case letters where `bits` are set."""
    return "".join(letter.upper() if bits >> at & 1 else letter for at, letter in enumerate(name))


def memory(hosts: int, rounds: int = 50_000) -> list[dict[str, object]]:
    """Measure answers without sockets."""
    rows: list[dict[str, object]] = []
    names = {"one address": f"host{hosts - 1}", "ten addresses": "service"}
    for what, name in names.items():
        for how in ("kept", "anew"):
            answers = Answers(view(hosts))
            spellings = rounds if how == "anew" else 1
            longer = f"{name}.front"
            queries = [
                query(cased(longer, number * 2654435761 % 2**13), number % 65536)
                for number in range(spellings)
            ]
            if how == "anew":  # nothing of what was kept is found again
                answers._kept = (Forgetful(), Forgetful())  # type: ignore[assignment]  # noqa: SLF001
            started = time.process_time_ns()
            for number in range(rounds):
                answers.answer(queries[number % spellings])
            spent = time.process_time_ns() - started
            rows.append({"hosts": hosts, "answer": what, "how": how, "us": round(spent / rounds / 1000, 2)})
    return rows


class Forgetful(dict[bytes, object]):
    """Keeps nothing."""

    def __setitem__(self, key: bytes, value: object) -> None:
        """Forget it."""


def load(address: tuple[str, int], name: str, seconds: float, under_way: int, result: Connection) -> None:
    """Ask for `seconds`, and send the number of answers and the median time of each; in a process of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.connect(address)
        asker.settimeout(1)
        number, answers = under_way, 0
        times = []
        for each in range(under_way):
            asker.send(query(name, each))
        data = query(name)[2:]
        result.send("began")
        end = time.monotonic() + seconds
        before = time.perf_counter()
        while time.monotonic() < end:
            try:
                asker.recv(4096)
            except TimeoutError:
                print("an answer is missing")
                continue
            now = time.perf_counter()
            times.append(now - before)
            before = now
            answers += 1
            number = (number + 1) % 65536
            asker.send(number.to_bytes(2, "big") + data)
    result.send((answers, statistics.median(times)))


def drive(
    address: tuple[str, int],
    name: str,
    seconds: float,
    under_way: int,
    spent: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Have a resolver asked, and measure it by the CPU time that `spent` gives."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    asker = context.Process(target=load, args=(address, name, seconds, under_way, theirs))
    asker.start()
    ours.recv()
    cpu, started = spent(), time.monotonic()
    answers, median = ours.recv()
    cpu, elapsed = spent() - cpu, time.monotonic() - started
    asker.join()
    return {
        "under_way": under_way,
        "answers_s": round(answers / elapsed),
        "cpu_us": round(cpu / answers * 1e6, 2),
        "between_us": round(median * 1e6, 1),
    }


def udp(seconds: float) -> list[dict[str, Any]]:
    """Measure the resolver over loopback."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    address = bound.getsockname()
    resolver = Resolver()
    resolver.serve(bound, None, view(1_000))
    try:
        return [
            {"server": "resolver", "name": name, **drive(address, name, seconds, under_way)}
            for name, under_way in (("host7", UNDER_WAY), ("service", UNDER_WAY), ("host7", 1))
        ]
    finally:
        resolver.close()


def echo(port: Connection) -> None:
    """Answer each question with nothing, as an upstream; in a process of its own, until it is ended."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        port.send(bound.getsockname()[1])
        while True:
            data, asker = bound.recvfrom(4096)
            bound.sendto(data[:2] + b"\x81\x80" + data[4:], asker)


def forwarded(seconds: float) -> list[dict[str, Any]]:
    """Measure what is sent on."""
    ours, theirs = multiprocessing.Pipe()
    upstream = multiprocessing.get_context("spawn").Process(target=echo, args=(theirs,))
    upstream.start()
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 0))
    address = bound.getsockname()
    resolver = Resolver()
    resolver.serve(bound, None, view(1_000), Forwarding([Server(IPv4Address("127.0.0.1"), ours.recv())]))
    try:
        return [
            {"server": "forwarded", "name": "other", **drive(address, "other.test", seconds, under_way)}
            for under_way in (UNDER_WAY, 1)
        ]
    finally:
        resolver.close()
        upstream.kill()
        upstream.join()


def dnsmasq(seconds: float) -> list[dict[str, Any]]:
    """Measure dnsmasq with the same names; its CPU time is read from /proc."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    records = [f"--host-record={host.names[0]},{host.addresses[0]}" for host in view(1_000).zones[0].hosts]
    options = (
        "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        "--conf-file=/dev/null",
        "--user=",
        "--bind-interfaces",
    )
    command = ("dnsmasq", *options, "--listen-address=127.0.0.1", f"--port={port}", *records)
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def spent() -> float:
        with open(f"/proc/{server.pid}/stat", encoding="ascii") as stat:
            user, system = stat.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    try:
        time.sleep(0.5)
        return [
            {
                "server": "dnsmasq",
                "name": "host7",
                **drive(("127.0.0.1", port), "host7", seconds, under_way, spent),
            }
            for under_way in (UNDER_WAY, 1)
        ]
    finally:
        server.terminate()
        server.wait()


def in_asyncio(seconds: float) -> list[dict[str, Any]]:
    """Measure a datagram endpoint of asyncio's that gives the same answers."""
    answers = Answers(view(1_000))

    class Endpoint(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(answers.answer(data), addr)

    loop = asyncio.new_event_loop()
    transport, _ = loop.run_until_complete(loop.create_datagram_endpoint(Endpoint, ("127.0.0.1", 0)))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        address = transport.get_extra_info("sockname")
        return [
            {"server": "asyncio", "name": "host7", **drive(address, "host7", seconds, under_way)}
            for under_way in (UNDER_WAY, 1)
        ]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--asyncio", action="store_true")
    parser.add_argument("--dnsmasq", action="store_true")
    parser.add_argument("--seconds", type=float, default=3.0)
    arguments = parser.parse_args()
    kept = [row for hosts in HOSTS for row in memory(hosts)]
    driven = udp(arguments.seconds)
    driven += forwarded(arguments.seconds)
    if arguments.dnsmasq:
        driven += dnsmasq(arguments.seconds)
    if arguments.asyncio:
        driven += in_asyncio(arguments.seconds)
    if arguments.json:
        print(json.dumps({"memory": kept, "udp": driven}))
        return
    print("from memory")
    for row in kept:
        print(f"  {row['hosts']:6} hosts  {row['answer']:14} {row['how']:5} {row['us']:6} us")
    print("over UDP")
    for row in driven:
        print(
            f"  {row['server']:9} {row['name']:8} {row['under_way']:3} under way"
            f" {row['answers_s']:7} answers/s {row['cpu_us']:6} us cpu/answer, {row['between_us']} us between"
        )


if __name__ == "__main__":
    main()
