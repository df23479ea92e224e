"""ufw and firewalld beside us: what networks send and get passes, comes back after a reload, and heeds the user's rules.

Both run for real in the private host, out of a directory that ``scripts/setup`` unpacks their packages into: installed,
firewalld would take over the machine at its next start. Docker's nftables back end needs Engine 29, which does not
run here; ``tests/kernel/ruleset/test_beside_docker.py`` has its ruleset.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

PEERS = Path(__file__).resolve().parents[2] / ".venv" / "peers"


class Scene:
    """A host with the programs of both, our network ``web`` with a container, and a machine outside, each with a server."""

    def __init__(self, dovetail: Any, rootfs: Path) -> None:
        self.dovetail, self.host = dovetail, dovetail.host
        host = self.host
        for directory in ("usr", "etc"):
            layers = f"/run/peers/{directory}"
            host.run("mkdir", "-p", f"{layers}/upper", f"{layers}/work")
            lower = f"lowerdir={PEERS}/{directory}:/{directory}"
            options = f"{lower},upperdir={layers}/upper,workdir={layers}/work"
            host.run("mount", "-n", "-t", "overlay", "-o", options, "overlay", f"/{directory}")
        dovetail.cli("network", "create", "web", "--subnet", "10.88.0.0/24")
        dovetail.cli("sandbox", "create", "s")
        dovetail.cli("network", "connect", "web", "s", "-p", "8080:80")
        self.ours = str(dovetail.json("sandbox", "inspect", "s")[0]["netns"])
        self.link = str(dovetail.json("network", "inspect", "web")[0]["link"])
        self.outside = host.outside()
        host.run("ip", "-n", "outside", "route", "add", "10.88.0.0/24", "via", "192.0.2.1")
        host.run("ip", "-n", "outside", "link", "set", "lo", "up")
        www = str(rootfs.parent / "rootfs" / "www")
        for netns in (self.ours, self.outside):
            command = ("/bin/busybox", "httpd", "-f", "-h", www)
            host.spawn("httpd.log", "nsenter", f"--net={netns}", *command)
        host.wait_for(lambda: self.passes() == (True, True), what="both servers answer")

    def passes(self) -> tuple[bool, bool]:
        """Say whether the container reaches outside, and whether its published port is reached from there."""
        out = self.host.get("http://192.0.2.2/", netns=self.ours, wait_s=2)
        into = self.host.get("http://192.0.2.1:8080/", netns=self.outside, wait_s=2)
        return out == "hello", into == "hello"

    def check_passes(self, when: str) -> None:
        """Wait until both ways are open, and see that what is not published is not."""
        self.host.wait_for(lambda: self.passes() == (True, True), what=f"our network passes {when}")
        assert not self.host.get("http://10.88.0.2/", netns=self.outside, wait_s=1), when


@pytest.fixture
def scene(dovetail_daemon: Any, rootfs: Path) -> Scene:
    """Give the scene, neither firewall started."""
    for program in ("usr/sbin/ufw", "usr/sbin/firewalld"):
        if not (PEERS / program).exists():
            pytest.skip(
                f"{Path(program).name} is not unpacked (scripts/setup does; Debian packages firewalld, ufw)"
            )
    return Scene(dovetail_daemon, rootfs)


def test_our_networks_pass_ufw_and_its_route_rules_decide_first(scene: Scene) -> None:
    host = scene.host
    for source in ("iptables", ""):  # what its maintainer scripts do
        host.run("sh", "-c", f"cp -n /usr/share/ufw/{source}/*.rules /etc/ufw/")
    host.run("sh", "-c", "cp -n /usr/share/ufw/ufw.conf /usr/share/ufw/*.init /etc/ufw/")

    host.run("ufw", "--force", "enable")
    assert "-P FORWARD DROP" in host.run("iptables", "-S", "FORWARD")
    scene.check_passes("with ufw")
    host.run("ufw", "reload")
    scene.check_passes("after a reload")

    host.run("ufw", "route", "deny", "proto", "tcp", "from", "192.0.2.2", "to", "any", "port", "80")
    host.wait_for(lambda: scene.passes() == (True, False), what="the user's rule closes the published port")
    host.run("ufw", "--force", "reset")
    scene.check_passes("without ufw")


@pytest.fixture
def firewalld(scene: Scene) -> Iterator[Scene]:
    """Start firewalld on a message bus of its own."""
    host = scene.host
    # without PolicyKit to ask, root may do all
    host.run("mkdir", "-p", "/run/dbus", "/run/services")
    host.run("mount", "-n", "--bind", "/run/services", "/usr/share/dbus-1/system-services")
    host.spawn("dbus.log", "dbus-daemon", "--system", "--nofork", "--nopidfile")
    host.wait_for(lambda: host.try_run("test", "-S", "/run/dbus/system_bus_socket").returncode == 0)
    host.spawn("firewalld.log", "firewalld", "--nofork", "--nopid")
    host.wait_for(
        lambda: host.try_run("firewall-cmd", "--state").returncode == 0, timeout_s=60, what="firewalld runs"
    )
    yield scene


def test_our_networks_pass_firewalld_and_come_back_after_a_reload(firewalld: Scene) -> None:
    host, dovetail = firewalld.host, firewalld.dovetail

    def zone() -> list[str]:
        return str(host.run("firewall-cmd", "--zone=trusted", "--list-interfaces")).split()

    assert "table inet firewalld" in host.run("nft", "list", "tables")
    firewalld.check_passes("with firewalld")
    assert zone() == [firewalld.link]

    host.run("firewall-cmd", "--reload")
    firewalld.check_passes("after a reload")

    options = ("-o", "gateway_mode_ipv4=routed")
    dovetail.cli("network", "create", "lan", "--subnet", "10.89.0.0/24", *options)
    assert len(zone()) == 2
    dovetail.cli("network", "connect", "lan", "s", "-p", "80")
    host.run("ip", "-n", "outside", "route", "add", "10.89.0.0/24", "via", "192.0.2.1")
    assert not host.get("http://10.89.0.2/", netns=firewalld.outside, wait_s=2), "firewalld rejects it"
    for line in _commands_of_the_guide():
        host.run(*line.split())
    host.wait_for(lambda: len(zone()) == 2, what="the reload is noticed")
    assert host.get("http://10.89.0.2/", netns=firewalld.outside) == "hello", "with the user's policy"

    dovetail.cli("network", "disconnect", "lan", "s")
    dovetail.cli("network", "rm", "lan")
    assert zone() == [firewalld.link]
    for words in ("network disconnect web s", "sandbox rm s", "network rm web"):
        dovetail.cli(*words.split())
    assert zone() == []


def _commands_of_the_guide() -> list[str]:
    """Give what docs/how-to/firewalls.md tells to say to firewalld."""
    page = PEERS.parents[1] / "docs" / "how-to" / "firewalls.md"
    lines = page.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("firewall-cmd ")]
