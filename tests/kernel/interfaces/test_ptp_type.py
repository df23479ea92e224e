"""Type ``ptp`` on the real kernel: what `ip` says of both ends, what is left of it, and how it meets Go's ptp."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.root
ways = pytest.mark.parametrize("runtime", ["daemon", "in process"], indirect=True)


def conf(runtime: Any, *subnets: str, **keys: Any) -> dict[str, Any]:
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}][: len(subnets) or 1]
    return {"type": "ptp", "ipam": runtime.ipam(*subnets, routes=routes), **keys}


@ways
def test_add_del_and_check_in_every_version(runtime: Any, version: str) -> None:
    config = conf(runtime, cniVersion=version)

    result = runtime.add(config)

    assert result["cniVersion"] == version
    assert runtime.addresses() == ["10.60.0.2/24"] or runtime.addresses()[0].startswith("10.60.0.")
    assert runtime.pings("10.60.0.1")
    assert runtime.pings("10.5.0.1"), "the default route leads to the host"
    if version.startswith(("0.4", "1.")):
        assert runtime.check(config, result) == (0, "")
    runtime.delete(config)
    runtime.delete(config)
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == set()


def test_the_result_names_both_ends_from_the_outside_in(runtime: Any) -> None:
    result = runtime.add(conf(runtime, mtu=1400))

    outer, inner = result["interfaces"]
    assert (outer["mtu"], inner["mtu"]) == (1400, 1400)
    assert "sandbox" not in outer
    assert inner["sandbox"] == runtime.netns("c1")
    assert result["ips"][0]["interface"] == 1
    links = runtime.host.links()
    assert (links[outer["name"]]["address"], links[outer["name"]]["mtu"]) == (outer["mac"], 1400)
    assert (runtime.link()["address"], runtime.link()["mtu"]) == (inner["mac"], 1400)


@pytest.mark.cni(41)
def test_a_container_of_both_families_reaches_its_neighbours_by_the_host_at_once(runtime: Any) -> None:
    config = conf(runtime, "10.60.0.0/24", "fd60::/64")
    runtime.add(config)
    runtime.add(config, container="c2")

    for address in runtime.addresses(container="c2"):
        assert runtime.pings(address.partition("/")[0])
    (shown,) = runtime.host.ip("addr", "show", "eth0", netns=runtime.netns("c1"))
    assert not any(address.get("tentative") for address in shown["addr_info"] if address["scope"] == "global")
    (own,) = (a for a in runtime.addresses() if ":" not in a)
    gateways = {("default", "10.60.0.1"), ("10.60.0.0/24", "10.60.0.1"), ("10.60.0.1", "")}
    assert runtime.routes() == gateways
    host_routes = {row["dst"]: row["dev"] for row in runtime.host.ip("route")}
    assert own.partition("/")[0] in host_routes


def test_what_a_masqueraded_container_sends_takes_the_hosts_address(runtime: Any) -> None:
    runtime.add(conf(runtime, ipMasq=True))

    assert runtime.pings("10.5.0.254"), "the router knows no way back to the container"


def test_without_masquerade_the_router_knows_no_way_back(runtime: Any) -> None:
    runtime.add(conf(runtime))

    assert not runtime.pings("10.5.0.254")


def test_a_gateway_outside_the_subnet_does(runtime: Any) -> None:
    ipam = {
        "type": "static",
        "addresses": [{"address": "10.61.0.2/32", "gateway": "169.254.1.1"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }

    runtime.add({"type": "ptp", "ipam": ipam})

    assert runtime.routes() == {("169.254.1.1", ""), ("default", "169.254.1.1")}
    assert runtime.pings("10.5.0.1")


def test_the_hosts_end_has_the_name_that_is_asked_for(runtime: Any) -> None:
    named = runtime.add(conf(runtime, hostInterfaceName="webhost"))
    numbered = runtime.add(conf(runtime, hostInterfaceName="web-%"), container="c2")

    assert named["interfaces"][0]["name"] == "webhost"
    name = numbered["interfaces"][0]["name"]
    assert name.startswith("web-")
    assert len(name) == 15
    assert {"webhost", name} <= set(runtime.host.links())


def test_a_name_of_another_link_is_refused_and_the_link_stays(runtime: Any) -> None:
    config = conf(runtime, hostInterfaceName="up0")

    status, error = runtime.execute("ADD", config)
    runtime.delete(config)

    assert (status, error["code"]) == (1, 104)
    assert "up0" in runtime.host.links()
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}


def test_a_second_add_is_refused_and_the_first_keeps_its_address(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    (held,) = runtime.held()

    status, error = runtime.execute("ADD", config)

    assert (status, error["code"]) == (1, 104)
    assert runtime.held() == {held}
    assert runtime.pings("10.60.0.1")


def test_an_interface_of_somebody_else_s_keeps_its_name(runtime: Any) -> None:
    runtime.inside("ip", "link", "add", "eth0", "type", "ifb")

    status, error = runtime.execute("ADD", conf(runtime))

    assert (status, error["code"]) == (1, 104)
    runtime.delete(conf(runtime))
    assert runtime.link()["linkinfo"]["info_kind"] == "ifb"
    assert runtime.held() == set()


def test_two_interfaces_of_a_container_go_one_by_one(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    second = runtime.add(config, ifname="eth1")

    runtime.delete(config)

    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo", "eth1"}
    assert runtime.check(config, second, ifname="eth1") == (0, "")
    assert runtime.held() == {second["ips"][0]["address"].partition("/")[0]}


@ways
@pytest.mark.parametrize("netns", [None, "gone"])
def test_del_finds_everything_when_the_namespace_is_gone(runtime: Any, netns: str | None) -> None:
    config = conf(runtime, ipMasq=True)
    path = runtime.netns("c1")
    runtime.add(config)
    runtime.lose("c1")

    runtime.delete(config, netns=None if netns is None else path)

    assert runtime.held() == set()
    elements = json.dumps(runtime.host.nft("list", "set", "inet", "dovetail", "leaving4"))
    assert "10.60.0." not in elements


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("in:ip link set eth0 down", "is down"),
        ("in:ip addr flush dev eth0", "lost address"),
        ("in:ip route del default", "the default route via 10.60.0.1"),
        ("in:ip link set eth0 mtu 1300", "MTU 1300"),
        ("in:ip link set eth0 address 02:00:00:00:00:77", "MAC 02:00:00:00:00:77"),
        ("ip link set webhost down", "'webhost' is down"),
        ("ip addr flush dev webhost", "'webhost' has lost address 10.60.0.1/32"),
        ("sysctl -qw net.ipv4.conf.all.forwarding=0", "forwards no IPv4"),
    ],
)
def test_check_says_what_is_wrong(runtime: Any, spoil: str, said: str) -> None:
    config = conf(runtime, hostInterfaceName="webhost")
    result = runtime.add(config)

    where, _, command = spoil.rpartition("in:")
    run = runtime.inside if spoil.startswith("in:") else runtime.host.run
    run(*command.split())

    status, text = runtime.check(config, result)
    assert status == 1
    assert said in text


def test_gc_takes_away_what_the_runtime_does_not_have(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    kept = runtime.add(config, container="c2")

    valid = [{"containerID": "c2", "ifname": "eth0"}]
    status, error = runtime.execute("GC", {**config, "cni.dev/valid-attachments": valid})

    assert (status, error) == (0, None)
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == {kept["ips"][0]["address"].partition("/")[0]}
    assert runtime.check(config, kept, container="c2") == (0, "")


def test_go_s_ptp_is_checked_and_deleted_by_ours(runtime: Any, go_plugins: str) -> None:
    config = conf(runtime, "10.60.0.0/24", "fd60::/64", cniVersion="1.0.0")
    result = runtime.add(config, plugin=f"{go_plugins}/ptp")

    assert runtime.check(config, result) == (0, "")
    runtime.inside("ip", "route", "del", "default")
    assert runtime.check(config, result)[0] == 1
    runtime.delete({**config, "prevResult": result})

    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == set()


def test_ours_is_checked_and_deleted_by_go_s_ptp(runtime: Any, go_plugins: str) -> None:
    config = conf(runtime, "10.60.0.0/24", "fd60::/64", cniVersion="1.0.0")
    result = runtime.add(config)

    plugin = f"{go_plugins}/ptp"
    assert runtime.check(config, result, plugin=plugin) == (0, "")
    runtime.delete({**config, "prevResult": result}, plugin=plugin)

    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == set()
