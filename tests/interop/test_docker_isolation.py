"""What Docker keeps apart stays apart: strangers reach its containers by published ports only, ours too."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
NETWORKS = {
    "bridge": (),
    "plain": (),
    "named": ("-o", "com.docker.network.bridge.name=named0"),
    "shut": ("--internal",),
}


class Beside:
    """Our network ``web`` with sandbox ``s``, and a container on each kind of network of Docker's own."""

    def __init__(self, docker: Any, dovetail: Any) -> None:
        self.docker, self.dovetail, self.host = docker, dovetail, docker.host
        dovetail.cli("network", "create", "web", "--subnet", "10.88.0.0/24")
        dovetail.cli("sandbox", "create", "s")
        dovetail.cli("network", "connect", "web", "s", "-p", "8080:80")
        self.ours = str(dovetail.json("sandbox", "inspect", "s")[0]["netns"])
        self.host.spawn(
            "s.log",
            *("nsenter", f"--net={self.ours}", "/bin/busybox", "httpd", "-f"),
            *("-h", str(self.host.dir / "rootfs" / "www")),
        )
        for name, options in NETWORKS.items():
            if name != "bridge":
                docker("network", "create", *options, name)
            docker("run", "-d", "--stop-timeout", "0", "--name", name, "--network", name, *HTTPD)

    def address(self, name: str) -> str:
        """Give the address of Docker's container on network `name`."""
        return str(self.docker.addresses(name)[name])

    def check_apart(self) -> None:
        """No port is published, so neither side reaches the other, while the host reaches both."""
        urls = {name: f"http://{self.address(name)}/" for name in NETWORKS}
        self.host.wait_for(lambda: not self._answering(urls), what="no container of Docker's is open to ours")
        for url in (*urls.values(), "http://10.88.0.2/"):
            assert self.host.get(url) == "hello", url
        theirs = [self.docker.netns(name) for name in NETWORKS]
        assert not any(self._get_all(("http://10.88.0.2/", netns) for netns in theirs))

    def _answering(self, urls: dict[str, str]) -> bool:
        return any(self._get_all((url, self.ours) for url in urls.values()))

    def _get_all(self, asked: Iterable[tuple[str, str]]) -> list[str]:
        """Fetch all at once: what is dropped is known by waiting only."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda one: self.host.get(one[0], netns=one[1], wait_s=1), asked))


@pytest.fixture
def beside(docker: Any, dovetail_daemon: Any) -> Beside:
    """Our network, then Docker's."""
    return Beside(docker, dovetail_daemon)


def test_a_container_of_ours_reaches_no_port_that_docker_has_not_published(beside: Beside) -> None:
    assert beside.host.run("iptables", "-S", "FORWARD").startswith("-P FORWARD DROP")
    beside.check_apart()

    beside.docker.restart()
    beside.docker("start", *NETWORKS)
    beside.check_apart()


def test_published_ports_are_open_both_ways_but_not_to_an_internal_network(beside: Beside) -> None:
    docker, host = beside.docker, beside.host
    docker("run", "-d", "--name", "open", "--network", "plain", "-p", "9090:80", *HTTPD)

    assert host.get("http://10.88.0.1:9090/", netns=beside.ours) == "hello"
    for name in ("bridge", "plain", "named"):
        gateway = host.ip("route", "show", "default", netns=docker.netns(name))[0]["gateway"]
        host.wait_for(
            lambda: host.get(f"http://{gateway}:8080/", netns=docker.netns(name)) == "hello",  # noqa: B023
            what=f"our port from {name}",
        )
    shut = docker.netns("shut")
    prefix = host.inet(shut).pop().rpartition(".")[0]
    for port in (8080, 9090):
        assert not host.get(f"http://{prefix}.1:{port}/", netns=shut, wait_s=1), "neither ours nor Docker's"


