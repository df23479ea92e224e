"""Fixtures shared by all tiers. Tests that change the kernel do so in a namespace that plays the host."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sqlite3
import struct
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

_CLONE_NEWNET = 0x40000000  # include/uapi/linux/sched.h
_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """The namespace that plays the host: the test's own thread is in it, and so is what it starts."""

    def run(self, *command: str, check: bool = True, stdin: str = "") -> str:
        """Run a program in the host's namespace and give its standard output."""
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode != 0:
            message = f"{' '.join(command)}: exit {done.returncode}: {done.stderr}{done.stdout}"
            raise AssertionError(message)
        return done.stdout

    def ip(self, *args: str, netns: str = "") -> Any:
        """Run ``ip -j -d`` and give its JSON; `netns` is a path, entered with nsenter."""
        prefix = ("nsenter", f"--net={netns}") if netns else ()
        return json.loads(self.run(*prefix, "ip", "-j", "-d", *args) or "[]")

    def nft(self, *args: str) -> Any:
        """Run ``nft -j`` and give the list under ``nftables``."""
        return json.loads(self.run("nft", "-j", *args))["nftables"]

    def links(self, netns: str = "") -> dict[str, Any]:
        """Give the links by name, as ``ip -j -d link`` has them."""
        return {link["ifname"]: link for link in self.ip("link", "show", netns=netns)}


