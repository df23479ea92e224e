"""Type ``flannel`` in the kernel: a bridge of ours or of Go's on this host's share, and chains behind it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("chains", ["daemon", "in process"], indirect=True)


def flannel(chains: Any, **delegate: Any) -> dict[str, Any]:
    subnet = (
        "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
    )
    path = chains.directory / "subnet.env"
    path.write_text(subnet)
    return {
        "type": "flannel",
        "subnetFile": str(path),
        "dataDir": str(chains.directory / "flannel"),
        "delegate": {"bridge": "flannel0", "isDefaultGateway": True, **delegate},
        "ipam": {"dataDir": str(chains.directory / "networks")},
    }


def left(chains: Any) -> list[str]:
    """Give the files that tell of a container."""
    kept = Path(chains.directory / "flannel").glob("*")
    return [path.name for path in (*kept, *Path(chains.directory / "networks" / "pods").glob("10.*"))]


@BOTH
def test_a_pod_is_attached_to_the_host_s_share_and_leaves_nothing(chains: Any) -> None:
    config = flannel(chains)

    status, said = chains.call("ADD", config)

    assert status == 0, said
    assert said["ips"][0]["gateway"] == "10.244.1.1"
    assert (chains.link("c1")["mtu"], chains.link("c1")["linkinfo"]["info_kind"]) == (1450, "veth")
    routes = {route["dst"]: route.get("gateway") for route in chains.ip("c1", "route")}
    assert routes["default"] == routes["10.244.0.0/16"] == "10.244.1.1"
    chains.inside("c1", "ping", "-c1", "-W2", "10.244.1.1")
    assert chains.call("CHECK", config, said) == (0, None)
    os.unlink(config["subnetFile"])
    assert [chains.call("DEL", config, said) for _ in range(2)] == [(0, None)] * 2
    assert "eth0" not in chains.host.links(chains.netns("c1"))
    assert (left(chains), chains.parts()) == ([], [])
    chains.host.run("ip", "link", "del", "flannel0")


@BOTH
def test_a_pod_whose_namespace_is_gone_leaves_nothing(chains: Any) -> None:
    config = flannel(chains)
    chains.call("ADD", config)
    chains.engine.kernel.delete_netns(str(chains.directory / "c1"))

    assert chains.call("DEL", config, netns="") == (0, None)

    assert (left(chains), chains.parts()) == ([], [])
    chains.host.run("ip", "link", "del", "flannel0")


def test_gc_takes_everything_of_a_pod_that_the_runtime_has_forgotten(chains: Any) -> None:
    config = {**flannel(chains), "cniVersion": "1.1.0"}
    for container in ("c1", "c2"):
        assert chains.call("ADD", config, container=container)[0] == 0

    valid = [{"containerID": "c2", "ifname": "eth0"}]
    assert chains.call("GC", {**config, "cni.dev/valid-attachments": valid}) == (0, None)

    assert {part.owner.container for part in chains.parts()} == {"c2"}
    assert (len(left(chains)), "c2" in left(chains)) == (2, True)
    assert "eth0" not in chains.host.links(chains.netns("c1"))
    assert chains.call("DEL", config, container="c2") == (0, None)
    chains.host.run("ip", "link", "del", "flannel0")


def test_a_foreign_delegate_and_ours_delete_what_the_other_made(go: Any) -> None:
    """Go's flannel is not packaged; what it would keep is what ours keeps, and its delegate is Go's bridge."""
    config = flannel(go)
    alone = go.directory / "alone"  # flannel is ours there, and all else is found in Go's directory
    alone.mkdir()
    for name in ("flannel", ".dovetail"):
        shutil.copy2(go.directory / "daemon" / name, alone / name)

    status, said = go.call("ADD", config, way="alone")
    assert status == 0, said
    assert [part.kind for part in go.parts()] == []  # so it was Go's bridge
    go.inside("c1", "ping", "-c1", "-W2", "10.244.1.1")
    assert go.call("DEL", config, said, way="daemon") == (0, None)
    assert ("eth0" in go.host.links(go.netns("c1")), left(go)) == (False, [])

    status, said = go.call("ADD", config, way="daemon")
    assert status == 0, said
    kept = json.loads((go.directory / "flannel" / "c1").read_text())
    (go.directory / "flannel" / "c1").unlink()
    assert go.call("DEL", kept, way="go") == (0, None)
    assert ("eth0" in go.host.links(go.netns("c1")), left(go)) == (False, [])
    go.host.run("ip", "link", "del", "flannel0")
    shutil.rmtree(alone)


def test_tuning_and_source_routing_behind_it(chains: Any) -> None:
    config = flannel(chains)
    tuning = {"type": "tuning", "mtu": 1400, "dataDir": str(chains.directory / "tuning")}
    plugins = [config, {"type": "sbr"}, tuning]
    said = None
    for plugin in plugins:
        status, said = chains.call("ADD", plugin, said)
        assert status == 0, said

    chains.inside("c1", "ping", "-c1", "-W2", "-I", said["ips"][0]["address"].partition("/")[0], "10.244.1.1")
    assert [chains.call("CHECK", plugin, said) for plugin in plugins] == [(0, None)] * 3
    assert [chains.call("DEL", plugin, said) for plugin in reversed(plugins)] == [(0, None)] * 3
    assert (left(chains), chains.parts()) == ([], [])
    chains.host.run("ip", "link", "del", "flannel0")
