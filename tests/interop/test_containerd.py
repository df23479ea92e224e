"""A real containerd, asked over its CRI socket as the kubelet asks, puts pods on a network of ours."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cri import Containerd, field, need_containerd

pytestmark = [pytest.mark.root, pytest.mark.interop]

LOOPBACK = Path("/usr/lib/cni/loopback")  # containerd runs it for each pod before the network's plugins


@pytest.fixture
def containerd(private_host: Any, dovetail_daemon: Any, rootfs: Path) -> Containerd:
    """A containerd whose pods are on network ``web``, which has both families."""
    need_containerd()
    if not LOOPBACK.exists():
        pytest.skip(f"{LOOPBACK} is not installed (Debian package containernetworking-plugins)")
    dovetail_daemon.cli("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64")
    plugins = private_host.dir / "cni-bin"
    dovetail_daemon.cli("cni", "install", "--bin-dir", str(plugins))
    shutil.copy(LOOPBACK, plugins)
    plugin = {"type": "dovetail", "network": "web", "capabilities": {"portMappings": True, "dns": True}}
    conflist = {"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]}
    runtime = Containerd(private_host, plugins, conflist, rootfs)
    runtime.start()
    return runtime


def test_pods_and_a_namespace_are_on_one_network_and_leave_nothing(
    containerd: Containerd, dovetail_daemon: Any
) -> None:
    host = containerd.host
    dovetail_daemon.cli("sandbox", "create", "s")
    dovetail_daemon.cli("network", "connect", "web", "s")
    sandbox, outside = str(dovetail_daemon.json("sandbox", "inspect", "s")[0]["netns"]), host.outside()

    one, two = containerd.run("one", host_port=8080), containerd.run("two")

    addresses = [containerd.address(pod) for pod in (one, two)]
    assert [host.inet(containerd.netns(pod)) for pod in (one, two)] == [{a} for a in addresses]
    assert len({*addresses, *host.inet(sandbox), "10.88.0.1"}) == 4, "no address is given twice"
    for netns in (containerd.netns(one), containerd.netns(two), sandbox):
        for address in addresses:
            assert host.pings(address, netns=netns)
            assert host.get(f"http://{address}/", netns=netns) == "hello"
        assert host.get("http://192.0.2.1:8080/", netns=netns) == "hello", "by the host's address"
    assert host.get("http://192.0.2.1:8080/", netns=outside) == "hello"
    assert {"one", "two", "s"} <= set(dovetail_daemon.cli("topology").split())

    containerd.remove(one)
    containerd.remove(two)
    assert len(dovetail_daemon.json("endpoint", "ls")) == 1
    for words in ("network disconnect web s", "sandbox rm s", "network rm web"):
        dovetail_daemon.cli(*words.split())
    assert dovetail_daemon.left() == []


def test_a_pod_that_cannot_be_is_a_sentence_for_the_kubelet_and_leaves_nothing(
    containerd: Containerd, dovetail_daemon: Any
) -> None:
    one = containerd.run("one", host_port=8080)

    said = containerd.refused("RunPodSandbox", field(1, containerd.pod("two", host_port=8080)))

    assert "8080" in said and "dovetail" in said
    assert len(dovetail_daemon.json("endpoint", "ls")) == 1
    containerd.remove(one)
    dovetail_daemon.cli("network", "rm", "web")
    assert dovetail_daemon.left() == []
