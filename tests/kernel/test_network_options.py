"""What every network with addresses can be told, on the real kernel: `ip` and ping are the judges."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.api.dispatch import dispatch
from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine

pytestmark = pytest.mark.root


class Api:
    """The API over an engine on the host's kernel."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def __call__(self, method: str, path: str, body: object = None) -> Any:
        reply = dispatch(self.engine, method, path, {}, json.dumps(body).encode())
        assert reply.status < 300, reply.payload
        return json.loads(reply.payload)

    def network(self, name: str, *subnets: str, **more: Any) -> Any:
        body = {"name": name, "subnets": [{"subnet": subnet} for subnet in subnets]}
        return self("POST", "/v1/networks", body | more)

    def join(self, network: str, name: str, **more: Any) -> str:
        """Connect a new sandbox and give its namespace's path."""
        sandbox = self("POST", "/v1/sandboxes", {"name": name})
        self("POST", f"/v1/networks/{network}/connect", {"sandbox": name, **more})
        return str(sandbox["netns"])

    def differences(self) -> list[str]:
        """What check says of all endpoints."""
        found = []
        for endpoint in self.engine.endpoints.all():
            with self.engine.sandboxes.open(endpoint.sandbox_id) as netns:
                found += self.engine.endpoints.check(endpoint.id, netns)
        return found


@pytest.fixture
def api(host: Any, tmp_path: Path) -> Iterator[Api]:
    engine = build_engine(state_dir=str(tmp_path / "state"), run_dir=str(tmp_path / "run"))
    made = Api(engine)
    yield made
    for sandbox in engine.sandboxes.all():
        engine.sandboxes.delete(sandbox.id)
    engine.core.store.close()


def routes(host: Any, netns: str) -> set[tuple[str, str]]:
    found = host.ip("route", "show", netns=netns) + host.ip("-6", "route", "show", netns=netns)
    return {
        (route["dst"], route.get("gateway", ""))
        for route in found
        if route.get("protocol") != "kernel" and route.get("type") != "multicast"
    }


def test_an_endpoint_reaches_what_a_route_leads_to(api: Api, host: Any) -> None:
    api.network(
        "lan", "10.91.0.0/24", "fd91::/64", routes=["10.7.0.0/16 via 10.91.0.9", "fd07::/48 via fd91::9"]
    )
    router = api.join("lan", "router", ips=["10.91.0.9", "fd91::9"])
    for address in ("10.7.0.1/16", "fd07::1/48"):
        host.run("nsenter", f"--net={router}", "ip", "addr", "add", address, "dev", "lo", "nodad")
    box = api.join("lan", "box")

    assert routes(host, box) == {
        ("default", "10.91.0.1"),
        ("default", "fd91::1"),
        ("10.7.0.0/16", "10.91.0.9"),
        ("fd07::/48", "fd91::9"),
    }
    assert routes(host, router) == {("default", "10.91.0.1"), ("default", "fd91::1")}, "not to itself"
    rules = """table inet seen { chain input { type filter hook input priority 0
        ip saddr 10.91.0.2 ip daddr 10.7.0.1 counter
        ip6 saddr fd91::2 ip6 daddr fd07::1 counter
    }
    }"""
    host.run("nsenter", f"--net={router}", "nft", "-f", "-", stdin=rules)
    for address in ("10.7.0.1", "fd07::1"):
        host.run("nsenter", f"--net={box}", "ping", "-c1", "-W5", address)
    counted = host.run("nsenter", f"--net={router}", "nft", "list", "table", "inet", "seen")
    assert counted.count("counter packets 1 ") == 2, "from its own addresses, which have not left the link"
    assert api.differences() == []

    host.run("nsenter", f"--net={box}", "ip", "route", "del", "10.7.0.0/16")
    assert api.differences() == ["the route 10.7.0.0/16 via 10.91.0.9 dev eth0 is missing"]


def test_a_gateway_that_is_in_no_subnet_is_reached_on_the_link(api: Api, host: Any) -> None:
    """The way of Calico and of clouds: 169.254.1.1 is the gateway of everybody."""
    api.network(
        "flat",
        "10.91.0.0/24",
        routes=["169.254.1.1", "default via 169.254.1.1"],
        options={"gateway": "none"},
    )
    router = api.join("flat", "router", ips=["10.91.0.9"])
    host.run("nsenter", f"--net={router}", "ip", "addr", "add", "169.254.1.1/32", "dev", "eth0")
    box = api.join("flat", "box")

    assert routes(host, box) == {("default", "169.254.1.1"), ("169.254.1.1", "")}
    host.run("nsenter", f"--net={box}", "ping", "-c1", "-W5", "169.254.1.1")
    link = api("GET", "/v1/networks/flat")["link"]
    inet = [a for link in host.ip("addr", "show", link) for a in link["addr_info"] if a["scope"] == "global"]
    assert inet == [], "the host has no address on it"
    assert api.differences() == []


