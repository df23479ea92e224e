"""The policy of FORWARD where we turn forwarding on, and the zone of firewalld."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from dovetail.features.firewalld import Firewalld
from dovetail.features.host_firewall import HostFirewall
from dovetail.kernel.protocol import TableState
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.network import Network, Subnet


def a_network(name: str = "web", *, link: str = "dv-1", adopted: bool = False) -> Network:
    subnets = (Subnet(subnet=ip_network("10.88.0.0/24")), Subnet(subnet=ip_network("fd88::/64")))
    return Network(id="ab" * 32, name=name, driver="bridge", subnets=subnets, link=link, adopted=adopted)


@pytest.fixture
def kernel() -> RecordingKernel:
    """Give a host with a Docker Engine installed."""
    host = RecordingKernel()
    host.programs = {"dockerd"}
    return host


@pytest.mark.parametrize(("version", "program"), [(4, "iptables"), (6, "ip6tables")])
@pytest.mark.parametrize("policies", [{}, {"iptables": False, "ip6tables": False}])
def test_the_policy_is_set_as_docker_would(
    kernel: RecordingKernel, version: int, program: str, policies: dict[str, bool]
) -> None:
    kernel.drop_forward = policies

    HostFirewall().close(kernel, version)

    assert kernel.commands == [f"{program} --wait -P FORWARD DROP"]
    assert kernel.forward_policies()[program] is True
    HostFirewall().close(kernel, version)
    assert len(kernel.commands) == 1


def test_the_policy_is_left_alone_without_a_docker_engine_and_where_that_is_said(
    kernel: RecordingKernel,
) -> None:
    HostFirewall(keep_policy=True).close(kernel, 4)
    kernel.programs.clear()
    HostFirewall().close(kernel, 4)

    assert kernel.commands == []


def test_the_managed_plugin_knows_that_there_is_a_docker_engine(kernel: RecordingKernel) -> None:
    kernel.programs.clear()

    HostFirewall(docker=True).close(kernel, 4)

    assert kernel.commands == ["iptables --wait -P FORWARD DROP"]


# -- firewalld --------------------------------------------------------------------------------------


def running(kernel: RecordingKernel, rules: int = 1) -> None:
    kernel.others["firewalld"] = TableState("", {"filter_FORWARD": rules})


def test_without_firewalld_nothing_is_asked(kernel: RecordingKernel) -> None:
    firewalld = Firewalld()
    firewalld.accept(kernel, [a_network()])
    firewalld.release(kernel, a_network())

    assert kernel.commands == []


def test_our_bridges_go_into_the_trusted_zone_and_out_of_it(kernel: RecordingKernel) -> None:
    running(kernel)
    firewalld = Firewalld()

    firewalld.accept(kernel, [a_network(), a_network("other", link="br-x")])
    firewalld.release(kernel, a_network())

    assert kernel.commands == [
        "firewall-cmd --zone=trusted --add-interface=dv-1",
        "firewall-cmd --zone=trusted --add-interface=br-x",
        "firewall-cmd --zone=trusted --remove-interface=dv-1",
    ]


def test_a_network_without_a_bridge_is_known_by_its_subnets(kernel: RecordingKernel) -> None:
    running(kernel)

    Firewalld().accept(kernel, [a_network(link="")])

    assert kernel.zones["trusted"] == {"10.88.0.0/24", "fd88::/64"}


def test_a_bridge_of_the_users_stays_in_the_users_zone(kernel: RecordingKernel) -> None:
    running(kernel)
    firewalld = Firewalld()

    firewalld.accept(kernel, [a_network(link="br0", adopted=True)])
    firewalld.release(kernel, a_network(link="br0", adopted=True))

    assert kernel.commands == []


def test_firewalld_is_asked_again_only_when_its_rules_have_changed(kernel: RecordingKernel) -> None:
    running(kernel)
    firewalld = Firewalld()
    firewalld.accept(kernel, [a_network()])
    kernel.zones["trusted"].clear()

    firewalld.accept(kernel, [a_network()])
    assert len(kernel.commands) == 1, "it takes a quarter of a second"

    running(kernel, rules=2)
    firewalld.accept(kernel, [a_network()])
    assert kernel.zones["trusted"] == {"dv-1"}, "a reload has taken it out"
