"""Whoever turns a host's forwarding on closes it to others first, where a Docker Engine relies on that."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import pytest

from dovetail.errors import KernelError
from dovetail.model.network import NetworkSpec, SubnetSpec

DUAL = (SubnetSpec(subnet=ip_network("10.88.0.0/24")), SubnetSpec(subnet=ip_network("fd88::/64"), version=6))


@pytest.fixture(autouse=True)
def _nobody_has_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOVETAIL_IP_FORWARD_NO_DROP", raising=False)


@pytest.fixture
def beside_docker(rig: Any) -> Any:
    """Give a rig on a host with a Docker Engine installed."""
    rig.kernel.programs = {"dockerd"}
    return rig


def commands(rig: Any, *words: str) -> list[str]:
    return [line for line in rig.kernel.commands if any(word in line for word in words)]


def test_the_policy_is_drop_before_forwarding_is_on(beside_docker: Any) -> None:
    beside_docker.engine.networks.create(NetworkSpec(name="web", subnets=DUAL))

    assert commands(beside_docker, "-P FORWARD", "forward=", "forwarding=") == [
        "iptables --wait -P FORWARD DROP",
        "ip6tables --wait -P FORWARD DROP",
        "sysctl -q -w net/ipv4/ip_forward=1",
        "sysctl -q -w net/ipv6/conf/all/forwarding=1",
    ]
    assert "iptables --wait -A DOVETAIL -i dv-+ -j ACCEPT" in beside_docker.kernel.commands


def test_the_policy_is_not_ours_where_forwarding_is_on_already(beside_docker: Any) -> None:
    beside_docker.kernel.set_sysctl("net/ipv4/ip_forward", "1")

    beside_docker.engine.networks.create(NetworkSpec(name="web", subnets=DUAL[:1]))

    assert commands(beside_docker, "-P FORWARD") == []


def test_an_internal_network_forwards_nothing_and_closes_nothing(beside_docker: Any) -> None:
    beside_docker.engine.networks.create(NetworkSpec(name="web", subnets=DUAL, internal=True))

    assert commands(beside_docker, "-P FORWARD") == []


def test_after_a_reboot_it_is_closed_before_the_networks_are_back(
    beside_docker: Any, make_rig: Callable[..., Any]
) -> None:
    beside_docker.engine.networks.create(NetworkSpec(name="web", subnets=DUAL[:1]))
    booted = make_rig()
    booted.kernel.programs = {"dockerd"}

    assert booted.engine.reconcile().failed == []

    assert commands(booted, "-P FORWARD", "ip_forward=") == [
        "iptables --wait -P FORWARD DROP",
        "sysctl -q -w net/ipv4/ip_forward=1",
    ]


def test_it_can_be_told_not_to(make_rig: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_IP_FORWARD_NO_DROP", "1")
    rig = make_rig()
    rig.kernel.programs = {"dockerd"}

    rig.engine.networks.create(NetworkSpec(name="web", subnets=DUAL))

    assert commands(rig, "-P FORWARD") == []


def test_it_is_open_again_where_the_network_was_not_made(beside_docker: Any) -> None:
    beside_docker.kernel.fail(on=lambda verb: verb == "add_bridge")

    with pytest.raises(KernelError):
        beside_docker.engine.networks.create(NetworkSpec(name="web", subnets=DUAL))

    assert beside_docker.kernel.forward_policies() == {"iptables": False, "ip6tables": False}
    assert beside_docker.kernel.sysctl("net/ipv4/ip_forward") == "0"


def test_it_stays_closed_where_forwarding_stays_on(beside_docker: Any) -> None:
    beside_docker.kernel.fail(on=lambda verb: verb.startswith("nft"))

    with pytest.raises(KernelError):
        beside_docker.engine.networks.create(NetworkSpec(name="web", subnets=DUAL))

    assert beside_docker.kernel.sysctl("net/ipv4/ip_forward") == "1"
    assert beside_docker.kernel.forward_policies() == {"iptables": True, "ip6tables": True}
