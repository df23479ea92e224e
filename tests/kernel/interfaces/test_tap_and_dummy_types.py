"""Types ``tap`` and ``dummy`` on the real kernel."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest

pytestmark = pytest.mark.root
ways = pytest.mark.parametrize("runtime", ["daemon", "in process"], indirect=True)


def _make(scene: Any, *words: str) -> bool:
    command = ["ip", *words, "probe", *(("type", "dummy") if words[0] == "link" else ("mode", "tap"))]
    made = not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode
    if made:
        scene.host.run("ip", "link", "del", "probe")
    return made


@pytest.fixture(params=["tap", "dummy"])
def kind(request: Any, scene: Any) -> str:
    """Give each type that the kernel has links for."""
    if request.param == "tap" and not os.path.exists("/dev/net/tun"):
        pytest.skip("this kernel has no CONFIG_TUN, or /dev/net/tun is missing")
    if request.param == "dummy" and not _make(scene, "link", "add"):
        pytest.skip("the kernel has no dummy links")
    return str(request.param)


@pytest.fixture
def tap(scene: Any) -> None:
    if not os.path.exists("/dev/net/tun"):
        pytest.skip("this kernel has no CONFIG_TUN, or /dev/net/tun is missing")


def conf(runtime: Any, kind: str, **keys: Any) -> dict[str, Any]:
    ipam = runtime.ipam("10.62.0.0/24", "fd62::/64", routes=[{"dst": "192.168.0.0/16"}])
    return {"type": kind, "ipam": ipam, **keys}


@ways
def test_add_del_and_check_in_every_version(runtime: Any, kind: str, version: str) -> None:
    config = conf(runtime, kind, cniVersion=version)

    result = runtime.add(config)

    assert result["cniVersion"] == version
    link = runtime.link()
    assert link["linkinfo"]["info_kind"] == {"tap": "tun", "dummy": "dummy"}[kind]
    assert "UP" in link["flags"]
    assert [address.partition("/")[2] for address in runtime.addresses()] == ["24", "64"]
    assert ("192.168.0.0/16", "10.62.0.1") in runtime.routes()
    if version.startswith(("0.4", "1.")):
        assert runtime.check(config, result) == (0, "")
    if version.startswith(("0.3", "0.4", "1.")):
        (inner,) = result["interfaces"]
        assert (inner["name"], inner["mac"]) == ("eth0", link["address"])
    runtime.delete(config)
    runtime.delete(config)
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == set()


def test_a_container_that_is_gone_leaves_nothing(runtime: Any, kind: str) -> None:
    config = conf(runtime, kind)
    runtime.add(config)
    runtime.lose("c1")

    runtime.delete(config, netns=None)

    assert runtime.held() == set()
    assert runtime.engine.parts.all() == []


def test_a_link_that_is_down_is_no_success_of_check(runtime: Any, kind: str) -> None:
    config = conf(runtime, kind)
    result = runtime.add(config)

    runtime.inside("ip", "link", "set", "eth0", "down")

    status, text = runtime.check(config, result)
    assert (status, "is down" in text) == (1, True)


def test_a_kernel_without_dummy_links_is_named_and_nothing_stays(runtime: Any, scene: Any) -> None:
    if _make(scene, "link", "add"):
        pytest.skip("the kernel has dummy links")

    status, error = runtime.execute("ADD", conf(runtime, "dummy"))

    assert (status, error["code"]) == (1, 2)
    assert "this kernel has no dummy links" in error["msg"]
    assert runtime.held() == set()


@pytest.mark.usefixtures("tap")
def test_a_tap_has_queues_owner_group_mtu_and_mac(runtime: Any) -> None:
    keys = {"multiQueue": True, "owner": 4242, "group": 4343, "mtu": 1300, "mac": "02:00:00:00:06:01"}
    config = {"type": "tap", **keys}

    result = runtime.add(config)

    link = runtime.link()
    data = link["linkinfo"]["info_data"]
    assert (data["type"], data["multi_queue"], data["persist"]) == ("tap", True, True)
    assert (data["user"], data["group"]) == (4242, 4343)
    assert (link["mtu"], link["address"]) == (1300, "02:00:00:00:06:01")
    assert result["interfaces"] == [
        {"name": "eth0", "mac": "02:00:00:00:06:01", "mtu": 1300, "sandbox": runtime.netns("c1")}
    ]
    assert "ips" not in result
    assert runtime.check(config, result) == (0, "")


@pytest.mark.usefixtures("tap")
def test_a_tap_is_a_port_of_a_bridge_of_the_container(runtime: Any) -> None:
    runtime.inside("ip", "link", "add", "br0", "type", "bridge")
    config = {"type": "tap", "bridge": "br0"}

    result = runtime.add(config)

    assert runtime.link()["master"] == "br0"
    assert runtime.check(config, result) == (0, "")
    runtime.inside("ip", "link", "set", "eth0", "nomaster")
    assert "is no port of bridge 'br0'" in runtime.check(config, result)[1]


@pytest.mark.usefixtures("tap")
def test_a_bridge_that_is_missing_is_named(runtime: Any) -> None:
    status, error = runtime.execute("ADD", conf(runtime, "tap", bridge="br9"))

    assert (status, error["code"]) == (1, 7)
    assert error["msg"] == "$.bridge: no such bridge: 'br9'"
    assert runtime.held() == set()
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}


@pytest.mark.usefixtures("tap")
def test_del_takes_a_tap_that_another_program_made_and_nothing_else(runtime: Any) -> None:
    runtime.inside("ip", "tuntap", "add", "eth0", "mode", "tap")
    runtime.delete({"type": "tap"})
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    runtime.inside("ip", "link", "add", "eth0", "type", "ifb")

    runtime.delete({"type": "tap"})

    assert runtime.link()["linkinfo"]["info_kind"] == "ifb"
