"""The same networks and containers on Docker's own drivers and on dovetail: who reaches whom comes out the same.

Three networks (bridge, internal, macvlan) and six containers are set up twice in one private host, first on Docker's
drivers, then on dovetail with the same options, and probed from each container, from the host, from a neighbour of
the host that routes straight to the containers, from a machine far away, and from the LAN of the macvlan's parent:
by address, by name, by published port, IPv4 and IPv6. Every cell must be equal, except for those that
``docs/explanation/docker-parity.md`` names; and what that page names must be different.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "docker-parity.md"

# what answers: its own name, and the address that it sees the client at
WHO = """#!/bin/sh
echo "Content-Type: text/plain"
echo
echo "$(cat {place}) sees $REMOTE_ADDR"
"""


@dataclass(frozen=True)
class Net:
    """A network of the scene. docker, dovetail: what ``docker network create`` is told on Docker's driver and on ours."""

    name: str
    subnets: tuple[str, str]
    docker: tuple[str, ...]
    dovetail: tuple[str, ...]
    options: tuple[str, ...] = ()


OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")
LAN = ("-o", "parent=lan0", "--gateway", "10.68.0.1", "--gateway", "fd68::1")
NETS = (
    Net("web", ("10.66.0.0/24", "fd66::/64"), ("-d", "bridge"), OURS),
    Net("shut", ("10.67.0.0/24", "fd67::/64"), ("-d", "bridge"), OURS, ("--internal",)),
    Net(
        "lan", ("10.68.0.0/24", "fd68::/64"), ("-d", "macvlan"), (*OURS, "-o", "dovetail.driver=macvlan"), LAN
    ),
)
# container -> its networks, and its published port; its addresses end in .10, .11, …
CONTAINERS: dict[str, tuple[tuple[str, ...], int]] = {
    "a1": (("web",), 8080),
    "a2": (("web",), 0),
    "b1": (("shut",), 8081),
    "b2": (("shut", "web"), 8082),
    "m1": (("lan",), 8083),
    "m2": (("lan",), 0),
}
# addresses of the host, by the side that they are on
HOST = {
    "outside": ("192.0.2.1", "2001:db8:2::1"),
    "internet": ("198.51.100.1", "2001:db8:3::1"),
    "lan": ("10.68.0.250", "fd68::250"),
    "web": ("10.66.0.1", "fd66::1"),
    "loopback": ("127.0.0.1", "::1"),
}
PLACES = {
    "outside": ("192.0.2.2", "2001:db8:2::2"),
    "internet": ("198.51.100.2", "2001:db8:3::2"),
    "gateway": ("10.68.0.1", "fd68::1"),
}


class Cell(NamedTuple):
    """A probe: who asks whom, in which way."""

    source: str
    target: str
    way: str

    def __str__(self) -> str:
        return f"{self.source} → {self.target}, {self.way}"


Table = dict[Cell, str]


def addresses(container: str) -> dict[str, tuple[str, str]]:
    """Give the addresses of a container by network."""
    number = 10 + list(CONTAINERS).index(container)
    subnets = {net.name: net.subnets for net in NETS}
    return {
        name: (subnets[name][0].replace(".0/24", f".{number}"), subnets[name][1].replace("/64", f"{number}"))
        for name in CONTAINERS[container][0]
    }


# -- the scene ------------------------------------------------------------------------------------------------