def wait_for(condition: Callable[[], object], *, timeout_s: float = 10.0, what: str = "") -> None:
    """Poll `condition` until it is true; never sleeps longer than it must."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            message = f"not within {timeout_s} s: {what or condition}"
            raise AssertionError(message)
        time.sleep(0.01)


@contextmanager
def _fresh_host() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.unshare(_CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield Host()
    finally:
        if _libc.setns(before, _CLONE_NEWNET) != 0:
            os._exit(70)  # going on in the wrong namespace would change the real host
        os.close(before)


@pytest.fixture
def host() -> Iterator[Host]:
    """Enter a fresh network namespace that plays the host; leave it (and let it die) afterwards."""
    with _fresh_host() as fresh:
        yield fresh


@pytest.fixture(scope="module")
def module_host() -> Iterator[Host]:
    """One such namespace for all tests of a module, where making the scene takes longer than the tests."""
    with _fresh_host() as fresh:
        yield fresh


class Books:
    """The rows of a store as SQLite has them, read past our own code."""

    def __init__(self, state_dir: str) -> None:
        with closing(sqlite3.connect(f"{state_dir}/dovetail.db")) as database:
            self.networks = self._documents(database, "networks")
            self.endpoints = self._documents(database, "endpoints")
            self.sandboxes = self._documents(database, "sandboxes")
            self.pools = self._documents(database, "pools")
            self.addresses = [
                (pool, str(ip_address(packed)), kind, owner)
                for pool, packed, kind, owner in database.execute(
                    "SELECT pool_id, address, kind, owner FROM addresses"
                )
            ]
            self.ports = list(
                database.execute("SELECT endpoint_id, protocol, host_port, container_port FROM ports")
            )
            self.taken = Counter[str]()
            for pool, first, last in database.execute("SELECT pool_id, first, last FROM taken"):
                self.taken[pool] += int.from_bytes(last, "big") - int.from_bytes(first, "big") + 1

    @staticmethod
    def _documents(database: sqlite3.Connection, table: str) -> dict[str, Any]:
        return {key: json.loads(doc) for key, doc in database.execute(f"SELECT id, doc FROM {table}")}


def _nobodys(run: Callable[..., str], state_dir: str, *, docker: bool = False) -> list[str]:
    """List what has no owner or is half there: addresses, links, nftables elements, rows, locks; nothing is empty.

    `run` runs a program on the host. `docker`: what a Docker Engine asked for and has not used is no finding.
    """
    books = Books(state_dir)
    links = {link["ifname"] for link in json.loads(run("ip", "-j", "link"))}
    return [
        *_wrong_rows(books),
        *_wrong_addresses(books, docker=docker),
        *_wrong_links(books, {name for name in links if name.startswith("dv")}, docker=docker),
        *_wrong_elements(books, json.loads(run("nft", "-j", "list", "ruleset"))["nftables"], docker=docker),
        *(["a lock is held"] if _locked(f"{state_dir}/lock") else []),
    ]


def _wrong_rows(books: Books) -> list[str]:
    found = [
        f"network {n['name']} is {n['status']}" for n in books.networks.values() if n["status"] != "active"
    ]
    for identifier, endpoint in books.endpoints.items():
        waiting = endpoint["status"] == "created" and endpoint["owner"]["face"] == "docker"
        if endpoint["status"] != "joined" and not waiting:
            found.append(f"endpoint {identifier[:12]} is {endpoint['status']}")
        if endpoint["network_id"] not in books.networks:
            found.append(f"endpoint {identifier[:12]} has no network")
        published = {tuple(p.values())[:3] for p in endpoint["ports"] if p["host_port"]}
        claimed = {
            (inner, outer, proto) for holder, proto, outer, inner in books.ports if holder == identifier
        }
        if published != claimed:
            found.append(f"endpoint {identifier[:12]} publishes {published} and holds {claimed}")
    found += [f"port {port} of no endpoint" for port in books.ports if port[0] not in books.endpoints]
    used = {endpoint["sandbox_id"] for endpoint in books.endpoints.values()}
    for identifier, sandbox in books.sandboxes.items():
        if sandbox["face"] != "cli" and identifier not in used:
            found.append(f"sandbox {sandbox['name']} without endpoints")
        if sandbox["made"] and not os.path.exists(sandbox["netns"]):
            found.append(f"sandbox {sandbox['name']} without its namespace")
    return found


def _wrong_addresses(books: Books, *, docker: bool) -> list[str]:
    given = {
        (address.partition("/")[0], identifier)
        for identifier, endpoint in books.endpoints.items()
        for address in endpoint["addresses"]
    }
    gateways = {
        (s["gateway"], n["id"]) for n in books.networks.values() for s in n["subnets"] if s["gateway"]
    }
    gateways |= {
        (a, n["id"]) for n in books.networks.values() for s in n["subnets"] for a in s["aux"].values()
    }
    found = [
        f"pool {key} of nobody"
        for key, pool in books.pools.items()
        if pool["owner"] not in books.networks and not (docker and pool["owner"] == "docker")
    ]
    for _, address, kind, owner in books.addresses:
        if not ((address, owner) in given | gateways or (docker and owner == "docker")):
            found.append(f"address {address} ({kind}) of {owner[:12]}, who is nobody")
    elsewhere = {key for key, network in books.networks.items() if network["ipam"] == "external"}
    given -= {
        (address, identifier)
        for address, identifier in given
        if books.endpoints[identifier]["network_id"] in elsewhere  # where Docker's own IPAM keeps the books
    }
    held = {(address, owner) for _, address, _, owner in books.addresses}
    found += [f"address {address} of {owner[:12]} is not held" for address, owner in given - held]
    count = Counter(pool for pool, *_ in books.addresses)
    found += [
        f"pool {pool}: {books.taken[pool]} taken" for pool in books.pools if books.taken[pool] != count[pool]
    ]
    addresses = Counter(address for address, _ in given)
    return found + [f"{address} is given {times} times" for address, times in addresses.items() if times > 1]


def _wrong_links(books: Books, links: Collection[str], *, docker: bool) -> list[str]:
    wanted = {network["link"] for network in books.networks.values() if network["link"]}
    wanted |= {e["link"] for e in books.endpoints.values() if e["status"] == "joined" and e["link"]}
    owned = wanted | {e["attachment"]["handover"] for e in books.endpoints.values() if e["attachment"]}
    if docker:  # between Leave and DeleteEndpoint the interface waits in the host's namespace
        owned |= {f"{end}{identifier[:12]}" for identifier in books.endpoints for end in ("dvh", "dvc")}
    return [
        *(f"link {name} belongs to nobody" for name in set(links) - owned),
        *(f"link {name} is missing" for name in wanted - set(links)),
    ]


def _wrong_elements(books: Books, ruleset: list[Any], *, docker: bool) -> list[str]:
    """Compare what is in the sets and maps of our table with what networks and joined endpoints want there."""
    entries = [entry.get("set") or entry.get("map") for entry in ruleset]
    there = {
        f"{entry['name']} {_words(element)}"
        for entry in entries
        if entry and (entry["family"], entry["table"]) == ("inet", "dovetail")
        for element in entry.get("elem", [])
    }
    wanted: set[str] = set()
    owned: set[str] = set()
    for network in books.networks.values():
        if network["firewall"] is not None:
            wanted |= _elements_of_network(network)
    for endpoint in books.endpoints.values():
        network = books.networks[endpoint["network_id"]]
        firewall = network["firewall"]
        if endpoint["status"] == "joined" and firewall is not None:
            wanted |= set() if firewall["link"] else _elements_of_link(network, endpoint["link"])
            wanted |= set() if firewall["internal"] else _elements_of_endpoint(endpoint, firewall)
        elif docker and firewall is not None and not firewall["link"]:  # as its link, see `_wrong_links`
            owned |= _elements_of_link(network, endpoint["link"])
    return [
        *(f"element {element} belongs to nobody" for element in there - wanted - owned),
        *(f"element {element} is missing" for element in wanted - there),
    ]


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _elements_of_network(network: dict[str, Any]) -> set[str]:
    firewall, link = network["firewall"], network["link"]
    subnets = [s["subnet"] for s in network["subnets"]]
    if firewall["link"]:
        wanted = {f"same_bridge {link} {link}", *_elements_of_link(network, link)}
    else:
        pairs = [(a, b) for a in subnets for b in subnets if _version(a) == _version(b)]
        wanted = {f"same_network{_version(one)} {one} {other}" for one, other in pairs}
    if firewall["internal"]:
        return wanted
    for subnet in subnets:
        version = _version(subnet)
        family = firewall[f"ipv{version}"]
        wanted.add(f"subnets{version} {subnet}")
        if family["mode"] == "routed":
            continue
        wanted.add(f"hairpin{version} {subnet} {subnet}")
        if family["masquerade"]:
            source = family["source"]
            wanted.add(f"source{version} {subnet} {source}" if source else f"masquerade{version} {subnet}")
    return wanted


def _elements_of_link(network: dict[str, Any], link: str) -> set[str]:
    """Give those of a bridge, or of the link of an endpoint that has one to itself."""
    firewall = network["firewall"]
    wanted = {f"bridges {link}"}
    marks = {
        "enclosed": not network["adopted"],
        "isolated": not firewall["icc"],
        "internal": firewall["internal"],
    }
    wanted |= {f"{name} {link}" for name, on in marks.items() if on}
    if firewall["internal"]:
        return wanted
    wanted |= {f"trusted {trusted} {link}" for trusted in firewall["trusted"]}
    for version in {_version(subnet["subnet"]) for subnet in network["subnets"]}:
        name = {"nat": "protected", "routed": "routed"}.get(firewall[f"ipv{version}"]["mode"])
        wanted |= {f"{name}{version} {link}"} if name else set()
    return wanted


def _elements_of_endpoint(endpoint: dict[str, Any], firewall: dict[str, Any]) -> set[str]:
    wanted = set()
    for port in endpoint["ports"]:
        host_ip, protocol, inner = port["host_ip"] or "", port["protocol"], port["container_port"]
        for address in (a.partition("/")[0] for a in endpoint["addresses"]):
            version = _version(address)
            mode = firewall[f"ipv{version}"]["mode"]
            if host_ip and _version(host_ip) != version:
                continue
            if mode != "routed":
                at = f"_at {host_ip}" if host_ip and not ip_address(host_ip).is_unspecified else ""
                wanted.add(f"publish{version}{at} {protocol} {port['host_port']} {address} {inner}")
            opened = mode == "routed" or (mode == "nat" and firewall["trusted"])
            if opened and not (host_ip and ip_address(host_ip).is_loopback):
                wanted.add(f"opened{version} {address} {protocol} {inner}")
    return wanted


def _words(element: Any) -> str:
    match element:
        case {"concat": parts}:
            return " ".join(map(_words, parts))
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case [key, data]:
            return f"{_words(key)} {_words(data)}"
        case _:
            return str(element)


def _locked(path: str) -> bool:
    with open(path, "rb") as file:
        # struct flock, include/uapi/asm-generic/fcntl.h: any lock from byte 0 to the end of all files
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_ = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_OFD_GETLK, asked))
    return bool(kind != fcntl.F_UNLCK)


@pytest.fixture(scope="session")
def nobodys() -> Callable[..., list[str]]:
    """Give what lists things without an owner, see `_nobodys`."""
    return _nobodys
