from __future__ import annotations

import pytest

from dovetail.features.coexistence import accept_forwarding, withdraw_forwarding
from dovetail.kernel.recording import RecordingKernel

_JUMP = "-m comment --comment dovetail -j DOVETAIL"
_ACCEPTS = [f"-A DOVETAIL -{way} {links} -j ACCEPT" for links in ("dv-+", "dvh+") for way in "io"]

# What `iptables -S` says of a host on which Docker 20.10 has a bridge, a published port and an internal network.
_DOCKER_20 = """
-P FORWARD DROP
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i tap0 ! -o eth7 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 ! -s 172.20.0.0/16 -o br-5e0b6e1f3a7c -j DROP
-A DOCKER-ISOLATION-STAGE-1 ! -d 172.20.0.0/16 -i br-5e0b6e1f3a7c -j DROP
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -i eth9 -j DROP
-A DOCKER-USER -j RETURN
"""

# The same of Docker 28, which has its rules in chains of its own.
_DOCKER_28 = """
-P FORWARD DROP
-N DOCKER
-N DOCKER-BRIDGE
-N DOCKER-CT
-N DOCKER-FORWARD
-N DOCKER-INTERNAL
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-INTERNAL
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-INTERNAL ! -s 172.20.0.0/16 -o br-5e0b6e1f3a7c -j DROP
"""


@pytest.fixture
def docker() -> RecordingKernel:
    """Give a host as Docker leaves it before it has a bridge: IPv4 drops and has DOCKER-USER, IPv6 accepts."""
    kernel = RecordingKernel()
    kernel.drop_forward = {"iptables": True, "ip6tables": False}
    kernel.rules = {"iptables": ["-P FORWARD DROP", "-N DOCKER-USER", "-A DOCKER-USER -j RETURN"]}
    return kernel


def chain(kernel: RecordingKernel) -> list[str]:
    return [rule for rule in kernel.iptables_rules("iptables") if rule.startswith("-A DOVETAIL")]


def test_a_host_without_another_firewall_is_left_alone() -> None:
    kernel = RecordingKernel()
    accept_forwarding(kernel, ["dv-1", "br0"])
    kernel.drop_forward = {"iptables": False, "ip6tables": False}
    accept_forwarding(kernel, ["dv-1", "br0"])

    assert kernel.mutations == 0


def test_the_jump_stands_before_dockers_return_and_once(docker: RecordingKernel) -> None:
    accept_forwarding(docker, ["dv-1"])
    accept_forwarding(docker, ["dv-1", "dv-2"])

    assert docker.commands == [
        "iptables --wait -N DOVETAIL",
        *(f"iptables --wait {rule}" for rule in _ACCEPTS),
        f"iptables --wait -I DOCKER-USER 1 {_JUMP}",
    ]


def test_the_users_rules_come_before_the_jump(docker: RecordingKernel) -> None:
    docker.rules = {"iptables": _DOCKER_20.split("\n")[1:-1]}

    accept_forwarding(docker, ["dv-1"])

    user = [rule for rule in docker.iptables_rules("iptables") if rule.startswith("-A DOCKER-USER")]
    assert user == ["-A DOCKER-USER -i eth9 -j DROP", f"-A DOCKER-USER {_JUMP}", "-A DOCKER-USER -j RETURN"]


def test_a_jump_that_came_to_stand_behind_a_return_stands_before_it_again(docker: RecordingKernel) -> None:
    """Docker adds one where it does not find its own, and that may be while somebody else has it in his hands."""
    rules = ["-j RETURN", _JUMP, "-j RETURN"]
    docker.rules["iptables"][2:] = [f"-A DOCKER-USER {rule}" for rule in rules]

    accept_forwarding(docker, ["dv-1"])

    user = [rule for rule in docker.iptables_rules("iptables") if rule.startswith("-A DOCKER-USER")]
    assert user == [f"-A DOCKER-USER {rule}" for rule in (_JUMP, "-j RETURN", "-j RETURN")]


def test_without_docker_user_a_chain_that_drops_gets_the_jump_itself() -> None:
    kernel = RecordingKernel()
    kernel.drop_forward = {"iptables": False, "ip6tables": True}

    accept_forwarding(kernel, ["dv-1"])

    assert kernel.commands[-1] == f"ip6tables --wait -A FORWARD {_JUMP}"


def test_the_jump_moves_when_docker_comes_to_a_host_that_drops() -> None:
    kernel = RecordingKernel()
    kernel.drop_forward = {"iptables": True}
    accept_forwarding(kernel, ["dv-1"])
    for words in ("-N DOCKER-USER", "-A DOCKER-USER -j RETURN"):
        kernel.iptables("iptables", *words.split())

    accept_forwarding(kernel, ["dv-1"])

    jumps = [rule for rule in kernel.iptables_rules("iptables") if rule.endswith("DOVETAIL") and "-j" in rule]
    assert jumps == [f"-A DOCKER-USER {_JUMP}"]


