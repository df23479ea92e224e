"""macvlan on the real kernel, on a veth and on an ifb: what `ip` says, who reaches whom, what is left."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.drivers import sandbox_end
from dovetail.errors import Conflict, InvalidArgument, KernelError, NotFound, Unsupported
from dovetail.kernel.protocol import Dummy, LinkSpec, Macvlan, Vlan
from dovetail.model.addresses import parse_address, parse_subnet
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.mac import Mac
from dovetail.model.network import Network, NetworkSpec, SubnetSpec
from dovetail.model.sandbox import Sandbox

pytestmark = pytest.mark.root


def wait_for(condition: Callable[[], object], *, what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


class Scene:
    """A host with a network card `up0` and an engine. On the wire of a veth is a router, 10.5.0.254 and fd05::fe."""

    def __init__(self, host: Any, directory: Path, wire: str) -> None:
        self.host = host
        self.directory = directory
        self.engine = build_engine(state_dir=str(directory / "state"), run_dir=str(directory / "run"))
        self.kernel = self.engine.kernel
        self.router = ""
        if wire == "ifb":
            host.run("ip", "link", "add", "up0", "type", "ifb")
        else:
            self.router = self.netns("router")
            host.run("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", self.router)
            self.inside("router", "ip", "link", "set", "eth0", "up")
            for address in ("10.5.0.254/24", "fd05::fe/64"):
                self.inside(
                    "router", "ip", "addr", "add", address, "dev", "eth0", *["nodad"] * (":" in address)
                )
        host.run("ip", "link", "set", "up0", "up")

    def netns(self, name: str) -> str:
        path = str(self.directory / name)
        if not os.path.exists(path):
            self.kernel.create_netns(path).close()
        return path

    def inside(self, name: str, *command: str) -> str:
        return str(self.host.run("nsenter", f"--net={self.netns(name)}", *command))

    def create(self, *subnets: str, name: str = "lan", internal: bool = False, **options: str) -> Network:
        """Make a network; subnets are written SUBNET or SUBNET@RANGE."""
        specs = []
        for subnet, _, ip_range in (text.partition("@") for text in subnets or ("10.5.0.0/24", "fd05::/64")):
            router = (
                {"10.5.0.0/24": "10.5.0.254", "fd05::/64": "fd05::fe"}.get(subnet) if self.router else None
            )
            specs.append(
                SubnetSpec(
                    subnet=parse_subnet(subnet),
                    ip_range=parse_subnet(ip_range) if ip_range else None,
                    gateway=parse_address(router) if router else None,
                    version=6 if ":" in subnet else 4,
                )
            )
        options = {"parent": "up0", **options}
        return self.engine.networks.create(
            NetworkSpec(name=name, driver="macvlan", subnets=tuple(specs), options=options, internal=internal)
        )

    def attach(self, container: str, network: str = "lan", *, mac: str = "", ip: str = "") -> Attachment:
        path = self.netns(container)
        spec = EndpointSpec(
            owner=Owner(face="cni", network=network, container=container, ifname="eth0"),
            mac=Mac(mac) if mac else None,
            addresses=(parse_address(ip),) if ip else (),
        )
        with self.kernel.open_netns(path) as netns:
            sandbox = Sandbox(id=container, name=container, netns=path, face="cni")
            return self.engine.endpoints.attach(network, spec, netns=netns, sandbox=sandbox)

    def detach(self, container: str) -> None:
        for endpoint in self.engine.endpoints.all():
            if endpoint.owner.container == container:
                self.engine.endpoints.detach(endpoint.id)

    def check(self, container: str) -> list[str]:
        (endpoint,) = [e for e in self.engine.endpoints.all() if e.owner.container == container]
        with self.kernel.open_netns(self.netns(container)) as netns:
            return self.engine.endpoints.check(endpoint.id, netns)

    def link(self, container: str) -> Any:
        return self.host.links(self.netns(container)).get("eth0")

    def pings(self, where: str, address: object, *, wait_s: int = 5) -> bool:
        """Say whether an address is reached from a container, or from the host where that is empty."""
        prefix = ["nsenter", f"--net={self.netns(where)}"] if where else []
        command = [*prefix, "ping", "-c1", f"-W{wait_s}", str(address)]
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False, timeout=30).returncode == 0

    def made(self) -> set[str]:
        return set(self.host.links()) - {"lo", "up0"}

    def end(self, nobodys: Callable[..., list[str]]) -> None:
        if (self.directory / "state" / "lock").exists():  # else nothing was done
            assert nobodys(self.host.run, str(self.directory / "state")) == []
        for endpoint in self.engine.endpoints.all():
            self.engine.endpoints.detach(endpoint.id)
        for network in self.engine.networks.all():
            self.engine.networks.delete(network.id)
        for name in os.listdir(self.directory):
            if name not in {"state", "run"}:
                self.kernel.delete_netns(str(self.directory / name))


def first(attachment: Attachment, version: int = 4) -> object:
    return next(address.ip for address in attachment.addresses if address.version == version)


@pytest.fixture
def on_wire(host: Any, tmp_path: Path, nobodys: Callable[..., list[str]]) -> Iterator[Scene]:
    scene = Scene(host, tmp_path, "veth")
    yield scene
    scene.end(nobodys)


@pytest.fixture(params=["veth", "ifb"])
def scene(request: Any, host: Any, tmp_path: Path, nobodys: Callable[..., list[str]]) -> Iterator[Scene]:
    scene = Scene(host, tmp_path, request.param)
    yield scene
    scene.end(nobodys)


# -- the link -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_the_interface_is_a_macvlan_of_the_networks_mode(scene: Scene, mode: str) -> None:
    scene.create(mode=mode)
    attachment = scene.attach("a")

    link = scene.link("a")

    data = link["linkinfo"]
    assert (data["info_kind"], data["info_data"]["mode"]) == ("macvlan", mode)
    assert link["link_index"] == scene.host.links()["up0"]["ifindex"]
    assert (link["address"], link["mtu"]) == (attachment.mac, attachment.mtu)
    assert link["ifalias"].startswith("dovetail:")
    assert "UP" in link["flags"]
    if mode == "passthru":
        assert link["address"] == scene.host.links()["up0"]["address"]
    assert scene.made() == set(), "nothing is on the host"
    assert scene.check("a") == []


def test_addresses_and_routes_are_those_of_the_attachment(on_wire: Scene) -> None:
    on_wire.create()
    attachment = on_wire.attach("a", mac="02:00:00:00:00:09", ip="10.5.0.77")

    netns = on_wire.netns("a")
    (shown,) = on_wire.host.ip("addr", "show", "dev", "eth0", netns=netns)
    found = {f"{a['local']}/{a['prefixlen']}" for a in shown["addr_info"] if a["scope"] == "global"}
    assert found == {str(address) for address in attachment.addresses} == {"10.5.0.77/24", "fd05::1/64"}
    assert shown["address"] == "02:00:00:00:00:09"
    for family, gateway in (("-4", "10.5.0.254"), ("-6", "fd05::fe")):
        (default,) = on_wire.host.ip(family, "route", "show", "default", netns=netns)
        assert (default["gateway"], default["dev"]) == (gateway, "eth0")
    for protocol, name in (("ipv4", "arp_notify"), ("ipv6", "ndisc_notify")):
        assert on_wire.inside("a", "cat", f"/proc/sys/net/{protocol}/conf/eth0/{name}") == "1\n"


def test_neighbours_learn_who_has_the_address_now(on_wire: Scene) -> None:
    """A router keeps an address's MAC for minutes: the next container with it tells its own when it comes up."""
    on_wire.create()
    on_wire.attach("a", ip="10.5.0.9")
    assert on_wire.pings("router", "10.5.0.9")
    on_wire.detach("a")

    attachment = on_wire.attach("b", ip="10.5.0.9")

    (neighbour,) = on_wire.host.ip("neigh", "show", "10.5.0.9", netns=on_wire.router)
    assert neighbour["lladdr"] == attachment.mac
    assert on_wire.pings("router", "10.5.0.9")


