"""The whole of a host at a quiet moment, so that two moments can be compared; and how long the long forms take.

Both tests here have a short form, which ``make test`` runs, and a long one: ``make soak``.
"""

from __future__ import annotations

import json
import os
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import combinations
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


@dataclass
class Look:
    """What everybody has at a quiet moment: the kernel, the store, Docker."""

    host: Any
    networks: list[dict[str, Any]]  # dovetail's
    endpoints: list[dict[str, Any]]  # dovetail's
    containers: list[dict[str, Any]]  # Docker's
    docker_subnets: set[str]
    interfaces: list[Interface]
    held_for_docker: dict[str, str]  # address -> pool
    pools_of_docker: set[str]

    def problems(self, chance: random.Random, counts: Counter[str]) -> list[str]:
        """Say what is wrong: an address twice or of a gateway, store and kernel not the same, a neighbour not reached."""
        holders: dict[str, list[str]] = {}
        for interface in self.interfaces:
            for address in interface.addresses:
                holders.setdefault(address, []).append(f"{interface.owner}/{interface.name}")
        gateways = {s["gateway"] for n in self.networks for s in n["subnets"] if s.get("gateway")}
        counts["interfaces compared"] += len(self.interfaces)
        return [
            *(f"{address} is on {owners}" for address, owners in holders.items() if len(owners) > 1),
            *(f"{address} is a gateway's and on {holders[address]}" for address in gateways & set(holders)),
            *self._differences(holders),
            *self._unreachable(chance, counts),
            *self._deaf_ports(counts),
        ]

    def _differences(self, holders: dict[str, list[str]]) -> list[str]:
        stored = {a for e in self.endpoints for a in _bare(e)}
        waiting = [e for e in self.endpoints if e["status"] != "joined"]
        return [
            *(f"endpoint {e['id'][:12]} of {e['container']} is {e['status']}" for e in waiting),
            *(f"the store has {address}, the kernel has lost it" for address in stored - set(holders)),
            *(f"{holders[a]} have {a}, which the store has not" for a in set(holders) - stored),
        ]

    def _unreachable(self, chance: random.Random, counts: Counter[str]) -> list[str]:
        found = []
        for subnet in (ip_network(s["subnet"]) for n in self.networks for s in n["subnets"]):
            here = [(i, a) for i in self.interfaces for a in i.addresses if ip_address(a) in subnet]
            pairs = list(combinations(here, 2))
            for (one, _), (other, address) in chance.sample(pairs, min(len(pairs), 2)):
                counts["pings"] += 1
                if not self.host.pings(address, netns=one.netns):
                    found.append(f"{one.owner} does not reach {other.owner} at {address}")
        return found

    def _deaf_ports(self, counts: Counter[str]) -> list[str]:
        inner = {network["name"] for network in self.networks if network["internal"]}
        found = []
        for container in (c for c in self.containers if c["State"]["Running"]):
            outer = set(container["NetworkSettings"]["Networks"]) - inner
            for bindings in (container["HostConfig"]["PortBindings"] or {}).values() if outer else ():
                url = f"http://127.0.0.1:{bindings[0]['HostPort']}/"
                counts["ports fetched"] += 1
                if self.host.get(url) != "hello":
                    found.append(f"{container['Name'].strip('/')} does not answer at {url}")
        return found

    def forgotten(self) -> list[str]:
        """Say what is held for Docker, which does not know of it; no call tells us so."""
        known = {address for e in self.endpoints for address in _bare(e)}
        return [
            *(
                f"address {address} of {pool}"
                for address, pool in self.held_for_docker.items()
                if address not in known
            ),
            *(f"pool {subnet}" for subnet in self.pools_of_docker - self.docker_subnets),
        ]


def _bare(endpoint: dict[str, Any]) -> set[str]:
    return {address.partition("/")[0] for address in endpoint.get("addresses", [])}


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

    def _rows(self, statement: str) -> list[Any]:
        with closing(sqlite3.connect(self.host.dir / "state" / "dovetail.db")) as database:
            return list(database.execute(statement))

    def look(self) -> Look:
        """Look at everything; nobody may be at work."""
        networks = [self.api(f"/v1/networks/{network['name']}") for network in self.api("/v1/networks")]
        subnets = [ip_network(s["subnet"]) for n in networks for s in n["subnets"]]
        containers = self.containers()
        configs = [c for n in self.docker_networks() for c in n["IPAM"]["Config"] or []]
        held = self._rows("SELECT address, pool_id FROM addresses WHERE kind = 'docker'")
        pools = [json.loads(doc) for (doc,) in self._rows("SELECT doc FROM pools")]
        return Look(
            host=self.host,
            networks=networks,
            endpoints=self.api("/v1/endpoints"),
            containers=containers,
            docker_subnets={config["Subnet"] for config in configs},
            interfaces=list(self._interfaces(containers, subnets)),
            held_for_docker={str(ip_address(packed)): pool for packed, pool in held},
            pools_of_docker={pool["subnet"] for pool in pools if pool["owner"] == "docker"},
        )

    def containers(self) -> list[dict[str, Any]]:
        """Give Docker's containers, as ``docker inspect`` has them."""
        ids = self.docker("ps", "-aq", "--no-trunc").split()
        return json.loads(self.docker("inspect", *ids)) if ids else []

    def docker_networks(self) -> list[dict[str, Any]]:
        """Give Docker's networks that are ours, as ``docker network inspect`` has them."""
        ids = self.docker("network", "ls", "-q", "--filter", "driver=dovetail").split()
        return json.loads(self.docker("network", "inspect", *ids)) if ids else []

    def _interfaces(self, containers: list[dict[str, Any]], subnets: list[Any]) -> Iterator[Interface]:
        """Give every interface on a network of ours in a container that runs, a pod or a sandbox, as the kernel has it."""
        running = [c for c in containers if c["State"]["Running"]]
        places = {c["Name"].strip("/"): f"/proc/{c['State']['Pid']}/ns/net" for c in running}
        places |= {pod.name: f"/run/netns/{pod.name}" for pod in self.pods.values() if pod.result}
        places |= {s["name"]: s["netns"] for s in self.api("/v1/sandboxes") if s["face"] == "cli"}
        for owner, netns in places.items():
            for link in self.host.ip("addr", "show", netns=netns):
                local = [a["local"] for a in link["addr_info"] if a.get("scope") == "global"]
                ours = tuple(a for a in local if any(ip_address(a) in subnet for subnet in subnets))
                if ours:
                    yield Interface(owner, netns, link["ifname"], ours)


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
