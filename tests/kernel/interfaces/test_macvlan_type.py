"""Type ``macvlan`` on the real kernel: on the wire beside the host, what is left of it, and how it meets Go's macvlan."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.root
ways = pytest.mark.parametrize("runtime", ["daemon", "in process"], indirect=True)


def conf(runtime: Any, *subnets: str, **keys: Any) -> dict[str, Any]:
    ipam = runtime.ipam(
        *(subnets or ("10.5.0.0/24",)),
        routes=[{"dst": "192.168.0.0/16", "gw": "10.5.0.254"}],
    )
    ipam["ranges"][0][0].update(rangeStart="10.5.0.10", gateway="10.5.0.254")
    return {"type": "macvlan", "ipam": ipam, **keys}


@pytest.fixture
def other(runtime: Any) -> Any:
    """A second wire of the host's, which a test may take away."""
    runtime.host.run("ip", "link", "add", "up9", "mtu", "1400", "type", "ifb")
    runtime.host.run("ip", "link", "set", "up9", "up")
    yield "up9"
    runtime.host.run("ip", "link", "del", "up9", check=False)


@ways
def test_add_del_and_check_in_every_version(runtime: Any, version: str) -> None:
    config = conf(runtime, cniVersion=version)

    result = runtime.add(config)

    assert result["cniVersion"] == version
    assert runtime.link()["linkinfo"]["info_kind"] == "macvlan"
    assert runtime.pings("10.5.0.254"), "the router is on the wire"
    assert ("192.168.0.0/16", "10.5.0.254") in runtime.routes()
    if version.startswith(("0.4", "1.")):
        assert runtime.check(config, result) == (0, "")
    runtime.delete(config)
    runtime.delete(config)
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == set()


def test_the_result_has_the_containers_interface_alone(runtime: Any) -> None:
    result = runtime.add(conf(runtime, "10.5.0.0/24", "fd05::/64"))

    (inner,) = result["interfaces"]
    link = runtime.link()
    assert inner == {
        "name": "eth0",
        "mac": link["address"],
        "mtu": link["mtu"],
        "sandbox": runtime.netns("c1"),
    }
    assert [ip["interface"] for ip in result["ips"]] == [0, 0]
    assert runtime.pings("fd05::254")


def test_an_address_that_moves_is_announced_with_its_mac(runtime: Any) -> None:
    config = conf(runtime)
    config["ipam"]["ranges"][0][0].update(rangeEnd="10.5.0.10")
    first = runtime.add(config)
    assert runtime.pings("10.5.0.254")
    runtime.delete(config)

    second = runtime.add(config, container="c2")

    assert second["interfaces"][0]["mac"] == first["interfaces"][0]["mac"]
    assert runtime.pings("10.5.0.254", container="c2")
    sysctl = runtime.inside("cat", "/proc/sys/net/ipv4/conf/eth0/arp_notify", container="c2")
    assert sysctl.strip() == "1"


@pytest.mark.parametrize(
    ("keys", "args", "mac"),
    [
        ({"mac": "02:00:00:00:05:01"}, "", "02:00:00:00:05:01"),
        ({"mac": "02:00:00:00:05:01"}, "IgnoreUnknown=1;MAC=02:00:00:00:05:02", "02:00:00:00:05:02"),
        (
            {"mac": "02:00:00:00:05:01", "runtimeConfig": {"mac": "02:00:00:00:05:03"}},
            "IgnoreUnknown=1;MAC=02:00:00:00:05:02",
            "02:00:00:00:05:03",
        ),
    ],
)
def test_the_mac_is_the_runtimes_before_the_administrators(
    runtime: Any, keys: dict[str, Any], args: str, mac: str
) -> None:
    result = runtime.add(conf(runtime, **keys), args=args)

    assert result["interfaces"][0]["mac"] == mac
    assert runtime.link()["address"] == mac


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_modes(runtime: Any, mode: str) -> None:
    runtime.add(conf(runtime, mode=mode))

    assert runtime.link()["linkinfo"]["info_data"]["mode"] == mode


def test_passthru_has_the_masters_mac_and_the_master_to_itself(runtime: Any, other: str) -> None:
    config = conf(runtime, mode="passthru", master=other)

    result = runtime.add(config)

    assert result["interfaces"][0]["mac"] == runtime.host.links()[other]["address"]
    assert runtime.link()["address"] == runtime.host.links()[other]["address"]
    status, error = runtime.execute("ADD", conf(runtime, master=other), container="c2")
    assert (status, error["code"]) == (1, 7)
    assert other in error["msg"]
    assert len(runtime.held()) == 1
    assert runtime.check(config, result) == (0, "")


def test_an_mtu_is_at_most_the_masters(runtime: Any, other: str) -> None:
    result = runtime.add(conf(runtime, mtu=1300, master=other))

    status, error = runtime.execute("ADD", conf(runtime, mtu=9000, master=other), container="c2")

    assert (result["interfaces"][0]["mtu"], runtime.link()["mtu"]) == (1300, 1300)
    assert (status, error["code"]) == (1, 7)
    assert error["msg"] == "$.mtu: invalid MTU 9000, must be [0, master MTU(1400)]"


def test_an_mtu_that_is_not_said_follows_the_masters(runtime: Any, other: str) -> None:
    config = conf(runtime, master=other)
    result = runtime.add(config)

    runtime.host.run("ip", "link", "set", other, "mtu", "1350")

    assert runtime.link()["mtu"] == 1350
    assert runtime.check(config, result) == (0, "")


def test_a_queue_of_broadcasts_has_its_length(runtime: Any) -> None:
    config = conf(runtime, bcqueuelen=5000)

    result = runtime.add(config)

    assert runtime.link()["linkinfo"]["info_data"]["bcqueuelen"] == 5000
    assert runtime.check(config, result) == (0, "")


