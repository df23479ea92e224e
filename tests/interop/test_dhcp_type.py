"""Type ``dhcp`` as runtimes execute it: the installed plugins, a daemon or none, a real dnsmasq, and Go's plugins."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dnsmasq import Dnsmasq, wait_for
from dovetail.cni.install import install

pytestmark = [pytest.mark.root, pytest.mark.interop]

GO = "/usr/lib/cni"
VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
DAEMON = Path(__file__).parent / "peers" / "daemon_ahead.py"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Node:
    """A host with the plugins, a DHCP server on its bridge ``br0``, containers, and a daemon when one is started."""

    def __init__(self, host: Any, directory: Path) -> None:
        self.host, self.directory = host, directory
        self.server = Dnsmasq(host, directory)
        self.ours = str(directory / "bin")
        install(self.ours, run_dir=f"{directory}/run", state_dir=f"{directory}/state")
        self._containers: list[str] = []
        self._daemon: subprocess.Popen[bytes] | None = None
        self._ahead_s = 0.0
        self.later(0)

    # -- the daemon -----------------------------------------------------------------------------------

    def start(self, *prefix: str) -> None:
        """Start a daemon, after `prefix`, and wait until it answers."""
        places = ("--state-dir", f"{self.directory}/state", "--run-dir", f"{self.directory}/run")
        words = [sys.executable, str(DAEMON), f"{self.directory}/ahead", *places, "daemon"]
        with (self.directory / "daemon.log").open("ab") as log:
            plugins = ("--docker-plugin-dir", "")
            self._daemon = subprocess.Popen([*prefix, *words, *plugins], stdout=log, stderr=log)
        already = self.log().count("event=ready")
        wait_for(
            lambda: self.log().count("event=ready") > already or self._daemon.poll() is not None, self.log()
        )
        assert self._daemon.poll() is None, self.log()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the daemon."""
        if self._daemon is not None:
            self._daemon.send_signal(number)
            self._daemon.wait(30)
            self._daemon = None

    def later(self, seconds: float, *, ask_s: float = 25.0) -> None:
        """Let the daemon's leases be older, by so much; from its next start on it asks a server for `ask_s`."""
        self._ahead_s += seconds
        new = self.directory / "ahead.new"
        new.write_text(f"{self._ahead_s} {ask_s}", encoding="ascii")
        new.rename(self.directory / "ahead")

    def log(self) -> str:
        """Give what the daemons have said."""
        path = self.directory / "daemon.log"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def cli(self, *words: str) -> Any:
        """Run a command of ours, for what it prints as JSON."""
        places = ("--state-dir", f"{self.directory}/state", "--run-dir", f"{self.directory}/run")
        return json.loads(
            self.host.run(sys.executable, "-m", "dovetail", *places, *words, "--format", "json")
        )

    # -- containers -----------------------------------------------------------------------------------

    def container(self, name: str = "c1") -> str:
        """Give the path of a container's namespace, made where it is missing."""
        if name not in self._containers:
            self.host.run("ip", "netns", "add", name)
            self._containers.append(name)
        return f"/run/netns/{name}"

    def lose(self, name: str = "c1") -> None:
        """End a container without a word to the plugins."""
        self._containers.remove(name)
        self.host.run("ip", "netns", "del", name)

    def execute(
        self,
        verb: str,
        config: dict[str, Any],
        *,
        container: str = "c1",
        main: str = "",
        go_ipam: bool = False,
        **environment: str,
    ) -> tuple[int, Any, str]:
        """Run one call; `main`: the directory of the main plugin. Gives exit status, what was printed, standard error."""
        done = subprocess.run(
            [f"{main or self.ours}/{config['type']}"],
            env={
                "PATH": os.environ["PATH"],
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": container,
                "CNI_IFNAME": "eth0",
                "CNI_PATH": GO if go_ipam else f"{self.ours}:{GO}",
                "CNI_NETNS": self.container(container),
                **environment,
            },
            input=json.dumps(config).encode(),
            capture_output=True,
            timeout=60,
            check=False,
        )
        said = json.loads(done.stdout) if done.stdout else None
        return done.returncode, said, done.stderr.decode()

    def add(self, config: dict[str, Any], **how: Any) -> Any:
        """ADD, which succeeds; gives the result."""
        status, result, errors = self.execute("ADD", config, **how)
        assert status == 0, f"{result}{errors}\n{self.log()}\n{self.server.log()}"
        return result

    def delete(self, config: dict[str, Any], **how: Any) -> None:
        """DEL, which succeeds."""
        status, said, errors = self.execute("DEL", config, **how)
        assert status == 0, f"{said}{errors}\n{self.log()}"

    def check(self, config: dict[str, Any], result: Any, **how: Any) -> str:
        """CHECK with the result of ADD; gives what is wrong."""
        status, said, _ = self.execute("CHECK", {**config, "prevResult": result}, **how)
        assert (status == 0) == (said is None)
        return said["msg"] if said else ""

    def addresses(self, container: str = "c1") -> list[str]:
        """Give the global addresses of its eth0, IPv4 first."""
        (shown,) = self.host.ip("addr", "show", "eth0", netns=self.container(container))
        found = [f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] == "global"]
        return sorted(found, key=lambda text: (":" in text, text))

    def routes(self, container: str = "c1") -> set[tuple[str, str]]:
        """Give (destination, gateway) of its IPv4 routes."""
        rows = self.host.ip("-4", "route", netns=self.container(container))
        return {(row["dst"], row.get("gateway", "")) for row in rows}

    def links(self, container: str = "c1") -> set[str]:
        return set(self.host.links(self.container(container)))

    def pings(self, address: str, container: str = "c1") -> bool:
        command = ("nsenter", f"--net={self.container(container)}", "ping", "-c1", "-W2", address)
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=30).returncode == 0

    def plugins(self) -> list[list[str]]:
        """Give the plugins of each attachment that we know of."""
        return [view["plugins"] for view in self.cli("endpoint", "ls")]

    def end(self) -> None:
        self.stop(signal.SIGKILL)
        self.server.silence()
        for name in self._containers:
            self.host.run("ip", "netns", "del", name, check=False)


