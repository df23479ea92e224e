"""Traffic by the rules in the reference plugins' form: published ports, masquerading, bridges kept apart, MAC addresses kept to."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from dovetail.features import (
    iptables_firewall,
    iptables_masquerade,
    iptables_portmap,
    reference_rules,
    spoof_check,
)
from dovetail.features.iptables_firewall import FirewallSettings
from dovetail.features.iptables_portmap import PortmapSettings
from dovetail.features.reference_names import Owner
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import LinkSpec
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac
from dovetail.model.port import PortMapping

pytestmark = pytest.mark.root

OWNER = Owner("mynet", "ctr1", "eth0")
ADDRESSES = [ip_interface("10.50.0.2/24"), ip_interface("fd50::2/64")]
HOST4, HOST6, OUTSIDE4, OUTSIDE6 = "192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"
MAC = Mac("02:00:5e:10:00:01")
# answers each connection, or datagram, with the address that it came from
SERVER = """
import socket, sys
port, kind = int(sys.argv[1]), sys.argv[2]
if kind == "tcp":
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
else:
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("::", port))
print("ready", flush=True)
while True:
    if kind == "tcp":
        connection, peer = server.accept()
        connection.sendall(peer[0].removeprefix("::ffff:").encode())
        connection.close()
    else:
        peer = server.recvfrom(99)[1]
        server.sendto(peer[0].removeprefix("::ffff:").encode(), peer)
"""
CLIENT = """
import socket, sys
address, port, kind = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
client = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
client.settimeout(float(sys.argv[4]))
try:
    client.connect((address, port))
    client.send(b"?")
    print(client.recv(99).decode(), end="")
except OSError as exc:
    print(f"failed: {exc}", end="")