# -- who reaches whom -----------------------------------------------------------------------------


def test_endpoints_reach_each_other_in_mode_bridge(scene: Scene) -> None:
    scene.create()
    a, b = scene.attach("a"), scene.attach("b")

    for version in (4, 6):
        assert scene.pings("a", first(b, version))
        assert scene.pings("b", first(a, version))


def test_endpoints_keep_apart_in_mode_private(on_wire: Scene) -> None:
    on_wire.create(mode="private")
    on_wire.attach("a")
    b = on_wire.attach("b")

    assert not on_wire.pings("a", first(b), wait_s=1)
    assert on_wire.pings("a", "10.5.0.254"), "the wire is reached"


def test_the_wire_is_reached_and_the_host_is_not(on_wire: Scene) -> None:
    on_wire.host.run("ip", "addr", "add", "10.5.0.1/24", "dev", "up0")
    on_wire.create()
    a = on_wire.attach("a")

    assert str(first(a)) == "10.5.0.2", "nobody gets an address that the host has"
    assert on_wire.pings("a", "10.5.0.254")
    assert on_wire.pings("a", "fd05::fe")
    assert on_wire.pings("router", first(a))
    assert not on_wire.pings("a", "10.5.0.1", wait_s=1)
    assert not on_wire.pings("", first(a), wait_s=1)


