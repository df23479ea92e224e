"""The whole of a host at a quiet moment, so that two moments can be compared; and how long the long forms take.

Both tests here have a short form, which ``make test`` runs, and a long one: ``make soak``.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

import pytest

_VOLATILE = ("handle", "counter", "packets", "bytes")


@dataclass(frozen=True)
class Footprint:
    """What dovetail, Docker and the kernel have: of networks, endpoints, addresses, links, namespaces and rules."""

    store: dict[str, Any]
    links: list[str]
    mounts: list[str]
    ruleset: list[str]
    docker: dict[str, list[str]]

    def differences(self, later: Footprint) -> list[str]:
        """Say, a line each, what is different `later`; nothing is empty."""
        found = [
            f"{name}: {before} before, {after} after"
            for part in ("store", "docker")
            for name, before in getattr(self, part).items()
            if before != (after := getattr(later, part)[name])
        ]
        for part in ("links", "mounts", "ruleset"):
            before, after = set(getattr(self, part)), set(getattr(later, part))
            found += [f"{part}: {one} is left over" for one in sorted(after - before)]
            found += [f"{part}: {one} is lost" for one in sorted(before - after)]
        return found

    def counts(self) -> str:
        """Write the counts in a line."""
        words = {**{name: len(rows) for name, rows in self.store.items()}, "links": len(self.links)}
        words |= {"mounted namespaces": len(self.mounts), "entries of nftables": len(self.ruleset)}
        return ", ".join(f"{number} {name}" for name, number in words.items())


def _footprint(docker: Any, dovetail: Any) -> Footprint:
    host = docker.host
    nouns = {"networks": "network", "endpoints": "endpoint", "sandboxes": "sandbox", "pools": "pool"}
    store = {plural: _rows(dovetail.json(noun, "ls")) for plural, noun in nouns.items()}
    mounts = host.run("cat", "/proc/mounts")
    ruleset = json.loads(host.run("nft", "-j", "list", "ruleset"))["nftables"]
    return Footprint(
        store=store,
        links=sorted(host.links()),
        # dockerd removes the empty file that a namespace was mounted on once a minute, so the mount counts
        mounts=sorted(line.split()[1] for line in mounts.splitlines() if line.split()[2] == "nsfs"),
        ruleset=sorted(line for entry in ruleset for line in _lines(entry)),
        docker={
            "containers": docker("ps", "-aq").split(),
            "networks": sorted(docker("network", "ls", "--format", "{{.Name}}").split()),
        },
    )


def _rows(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(row, sort_keys=True) for row in rows)


def _lines(entry: dict[str, Any]) -> list[str]:
    """Write an entry of nftables' ruleset as a line, and each element of a set or a map as one of its own."""
    kind, body = next(iter(entry.items()))
    elements = body.pop("elem", [])
    name = " ".join(str(body.get(key, "")) for key in ("family", "table", "name"))
    lines = [] if kind == "metainfo" else [json.dumps({kind: _lasting(body)}, sort_keys=True)]
    return lines + [f"element of {name}: {json.dumps(_lasting(element))}" for element in elements]


def _lasting(entry: Any) -> Any:
    """Leave out what differs between two looks at the same."""
    if isinstance(entry, dict):
        return {key: _lasting(value) for key, value in entry.items() if key not in _VOLATILE}
    if isinstance(entry, list):
        return [_lasting(value) for value in entry]
    return entry


@dataclass
class Pod:
    """A CNI container as its runtime knows it. network: dovetail's name for it; result: what ADD gave, None before."""

    name: str
    network: str
    result: Any = None


class Interface(NamedTuple):
    """An interface that lives: whose it is, where, and its addresses of networks of ours."""

    owner: str
    netns: str
    name: str
    addresses: tuple[str, ...]