"""


class Scene:
    """A host with a bridge, br50, a container on it, and somebody outside, who knows no way to the container."""

    def __init__(self, host: Any, kernel: LinuxKernel, box: str, outside: str) -> None:
        self.host, self.kernel, self.box, self.outside = host, kernel, box, outside

    def ask(self, where: str, address: str, port: int, kind: str = "tcp", *, timeout_s: float = 5.0) -> str:
        """Ask from a namespace (the host's is ``""``): gives whom the server saw."""
        entered = ("nsenter", f"--net={where}") if where else ()
        words = (sys.executable, "-c", CLIENT, address, str(port), kind, str(timeout_s))
        return str(self.host.run(*entered, *words))

    @contextmanager
    def serving(self, where: str, port: int, kind: str = "tcp") -> Iterator[None]:
        words = ["nsenter", f"--net={where}", sys.executable, "-c", SERVER, str(port), kind]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                yield
            finally:
                server.kill()


def attach(kernel: LinuxKernel, path: str, bridge: str, addresses: Any, end: str, mac: Mac = MAC) -> None:
    """Connect a namespace to a bridge whose gateways are the first addresses of its subnets."""
    with kernel.open_netns(path) as netns:
        kernel.add_veth(
            LinkSpec(
                end, master=bridge, hairpin=True, up=True
            ),  # as hairpinMode: with br_netfilter it counts
            LinkSpec("eth0", mac=mac, netns=netns, up=True),
        )
        with kernel.inside(netns) as inner:
            for address in addresses:
                inner.add_address("eth0", address)
                everywhere = ip_network("::/0" if address.version == 6 else "0.0.0.0/0")
                inner.add_route("eth0", Route(destination=everywhere, gateway=address.network[1]))


def add_bridge(kernel: LinuxKernel, name: str, addresses: Any) -> None:
    kernel.add_bridge(name)
    kernel.set_link(name, up=True)
    for address in addresses:
        kernel.add_address(name, ip_interface(f"{address.network[1]}/{address.network.prefixlen}"))


@pytest.fixture
def scene(host: Any, kernel: LinuxKernel, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as undo:
        paths = [str(tmp_path / name) for name in ("box", "outside")]
        for path in paths:
            kernel.create_netns(path).close()
            undo.callback(kernel.delete_netns, path)
        box, outside = paths
        for key in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            kernel.set_sysctl(key, "1")
        add_bridge(kernel, "br50", ADDRESSES)
        attach(kernel, box, "br50", ADDRESSES, "veth0")
        with kernel.open_netns(outside) as netns:
            kernel.add_veth(LinkSpec("wan", up=True), LinkSpec("eth0", netns=netns, up=True))
            with kernel.inside(netns) as inner:
                for text in (f"{OUTSIDE4}/24", f"{OUTSIDE6}/64"):
                    inner.add_address("eth0", ip_interface(text))
        for text in (f"{HOST4}/24", f"{HOST6}/64"):
            kernel.add_address("wan", ip_interface(text))
        yield Scene(host, kernel, box, outside)


@pytest.fixture
def another(scene: Scene, tmp_path: Path) -> Iterator[str]:
    """Another empty namespace."""
    path = str(tmp_path / "another")
    scene.kernel.create_netns(path).close()
    yield path
    scene.kernel.delete_netns(path)


def test_a_published_port_is_reached_from_everywhere(scene: Scene) -> None:
    kernel = scene.kernel
    iptables_masquerade.make(kernel, OWNER, ADDRESSES)
    iptables_portmap.make(
        kernel, OWNER, ADDRESSES, [PortMapping(container_port=80, host_port=8080)], link="br50"
    )

    with scene.serving(scene.box, 80):
        assert scene.ask(scene.outside, HOST4, 8080) == OUTSIDE4
        assert scene.ask(scene.outside, HOST6, 8080) == OUTSIDE6
        assert scene.ask("", HOST4, 8080) == HOST4
        assert scene.ask("", "127.0.0.1", 8080) == "10.50.0.1", "by the bridge's address"
        assert scene.ask(scene.box, HOST4, 8080) == "10.50.0.1", "its own port, by the host"
        assert scene.ask(scene.box, HOST6, 8080) == "fd50::1"

        assert reference_rules.remove(kernel, OWNER, [address.ip for address in ADDRESSES])
        assert scene.ask(scene.outside, HOST4, 8080).startswith("failed")


def test_a_published_udp_port_is_the_next_containers_at_once(scene: Scene, another: str) -> None:
    kernel = scene.kernel
    port = [PortMapping(container_port=53, host_port=5353, protocol="udp")]
    second = Owner("mynet", "ctr2", "eth0")
    inside = [ip_interface("10.50.0.3/24")]
    attach(kernel, another, "br50", inside, "veth1", Mac("02:00:5e:10:00:03"))
    script = f"""
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(5)
client.bind(("", 4000))
client.connect(("{HOST4}", 5353))
client.send(b"?")
print(client.recv(99).decode(), end="")
"""

    with scene.serving(scene.box, 53, "udp"), scene.serving(another, 53, "udp"):
        iptables_portmap.make(kernel, OWNER, ADDRESSES[:1], port)
        assert scene.host.run("nsenter", f"--net={scene.outside}", sys.executable, "-c", script) == OUTSIDE4
        reference_rules.remove(kernel, OWNER, [ADDRESSES[0].ip])
        iptables_portmap.make(kernel, second, inside, port)
        assert scene.host.run("nsenter", f"--net={scene.outside}", sys.executable, "-c", script) == OUTSIDE4
    flows = scene.host.run("conntrack", "-L", "-p", "udp", check=False)
    assert "src=10.50.0.3" in flows
    assert "src=10.50.0.2" not in flows


def test_a_port_of_one_address_is_not_one_of_another(scene: Scene) -> None:
    mapping = PortMapping(container_port=80, host_port=8080, host_ip=ip_address(HOST4))
    scene.kernel.add_address("wan", ip_interface("192.0.2.3/24"))
    iptables_portmap.make(scene.kernel, OWNER, ADDRESSES, [mapping], link="br50")

    with scene.serving(scene.box, 80):
        assert scene.ask(scene.outside, HOST4, 8080) == OUTSIDE4
        assert scene.ask(scene.outside, "192.0.2.3", 8080).startswith("failed")
        assert scene.ask(scene.outside, HOST6, 8080).startswith("failed")


def test_conditions_say_whose_packets_are_led_there(scene: Scene) -> None:
    settings = PortmapSettings(conditions4=("!", "-s", f"{OUTSIDE4}/32"))
    iptables_portmap.make(
        scene.kernel,
        OWNER,
        ADDRESSES,
        [PortMapping(container_port=80, host_port=8080)],
        settings,
        link="br50",
    )

    with scene.serving(scene.box, 80):
        assert scene.ask(scene.outside, HOST4, 8080).startswith("failed")
        assert scene.ask(scene.outside, HOST6, 8080) == OUTSIDE6
        assert scene.ask("", HOST4, 8080) == HOST4


def test_with_masq_all_everybody_has_the_hosts_address(scene: Scene) -> None:
    settings = PortmapSettings(masquerade_all=True, mark_bit=20)
    iptables_portmap.make(
        scene.kernel,
        OWNER,
        ADDRESSES,
        [PortMapping(container_port=80, host_port=8080)],
        settings,
        link="br50",
    )

    with scene.serving(scene.box, 80):
        assert scene.ask(scene.outside, HOST4, 8080) == "10.50.0.1"
        assert scene.ask(scene.outside, HOST6, 8080) == "fd50::1"


def test_what_leaves_is_masqueraded_and_what_stays_is_not(scene: Scene) -> None:
    iptables_masquerade.make(scene.kernel, OWNER, ADDRESSES)

    with scene.serving(scene.outside, 99):
        assert scene.ask(scene.box, OUTSIDE4, 99) == HOST4
        assert scene.ask(scene.box, OUTSIDE6, 99) == HOST6


def test_a_host_that_drops_what_it_forwards_lets_a_container_out(scene: Scene) -> None:
    iptables_masquerade.make(scene.kernel, OWNER, ADDRESSES)
    for program in ("iptables", "ip6tables"):
        scene.host.run(program, "-P", "FORWARD", "DROP")

    with scene.serving(scene.outside, 99):
        assert scene.ask(scene.box, OUTSIDE4, 99, timeout_s=0.3).startswith("failed")
        iptables_firewall.make(scene.kernel, ADDRESSES)
        assert scene.ask(scene.box, OUTSIDE4, 99) == HOST4
        assert scene.ask(scene.box, OUTSIDE6, 99) == HOST6
        scene.host.run("iptables", "-A", "CNI-ADMIN", "-d", OUTSIDE4, "-j", "REJECT")
        assert scene.ask(scene.box, OUTSIDE4, 99).startswith("failed"), "the administrator's rule comes first"


def test_bridges_are_kept_apart_by_the_policy(scene: Scene, another: str) -> None:
    kernel = scene.kernel
    others = [ip_interface("10.51.0.2/24"), ip_interface("fd51::2/64")]
    add_bridge(kernel, "br51", others)
    attach(kernel, another, "br51", others, "veth1")
    with scene.serving(another, 80), scene.serving(scene.outside, 99):
        assert scene.ask(scene.box, "10.51.0.2", 80) == "10.50.0.2"
        for bridge, addresses in (("br50", ADDRESSES), ("br51", others)):
            settings = FirewallSettings(policy="same-bridge", bridge=bridge)
            iptables_firewall.make(kernel, addresses, settings)
            iptables_masquerade.make(kernel, OWNER, addresses)
        assert scene.ask(scene.box, "10.51.0.2", 80, timeout_s=0.3).startswith("failed")
        assert scene.ask(scene.box, "fd51::2", 80, timeout_s=0.3).startswith("failed")
        assert scene.ask(scene.box, OUTSIDE4, 99) == HOST4


@pytest.mark.parametrize("policy", ["same-bridge", "isolated"])
def test_neighbours_are_kept_apart_by_the_policy_isolated(scene: Scene, another: str, policy: Any) -> None:
    if scene.host.run("sysctl", "-n", "net.bridge.bridge-nf-call-iptables", check=False).strip() != "1":
        pytest.skip("the kernel has no br_netfilter, so what stays on a bridge is not filtered by iptables")
    inside = [ip_interface("10.50.0.3/24")]
    attach(scene.kernel, another, "br50", inside, "veth1", Mac("02:00:5e:10:00:03"))
    iptables_firewall.make(
        scene.kernel, [*ADDRESSES, *inside], FirewallSettings(policy=policy, bridge="br50")
    )

    with scene.serving(another, 80):
        assert scene.ask("", "10.50.0.3", 80) == "10.50.0.1"
        answer = scene.ask(scene.box, "10.50.0.3", 80, timeout_s=0.5)
        assert answer.startswith("failed") if policy == "isolated" else answer == "10.50.0.2"


def test_a_container_that_takes_another_mac_address_is_not_heard(scene: Scene) -> None:
    with scene.serving(scene.box, 80):
        spoof_check.make(scene.kernel, OWNER, "veth0", MAC)
        assert scene.ask("", "10.50.0.2", 80) == "10.50.0.1"

        scene.host.run(
            "nsenter", f"--net={scene.box}", "ip", "link", "set", "eth0", "address", "02:00:5e:10:00:02"
        )
        scene.host.run("ip", "neigh", "flush", "dev", "br50")
        assert scene.ask("", "10.50.0.2", 80, timeout_s=0.3).startswith("failed")

        assert spoof_check.remove(scene.kernel, OWNER)
        scene.host.run("ip", "neigh", "flush", "dev", "br50")
        assert scene.ask("", "10.50.0.2", 80) == "10.50.0.1"
