"""Type ``tuning`` in the kernel, with the daemon and without, and a node that changes between Go's plugins and ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("chains", ["daemon", "in process"], indirect=True)
MAC = "02:00:00:00:00:99"
LINK = {"mac": MAC, "promisc": True, "mtu": 1400, "allmulti": True, "txQLen": 77}
SYSCTLS = {"net.core.somaxconn": "500", "net/ipv4/conf/IFNAME/arp_filter": "1"}


def tuning(chains: Any, **keys: Any) -> dict[str, Any]:
    return {"type": "tuning", "dataDir": str(chains.directory / "tuning"), **keys}


def files(chains: Any) -> list[str]:
    return sorted(path.name for path in Path(chains.directory / "tuning").glob("*"))


def facts(chains: Any) -> dict[str, Any]:
    """Say what tuning can change of an interface, in its words."""
    link = chains.link("c1")
    return {
        "mac": link["address"],
        "promisc": "PROMISC" in link["flags"],
        "mtu": link["mtu"],
        "allmulti": "ALLMULTI" in link["flags"],
        "txQLen": link["txqlen"],
    }


@BOTH
@pytest.mark.cni(54)
def test_add_changes_the_interface_and_del_gives_it_back(chains: Any) -> None:
    result = chains.wire("c1")
    before = facts(chains)
    config = tuning(chains, **LINK, sysctl=SYSCTLS)

    status, said = chains.call("ADD", config, result)

    assert status == 0, said
    assert said["interfaces"] == [{**result["interfaces"][0], "mac": MAC}]
    assert facts(chains) == LINK
    assert (
        chains.sysctl("c1", "net/core/somaxconn"),
        chains.sysctl("c1", "net/ipv4/conf/eth0/arp_filter"),
    ) == (
        "500",
        "1",
    )
    assert files(chains) == ["c1_eth0.json"]
    assert chains.call("CHECK", config, said) == (0, None)
    assert [chains.call("DEL", config, said) for _ in range(2)] == [(0, None)] * 2
    assert facts(chains) == before
    assert (files(chains), chains.parts()) == ([], [])


def test_the_routes_survive_a_new_mac(chains: Any) -> None:
    result = chains.wire("c1")
    before = chains.ip("c1", "route"), chains.ip("c1", "-6", "route")

    chains.call("ADD", tuning(chains, mac=MAC), result)

    assert (chains.ip("c1", "route"), chains.ip("c1", "-6", "route")) == before
    chains.inside("c1", "ping", "-c1", "-W2", "10.50.0.1")


@BOTH
def test_an_add_that_the_kernel_refuses_leaves_nothing(chains: Any) -> None:
    result = chains.wire("c1")
    before = facts(chains)

    status, said = chains.call(
        "ADD", tuning(chains, mac=MAC, mtu=1400, sysctl={"net.core.somaxconn": "x"}), result
    )

    assert (status, said["code"]) == (1, 5)
    assert "net/core/somaxconn cannot be set to 'x'" in said["msg"]
    assert (facts(chains), files(chains), chains.parts()) == (before, [], [])


def test_del_without_a_namespace_and_a_result_removes_the_file(chains: Any) -> None:
    config = tuning(chains, mtu=1400)
    chains.call("ADD", config, chains.wire("c1"))

    assert chains.call("DEL", config, netns="") == (0, None)

    assert (files(chains), chains.parts()) == ([], [])


def test_check_sees_what_others_change_and_changes_nothing(chains: Any) -> None:
    config = tuning(chains, mtu=1400, sysctl=SYSCTLS)
    _, said = chains.call("ADD", config, chains.wire("c1"))
    chains.inside("c1", "ip", "link", "set", "eth0", "mtu", "1300")
    chains.inside("c1", "sysctl", "-qw", "net.core.somaxconn=9")

    status, said = chains.call("CHECK", config, said)

    assert (status, said["code"]) == (1, 105)
    assert said["msg"] == "interface 'eth0' has MTU 1300, not 1400; sysctl net/core/somaxconn is 9, not 500"
    assert (facts(chains)["mtu"], chains.sysctl("c1", "net/core/somaxconn")) == (1300, "9")


def test_a_sniffer_is_no_difference(chains: Any) -> None:
    config = tuning(chains, mtu=1400)
    _, said = chains.call("ADD", config, chains.wire("c1"))
    chains.inside("c1", "ip", "link", "set", "eth0", "promisc", "on")

    assert chains.call("CHECK", config, said) == (0, None)


def test_gc_forgets_containers_that_are_gone(chains: Any) -> None:
    config = tuning(chains, mtu=1400)
    for container in ("c1", "c2"):
        chains.call("ADD", config, chains.wire(container), container=container)
    chains.engine.kernel.delete_netns(str(chains.directory / "c1"))

    valid = [{"containerID": "c2", "ifname": "eth0"}]
    gc = {**config, "cniVersion": "1.1.0", "cni.dev/valid-attachments": valid}
    assert chains.call("GC", gc) == (0, None)

    assert files(chains) == ["c2_eth0.json"]
    assert [part.owner.container for part in chains.parts()] == ["c2"]
    assert chains.link("c2")["mtu"] == 1400


# -- with the reference plugins ------------------------------------------------------------------------


@pytest.mark.parametrize(("adds", "deletes"), [("go", "daemon"), ("daemon", "go"), ("in process", "go")])
def test_either_s_del_gives_back_what_the_other_changed(go: Any, adds: str, deletes: str) -> None:
    result = go.wire("c1")
    before = facts(go)
    keys = {key: value for key, value in LINK.items() if key != "txQLen"}  # which Debian's does not know
    config = tuning(go, **keys)

    status, said = go.call("ADD", config, result, way=adds)
    assert status == 0, said
    assert {key: facts(go)[key] for key in keys} == keys
    assert go.call("CHECK", config, said, way=deletes) == (0, None)
    assert go.call("DEL", config, said, way=deletes) == (0, None)

    assert (facts(go), files(go)) == (before, [])


def test_the_file_is_theirs_to_the_byte(go: Any) -> None:
    found = []
    for way in ("go", "daemon"):
        result = go.wire("c1")
        config = tuning(go, mac=MAC, promisc=True, mtu=1400, allmulti=True)
        go.call("ADD", config, result, way=way)
        path = Path(go.directory / "tuning" / "c1_eth0.json")
        mode = oct(path.stat().st_mode), oct(path.parent.stat().st_mode)
        found.append((path.read_text().replace(result["interfaces"][0]["mac"], "M"), mode))
        go.call("DEL", config, way=way)
        path.parent.rmdir()
        go.engine.kernel.delete_netns(str(go.directory / "c1"))
        go.engine.kernel.delete_netns(str(go.directory / "router"))

    assert found[0] == found[1]


BRIDGE = {
    "type": "bridge",
    "bridge": "br50",
    "isDefaultGateway": True,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.50.0.0/24"}], [{"subnet": "fd50::/64"}]]},
}


@pytest.mark.parametrize(("main", "meta"), [("go", "daemon"), ("daemon", "go"), ("daemon", "daemon")])
def test_in_a_chain_with_a_bridge_every_check_and_del_succeeds(go: Any, main: str, meta: str) -> None:
    bridge = {**BRIDGE, "ipam": {**BRIDGE["ipam"], "dataDir": str(go.directory / "networks")}}  # type: ignore[dict-item]
    config = tuning(go, mac=MAC, mtu=1400, sysctl={"net.core.somaxconn": "500"})

    status, first = go.call("ADD", bridge, way=main)
    assert status == 0, first
    status, last = go.call("ADD", config, first, way=meta)
    assert status == 0, last
    assert [i["mac"] for i in last["interfaces"] if i.get("sandbox")] == [MAC]
    assert json.dumps(last["ips"]) == json.dumps(first["ips"])

    assert go.call("CHECK", bridge, last, way=main) == (0, None)
    assert go.call("CHECK", config, last, way=meta) == (0, None)
    go.inside("c1", "ping", "-c1", "-W2", "10.50.0.1")
    assert go.call("DEL", config, last, way=meta) == (0, None)
    assert go.call("DEL", bridge, last, way=main) == (0, None)
    assert "eth0" not in go.host.links(go.netns("c1"))
    assert (files(go), go.parts()) == ([], [])
    go.host.run("ip", "link", "del", "br50")