def test_with_host_access_host_and_endpoints_reach_each_other(scene: Scene) -> None:
    scene.host.run("ip", "addr", "add", "10.5.0.1/24", "dev", "up0")
    network = scene.create("10.5.0.0/24@10.5.0.128/25", "fd05::/64", host_access="true")
    a = scene.attach("a")

    link = scene.host.links()[network.link]
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    assert (link["link"], "UP" in link["flags"]) == ("up0", True)
    for version in (4, 6):
        assert scene.pings("", first(a, version))
    assert scene.pings("a", "10.5.0.128")
    if scene.router:
        assert scene.pings("", "10.5.0.254"), "the rest of the wire is where it was"
    scene.detach("a")
    scene.engine.networks.delete("lan")
    assert scene.made() == set()
    assert [r["dst"] for r in scene.host.ip("route", "show")] == ["10.5.0.0/24"]


def test_the_wire_knows_the_hosts_addresses_by_the_macs_of_their_links(on_wire: Scene) -> None:
    on_wire.host.run("ip", "addr", "add", "10.5.0.1/24", "dev", "up0")
    on_wire.create("10.5.0.0/24@10.5.0.128/25", host_access="true")
    macs = set()

    for _ in range(5):  # two answers would race
        on_wire.inside("router", "ip", "neigh", "flush", "all")
        assert on_wire.pings("router", "10.5.0.1")
        (neighbour,) = on_wire.host.ip("neigh", "show", "10.5.0.1", netns=on_wire.router)
        macs.add(neighbour["lladdr"])

    assert macs == {on_wire.host.links()["up0"]["address"]}


def test_the_hosts_interface_comes_back_when_it_was_lost(scene: Scene) -> None:
    network = scene.create("10.5.0.0/24@10.5.0.128/25", host_access="10.5.0.130")
    a = scene.attach("a")
    scene.host.run("ip", "link", "del", network.link)
    assert not scene.pings("", first(a), wait_s=1)

    report = scene.engine.reconcile()

    assert report.failed == []
    assert scene.pings("", first(a))
    assert scene.check("a") == []
    before = scene.host.ip("addr", "show", "dev", network.link)
    scene.engine.reconcile()
    assert scene.host.ip("addr", "show", "dev", network.link) == before


def test_an_internal_network_has_no_way_out(on_wire: Scene) -> None:
    on_wire.create(internal=True)
    on_wire.attach("a")

    assert on_wire.host.ip("route", "show", "default", netns=on_wire.netns("a")) == []


# -- the parent -----------------------------------------------------------------------------------


def test_the_mtu_follows_the_parent_unless_one_was_asked_for(scene: Scene) -> None:
    scene.host.run("ip", "link", "set", "up0", "mtu", "1450")
    scene.create("10.5.0.0/24")
    scene.create("10.6.0.0/24", name="narrow", mtu="1300")
    assert (scene.attach("a").mtu, scene.attach("b", "narrow").mtu) == (1450, 1300)

    scene.host.run("ip", "link", "set", "up0", "mtu", "1400")

    assert (scene.link("a")["mtu"], scene.link("b")["mtu"]) == (1400, 1300)
    assert (scene.check("a"), scene.check("b")) == ([], [])
    assert scene.attach("c").mtu == 1400
    with pytest.raises(InvalidArgument, match="an MTU of 1500 is more than 'up0' has, which is 1400"):
        scene.create("10.7.0.0/24", name="wide", mtu="1500")


