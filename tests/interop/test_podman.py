"""A real podman on a network of ours, on a host with no Docker and no daemon: the plugin runs the engine itself."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")
SLEEP = ("bb", "sleep", "1000")
CAPABILITIES = {"portMappings": True, "ips": True, "mac": True, "aliases": True, "dns": True}


@pytest.fixture
def networks(podman: Any) -> Any:
    """A podman that knows networks ``web`` and ``back``; ``web`` has both families."""
    for name, *subnets in (("web", "10.88.0.0/24", "fd88::/64"), ("back", "10.89.0.0/24")):
        options = [word for subnet in subnets for word in ("--subnet", subnet)]
        podman.dovetail.cli("network", "create", name, *options)
        podman.configure(name, {"type": "dovetail", "network": name, "capabilities": CAPABILITIES})
    return podman


def check_nothing_is_left(podman: Any) -> None:
    podman.dovetail.cli("network", "rm", "web", "back")
    assert podman.dovetail.left() == []
    assert podman.host.elements() == -1
    assert podman.host.links() <= {"lo", "wan"}


def test_podman_alone_runs_publishes_restarts_and_leaves_nothing(networks: Any) -> None:
    podman, host = networks, networks.host
    podman.run("--name", "one", "--network", "web", "-p", "8080:80", *HTTPD)
    podman.run("--name", "two", "--network", "web", *SLEEP)
    address = podman.addresses("one")["web"]

    assert host.inet(podman.netns("one")) == {address}
    assert podman.pings("two", address)
    inet6 = host.ip("-6", "addr", "show", "scope", "global", netns=podman.netns("one"))
    assert podman.pings("two", inet6[0]["addr_info"][0]["local"])
    for url in ("http://127.0.0.1:8080/", f"http://{address}/"):
        host.wait_for(lambda: host.get(url) == "hello", what=url)  # noqa: B023
    assert host.get("http://192.0.2.1:8080/", netns=host.outside()) == "hello"
    for name in ("one", "two"):
        assert host.get("http://192.0.2.1:8080/", netns=podman.netns(name)) == "hello", "through hairpin"
    podman("restart", "one")
    host.wait_for(lambda: host.get("http://127.0.0.1:8080/") == "hello", what="port after a restart")
    assert not (host.dir / "dv" / "cni.sock").exists(), "no daemon had a part in it"

    podman("rm", "-f", "one", "two")
    check_nothing_is_left(podman)


def test_podman_gives_addresses_and_connects_a_running_container_to_a_second_network(networks: Any) -> None:
    podman, host = networks, networks.host
    podman.run("--name", "one", "--network", "back", *HTTPD)
    wishes = ("--ip", "10.88.0.77", "--mac-address", "02:11:22:33:44:55")
    podman.run("--name", "two", "--network", "web", *wishes, *SLEEP)

    link = host.ip("link", "show", "eth0", netns=podman.netns("two"))[0]
    assert link["address"] == "02:11:22:33:44:55"
    assert podman.addresses("two") == {"web": "10.88.0.77"}
    podman("network", "connect", "back", "two")
    assert host.inet(podman.netns("two")) == {"10.88.0.77", podman.addresses("two")["back"]}
    assert podman.pings("two", podman.addresses("one")["back"])
    podman("network", "disconnect", "web", "two")
    assert host.inet(podman.netns("two")) == {podman.addresses("two")["back"]}
    assert podman.pings("two", podman.addresses("one")["back"])

    podman("rm", "-f", "one", "two")
    check_nothing_is_left(podman)


def test_what_podman_cannot_have_is_a_sentence_for_the_user_and_leaves_nothing(networks: Any) -> None:
    podman = networks
    podman.run("--name", "one", "--network", "web", "-p", "8080:80", "--ip", "10.88.0.77", *SLEEP)
    podman.configure("gone", {"type": "dovetail", "network": "gone", "capabilities": CAPABILITIES})

    for wish, words in (
        (("--network", "web", "--ip", "10.88.0.77"), "10.88.0.77"),
        (("--network", "web", "-p", "8080:80"), "8080"),
        (("--network", "gone"), "gone"),
    ):
        said = podman.refused("run", "--rm", "--cgroup-parent", f"/{podman.host.cgroup}", *wish, *SLEEP)
        assert "cni plugin dovetail failed" in said and words in said

    assert len(podman.dovetail.json("endpoint", "ls")) == 1
    podman("rm", "-f", "one")
    check_nothing_is_left(podman)