def test_the_rules_about_dockers_bridges_go_with_them_and_ours_with_the_last_network(beside: Beside) -> None:
    docker, host = beside.docker, beside.host

    def rules() -> str:
        return host.run("iptables-save", "-t", "filter")

    host.wait_for(lambda: "-A DOVETAIL -o named0 -j RETURN" in rules(), what="Docker's bridge is known")
    docker("rm", "-f", *NETWORKS)
    docker("network", "rm", "named", "plain", "shut")
    host.wait_for(
        lambda: len([line for line in rules().splitlines() if "DOVETAIL" in line and "RETURN" in line]) == 2,
        what="docker0 is left, coming and going",
    )

    for words in ("network disconnect web s", "sandbox rm s", "network rm web"):
        beside.dovetail.cli(*words.split())
    assert beside.dovetail.left() == []
    assert "dovetail" not in rules().lower()


@pytest.mark.parametrize("told", ["", "1"], ids=["closed", "told not to"])
def test_a_docker_that_comes_after_us_finds_forwarding_closed(
    told: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Docker before 28 closes it only when it turns forwarding on itself; at boot our networks are there first."""
    monkeypatch.setenv("DOVETAIL_IP_FORWARD_NO_DROP", told)
    dovetail = request.getfixturevalue("dovetail_daemon")
    host = dovetail.host
    dovetail.cli("network", "create", "web", "--subnet", "10.88.0.0/24")
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward") == "1"

    docker = request.getfixturevalue("dockerd")
    docker("run", "-d", "--name", "unpublished", *HTTPD)
    docker("run", "-d", "--name", "open", "-p", "9090:80", *HTTPD)
    outside = host.outside()
    host.run("ip", "-n", "outside", "route", "add", "172.16.0.0/12", "via", "192.0.2.1")
    address = docker.addresses("unpublished")["bridge"]

    policy = host.run("iptables", "-S", "FORWARD").splitlines()[0]
    assert policy == ("-P FORWARD ACCEPT" if told else "-P FORWARD DROP")
    assert host.get("http://192.0.2.1:9090/", netns=outside) == "hello"
    reached = host.get(f"http://{address}/", netns=outside, wait_s=2)
    assert reached == ("hello" if told else ""), "who has a route to a port that is not published"
    dovetail.cli("network", "create", "lan", "--subnet", "10.89.0.0/24", "-o", "gateway_mode_ipv4=routed")
    dovetail.cli("sandbox", "create", "s")
    dovetail.cli("network", "connect", "web", "s")
    dovetail.cli("network", "connect", "lan", "s", "-p", "80")
    ours = dovetail.json("sandbox", "inspect", "s")[0]["netns"]
    www = str(host.dir / "rootfs" / "www")
    host.spawn("s.log", "nsenter", f"--net={ours}", "/bin/busybox", "httpd", "-f", "-h", www)
    host.run("ip", "-n", "outside", "route", "add", "10.89.0.0/24", "via", "192.0.2.1")
    host.wait_for(lambda: host.get("http://10.89.0.2/", netns=outside) == "hello", what="a routed network")
    assert host.pings("192.0.2.2", netns=ours), "what is ours passes"


def test_our_networks_pass_a_docker_that_uses_the_legacy_iptables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Its rules are in another firewall of the kernel's, which tells nobody when it changes."""
    multi = shutil.which("xtables-legacy-multi", path="/usr/sbin:/sbin")
    if multi is None:
        pytest.skip("xtables-legacy-multi is not installed (Debian package iptables)")
    for name in ("iptables", "ip6tables", "iptables-save", "iptables-restore"):
        (tmp_path / name).symlink_to(multi)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    docker = request.getfixturevalue("dockerd")
    host = docker.host
    if not host.run("iptables", "-S", "FORWARD").startswith("-P FORWARD DROP"):
        pytest.skip("Docker does not use the legacy iptables here")

    beside = Beside(docker, request.getfixturevalue("dovetail_daemon"))

    assert "-A DOCKER-USER -m comment --comment dovetail -j DOVETAIL" in host.run("iptables", "-S")
    assert "FORWARD" not in host.run("nft", "list", "ruleset")
    outside = host.outside()
    assert host.pings("192.0.2.2", netns=beside.ours)
    host.wait_for(lambda: host.get("http://192.0.2.1:8080/", netns=outside) == "hello", what="our port")