_AROUND = """
ip netns add outside; ip netns add internet; ip netns add gateway
ip link add wan type veth peer name eth0 netns outside
ip link add far type veth peer name eth0 netns internet
ip link add lan0 type veth peer name eth0 netns gateway
ip link add eth1 netns gateway type veth peer name eth1 netns internet
for end in wan:192.0.2.1:2001:db8:2::1 far:198.51.100.1:2001:db8:3::1 lan0:10.68.0.250:fd68::250; do
  rest=${end#*:}; ip addr add ${rest%%:*}/24 dev ${end%%:*}; ip addr add ${rest#*:}/64 dev ${end%%:*} nodad
  ip link set ${end%%:*} up
done
for end in outside:192.0.2.2:2001:db8:2::2 internet:198.51.100.2:2001:db8:3::2 gateway:10.68.0.1:fd68::1; do
  rest=${end#*:}; ns=${end%%:*}
  ip -n $ns addr add ${rest%%:*}/24 dev eth0; ip -n $ns addr add ${rest#*:}/64 dev eth0 nodad
  ip -n $ns link set lo up; ip -n $ns link set eth0 up
done
ip -n gateway addr add 203.0.113.1/24 dev eth1; ip -n gateway addr add 2001:db8:4::1/64 dev eth1 nodad
ip -n internet addr add 203.0.113.2/24 dev eth1; ip -n internet addr add 2001:db8:4::2/64 dev eth1 nodad
ip -n gateway link set eth1 up; ip -n internet link set eth1 up
# the LAN's gateway leads to the internet, and the internet knows the LAN
ip netns exec gateway sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
ip -n gateway route add 198.51.100.0/24 via 203.0.113.2; ip -n gateway route add 2001:db8:3::/64 via 2001:db8:4::2
ip -n internet route add 10.68.0.0/24 via 203.0.113.1; ip -n internet route add fd68::/64 via 2001:db8:4::1
# the neighbour tries the short way to containers
for subnet in 10.66.0.0/24 10.67.0.0/24; do ip -n outside route add $subnet via 192.0.2.1; done
for subnet in fd66::/64 fd67::/64; do ip -n outside route add $subnet via 2001:db8:2::1; done
"""


class Scene:
    """A private host with three other machines around it, and the six containers on the drivers of one side."""

    def __init__(self, docker: Any) -> None:
        self.docker, self.host = docker, docker.host
        self.host.run("sh", "-ec", _AROUND)
        for place in PLACES:
            www = self.host.dir / place
            (www / "cgi-bin").mkdir(parents=True)
            (www / "name").write_text(place, encoding="ascii")
            script = www / "cgi-bin" / "who"
            script.write_text(WHO.format(place=www / "name"), encoding="ascii")
            script.chmod(0o755)
            command = ("/bin/busybox", "httpd", "-f", "-h", str(www))
            self.host.spawn(f"{place}.log", "ip", "netns", "exec", place, *command)

    def build(self, side: str) -> None:
        """Make the networks and containers; `side` is an attribute of `Net`."""
        for net in NETS:
            subnets = ("--ipv6", *(word for subnet in net.subnets for word in ("--subnet", subnet)))
            self.docker("network", "create", *getattr(net, side), *subnets, *net.options, net.name)
        script = (
            "mkdir -p /www/cgi-bin; hostname >/www/name; printf '%s' \"$WHO\" >/www/cgi-bin/who;"
            " busybox chmod 755 /www/cgi-bin/who; exec httpd -f -h /www"
        )
        for name, (networks, port) in CONTAINERS.items():
            first, *rest = networks
            fixed = self._fixed(name, first)
            publish = ("-p", f"{port}:80") if port else ()
            words = ("run", "-d", "--name", name, "--hostname", name, "--network", first, *fixed, *publish)
            content = WHO.format(place="/www/name")
            self.docker(*words, "-e", f"WHO={content}", "bb", "sh", "-c", script)
            for other in rest:
                self.docker("network", "connect", *self._fixed(name, other), other, name)

    @staticmethod
    def _fixed(container: str, network: str) -> tuple[str, ...]:
        v4, v6 = addresses(container)[network]
        return ("--ip", v4, "--ip6", v6)

    def remove(self) -> None:
        """Take all of it away again."""
        self.docker("rm", "-f", *CONTAINERS)
        self.docker("network", "rm", *(net.name for net in NETS))

    # -- probing ------------------------------------------------------------------------------------------------

    def probe(self) -> Table:
        """Fill the table."""
        netns = {name: self.docker.netns(name) for name in CONTAINERS}
        netns |= {place: f"/run/netns/{place}" for place in PLACES} | {"host": ""}
        for one, other, network in (("a1", "a2", "web"), ("b1", "b2", "shut"), ("m1", "m2", "lan")):
            for there, here in ((one, other), (other, one)):  # until all servers have begun
                url, inside = _url(addresses(here)[network][0]), netns[there]
                self.host.wait_for(lambda: self.host.get(url, netns=inside), what=f"{there} {url}")  # noqa: B023
        cells = dict(_cells())
        with ThreadPoolExecutor(48) as pool:
            answers = pool.map(lambda item: self._ask(netns, *item), cells.items())
            names = [
                Cell(one, other, "by name") for one in CONTAINERS for other in CONTAINERS if one != other
            ]
            named = pool.map(self._by_name, names)
            return dict(zip(cells, answers, strict=True)) | dict(zip(names, named, strict=True))

    def _ask(self, netns: dict[str, str], cell: Cell, url: str) -> str:
        answer = self.host.get(url, netns=netns[cell.source], wait_s=2)
        return answer.replace("[", "").replace("]", "").replace("::ffff:", "") or "no"

    def _by_name(self, cell: Cell) -> str:
        """Look a name up with the container's own resolver, and fetch by it."""
        fetch = f"printf 'GET /cgi-bin/who HTTP/1.0\\r\\n\\r\\n' | nc -w 3 {cell.target} 80"
        script = f"busybox nslookup {cell.target} 127.0.0.11; {fetch}"
        done = self.docker.attempt("exec", cell.source, "sh", "-c", script)
        found = re.findall(r"^Address(?: \d+)?: ([0-9a-f.:]+)$", done.stdout, re.MULTILINE)
        found = [address for address in found if not address.startswith("127.0.0.11")]
        said = re.search(r"^\w+ sees .*", done.stdout, re.MULTILINE)
        who = said[0].replace("[", "").replace("]", "").replace("::ffff:", "") if said else "no"
        return f"{' '.join(sorted(set(found))) or 'no such name'}; {who}"


