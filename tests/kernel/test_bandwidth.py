"""Bandwidth for real: what passes, and the reference plugin on the same veth pair, seen by ``tc`` and ``ip``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from dovetail.errors import AlreadyExists, Unsupported
from dovetail.features.bandwidth import differences, find_ifb, ifb_name, shape, stale_ifbs, unshape
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import Ifb, LinkSpec, Netns
from dovetail.model.bandwidth import Bandwidth, parse_bandwidth

pytestmark = pytest.mark.root

REFERENCE = Path("/usr/lib/cni/bandwidth")
IFB = ifb_name("mynet", "ctr1", "eth0")
ALIAS = "dovetail:store/endpoint/e1"
KEYS = {
    "ingressRate": "ingress_rate",
    "ingressBurst": "ingress_burst",
    "egressRate": "egress_rate",
    "egressBurst": "egress_burst",
}

CONFIGURATIONS: dict[str, dict[str, int]] = {
    "ingress": {"ingressRate": 8_000_000, "ingressBurst": 800_000},
    "egress": {"egressRate": 4_000_000, "egressBurst": 400_000},
    "both": {
        "ingressRate": 8_000_000,
        "ingressBurst": 800_000,
        "egressRate": 4_000_000,
        "egressBurst": 400_000,
    },
    "no whole bytes": {"ingressRate": 7_999_999, "ingressBurst": 12_345_679},
    "one byte": {"ingressRate": 8, "ingressBurst": 8},
    "below an mtu": {"egressRate": 8_000, "egressBurst": 8_000},
    "no whole ticks": {"egressRate": 80_000_000_001, "egressBurst": 6_543_217},
    "32 bits": {"ingressRate": 2**35 - 8, "ingressBurst": 80_000_000},
    "33 bits": {"ingressRate": 2**35, "ingressBurst": 80_000_000},
    "100 Gbit/s": {
        "ingressRate": 10**11,
        "ingressBurst": 2**32 - 1,
        "egressRate": 10**11,
        "egressBurst": 10**9,
    },
    "the largest burst": {"egressRate": 10**10, "egressBurst": 2**34},
    "what containerd gives": {"ingressRate": 10**8, "ingressBurst": 2**32 - 1},
    "what the kubelet gave": {"ingressRate": 10**8, "ingressBurst": 2**31 - 1},
    "nothing": {},
    "zeros": {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0},
}


class Scene(NamedTuple):
    """A veth pair, ``vhost`` and the container's ``eth0``, with addresses."""

    host: Any
    kernel: LinuxKernel
    box: Netns

    def shape(self, bandwidth: Bandwidth) -> str | None:
        with ExitStack() as undo:
            mac = shape(self.kernel, "vhost", IFB, bandwidth, mtu=1400, alias=ALIAS, undo=undo)
            undo.pop_all()
        return mac

    def reference(self, verb: str, keys: dict[str, int], *, ifname: str = "eth0") -> tuple[int, Any]:
        """Execute the reference plugin as a runtime does; gives exit status and what it printed."""
        previous = {
            "interfaces": [{"name": "vhost"}, {"name": ifname, "sandbox": self.box.path}],
            "ips": [{"version": "4", "interface": 1, "address": "10.9.0.2/24"}],
        }
        config = {"cniVersion": "0.4.0", "name": "mynet", "type": "bandwidth", "prevResult": previous, **keys}
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "ctr1",
            "CNI_NETNS": self.box.path,
            "CNI_IFNAME": ifname,
            "CNI_PATH": str(REFERENCE.parent),
        }
        done = subprocess.run(
            [str(REFERENCE)],
            input=json.dumps(config),
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def tc(self) -> dict[str, Any]:
        """Give what ``tc -j`` shows of each link."""
        return {
            name: {
                "qdiscs": json.loads(self.host.run("tc", "-j", "-d", "qdisc", "show", "dev", name)),
                "filters": json.loads(self.host.run("tc", "-j", "filter", "show", "dev", name, "ingress")),
            }
            for name in self.host.links()
        }


@pytest.fixture
def scene(host: Any, kernel: LinuxKernel, box: Netns) -> Scene:
    try:
        kernel.add_link(LinkSpec("ifb-try"), Ifb())
    except Unsupported:
        pytest.skip("this kernel has no CONFIG_IFB")
    kernel.delete_links(["ifb-try"])
    kernel.add_veth(LinkSpec("vhost", mtu=1400, up=True), LinkSpec("eth0", mtu=1400, netns=box, up=True))
    host.run("ip", "addr", "add", "10.9.0.1/24", "dev", "vhost")
    host.run("nsenter", f"--net={box.path}", "ip", "addr", "add", "10.9.0.2/24", "dev", "eth0")
    return Scene(host, kernel, box)


@pytest.fixture
def reference() -> None:
    if not REFERENCE.exists():
        pytest.skip(
            "the CNI reference plugin bandwidth is not installed (Debian: containernetworking-plugins)"
        )


def parsed(keys: dict[str, int]) -> Bandwidth:
    return parse_bandwidth(**{KEYS[key]: number for key, number in keys.items()})


# -- what passes ----------------------------------------------------------------------------------


RECEIVE = """
import json, socket, sys, time
with socket.create_server((sys.argv[1], 5001)) as server:
    print("up", flush=True)
    connection, _ = server.accept()
    count, start = 0, time.monotonic()
    while time.monotonic() < start + 1:
        count += len(connection.recv(1 << 18))
    print(json.dumps([count, time.monotonic() - start]))
"""
SEND = """
import socket, sys
with socket.create_connection((sys.argv[1], 5001), timeout=30) as connection:
    try:
        while True:
            connection.sendall(bytes(1 << 18))
    except ConnectionError:
        pass
"""


def transfer(box: Netns, *, to_container: bool) -> tuple[int, float]:
    """Send for a second as fast as it goes; gives the bytes that arrived, and the seconds that it took."""
    inside = ["nsenter", f"--net={box.path}"]
    address = "10.9.0.2" if to_container else "10.9.0.1"
    python = [sys.executable, "-IS", "-c"]
    receive = [*(inside if to_container else []), *python, RECEIVE, address]
    send = [*([] if to_container else inside), *python, SEND, address]
    with subprocess.Popen(receive, stdout=subprocess.PIPE, text=True) as receiver:
        assert receiver.stdout is not None
        assert receiver.stdout.readline() == "up\n"
        with subprocess.Popen(send) as sender:
            count, seconds = json.loads(receiver.communicate(timeout=60)[0])
        assert sender.returncode == 0
    return count, seconds


@pytest.mark.parametrize("to_container", [True, False], ids=["ingress", "egress"])
def test_a_transfer_is_held_to_the_rate_in_its_direction_alone(scene: Scene, to_container: bool) -> None:
    direction = "ingress" if to_container else "egress"
    rate, burst = 5_000_000, 200_000
    free, _ = transfer(scene.box, to_container=to_container)

    scene.shape(parsed({f"{direction}Rate": rate * 8, f"{direction}Burst": burst * 8}))
    held, seconds = transfer(scene.box, to_container=to_container)
    other, _ = transfer(scene.box, to_container=not to_container)

    assert held <= 1.1 * rate * seconds + burst + 65_536
    assert held >= 0.25 * rate * seconds
    assert held < free / 4
    assert held < other / 4


def test_a_transfer_is_free_again_when_the_shaping_is_taken_away(scene: Scene) -> None:
    bandwidth = parsed({"egressRate": 40_000_000, "egressBurst": 1_600_000})
    scene.shape(bandwidth)
    held, _ = transfer(scene.box, to_container=False)

    unshape(scene.kernel, IFB, host_link="vhost")

    assert held < transfer(scene.box, to_container=False)[0] / 4


def test_a_large_burst_at_a_low_rate_lets_packets_pass(scene: Scene) -> None:
    """Where the reference plugin's numbers overflow: its limit is 23 bytes then, and nothing passes."""
    scene.shape(
        parsed(
            {"ingressRate": 8_000, "ingressBurst": 2**35 - 9, "egressRate": 8_000, "egressBurst": 2**35 - 9}
        )
    )

    scene.host.run("ping", "-c1", "-W5", "-s", "1300", "10.9.0.2")


# -- beside the reference plugin --------------------------------------------------------------------


def comparable(links: dict[str, Any]) -> dict[str, Any]:
    """Leave out what differs: the ifb's MAC, alias, index and queue.

    The reference plugin's ifb has a MAC by chance, and no queue length, at which an ifb stops for every packet (ifb_xmit).
    """
    return {
        name: {
            key: value
            for key, value in link.items()
            if key not in {"address", "ifalias", "ifindex", "txqlen"}
        }
        for name, link in links.items()
    }


def one_action(shown: dict[str, Any]) -> dict[str, Any]:
    """Leave out the reference plugin's second action, which never runs, and the actions' numbers."""
    for link in shown.values():
        for one in link["filters"]:
            actions = one.get("options", {}).get("actions", [])
            del actions[1:]
            for action in actions:
                del action["index"]
    return shown


@pytest.mark.usefixtures("reference")
@pytest.mark.interop
@pytest.mark.parametrize("keys", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_tc_and_ip_show_what_the_reference_plugin_makes(scene: Scene, keys: dict[str, int]) -> None:
    bandwidth = parsed(keys)
    status, result = scene.reference("ADD", keys)
    assert status == 0, result
    theirs = one_action(scene.tc()), comparable(scene.host.links())
    assert differences(scene.kernel, "vhost", IFB, bandwidth) == []
    unshape(scene.kernel, IFB, host_link="vhost")

    mac = scene.shape(bandwidth)

    assert (one_action(scene.tc()), comparable(scene.host.links())) == theirs
    named = [one["name"] for one in result["interfaces"][2:]]
    assert named == ([IFB] if mac else [])
    assert scene.host.links().get(IFB, {}).get("address") == mac
    if keys:  # without any key its CHECK panics
        assert scene.reference("CHECK", keys) == (0, None)


@pytest.mark.usefixtures("reference")
@pytest.mark.interop
def test_either_removes_what_the_other_made(scene: Scene) -> None:
    keys = CONFIGURATIONS["both"]
    before = scene.tc()
    assert scene.reference("ADD", keys)[0] == 0

    unshape(scene.kernel, find_ifb(scene.kernel, "mynet", "ctr1", "eth0"), host_link="vhost")
    assert scene.tc() == before

    scene.shape(parsed(keys))
    assert scene.reference("DEL", keys) == (0, None)
    assert IFB not in scene.host.links()


@pytest.mark.usefixtures("reference")
@pytest.mark.interop
def test_what_the_reference_plugin_made_for_another_interface_is_removed(scene: Scene) -> None:
    scene.host.run("nsenter", f"--net={scene.box.path}", "ip", "link", "set", "eth0", "name", "net1")
    assert scene.reference("ADD", CONFIGURATIONS["egress"], ifname="net1")[0] == 0

    unshape(scene.kernel, find_ifb(scene.kernel, "mynet", "ctr1", "net1"))

    assert set(scene.host.links()) == {"lo", "vhost"}


@pytest.mark.usefixtures("reference")
@pytest.mark.interop
def test_what_differs_is_told_where_the_reference_plugin_tells_it(scene: Scene) -> None:
    keys = CONFIGURATIONS["both"]
    scene.shape(parsed(keys))
    for key in ("ingressRate", "egressRate", "ingressBurst", "egressBurst"):
        wanted = {**keys, key: keys[key] * 2}

        assert scene.reference("CHECK", wanted)[0] != 0
        assert differences(scene.kernel, "vhost", IFB, parsed(wanted)) != []


@pytest.mark.usefixtures("reference")
@pytest.mark.interop
@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="on other processors the reference plugin's numbers do not wrap"
)
def test_a_burst_that_wrapped_in_the_reference_plugin_does_not_differ(scene: Scene) -> None:
    for keys in (
        {"ingressRate": 10_000_000, "ingressBurst": 2**32 - 1},
        {"ingressRate": 8_000, "ingressBurst": 2**35 - 9},
        {"ingressRate": 10**12, "ingressBurst": 2**35 - 738},
    ):
        assert scene.reference("ADD", keys)[0] == 0

        assert differences(scene.kernel, "vhost", IFB, parsed(keys)) == []
        unshape(scene.kernel, IFB, host_link="vhost")


# -- what is left behind --------------------------------------------------------------------------


def test_a_container_that_dies_leaves_an_ifb_that_is_found_and_removed(scene: Scene) -> None:
    scene.shape(parsed(CONFIGURATIONS["both"]))
    assert stale_ifbs(scene.kernel) == []

    scene.host.run("ip", "link", "del", "vhost")

    [stale] = stale_ifbs(scene.kernel)
    assert (stale.name, stale.owner) == (IFB, ("store", "endpoint", "e1"))
    unshape(scene.kernel, stale.name)
    unshape(scene.kernel, stale.name)
    assert set(scene.host.links()) == {"lo"}


def test_two_interfaces_of_a_container_are_shaped_and_unshaped_apart(scene: Scene) -> None:
    scene.kernel.add_veth(LinkSpec("vother", up=True), LinkSpec("eth1", netns=scene.box, up=True))
    bandwidth = parsed(CONFIGURATIONS["egress"])
    second = ifb_name("mynet", "ctr1", "eth1")
    scene.shape(bandwidth)
    with ExitStack() as undo:
        shape(scene.kernel, "vother", second, bandwidth, mtu=1500, alias=ALIAS, undo=undo)
        undo.pop_all()
    assert differences(scene.kernel, "vother", second, bandwidth) == []

    unshape(scene.kernel, find_ifb(scene.kernel, "mynet", "ctr1", "eth1"), host_link="vother")

    assert differences(scene.kernel, "vhost", IFB, bandwidth) == []
    assert second not in scene.host.links()


def test_an_ifb_that_was_left_behind_is_no_obstacle(scene: Scene) -> None:
    bandwidth = parsed(CONFIGURATIONS["both"])
    scene.shape(bandwidth)
    scene.host.run("ip", "link", "del", "vhost")
    scene.kernel.add_veth(LinkSpec("vhost", up=True), LinkSpec("eth0", netns=scene.box, up=True))

    scene.shape(bandwidth)

    assert differences(scene.kernel, "vhost", IFB, bandwidth) == []


def test_what_fails_leaves_the_host_as_it_was(scene: Scene) -> None:
    scene.host.run("tc", "qdisc", "add", "dev", "vhost", "clsact")
    before = scene.tc()

    with pytest.raises(AlreadyExists, match="ingress qdisc 'vhost' already exists"), ExitStack() as undo:
        shape(scene.kernel, "vhost", IFB, parsed(CONFIGURATIONS["both"]), mtu=1400, alias=ALIAS, undo=undo)

    assert scene.tc() == before