class World:
    """A host with dovetail on it and everybody who uses it: Docker, a CNI runtime, and a person at the command line."""

    def __init__(self, docker: Any, dovetail: Any) -> None:
        self.docker, self.dovetail, self.host = docker, dovetail, docker.host
        self.pods: dict[str, Pod] = {}
        self._bin = str(self.host.dir / "cni-bin")
        dovetail.cli("cni", "install", "--bin-dir", self._bin)

    # -- a CNI runtime -------------------------------------------------------------------------------------

    def cni(self, verb: str, pod: Pod, **more: Any) -> Any:
        """Execute the installed plugin as a runtime does; gives what subprocess gives."""
        conf = {
            "cniVersion": "1.1.0",
            "name": f"net-{pod.network}",
            "type": "dovetail",
            "network": pod.network,
        }
        conf |= {"prevResult": pod.result} if pod.result and verb in {"CHECK", "DEL"} else {}
        environment = {"CNI_COMMAND": verb, "CNI_PATH": self._bin}
        if verb != "GC":
            environment |= {
                "CNI_CONTAINERID": pod.name,
                "CNI_NETNS": f"/run/netns/{pod.name}",
                "CNI_IFNAME": "eth0",
            }
        done = self.host.try_run(
            f"{self._bin}/dovetail", env=environment, stdin=json.dumps({**conf, **more}), timeout_s=120
        )
        if verb == "ADD" and done.returncode == 0:
            pod.result = json.loads(done.stdout)
        return done

    # -- what there is ---------------------------------------------------------------------------------------

    def api(self, path: str) -> Any:
        """Give what the daemon answers to GET."""
        socket = str(self.host.dir / "dv" / "api.sock")
        return json.loads(
            self.host.run("curl", "-sS", "--fail-with-body", "--unix-socket", socket, f"http://x{path}")
        )

    def held_for_docker(self) -> set[str]:
        """Give the addresses of endpoints that our IPAM holds because Docker asked for them, as the database has them."""
        with closing(sqlite3.connect(self.host.dir / "state" / "dovetail.db")) as database:
            rows = database.execute("SELECT address FROM addresses WHERE kind = 'docker'")
            return {str(ip_address(packed)) for (packed,) in rows}

    def containers(self) -> list[dict[str, Any]]:
        """Give Docker's containers, as ``docker inspect`` has them."""
        ids = self.docker("ps", "-aq", "--no-trunc").split()
        return json.loads(self.docker("inspect", *ids)) if ids else []

    def docker_networks(self) -> dict[str, dict[str, Any]]:
        """Give Docker's networks that are ours, as ``docker network inspect`` has them."""
        ids = self.docker("network", "ls", "-q", "--filter", "driver=dovetail").split()
        found = json.loads(self.docker("network", "inspect", *ids)) if ids else []
        return {network["Name"]: network for network in found}

    def networks(self) -> dict[str, dict[str, Any]]:
        """Give dovetail's networks in full, by name."""
        names = [network["name"] for network in self.api("/v1/networks")]
        return {name: self.api(f"/v1/networks/{name}") for name in names}

    def interfaces(self) -> list[Interface]:
        """Give every interface on a network of ours in a container that runs, a pod or a sandbox, as the kernel has it."""
        subnets = [ip_network(s["subnet"]) for n in self.networks().values() for s in n["subnets"]]
        running = [c for c in self.containers() if c["State"]["Running"]]
        places = {c["Name"].strip("/"): f"/proc/{c['State']['Pid']}/ns/net" for c in running}
        places |= {pod.name: f"/run/netns/{pod.name}" for pod in self.pods.values() if pod.result}
        sandboxes = [s for s in self.api("/v1/sandboxes") if s["face"] == "cli"]
        places |= {sandbox["name"]: sandbox["netns"] for sandbox in sandboxes}
        found = []
        for owner, netns in places.items():
            for link in self.host.ip("addr", "show", netns=netns):
                local = [a["local"] for a in link["addr_info"] if a.get("scope") == "global"]
                ours = tuple(a for a in local if any(ip_address(a) in subnet for subnet in subnets))
                if ours:
                    found.append(Interface(owner, netns, link["ifname"], ours))
        return found


@pytest.fixture
def footprint(docker: Any, dovetail_daemon: Any) -> Callable[[], Footprint]:
    """Give what takes the `Footprint` of now."""
    return lambda: _footprint(docker, dovetail_daemon)


@pytest.fixture
def minutes() -> float | None:
    """How long the long forms are to run, ``SOAK_MINUTES``; None for the short forms."""
    text = os.environ.get("SOAK_MINUTES", "")
    return float(text) if text else None


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Give what prints a line although pytest keeps the output of tests that pass."""

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", flush=True)

    return say


@pytest.fixture
def world(docker: Any, dovetail_daemon: Any) -> World:
    """dovetail and its users on a host of their own."""
    return World(docker, dovetail_daemon)


@pytest.fixture
def pod() -> type[Pod]:
    """Give what a CNI runtime knows of a container."""
    return Pod