def test_a_parent_that_vanishes_takes_the_interfaces_and_is_told_about(scene: Scene) -> None:
    scene.create()
    scene.attach("a")

    scene.host.run("ip", "link", "del", "up0")

    assert scene.link("a") is None
    assert scene.check("a") == ["the parent 'up0' is gone", "interface 'eth0' is gone from the sandbox"]
    with pytest.raises(NotFound, match=r"'up0' \(the parent of network 'lan' is gone: make it again\)"):
        scene.attach("b")
    report = scene.engine.reconcile()
    assert [finding.kind for finding in report.findings] == ["endpoint"], (
        "the endpoint has lost its interface"
    )
    assert "up0" in " ".join(report.failed)
    scene.host.run("ip", "link", "add", "up0", "up", "type", "ifb")
    assert scene.attach("b").ifname == "eth0"
    assert scene.link("b")["link_index"] == scene.host.links()["up0"]["ifindex"]


def test_passthru_has_the_parent_for_one_endpoint(scene: Scene) -> None:
    scene.create(mode="passthru")
    with pytest.raises(Conflict, match="network 'lan', in mode passthru, has 'up0' for itself"):
        scene.create("10.6.0.0/24", name="second")
    with pytest.raises(InvalidArgument, match="has the MAC address of up0"):
        scene.attach("a", mac="02:00:00:00:00:09")
    scene.attach("a")

    with pytest.raises(Conflict):
        scene.attach("b")

    assert scene.link("b") is None
    assert [e.owner.container for e in scene.engine.endpoints.all()] == ["a"]
    scene.detach("a")
    assert scene.attach("b").ifname == "eth0"


def test_a_parent_that_somebody_has_out_of_sight_is_refused_when_the_network_is_made(scene: Scene) -> None:
    with scene.kernel.open_netns(scene.netns("guest")) as guest:
        scene.kernel.add_link(LinkSpec("eth0", netns=guest), Macvlan("passthru"), parent="up0")

    with pytest.raises(Conflict, match="'up0' takes no more macvlan links: one in mode passthru has it"):
        scene.create()

    assert scene.engine.networks.all() == []
    assert scene.made() == set()
    assert scene.engine.core.store.pools() == []


@pytest.mark.parametrize(
    ("parent", "text"),
    [
        ("nope", "no such interface: 'nope'"),
        ("lo", "'lo' leads nowhere"),
        ("port0", "'port0' is a port of bridge br0"),
        ("tun0", "'tun0' is no Ethernet interface"),
        ("other-name", r"'other-name' is another name of up0 \(give up0\)"),
        ("up0.4095", "4095 is no VLAN of up0"),
    ],
)
def test_what_cannot_be_a_parent_is_refused_when_the_network_is_made(
    on_wire: Scene, parent: str, text: str
) -> None:
    run = on_wire.host.run
    run("ip", "link", "add", "br0", "type", "bridge")
    run("ip", "link", "add", "port0", "master", "br0", "type", "veth", "peer", "name", "far0")
    run("ip", "tuntap", "add", "tun0", "mode", "tun")
    run("ip", "link", "property", "add", "dev", "up0", "altname", "other-name")

    with pytest.raises((NotFound, InvalidArgument, Conflict), match=text):
        on_wire.create(parent=parent)

    assert on_wire.engine.networks.all() == []


@pytest.fixture
def needs(scene: Scene) -> Callable[[Any, str], None]:
    """Skip where the kernel has no such kind of link."""

    def probe(settings: Any, feature: str) -> None:
        try:
            parent = "" if isinstance(settings, Dummy) else "up0"
            scene.kernel.add_link(LinkSpec("probe"), settings, parent=parent)
        except Unsupported:
            pytest.skip(f"this kernel has no {feature}")
        scene.kernel.delete_links(["probe"])

    return probe