def test_a_reserved_address_can_be_the_gateway(api: Api, host: Any) -> None:
    subnet = {"subnet": "10.91.0.0/24", "aux": {"DefaultGatewayIPv4": "10.91.0.254"}}
    api("POST", "/v1/networks", {"name": "lan", "subnets": [subnet]})

    box = api.join("lan", "box")
    assert routes(host, box) == {("default", "10.91.0.254")}


def test_interfaces_are_named_by_the_prefix_and_the_next_free_number(api: Api, host: Any) -> None:
    api.network("one", "10.91.0.0/24", options={"ifname_prefix": "lan"})
    api.network("two", "10.92.0.0/24", options={"com.docker.network.container_iface_prefix": "lan"})
    api.network("three", "10.93.0.0/24")
    box = api.join("one", "box")

    for network in ("two", "three"):
        api("POST", f"/v1/networks/{network}/connect", {"sandbox": "box"})

    assert set(host.links(box)) == {"lo", "lan0", "lan1", "eth0"}


def test_sysctls_are_those_of_the_interface_before_it_is_up(api: Api, host: Any) -> None:
    api.network("lan", "10.91.0.0/24")
    sysctls = {"net.ipv4.conf.IFNAME.log_martians": "1", "net.ipv6.conf.IFNAME.hop_limit": "33"}
    box = api.join("lan", "box", sysctls=sysctls)

    def sysctl(key: str) -> str:
        return str(host.run("nsenter", f"--net={box}", "sysctl", "-n", key)).strip()

    assert sysctl("net.ipv4.conf.eth0.log_martians") == "1"
    assert sysctl("net.ipv6.conf.eth0.hop_limit") == "33"
    assert api.differences() == []
    host.run("nsenter", f"--net={box}", "sysctl", "-w", "net.ipv4.conf.eth0.log_martians=0")
    assert "log_martians" in api.differences()[0]


def test_a_sysctl_that_the_kernel_has_not_undoes_it_all(api: Api, host: Any) -> None:
    api.network("lan", "10.91.0.0/24")
    api("POST", "/v1/sandboxes", {"name": "box"})
    before = set(host.links())

    body = {"sandbox": "box", "sysctls": {"net.ipv4.conf.IFNAME.nonsense": "1"}}
    reply = dispatch(api.engine, "POST", "/v1/networks/lan/connect", {}, json.dumps(body).encode())

    assert reply.status == 404
    assert b"net/ipv4/conf/eth0/nonsense" in reply.payload
    assert set(host.links()) == before
    assert api("GET", "/v1/endpoints") == []


def test_an_mtu_that_is_auto_is_the_uplinks_and_changes_while_nobody_is_on_the_network(
    api: Api, host: Any
) -> None:
    host.run("ip", "link", "add", "wan", "mtu", "1450", "type", "veth", "peer", "name", "isp")
    host.run("ip", "addr", "add", "192.0.2.1/24", "dev", "wan")
    host.run("ip", "link", "set", "wan", "up")
    host.run("ip", "link", "set", "isp", "up")
    host.run("ip", "route", "add", "default", "via", "192.0.2.2")
    made = api.network("lan", "10.91.0.0/24", options={"mtu": "auto"})

    box = api.join("lan", "box")
    assert (made["mtu"], host.links()[made["link"]]["mtu"], host.links(box)["eth0"]["mtu"]) == (1450,) * 3

    host.run("ip", "link", "set", "wan", "mtu", "1400")
    api.engine.reconcile()
    assert api("GET", "/v1/networks/lan")["mtu"] == 1450, "one link has one MTU: who is on it keeps it"

    api("DELETE", "/v1/sandboxes/box")
    api.engine.reconcile()
    assert api("GET", "/v1/networks/lan")["mtu"] == 1400
    assert host.links()[made["link"]]["mtu"] == 1400
    box = api.join("lan", "box")
    assert host.links(box)["eth0"]["mtu"] == 1400
    assert api.differences() == []