@pytest.mark.parametrize("rules", [_DOCKER_20, _DOCKER_28])
def test_dockers_bridges_are_dockers_to_decide(docker: RecordingKernel, rules: str) -> None:
    docker.rules = {"iptables": rules.split("\n")[1:-1]}

    accept_forwarding(docker, ["dv-1"])

    returns = {
        f"-A DOVETAIL -{way} {name} -j RETURN" for way in "io" for name in ("docker0", "br-5e0b6e1f3a7c")
    }
    assert set(chain(docker)[:4]) == returns, "and they come first"
    assert chain(docker)[4:] == _ACCEPTS


def test_dockers_bridges_are_followed_while_they_come_and_go(docker: RecordingKernel) -> None:
    accept_forwarding(docker, ["dv-1"])
    rule = ("DOCKER", "!", "-i", "br-1", "-o", "br-1", "-j", "DROP")

    docker.iptables("iptables", "-A", *rule)
    accept_forwarding(docker, ["dv-1"])
    followed = chain(docker)
    docker.iptables("iptables", "-D", *rule)
    accept_forwarding(docker, ["dv-1"])

    assert set(followed[:2]) == {"-A DOVETAIL -i br-1 -j RETURN", "-A DOVETAIL -o br-1 -j RETURN"}
    assert followed[2:] == _ACCEPTS
    assert chain(docker) == _ACCEPTS


def test_a_bridge_of_dockers_that_a_network_of_ours_adopts_is_accepted(docker: RecordingKernel) -> None:
    docker.rules = {"iptables": _DOCKER_28.split("\n")[1:-1]}

    accept_forwarding(docker, ["docker0"])

    rules = chain(docker)
    assert "-A DOVETAIL -o docker0 -j ACCEPT" in rules
    assert not any("docker0 -j RETURN" in rule for rule in rules)


@pytest.mark.parametrize("lost", [*_ACCEPTS, f"-A DOCKER-USER {_JUMP}"])
def test_what_was_lost_comes_back_and_nothing_else_is_touched(docker: RecordingKernel, lost: str) -> None:
    accept_forwarding(docker, ["dv-1"])
    before = sorted(docker.iptables_rules("iptables"))
    docker.iptables("iptables", "-D", *lost.split()[1:])

    accept_forwarding(docker, ["dv-1"])

    assert sorted(docker.iptables_rules("iptables")) == before


def test_adopted_bridges_are_accepted_while_they_are_used(docker: RecordingKernel) -> None:
    accept_forwarding(docker, ["dv-1", "br0"])
    assert chain(docker) == [*_ACCEPTS, "-A DOVETAIL -i br0 -j ACCEPT", "-A DOVETAIL -o br0 -j ACCEPT"]
    docker.commands.clear()

    accept_forwarding(docker, ["br0", "dv-1"])
    assert docker.commands == []
    accept_forwarding(docker, ["br1"])
    assert chain(docker) == [*_ACCEPTS, "-A DOVETAIL -i br1 -j ACCEPT", "-A DOVETAIL -o br1 -j ACCEPT"]
    accept_forwarding(docker, [])
    assert chain(docker) == _ACCEPTS


def test_withdrawing_leaves_nothing_and_twice_is_no_error(docker: RecordingKernel) -> None:
    before = docker.iptables_rules("iptables")
    accept_forwarding(docker, ["dv-1", "br0"])

    withdraw_forwarding(docker)
    docker.commands.clear()
    withdraw_forwarding(docker)

    assert docker.iptables_rules("iptables") == before
    assert docker.commands == []


def forward(kernel: RecordingKernel, program: str = "iptables") -> list[str]:
    return [rule for rule in kernel.iptables_rules(program) if rule.startswith("-A FORWARD ")]


def test_the_jump_stands_behind_the_rules_of_others_and_moves_when_more_come() -> None:
    kernel = RecordingKernel()
    kernel.drop_forward = {"iptables": True}
    kernel.rules = {"iptables": ["-P FORWARD DROP", "-A FORWARD -j ufw-before-forward"]}
    accept_forwarding(kernel, ["dv-1"])
    assert forward(kernel) == ["-A FORWARD -j ufw-before-forward", f"-A FORWARD {_JUMP}"]

    kernel.iptables("iptables", "-A", "FORWARD", "-j", "ufw-after-forward")
    kernel.commands.clear()
    accept_forwarding(kernel, ["dv-1"])

    assert kernel.commands == [
        f"iptables --wait -A FORWARD {_JUMP}",
        "iptables --wait -D FORWARD 2",
    ], "there is one all the time"
    assert forward(kernel)[-1] == f"-A FORWARD {_JUMP}"


@pytest.mark.parametrize("last", ["-j DROP", "-j REJECT --reject-with icmp-host-prohibited"])
def test_a_rule_that_drops_all_counts_as_such_a_policy_and_stays_the_last(last: str) -> None:
    kernel = RecordingKernel()
    kernel.drop_forward = {"iptables": False}
    kernel.rules = {"iptables": ["-P FORWARD ACCEPT", "-A FORWARD -i eth9 -j DROP", f"-A FORWARD {last}"]}

    accept_forwarding(kernel, ["dv-1"])
    accept_forwarding(kernel, ["dv-1"])

    assert forward(kernel) == ["-A FORWARD -i eth9 -j DROP", f"-A FORWARD {_JUMP}", f"-A FORWARD {last}"]
    withdraw_forwarding(kernel)
    assert forward(kernel) == ["-A FORWARD -i eth9 -j DROP", f"-A FORWARD {last}"]
