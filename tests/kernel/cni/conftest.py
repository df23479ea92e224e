"""Chains of installed plugins, executed as a runtime does on a host of their own, with a daemon and without."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from differential.libcni import Attachment, PluginError, Runtime

GO = "/usr/lib/cni"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
_PROTOCOLS = {"tcp": (1, 6), "udp": (2, 17), "sctp": (1, 132)}  # SOCK_…, IPPROTO_…
_SERVER = """
import socket, sys
port, kind, protocol, name = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].encode()
s = socket.socket(socket.AF_INET6, kind, protocol)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
if kind == 1:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::", port))
if kind == 1:
    s.listen(16)
print("up", flush=True)
while True:
    if kind == 1:
        c, who = s.accept()
        with c: c.sendall(name + b" " + who[0].removeprefix("::ffff:").encode())
    else:
        _, who = s.recvfrom(100)
        s.sendto(name + b" " + who[0].removeprefix("::ffff:").encode(), who)
"""
_CLIENT = """
import socket, sys
address, port, kind, protocol, source = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind, protocol)
s.settimeout(float(sys.argv[6]))
if source:
    s.bind(("", source))
s.connect((address, port))
if kind == 2:
    s.send(b"?")
print(s.recv(100).decode())
"""


class Node:
    """A host with our plugins on it; `way` is ``daemon`` or ``alone``."""

    def __init__(self, installation: Any, way: str) -> None:
        self.installation, self.host, self.way = installation, installation.host, way
        self.bin = str(installation.directory / "bin")
        self.data_dir = str(installation.directory / "networks")
        self.runtime = Runtime(self.bin, GO)
        self.go = Runtime(GO)
        self._known: dict[str, tuple[dict[str, Any], Attachment]] = {}
        if way == "daemon":
            assert installation.start(), installation.log()

    # -- configurations ---------------------------------------------------------------------------------

    def ipam(self, *subnets: str, **keys: Any) -> dict[str, Any]:
        """Give an ``ipam`` of type host-local with a range set for each subnet."""
        wanted = subnets or ("10.50.0.0/24", "fd50::/64")
        return {
            "type": "host-local",
            "ranges": [[{"subnet": s}] for s in wanted],
            "dataDir": self.data_dir,
            **keys,
        }

    def bridge(self, *subnets: str, **keys: Any) -> dict[str, Any]:
        """Give a ``bridge`` that is a gateway."""
        return {
            "type": "bridge",
            "bridge": "br0",
            "isDefaultGateway": True,
            "ipam": self.ipam(*subnets),
            **keys,
        }

    @staticmethod
    def chain(*plugins: dict[str, Any], name: str = "pods", version: str = "1.0.0") -> dict[str, Any]:
        """Put plugins into a list."""
        return {"cniVersion": version, "name": name, "plugins": list(plugins)}

    # -- what a runtime does ------------------------------------------------------------------------------

    def attachment(
        self, container: str = "c1", ifname: str = "eth0", *, args: str = "", **caps: Any
    ) -> Attachment:
        """Give the attachment of a container, whose namespace is made where there is none."""
        return Attachment(container, self.installation.netns(container), ifname, args, caps)

    def add(
        self,
        conflist: dict[str, Any],
        container: str = "c1",
        ifname: str = "eth0",
        *,
        runtime: Any = None,
        **more: Any,
    ) -> Any:
        """ADD; whatever comes of it is deleted after the test."""
        attachment = self.attachment(container, ifname, **more)
        self._known[f"{conflist['name']}/{container}/{ifname}"] = conflist, attachment
        return (runtime or self.runtime).add(conflist, attachment)

    def check(
        self, conflist: dict[str, Any], container: str = "c1", ifname: str = "eth0", **more: Any
    ) -> None:
        """CHECK."""
        self.runtime.check(conflist, self.attachment(container, ifname, **more))

    def delete(
        self,
        conflist: dict[str, Any],
        container: str = "c1",
        ifname: str = "eth0",
        *,
        netns: str | None = None,
        without_result: bool = False,
        runtime: Any = None,
    ) -> None:
        """DEL; `netns` is another path, or an empty one."""
        path = self.installation.netns(container) if netns is None else netns
        attachment = Attachment(container, path, ifname)
        (runtime or self.runtime).delete(conflist, attachment, without_result=without_result)
        self._known.pop(f"{conflist['name']}/{container}/{ifname}", None)

    def refused(self, action: Callable[[], Any]) -> PluginError:
        """Do what a plugin refuses, and give the error."""
        with pytest.raises(PluginError) as caught:
            action()
        error = caught.value
        assert error.code not in {None, 0, 999}, error
        assert "internal error" not in error.message, error
        return error

    # -- what there is --------------------------------------------------------------------------------------

    def inside(self, container: str) -> str:
        """Give the path of a container's namespace."""
        return str(self.installation.netns(container))

    def addresses(self, container: str = "c1", ifname: str = "") -> list[str]:
        """Give the global addresses in a container."""
        links = self.host.ip("addr", "show", netns=self.inside(container))
        return sorted(
            f"{a['local']}/{a['prefixlen']}"
            for link in links
            if not ifname or link["ifname"] == ifname
            for a in link["addr_info"]
            if a["scope"] == "global"
        )

    def routes(self, container: str = "c1", family: str = "-4") -> dict[str, Any]:
        """Give a container's routes by destination."""
        return {r["dst"]: r for r in self.host.ip(family, "route", "show", netns=self.inside(container))}

    def elements(self, table: str = "dovetail") -> set[str]:
        """Give the elements of our table, each with its set."""
        done = subprocess.run(["nft", "-j", "list", "table", "inet", table], capture_output=True, check=False)
        if done.returncode:
            return set()
        entries = [e.get("set") or e.get("map") for e in json.loads(done.stdout)["nftables"]]
        return {f"{e['name']} {json.dumps(one)}" for e in entries if e for one in e.get("elem", [])}

    def files(self, network: str = "pods") -> dict[str, str]:
        """Give host-local's files of addresses and what they hold."""
        directory = Path(self.data_dir, network)
        found = sorted(directory.iterdir()) if directory.is_dir() else []
        return {f.name: f.read_text() for f in found if f.name[0].isalnum() and not f.name.startswith("l")}

    def rows(self) -> list[str]:
        """Give the rows of parts and ports."""
        path = f"{self.installation.state_dir}/dovetail.db"
        if not os.path.exists(path):  # no plugin has been here yet
            return []
        with closing(sqlite3.connect(path)) as database:
            found = [
                f"{kind} {doc}"
                for kind, doc in database.execute("SELECT kind, doc FROM parts ORDER BY rowid")
            ]
            return found + [str(row) for row in database.execute("SELECT * FROM ports ORDER BY 1, 2, 3")]

    def state(self, *containers: str) -> dict[str, Any]:
        """Give all that plugins change, without what changes by itself; to be compared."""
        found: dict[str, Any] = {}
        for where in ("", *(self.inside(name) for name in containers)):
            found[f"{where} links"] = _links(self.host.ip("addr", "show", netns=where))
            for family in ("-4", "-6"):
                routes = self.host.ip(family, "route", "show", "table", "main", netns=where)
                found[f"{where} routes{family}"] = sorted(
                    f"{r['dst']} {r.get('gateway')} {r.get('dev')} {r.get('metric')}"
                    for r in routes
                    if not r["dst"].startswith("fe80")
                )
            prefix = ("nsenter", f"--net={where}") if where else ()
            found[f"{where} qdiscs"] = self.host.run(*prefix, "tc", "qdisc", "show")
        tables = [t["table"] for t in self.host.nft("list", "tables") if "table" in t]
        others = [t for t in tables if (t["family"], t["name"]) != ("inet", "dovetail")]
        found["nft"] = {
            f"{t['family']} {t['name']}": self.host.run("nft", "list", "table", t["family"], t["name"])
            for t in others
        }
        found["elements"] = self.elements()
        found["rows"], found["files"] = self.rows(), self.files()
        return found

    def left(self) -> list[str]:
        """Name what is there though nobody is attached; bridges stay, and so does the empty table."""
        found = [f"link {name}" for name in self.host.links() if name.startswith(("veth", "bwp", "dv"))]
        found += [f"element {one}" for one in self.elements()] + [f"row {one}" for one in self.rows()]
        networks = os.listdir(self.data_dir) if os.path.isdir(self.data_dir) else []
        return found + [
            f"address {name} of {network}" for network in networks for name in self.files(network)
        ]

    # -- traffic ----------------------------------------------------------------------------------------------

    def outside(self) -> str:
        """Give the namespace of a machine beyond the host, 192.0.2.2 and 2001:db8::2, which has no route on."""
        path = str(self.installation.netns("outside"))
        if "wan" not in self.host.links():
            self.host.run(
                "ip", "link", "add", "wan", "type", "veth", "peer", "name", "eth0", "netns", "outside"
            )
            self.host.run("ip", "link", "set", "wan", "up")
            for address in ("192.0.2.1/24", "2001:db8::1/64"):
                self.host.run("ip", "addr", "add", address, "dev", "wan", *(["nodad"] * (":" in address)))
            for address in ("192.0.2.2/24", "2001:db8::2/64"):
                self.host.run(
                    "ip",
                    "-n",
                    "outside",
                    "addr",
                    "add",
                    address,
                    "dev",
                    "eth0",
                    *(["nodad"] * (":" in address)),
                )
            self.host.run("ip", "-n", "outside", "link", "set", "eth0", "up")
        return path

    def pings(self, where: str, address: str) -> bool:
        """Say whether `address` is reached from a namespace, or with an empty path from the host."""
        prefix = ("nsenter", f"--net={where}") if where else ()
        command = [*prefix, "ping", "-c1", "-W2", address.partition("/")[0]]
        return (
            subprocess.run(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False
            ).returncode
            == 0
        )

    @contextmanager
    def serving(
        self, where: str, port: int, protocol: str = "tcp", *, name: str = "server"
    ) -> Iterator[None]:
        """Serve a port in a namespace: who asks is told `name` and the address it is seen with."""
        kind, number = _PROTOCOLS[protocol]
        words = ["nsenter", f"--net={where}", sys.executable, "-IS", "-c", _SERVER]
        server = subprocess.Popen([*words, str(port), str(kind), str(number), name], stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == b"up\n"
            yield
        finally:
            server.kill()
            server.communicate()

    def ask(
        self,
        address: str,
        port: int,
        protocol: str = "tcp",
        *,
        where: str = "",
        source: int = 0,
        patience_s: float = 3,
    ) -> str:
        """Ask a server from a namespace, or from the host; an empty text where there is no answer."""
        kind, number = _PROTOCOLS[protocol]
        prefix = ["nsenter", f"--net={where}"] if where else []
        words = [*prefix, sys.executable, "-IS", "-c", _CLIENT, address]
        words += [str(each) for each in (port, kind, number, source, patience_s)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=30).stdout.strip()

    # -- the end ------------------------------------------------------------------------------------------------

    def clean(self) -> None:
        """Delete what a test has attached; nothing may be left."""
        for conflist, attachment in list(self._known.values())[::-1]:
            self.runtime.delete(conflist, attachment)
        self._known = {}
        left = self.left()
        for name in self.host.links():
            if name != "lo" and name != "wan" and not name.startswith("veth"):
                self.host.run("ip", "link", "del", name, check=False)
        for name in self.installation.forget_namespaces():
            self.host.run("ip", "netns", "del", name, check=False)
        self.host.run("ip", "link", "del", "wan", check=False)
        shutil.rmtree(self.data_dir, ignore_errors=True)
        if left:  # the other tests are to have a clean host all the same
            with closing(sqlite3.connect(f"{self.installation.state_dir}/dovetail.db")) as database, database:
                database.execute("DELETE FROM parts")
                database.execute("DELETE FROM ports")
            self.host.run("nft", "delete", "table", "inet", "dovetail", check=False)
        assert left == []


def _links(rows: list[Any]) -> dict[str, Any]:
    """Give of each link what a plugin may have changed."""
    names = {link["ifindex"]: link["ifname"] for link in rows}
    found = {}
    for link in rows:
        slave = link.get("linkinfo", {}).get("info_slave_data", {})
        found[link["ifname"]] = [
            *(str(link.get(key)) for key in ("mtu", "address", "ifalias", "promiscuity", "qdisc")),
            "UP" in link["flags"],
            names.get(link.get("master"), link.get("master")),
            [slave.get(key) for key in ("hairpin", "isolated")],
            sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] != "link"),
        ]
    return found


@pytest.fixture(scope="module")
def site(
    request: Any, module_host: Any, tmp_path_factory: pytest.TempPathFactory, make_installation: Any
) -> Iterator[Node]:
    """One installation for the tests of a module; by default with a daemon."""
    if not os.path.exists(f"{GO}/bridge"):
        pytest.skip(f"no plugins in {GO} (Debian package containernetworking-plugins)")
    installation = make_installation(module_host, tmp_path_factory.mktemp("n"))
    yield Node(installation, getattr(request, "param", "daemon"))
    installation.end()


@pytest.fixture(scope="session")
def make_node() -> Callable[[Any, str], Node]:
    """Give what makes a node of an installation, for modules that want one of their own."""
    return Node


@pytest.fixture
def node(site: Node) -> Iterator[Node]:
    """The host, clean before and after."""
    yield site
    site.clean()


@pytest.fixture(params=VERSIONS)
def version(request: Any) -> str:
    """Each version of the specification."""
    return str(request.param)