def test_a_vlan_is_made_and_goes_with_the_last_network_on_it(
    scene: Scene, needs: Callable[..., None]
) -> None:
    needs(Vlan(1), "CONFIG_VLAN_8021Q")
    scene.create("10.6.0.0/24", parent="up0.10")
    scene.create("10.7.0.0/24", name="second", parent="up0.10")
    scene.attach("a")

    assert scene.host.links()["up0.10"]["linkinfo"]["info_data"]["id"] == 10
    assert scene.link("a")["link_index"] == scene.host.links()["up0.10"]["ifindex"]
    scene.detach("a")
    scene.engine.networks.delete("lan")
    assert "up0.10" in scene.made()
    scene.engine.networks.delete("second")
    assert scene.made() == set()


def test_without_a_parent_endpoints_are_among_themselves(scene: Scene, needs: Callable[..., None]) -> None:
    needs(Dummy(), "CONFIG_DUMMY")
    network = scene.create("10.6.0.0/24", parent="")
    scene.attach("a")
    b = scene.attach("b")

    assert network.internal
    assert scene.host.links()[network.parent]["linkinfo"]["info_kind"] == "dummy"
    assert scene.pings("a", first(b))
    for container in ("a", "b"):
        scene.detach(container)
    scene.engine.networks.delete("lan")
    assert scene.made() == set()


# -- leaving --------------------------------------------------------------------------------------


def test_a_link_of_the_same_name_that_is_another_stays(scene: Scene) -> None:
    scene.create()
    scene.attach("a")
    scene.inside("a", "ip", "link", "set", "eth0", "down")
    scene.inside("a", "ip", "link", "set", "eth0", "name", "moved")
    scene.inside("a", "ip", "link", "add", "eth0", "type", "ifb")

    scene.detach("a")

    assert set(scene.host.links(scene.netns("a"))) == {"lo", "eth0"}


def test_a_namespace_that_is_gone_is_no_hindrance(scene: Scene) -> None:
    scene.create()
    scene.attach("a")
    scene.kernel.delete_netns(scene.netns("a"))

    (finding,) = scene.engine.reconcile().findings

    assert finding.kind == "endpoint"
    assert scene.engine.endpoints.all() == []


def test_a_name_that_is_taken_is_refused_and_nothing_is_left(scene: Scene) -> None:
    scene.create()
    scene.inside("a", "ip", "link", "add", "eth0", "type", "ifb")

    with pytest.raises(Conflict, match="interface 'eth0' already exists"):
        scene.attach("a")

    assert scene.link("a")["linkinfo"]["info_kind"] == "ifb"
    assert scene.engine.endpoints.all() == []


def test_an_endpoint_comes_back_before_the_kernel_has_cleared_its_old_namespace(on_wire: Scene) -> None:
    """The kernel does so in the background; until then the same MAC is on the parent twice."""
    on_wire.create()
    before = on_wire.attach("a", mac="02:00:00:00:00:09")
    lingering = on_wire.kernel.open_netns(on_wire.netns("a"))
    on_wire.kernel.delete_netns(on_wire.netns("a"))
    on_wire.engine.reconcile()
    assert on_wire.engine.endpoints.all() == []
    on_wire.netns("a")
    done: list[Attachment] = []
    attaching = threading.Thread(target=lambda: done.append(on_wire.attach("a", mac="02:00:00:00:00:09")))
    attaching.start()
    wait_for(lambda: on_wire.link("a") is not None and on_wire.link("a")["ifalias"], what="the link is there")
    assert done == []

    lingering.close()
    attaching.join(timeout=30)

    assert [attachment.mac for attachment in done] == [before.mac]
    assert "UP" in on_wire.link("a")["flags"]
    assert on_wire.check("a") == []


def test_two_with_one_mac_are_refused_and_the_second_is_not_left(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox_end, "_CLEANUP_S", 0.05)
    scene.create()
    scene.attach("a", mac="02:00:00:00:00:09")

    with pytest.raises(KernelError, match="another link on the same parent has this MAC"):
        scene.attach("b", mac="02:00:00:00:00:09")

    assert scene.link("b") is None
