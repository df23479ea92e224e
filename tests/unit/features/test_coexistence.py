from __future__ import annotations

import pytest

from dovetail.features.coexistence import accept_forwarding, withdraw_forwarding
from dovetail.kernel.recording import RecordingKernel

_IN = "-i dv-+ -m comment --comment dovetail -j ACCEPT"
_OUT = "-o dv-+ -m comment --comment dovetail -j ACCEPT"


@pytest.fixture
def docker() -> RecordingKernel:
    """Give a host as Docker leaves it: IPv4 drops and has DOCKER-USER with its RETURN, IPv6 accepts."""
    kernel = RecordingKernel()
    kernel.drop_forward = {"iptables": True, "ip6tables": False}
    kernel.chains = {("iptables", "DOCKER-USER")}
    kernel.iptables("iptables", "-A", "DOCKER-USER", "-j", "RETURN")
    kernel.commands.clear()
    return kernel


def test_a_host_without_another_firewall_is_left_alone() -> None:
    kernel = RecordingKernel()
    accept_forwarding(kernel, ["dv-1", "br0"])
    kernel.drop_forward = {"iptables": False, "ip6tables": False}
    accept_forwarding(kernel, ["dv-1", "br0"])

    assert kernel.mutations == 0


def test_accepts_stand_before_dockers_return_and_once(docker: RecordingKernel) -> None:
    accept_forwarding(docker, ["dv-1"])
    accept_forwarding(docker, ["dv-1", "dv-2"])

    assert docker.commands == [
        "iptables --wait -D DOCKER-USER -j RETURN",
        f"iptables --wait -A DOCKER-USER {_IN}",
        f"iptables --wait -A DOCKER-USER {_OUT}",
        "iptables --wait -A DOCKER-USER -j RETURN",
    ]


def test_without_docker_user_a_chain_that_drops_gets_the_accepts_itself() -> None:
    kernel = RecordingKernel()
    kernel.drop_forward = {"iptables": False, "ip6tables": True}

    accept_forwarding(kernel, ["dv-1"])

    assert kernel.commands == [
        f"ip6tables --wait -I FORWARD {_IN}",
        f"ip6tables --wait -I FORWARD {_OUT}",
    ]


def test_what_was_lost_comes_back(docker: RecordingKernel) -> None:
    accept_forwarding(docker, ["dv-1"])
    docker.iptables("iptables", "-D", "DOCKER-USER", *_OUT.split())
    docker.commands.clear()

    accept_forwarding(docker, ["dv-1"])

    assert f"iptables --wait -A DOCKER-USER {_OUT}" in docker.commands
    assert f"iptables --wait -A DOCKER-USER {_IN}" not in docker.commands


def test_adopted_bridges_are_accepted_while_they_are_used(docker: RecordingKernel) -> None:
    accept_forwarding(docker, ["dv-1", "br0"])
    assert any("-A DOVETAIL -i br0" in line for line in docker.commands)
    docker.commands.clear()

    accept_forwarding(docker, ["br0", "dv-1"])
    assert docker.commands == []
    accept_forwarding(docker, ["br1"])
    assert docker.commands[0] == "iptables --wait -F DOVETAIL"
    assert any("-A DOVETAIL -i br1" in line for line in docker.commands)
    docker.commands.clear()
    accept_forwarding(docker, [])

    assert docker.commands == [
        "iptables --wait -D DOCKER-USER -m comment --comment dovetail -j DOVETAIL",
        "iptables --wait -F DOVETAIL",
        "iptables --wait -X DOVETAIL",
    ]


def test_withdrawing_leaves_nothing_and_twice_is_no_error(docker: RecordingKernel) -> None:
    accept_forwarding(docker, ["dv-1", "br0"])
    docker.commands.clear()

    withdraw_forwarding(docker)
    removed = list(docker.commands)
    withdraw_forwarding(docker)

    assert docker.commands == removed
    assert [line.split()[2] for line in removed] == ["-D", "-F", "-X", "-D", "-D"]
