"""Type ``host-device`` on the real kernel: a link goes into the container and comes back, whoever moved it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.root
ways = pytest.mark.parametrize("runtime", ["daemon", "in process"], indirect=True)
MAC = "02:00:00:00:07:01"


@pytest.fixture(autouse=True)
def _card(runtime: Any) -> Iterator[None]:
    """Give the host a link to lend, `card`; its other end is `wire`."""
    runtime.host.run("ip", "link", "add", "card", "address", MAC, "type", "veth", "peer", "name", "wire")
    runtime.host.run("ip", "link", "set", "wire", "up")
    yield
    for part in runtime.engine.parts.all():
        runtime.engine.parts.remove(part.kind, part.owner, netns=None)
    for container in ("c1", "c2"):
        runtime.lose(container)
    runtime.host.run("ip", "link", "del", "wire", check=False)


def conf(runtime: Any, **keys: Any) -> dict[str, Any]:
    ipam = runtime.ipam("10.63.0.0/24", routes=[{"dst": "192.168.0.0/16"}])
    return {"type": "host-device", "ipam": ipam, **(keys or {"device": "card"})}


@ways
def test_add_check_and_del_in_every_version(runtime: Any, version: str) -> None:
    config = conf(runtime, device="card", cniVersion=version)

    result = runtime.add(config)

    assert "card" not in runtime.host.links()
    link = runtime.link()
    assert (link["address"], link["ifalias"], "UP" in link["flags"]) == (MAC, "card", True)
    assert ("192.168.0.0/16", "10.63.0.1") in runtime.routes()
    if version.startswith(("0.3", "0.4", "1.")):
        (inner,) = result["interfaces"]
        assert (inner["name"], inner["mac"], inner["sandbox"]) == ("eth0", MAC, runtime.netns("c1"))
    if version.startswith(("0.4", "1.")):
        assert runtime.check(config, result) == (0, "")
    runtime.delete(config)
    runtime.delete(config)
    card = runtime.host.links()["card"]
    assert (card.get("ifalias", ""), "UP" in card["flags"]) == ("", False)
    assert runtime.held() == set()


@pytest.mark.parametrize("keys", [{"hwaddr": MAC}, {"hwaddr": MAC.upper()}, {"device": "card"}])
def test_the_device_is_found_by_name_and_by_mac(runtime: Any, keys: dict[str, Any]) -> None:
    result = runtime.add(conf(runtime, **keys))

    assert result["interfaces"][0]["mac"] == MAC
    assert result["interfaces"][0]["mtu"] == runtime.link()["mtu"]


def test_without_ipam_it_is_there_and_up(runtime: Any) -> None:
    config = {"type": "host-device", "device": "card"}

    result = runtime.add(config)

    assert "ips" not in result
    assert "UP" in runtime.link()["flags"]
    assert runtime.check(config, result) == (0, "")


def test_an_alias_comes_back_with_the_device(runtime: Any) -> None:
    runtime.host.run("ip", "link", "set", "card", "alias", "to the lab")
    config = conf(runtime)
    runtime.add(config)

    runtime.delete(config)

    assert runtime.host.links()["card"]["ifalias"] == "to the lab"


def test_a_device_that_the_container_renamed_comes_back(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    runtime.inside("ip", "link", "set", "eth0", "down")
    runtime.inside("ip", "link", "set", "eth0", "name", "mine")

    runtime.delete(config)

    assert "card" in runtime.host.links()


def test_a_name_that_is_taken_meanwhile_does_not_keep_it_in_the_container(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)
    runtime.host.run("ip", "link", "add", "card", "type", "ifb")

    runtime.delete(config)

    runtime.host.run("ip", "link", "del", "card")
    back = [link for link in runtime.host.links().values() if link["address"] == MAC]
    assert [link["ifalias"] for link in back] == ["card"]
    assert runtime.held() == set()


def test_del_without_a_namespace_finds_it(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)

    runtime.delete(config, netns=None)

    assert "card" in runtime.host.links()
    assert runtime.held() == set()


def test_del_succeeds_when_namespace_and_device_are_gone(runtime: Any) -> None:
    config = conf(runtime)
    path = runtime.netns("c1")
    runtime.add(config)
    runtime.lose("c1")

    runtime.delete(config, netns=path)

    assert runtime.held() == set()
    assert runtime.engine.parts.all() == []


def test_a_card_that_the_kernel_brought_back_gets_its_name(runtime: Any) -> None:
    """A real card comes back by the kernel when its namespace ends; one of software goes, so it is played here."""
    config = conf(runtime)
    path = runtime.netns("c1")
    runtime.add(config)
    runtime.host.run("nsenter", f"--net={path}", "ip", "link", "del", "eth0")
    names = ("card", "address", MAC, "type", "veth", "peer", "name", "wire")
    runtime.host.run("ip", "link", "add", *names)
    runtime.host.run("ip", "link", "set", "card", "alias", "card", "name", "dev7")
    runtime.lose("c1")

    runtime.delete(config, netns=path)

    card = runtime.host.links()["card"]
    assert (card["address"], card.get("ifalias", "")) == (MAC, "")


def test_a_device_that_is_missing_is_named_and_status_is_50(runtime: Any) -> None:
    config = conf(runtime, device="nothing")

    status, error = runtime.execute("ADD", config)
    unavailable, reason = runtime.execute("STATUS", config)

    assert (status, error["code"], error["msg"]) == (1, 7, "$.device: no such interface: 'nothing'")
    assert (unavailable, reason["code"]) == (1, 50)
    assert runtime.execute("STATUS", conf(runtime)) == (0, None)
    assert runtime.held() == set()


def test_a_name_that_is_taken_in_the_container_leaves_the_device_on_the_host(runtime: Any) -> None:
    runtime.inside("ip", "link", "add", "eth0", "type", "ifb")

    status, error = runtime.execute("ADD", conf(runtime))

    assert (status, error["code"]) == (1, 104)
    assert "card" in runtime.host.links()
    runtime.delete(conf(runtime))
    assert runtime.link()["linkinfo"]["info_kind"] == "ifb"


def test_what_fails_after_the_move_brings_it_back(runtime: Any) -> None:
    config = conf(runtime)
    config["ipam"]["routes"] = [{"dst": "192.168.0.0/16", "gw": "172.31.0.1"}]

    status, _ = runtime.execute("ADD", config)

    assert status == 1
    assert "card" in runtime.host.links()
    assert runtime.held() == set()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("ip link set eth0 down", "is down"),
        ("ip addr flush dev eth0", "lost address"),
        ("ip link set eth0 mtu 1300", "MTU 1300"),
        ("ip link set eth0 address 02:00:00:00:00:77", "MAC 02:00:00:00:00:77"),
    ],
)
def test_check_says_what_is_wrong(runtime: Any, spoil: str, said: str) -> None:
    config = conf(runtime)
    result = runtime.add(config)

    runtime.inside(*spoil.split())

    status, text = runtime.check(config, result)
    assert (status, said in text) == (1, True)


def test_gc_brings_back_what_the_runtime_does_not_have(runtime: Any) -> None:
    config = conf(runtime)
    runtime.add(config)

    assert runtime.execute("GC", {**config, "cni.dev/valid-attachments": []}) == (0, None)

    assert "card" in runtime.host.links()
    assert runtime.held() == set()


def test_go_s_and_ours_check_and_bring_back_each_other_s(runtime: Any, go_plugins: str) -> None:
    config = conf(runtime, device="card", cniVersion="1.0.0")
    config["ipam"]["routes"][0]["gw"] = (
        "10.63.0.1"  # Go's CHECK looks for a route without one as it is written
    )
    go = f"{go_plugins}/host-device"

    for maker, other_one in ((go, ""), ("", go)):
        result = runtime.add(config, plugin=maker)
        assert runtime.check(config, result, plugin=other_one) == (0, "")
        runtime.delete({**config, "prevResult": result}, plugin=other_one)
        assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
        card = runtime.host.links()["card"]
        assert card["address"] == MAC
        assert card.get("ifalias", "") == ("" if maker == go else "card"), "Go leaves it there"
        assert runtime.held() == set()
        runtime.delete(config)