def test_without_ipam_it_is_on_the_wire_alone(runtime: Any) -> None:
    config = {"type": "macvlan"}

    result = runtime.add(config)

    assert "ips" not in result
    assert "UP" in runtime.link()["flags"]
    assert runtime.check(config, result) == (0, "")


def test_a_master_in_the_container(runtime: Any) -> None:
    runtime.inside("ip", "link", "add", "wire", "type", "ifb")
    runtime.inside("ip", "link", "set", "wire", "up")
    config = conf(runtime, linkInContainer=True, master="wire")

    result = runtime.add(config)

    assert runtime.link()["link"] == "wire"
    assert runtime.check(config, result) == (0, "")
    runtime.delete(config)
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo", "wire"}


def test_a_master_that_is_missing_is_named(runtime: Any) -> None:
    status, error = runtime.execute("ADD", conf(runtime, master="nowhere"))

    assert (status, error["code"]) == (1, 7)
    assert error["msg"] == "$.master: no such interface: 'nowhere'"
    assert runtime.held() == set()


def test_status_is_50_without_the_master(runtime: Any) -> None:
    assert runtime.execute("STATUS", conf(runtime, master="up0")) == (0, None)

    status, error = runtime.execute("STATUS", conf(runtime, master="nowhere"))

    assert (status, error["code"]) == (1, 50)


@ways
@pytest.mark.parametrize("netns", [None, "gone"])
def test_del_succeeds_when_the_namespace_is_gone(runtime: Any, netns: str | None) -> None:
    config = conf(runtime)
    path = runtime.netns("c1")
    runtime.add(config)
    runtime.lose("c1")

    runtime.delete(config, netns=None if netns is None else path)

    assert runtime.held() == set()
    assert runtime.engine.parts.all() == []


def test_del_succeeds_when_the_master_is_gone(runtime: Any, other: str) -> None:
    config = conf(runtime, master=other)
    runtime.add(config)
    runtime.host.run("ip", "link", "del", other)

    runtime.delete(config)

    assert runtime.held() == set()


def test_del_finds_a_link_that_the_container_has_renamed(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    runtime.inside("ip", "link", "set", "eth0", "down")
    runtime.inside("ip", "link", "set", "eth0", "name", "mine")

    runtime.delete(config)

    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}


def test_del_leaves_what_is_somebody_else_s(runtime: Any) -> None:
    config = conf(runtime)
    runtime.inside("ip", "link", "add", "eth0", "type", "ifb")
    runtime.delete(config)
    assert runtime.link()["linkinfo"]["info_kind"] == "ifb"
    runtime.inside("ip", "link", "del", "eth0")
    runtime.add({**config, "name": "mine"})

    runtime.delete(config)

    assert runtime.link()["linkinfo"]["info_kind"] == "macvlan", "of another network"
    runtime.delete({**config, "name": "mine"})
    assert runtime.held("mine") == set()


def test_a_second_add_is_refused_and_the_first_keeps_its_address(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    (held,) = runtime.held()

    status, error = runtime.execute("ADD", config)

    assert (status, error["code"]) == (1, 104)
    assert runtime.held() == {held}
    assert runtime.pings("10.5.0.254")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("ip link set eth0 down", "is down"),
        ("ip addr del dev eth0 10.5.0.10/24", "lost address 10.5.0.10/24"),
        ("ip route del 192.168.0.0/16", "route 192.168.0.0/16 via 10.5.0.254"),
        ("ip link set eth0 type macvlan mode private", "in mode private, not in mode bridge"),
        ("ip link set eth0 address 02:00:00:00:00:77", "MAC 02:00:00:00:00:77"),
        ("ip link del eth0", "is gone from the sandbox"),
    ],
)
def test_check_says_what_is_wrong(runtime: Any, spoil: str, said: str) -> None:
    config = conf(runtime)
    config["ipam"]["ranges"][0][0].update(rangeEnd="10.5.0.10")
    result = runtime.add(config)

    runtime.inside(*spoil.split())

    status, text = runtime.check(config, result)
    assert status == 1
    assert said in text


def test_check_names_another_master(runtime: Any, other: str) -> None:
    config = conf(runtime)
    runtime.add(config)
    mac = runtime.link()["address"]
    runtime.inside("ip", "link", "del", "eth0")
    command = ["ip", "link", "add", "link", other, "name", "new", "address", mac, "type", "macvlan"]
    runtime.host.run(*command, "mode", "bridge")
    runtime.host.run("ip", "link", "set", "new", "netns", str(runtime.directory / "c1"), "name", "eth0")

    result = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": runtime.netns("c1")}]}

    assert "is not on 'up0'" in runtime.check({"type": "macvlan"}, result)[1]


def test_gc_takes_away_what_the_runtime_does_not_have(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    kept = runtime.add(config, container="c2")

    valid = [{"containerID": "c2", "ifname": "eth0"}]
    assert runtime.execute("GC", {**config, "cni.dev/valid-attachments": valid}) == (0, None)

    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == {kept["ips"][0]["address"].partition("/")[0]}
    assert runtime.check(config, kept, container="c2") == (0, "")


def test_go_s_and_ours_check_and_delete_each_other_s(runtime: Any, go_plugins: str) -> None:
    config = conf(runtime, cniVersion="1.0.0", mode="private", mtu=1300)
    go = f"{go_plugins}/macvlan"

    for maker, other_one in ((go, ""), ("", go)):
        result = runtime.add(config, plugin=maker)
        assert runtime.check(config, result, plugin=other_one) == (0, "")
        runtime.delete({**config, "prevResult": result}, plugin=other_one)
        assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
        assert runtime.held() == set()
        runtime.delete(config)
