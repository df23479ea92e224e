"""Types ``vlan`` and ``ipvlan`` on the real kernel, where it has such links."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

pytestmark = pytest.mark.root

SETTINGS = {"vlan": ("id", "7"), "ipvlan": ("mode", "l2")}


@pytest.fixture(params=["vlan", "ipvlan"])
def kind(request: Any, scene: Any) -> str:
    """Give each type that the kernel has links for."""
    key, value = SETTINGS[request.param]
    command = ["ip", "link", "add", "link", "up0", "name", "probe", "type", request.param, key, value]
    if subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip(f"the kernel has no {request.param} links")
    scene.host.run("ip", "link", "del", "probe")
    return str(request.param)


def conf(runtime: Any, kind: str, **keys: Any) -> dict[str, Any]:
    ipam = runtime.ipam("10.5.0.0/24", routes=[{"dst": "192.168.0.0/16", "gw": "10.5.0.254"}])
    ipam["ranges"][0][0].update(rangeStart="10.5.0.10", gateway="10.5.0.254")
    return {"type": kind, "master": "up0", "ipam": ipam, **({"vlanId": 7} if kind == "vlan" else {}), **keys}


def test_add_del_and_check_in_every_version(runtime: Any, kind: str, version: str) -> None:
    config = conf(runtime, kind, cniVersion=version)

    result = runtime.add(config)

    assert result["cniVersion"] == version
    key, value = SETTINGS[kind]
    assert str(runtime.link()["linkinfo"]["info_data"][key]) == value
    assert runtime.link()["address"] == runtime.host.links()["up0"]["address"]
    if version.startswith(("0.4", "1.")):
        assert runtime.check(config, result) == (0, "")
    runtime.delete(config)
    runtime.delete(config)
    assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
    assert runtime.held() == set()


def test_del_succeeds_when_the_master_is_gone(runtime: Any, kind: str) -> None:
    runtime.host.run("ip", "link", "add", "up9", "type", "ifb")
    runtime.host.run("ip", "link", "set", "up9", "up")
    config = conf(runtime, kind, master="up9")
    runtime.add(config)
    runtime.host.run("ip", "link", "del", "up9")

    runtime.delete(config)

    assert runtime.held() == set()


def test_go_s_and_ours_check_and_delete_each_other_s(runtime: Any, kind: str, go_plugins: str) -> None:
    config = conf(runtime, kind, cniVersion="1.0.0")
    go = f"{go_plugins}/{kind}"

    for maker, other_one in ((go, ""), ("", go)):
        result = runtime.add(config, plugin=maker)
        assert runtime.check(config, result, plugin=other_one) == (0, "")
        runtime.delete({**config, "prevResult": result}, plugin=other_one)
        assert set(runtime.host.links(runtime.netns("c1"))) == {"lo"}
        assert runtime.held() == set()
        runtime.delete(config)


@pytest.mark.parametrize(("kind", "keys"), [("vlan", {"vlanId": 7}), ("ipvlan", {})])
def test_a_kernel_without_such_links_is_named_and_nothing_stays(
    runtime: Any, kind: str, keys: dict[str, Any]
) -> None:
    key, value = SETTINGS[kind]
    command = ["ip", "link", "add", "link", "up0", "name", "probe", "type", kind, key, value]
    if not subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode:
        runtime.host.run("ip", "link", "del", "probe")
        pytest.skip(f"the kernel has {kind} links")

    status, error = runtime.execute("ADD", conf(runtime, kind, **keys))

    assert (status, error["code"]) == (1, 2)
    assert f"this kernel has no {kind} links" in error["msg"]
    assert runtime.held() == set()
    assert runtime.engine.parts.all() == []
