"""Docker's own keys of its bridge driver, as a compose file has them, on a real dockerd that hands them to the plugin."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

HTTPD = ("bb", "httpd", "-f", "-h", "/www")


def key(name: str, value: str) -> tuple[str, str]:
    """Write one of Docker's options of a network."""
    return "-o", f"com.docker.network.{name}={value}"


def create(docker: Any, name: str, subnet: str, *words: str) -> None:
    """Make a network as a compose file does that names our driver."""
    ours = ("-d", "dovetail", "--ipam-driver", "dovetail")
    docker("network", "create", *ours, "--subnet", subnet, *words, name)


def test_dockers_keys_say_how_networks_are_entered(docker: Any, dovetail_daemon: Any) -> None:
    host = docker.host
    outside = host.outside()
    create(docker, "routed", "10.90.0.0/24", *key("bridge.gateway_mode_ipv4", "routed"))
    create(docker, "open", "10.91.0.0/24", *key("bridge.gateway_mode_ipv4", "nat-unprotected"))
    create(docker, "local", "10.92.0.0/24", *key("bridge.host_binding_ipv4", "127.0.0.1"))
    create(docker, "wired", "10.93.0.0/24", *key("bridge.trusted_host_interfaces", "wan:eth7"))
    for name, ports in (
        ("routed", "8080:80"),
        ("open", "8081:81"),
        ("local", "8082:80"),
        ("wired", "8083:80"),
    ):
        docker("run", "-d", "--name", name, "--network", name, "-p", ports, *HTTPD)
        subnet = dovetail_daemon.json("network", "inspect", name)[0]["subnets"][0]["subnet"]
        host.run("ip", "-n", "outside", "route", "add", subnet, "via", "192.0.2.1")
    docker("run", "-d", "--name", "beside", "--network", "routed", "-p", "8080:80", *HTTPD)

    def reached(address: str) -> bool:
        return bool(host.get(f"http://{address}/", netns=outside, wait_s=2) == "hello")

    networks = {"routed": "routed", "beside": "routed", "open": "open", "local": "local", "wired": "wired"}
    own = {name: docker.addresses(name)[network] for name, network in networks.items()}
    host.wait_for(
        lambda: reached(own["routed"]), what="the container's own address, where nothing is translated"
    )
    assert reached(own["beside"]), "which takes no port of the host"
    assert not reached("192.0.2.1:8080")
    assert reached(own["open"]), "a port that is not published"
    assert host.get("http://127.0.0.1:8082/") == "hello"
    assert not reached("192.0.2.1:8082")
    assert not reached(own["local"])
    assert reached(own["wired"])
    assert reached("192.0.2.1:8083")


def test_an_isolated_network_has_no_gateway_and_must_be_internal(docker: Any, dovetail_daemon: Any) -> None:
    host, isolated = docker.host, key("bridge.gateway_mode_ipv4", "isolated")
    ours = ("-d", "dovetail", "--ipam-driver", "dovetail", "--subnet", "10.94.0.0/24")
    refused = docker.refused("network", "create", *ours, *isolated, "apart")
    assert "only an internal network can be isolated from its host" in refused
    assert "bridged' is none of nat" in docker.refused(
        "network", "create", *ours, *key("bridge.gateway_mode_ipv4", "bridged"), "apart"
    )

    create(docker, "apart", "10.94.0.0/24", "--internal", *isolated)
    for name in ("one", "two"):
        docker("run", "-d", "--name", name, "--network", "apart", *HTTPD)

    link = dovetail_daemon.json("network", "inspect", "apart")[0]["link"]
    assert host.ip("addr", "show", "dev", link)[0]["addr_info"] == []
    assert host.ip("route", "show", "default", netns=docker.netns("one")) == []
    assert docker.pings("one", docker.addresses("two")["apart"])
    for name in ("one", "two"):
        docker("rm", "-f", name)
    docker("network", "rm", "apart")
    assert dovetail_daemon.left() == []