@pytest.fixture
def node(host: Any, tmp_path: Path) -> Iterator[Node]:
    if shutil.which("dnsmasq", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("dnsmasq is not installed (Debian package dnsmasq-base)")
    made = Node(host, tmp_path)
    try:
        yield made
    finally:
        made.end()


@pytest.fixture
def served(node: Node) -> Node:
    """With the daemon and the DHCP server."""
    node.server.serve()
    node.start()
    return node


@pytest.fixture(scope="session")
def go() -> str:
    if not os.path.exists(f"{GO}/dhcp"):
        pytest.skip(f"{GO}/dhcp is not installed (Debian package containernetworking-plugins)")
    return GO


def bridge(version: str = "1.1.0", *, ipam: dict[str, Any] | None = None, **keys: Any) -> dict[str, Any]:
    section = {"type": "dhcp", **(ipam or {})}
    return {"cniVersion": version, "name": "lan", "type": "bridge", "bridge": "br0", "ipam": section, **keys}


def leaving(node: Node) -> set[str]:
    """Give the addresses that nftables masquerades, as it lists them."""
    (listed,) = [one["set"] for one in node.host.nft("list", "set", "inet", "dovetail", "leaving4")[1:]]
    return set(listed.get("elem", ()))


# -- attachments ------------------------------------------------------------------------------------------


def test_add_check_and_del_in_every_version(served: Node) -> None:
    for version in VERSIONS:
        config = bridge(version)

        result = served.add(config)

        (address,) = served.addresses()
        named = result["ip4"]["ip"] if version < "0.3.0" else result["ips"][0]["address"]
        assert (result["cniVersion"], named) == (version, address)
        assert served.routes() == {("default", "10.9.0.1"), ("10.9.0.0/24", "")}
        assert served.pings("10.9.0.1")
        if version >= "0.4.0":
            assert served.check(config, result) == ""
        served.delete(config)
        served.delete(config)
        assert served.links() == {"lo"}
        wait_for(lambda: not served.server.given(), "the release is in dnsmasq's file")
    assert served.plugins() == []


def test_without_a_daemon_leases_are_got_and_given_back_and_a_daemon_renews_them(node: Node) -> None:
    node.server.serve()

    status, result, errors = node.execute("ADD", bridge())

    assert status == 0, result
    assert "leases are renewed by the daemon, and none runs here" in errors
    assert node.check(bridge(), result) == ""
    asked = node.server.said("DHCPREQUEST")
    node.start()
    node.later(61)
    wait_for(lambda: node.server.said("DHCPREQUEST") > asked, "the daemon renews")
    assert node.server.said("DHCPDISCOVER") == 1
    node.stop()
    node.delete(bridge())
    assert node.links() == {"lo"}
    wait_for(lambda: not node.server.given(), "the release is in dnsmasq's file")


def test_status_needs_a_daemon(node: Node) -> None:
    status, said, _ = node.execute("STATUS", bridge())
    assert (status, said["code"]) == (1, 50)
    assert "renewed by the daemon" in said["msg"]

    node.start()

    assert node.execute("STATUS", bridge())[0] == 0


def test_two_containers_have_addresses_of_their_own_and_reach_each_other(served: Node) -> None:
    for name in ("c1", "c2"):
        served.add(bridge(), container=name)

    (first,), (second,) = served.addresses("c1"), served.addresses("c2")

    assert first != second
    assert served.pings(second.partition("/")[0], "c1")


def test_inspect_shows_when_the_lease_ends(served: Node) -> None:
    served.add(bridge())

    (view,) = served.cli("endpoint", "inspect", "c1")

    assert view["plugins"] == ["bridge", "dhcp"]
    assert 60 < view["lease_ends"] - view["created"] < 121


def test_dhcpv6_and_all_that_the_server_says(served: Node) -> None:
    served.server.serve(
        "--dhcp-option=6,9.9.9.9", "--domain=example.test", "--dhcp-option=121,10.20.0.0/16,10.9.0.7"
    )
    config = bridge(ipam={"ipv6": True, "priority": 50})

    result = served.add(config)

    four, six = served.addresses()
    assert (four.partition(".")[0], six.endswith("/128")) == ("10", True)
    assert [ip["address"] for ip in result["ips"]] == [four, six]
    assert result["dns"] == {"nameservers": ["9.9.9.9"], "domain": "example.test"}
    assert served.routes() == {("10.20.0.0/16", "10.9.0.7"), ("10.9.0.0/24", "")}
    assert served.check(config, result) == ""
    served.delete(config)
    wait_for(lambda: not served.server.given(), "both releases are in dnsmasq's file")


def test_a_route_on_the_link_does_not_lead_by_the_gateway(served: Node) -> None:
    served.server.serve("--dhcp-option=121,10.20.0.0/16,0.0.0.0,0.0.0.0/0,10.9.0.1")

    served.add(bridge())

    assert served.routes() == {("10.20.0.0/16", ""), ("default", "10.9.0.1"), ("10.9.0.0/24", "")}


def test_a_macvlan_gets_a_lease(served: Node) -> None:
    config = macvlan(served)

    result = served.add(config)

    assert served.host.links(served.container())["eth0"]["linkinfo"]["info_kind"] == "macvlan"
    assert served.addresses() == [result["ips"][0]["address"]]
    assert served.pings("10.9.0.1")
    assert served.check(config, result) == ""
    served.delete(config)
    assert served.links() == {"lo"}
    wait_for(lambda: not served.server.given(), "the release is in dnsmasq's file")


def test_a_device_of_the_host_gets_a_lease_and_comes_back(served: Node) -> None:
    config = {**macvlan(served), "type": "host-device", "device": "up0"}

    result = served.add(config)

    assert served.addresses() == [result["ips"][0]["address"]]
    assert served.pings("10.9.0.1")
    assert served.check(config, result) == ""
    served.delete(config)
    assert served.links() == {"lo"}
    assert "up0" in served.host.links()
    wait_for(lambda: not served.server.given(), "the release is in dnsmasq's file")


def macvlan(node: Node) -> dict[str, Any]:
    """Make a wire from the bridge to the card ``up0``; gives a configuration on that."""
    node.host.run("ip", "link", "add", "port", "type", "veth", "peer", "name", "up0")
    node.host.run("ip", "link", "set", "port", "master", "br0", "up")
    node.host.run("ip", "link", "set", "up0", "up")
    config = {"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "up0"}
    return {**config, "ipam": {"type": "dhcp"}}


def test_ptp_refuses_it_and_leaves_nothing(served: Node) -> None:
    config = {"cniVersion": "1.1.0", "name": "lan", "type": "ptp", "ipam": {"type": "dhcp"}}

    status, said, _ = served.execute("ADD", config)

    assert (status, said["code"]) == (1, 7)
    assert "ptp makes that only when its addresses and gateways are known" in said["msg"]
    assert served.execute("STATUS", config)[0] == 1
    assert served.links() == {"lo"}
    assert served.plugins() == []


def test_without_a_server_add_fails_with_the_reason_and_leaves_nothing(node: Node) -> None:
    node.later(0, ask_s=0.5)
    node.start()
    before = set(node.host.links())

    status, said, _ = node.execute("ADD", bridge(ipMasq=True))

    assert (status, said["msg"]) == (1, "no DHCP server gave eth0 a lease within 0.5 s")
    assert node.links() == {"lo"}
    assert set(node.host.links()) == before
    assert node.plugins() == []


def test_what_a_crash_left_while_a_server_was_asked_is_taken_back(node: Node) -> None:
    node.server.serve()
    status, _, _ = node.execute("ADD", bridge(), DOVETAIL_FAILPOINT="ipam:dhcp=kill")
    assert (status, node.links()) == (-signal.SIGKILL, {"lo", "eth0"})

    node.start()

    assert node.links() == {"lo"}
    assert node.plugins() == []
    node.add(bridge())


# -- what becomes of leases -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_restart_of_the_daemon_keeps_the_lease_and_renews_it(served: Node, how: int) -> None:
    result = served.add(bridge())
    before = served.addresses()
    (ends,) = (view["lease_ends"] for view in served.cli("endpoint", "inspect", "c1"))
    asked = served.server.said("DHCPREQUEST"), served.server.said("DHCPDISCOVER")

    served.stop(how)
    served.start()
    served.later(61)

    wait_for(lambda: served.server.said("DHCPREQUEST") == asked[0] + 1, "the lease is renewed")
    wait_for(lambda: served.cli("endpoint", "inspect", "c1")[0]["lease_ends"] > ends + 60, "and written down")
    assert served.server.said("DHCPDISCOVER") == asked[1]
    assert served.addresses() == before
    assert served.check(bridge(), result) == ""
    served.delete(bridge())
    wait_for(lambda: not served.server.given(), "the release is in dnsmasq's file")


def test_a_lease_that_is_lost_takes_the_address_away_and_it_comes_back_with_the_server(served: Node) -> None:
    config = bridge(ipMasq=True)
    result = served.add(config)
    (address,) = served.addresses()
    routes = served.routes()
    assert leaving(served) == {address.partition("/")[0]}
    served.server.silence()

    served.later(121)

    wait_for(lambda: served.addresses() == [], "the address is taken away")
    assert served.routes() == set()
    assert leaving(served) == set()
    assert "the DHCP lease of interface 'eth0' is lost" in served.check(config, result)
    served.server.serve()
    served.later(64)
    wait_for(lambda: served.addresses() == [address], "the address comes back")
    wait_for(lambda: served.routes() == routes, "and its routes")
    wait_for(lambda: leaving(served) == {address.partition("/")[0]})
    assert served.check(config, result) == ""
    assert served.pings("10.9.0.1")


def test_another_address_replaces_the_old_one_and_published_ports_lead_there(served: Node) -> None:
    config = bridge(ipMasq=True)
    result = served.add(config)
    (old,) = served.addresses()
    ports = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
    portmap = {"cniVersion": "1.1.0", "name": "lan", "type": "portmap", "runtimeConfig": ports}
    served.add({**portmap, "prevResult": result})
    served.server.silence()
    served.server.forget()
    served.server.serve("--dhcp-option=3,10.9.0.2", first="10.9.0.100", last="10.9.0.110")

    served.later(106)

    wait_for(lambda: served.addresses() not in ([], [old]), "another address is there")
    (new,) = served.addresses()
    wait_for(lambda: served.routes() == {("default", "10.9.0.2"), ("10.9.0.0/24", "")}, "and its routes")
    assert int(new.partition("/")[0].rpartition(".")[2]) >= 100
    assert leaving(served) == {new.partition("/")[0]}
    listed = served.host.run("nft", "list", "table", "inet", "dovetail")
    assert new.partition("/")[0] + " . 80" in listed
    assert old.partition("/")[0] not in listed
    assert served.check(config, result) == ""
    assert served.cli("endpoint", "inspect", "c1")[0]["addresses"] == [new]
    served.delete(portmap)
    served.delete(config)
    assert served.plugins() == []


def test_a_container_that_ends_without_del_is_forgotten_when_its_lease_is_due(served: Node, go: str) -> None:
    served.add(bridge("1.0.0"), main=go)
    assert served.plugins() == [["dhcp"]]
    served.lose()

    served.later(61)

    wait_for(lambda: served.plugins() == [], "the part is gone")


def test_after_a_reboot_the_lease_is_nobodys(served: Node) -> None:
    served.add(bridge())
    served.stop(signal.SIGKILL)
    (served.directory / "boot_id").write_text(f"{uuid.uuid4()}\n", encoding="ascii")

    another = f"mount -n --bind {served.directory}/boot_id {BOOT_ID}"
    served.start("unshare", "--mount", "sh", "-c", f'{another} && exec "$@"', "sh")

    assert served.plugins() == []
    served.delete(bridge())


def test_gc_gives_back_what_the_runtime_does_not_have(served: Node) -> None:
    for name in ("c1", "c2"):
        served.add(bridge(), container=name)
    (kept,) = served.addresses("c2")
    valid = [{"containerID": "c2", "ifname": "eth0"}]

    status, said, _ = served.execute("GC", {**bridge(), "cni.dev/valid-attachments": valid})

    assert status == 0, said
    wait_for(lambda: list(served.server.given()) == [kept.partition("/")[0]], "the other is given back")
    assert served.links("c1") == {"lo"}
    assert served.addresses("c2") == [kept]


def test_del_by_another_process_ends_the_renewals(served: Node) -> None:
    served.add(bridge())
    settings = Path(served.ours) / ".dovetail"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(
        text.replace(f"{served.directory}/run", f"{served.directory}/elsewhere"), encoding="utf-8"
    )
    served.delete(bridge())
    settings.write_text(text, encoding="utf-8")
    asked = served.server.said("DHCPREQUEST")

    served.later(61)
    result = served.add(bridge())

    assert served.server.said("DHCPREQUEST") == asked + 1
    assert served.check(bridge(), result) == ""


# -- beside Go's plugins ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_gos_main_plugins_take_leases_of_ours(served: Node, go: str, kind: str) -> None:
    config = bridge("1.0.0") if kind == "bridge" else macvlan(served)

    result = served.add(config, main=go)

    assert served.addresses() == [result["ips"][0]["address"]]
    assert served.pings("10.9.0.1")
    assert served.check(config, result, main=go) == ""
    old = served.addresses()
    served.server.silence()
    served.later(121)
    wait_for(lambda: served.addresses() == [], "the lost lease takes the address from Go's interface")
    served.server.serve()
    served.later(64)
    wait_for(lambda: served.addresses() == old, "and gives it back")
    assert ("default", "10.9.0.1") in served.routes()
    served.delete(config, main=go)
    assert served.plugins() == []


def test_gos_daemon_and_ours_give_a_container_the_same_address(served: Node, go: str) -> None:
    socket = f"{served.directory}/go.sock"
    config = bridge("1.0.0", ipam={"daemonSocketPath": socket})
    daemon = subprocess.Popen([f"{go}/dhcp", "daemon", "-socketpath", socket], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.path.exists(socket), "Go's daemon")
        theirs = served.add(config, main=go, go_ipam=True)["ips"][0]
        served.delete(config, main=go, go_ipam=True)

        ours = served.add(config)["ips"][0]

        assert (ours["address"], ours["gateway"]) == (theirs["address"], theirs["gateway"])
        served.lose()  # so that nothing is given back
        served.delete(config)
        again = served.add(config, main=go, go_ipam=True)["ips"][0]
        assert (again["address"], again["gateway"]) == (theirs["address"], theirs["gateway"])
        served.delete(config)
        assert served.links() == {"lo"}
    finally:
        daemon.kill()
        daemon.wait()