def _url(address: str, port: int = 80) -> str:
    return f"http://{f'[{address}]' if ':' in address else address}:{port}/cgi-bin/who"


def _cells() -> Iterator[tuple[Cell, str]]:
    """Give every probe but those by name, with its URL."""
    for source in (*CONTAINERS, "host", *PLACES):
        targets = [
            (target, f"its address on {network}", address, 80)
            for target in CONTAINERS
            for network, pair in addresses(target).items()
            for address in (pair if target != source else ())
        ]
        targets += [
            (target, f"port at the host's address {where}", address, port)
            for target, (_, port) in CONTAINERS.items()
            for where in _sides(source)
            for address in (HOST[where] if port else ())
        ]
        if source in CONTAINERS:
            targets += [
                (place, "its address", address, 80) for place, pair in PLACES.items() for address in pair
            ]
        for target, way, address, port in targets:
            yield Cell(source, target, f"{way}, IPv{6 if ':' in address else 4}"), _url(address, port)


def _sides(source: str) -> tuple[str, ...]:
    """Give the sides from which `source` sees the host."""
    sides = {
        "outside": ("outside", "web"),
        "internet": ("internet",),
        "gateway": ("lan",),
        "host": tuple(HOST),
    }
    return sides.get(source, ("outside", "lan", "web"))


# -- what may differ --------------------------------------------------------------------------------------------


class Exemption(NamedTuple):
    """A line of the page: what differs and how. The first three are patterns with ``*``."""

    source: str
    target: str
    way: str
    docker: str
    dovetail: str

    def fits(self, cell: Cell, docker: str, dovetail: str) -> bool:
        """Say whether it is about that cell, and says of it what is so."""
        words = (*cell, docker, dovetail)
        return all(
            any(fnmatch(word, p) for p in one.split(" or ")) for word, one in zip(words, self, strict=True)
        )


def exemptions() -> list[Exemption]:
    """Read the tables of the page: each row has the five columns of `Exemption`, in backquotes."""
    rows = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            rows.append(Exemption(*cells))
    return rows


@pytest.fixture
def scene(private_host: Any, dovetail_daemon: Any, make_dockerd: Any) -> Scene:
    """The host and its neighbours; dovetail's daemon runs all the time, and has no network on Docker's turn."""
    return Scene(make_dockerd("--experimental", "--ip6tables"))


def test_who_reaches_whom_is_the_same_on_dockers_own_drivers_and_on_dovetail(
    scene: Scene, dovetail_daemon: Any
) -> None:
    tables = {}
    for side in ("docker", "dovetail"):
        scene.build(side)
        tables[side] = scene.probe()
        scene.remove()
    assert dovetail_daemon.left() == []

    docker, dovetail = tables["docker"], tables["dovetail"]
    unused = exemptions()
    strange = []
    for cell in docker:
        if docker[cell] == dovetail[cell]:
            continue
        fitting = [e for e in exemptions() if e.fits(cell, docker[cell], dovetail[cell])]
        unused = [e for e in unused if e not in fitting]
        if not fitting:
            strange.append(f"{cell}: Docker: {docker[cell]}, dovetail: {dovetail[cell]}")
    assert strange == []
    assert unused == [], "the page names differences that are none"
