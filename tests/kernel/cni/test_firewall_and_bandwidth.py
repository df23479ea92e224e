"""Types ``firewall`` and ``bandwidth`` for real: what passes, and how fast."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.root

either_way = pytest.mark.parametrize("site", ["daemon", "alone"], indirect=True)


@pytest.fixture
def dropping(node: Any) -> Any:
    """The host forwards nothing that no rule accepts, as Docker leaves it."""
    for program in ("iptables", "ip6tables"):
        node.host.run(program, "-P", "FORWARD", "DROP")
    yield
    for program in ("iptables", "ip6tables"):
        node.host.run(program, "-P", "FORWARD", "ACCEPT")


@either_way
@pytest.mark.cni(53)
def test_containers_are_admitted_where_the_host_drops(node: Any, dropping: Any) -> None:
    outside = node.outside()
    plain = node.chain(node.bridge(ipMasq=True))
    admitted = node.chain(*plain["plugins"], {"type": "firewall"}, name="admitted")
    node.add(plain, "c1")
    assert not node.pings(node.inside("c1"), "192.0.2.2")

    node.add(
        {
            **admitted,
            "plugins": [
                {**plain["plugins"][0], "bridge": "br1", "ipam": node.ipam("10.51.0.0/24", "fd51::/64")},
                {"type": "firewall"},
            ],
        },
        "c2",
    )

    assert node.pings(node.inside("c2"), "192.0.2.2")
    assert node.pings(node.inside("c2"), "2001:db8::2")
    with node.serving(outside, 7777, name="out"):
        assert node.ask("192.0.2.2", 7777, where=node.inside("c2")) == "out 192.0.2.1"


@either_way
@pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
@pytest.mark.cni(53)
def test_who_reaches_a_container(node: Any, policy: str) -> None:
    def chain(number: int) -> dict[str, Any]:
        bridge = node.bridge(f"10.5{number}.0.0/24", bridge=f"br{number}", ipMasq=True)
        return dict(node.chain(bridge, {"type": "firewall", "ingressPolicy": policy}, name=f"n{number}"))

    outside = node.outside()
    node.add(chain(0), "c1")
    node.add(chain(0), "c2")
    node.add(chain(1), "c3")
    neighbour, other = node.addresses("c2")[0], node.addresses("c3")[0]

    assert node.pings(node.inside("c1"), other) == (policy == "open")
    assert node.pings(node.inside("c1"), neighbour) or policy == "isolated"
    assert node.pings(node.inside("c1"), "10.50.0.1")
    assert node.pings(node.inside("c1"), "192.0.2.2")
    assert node.pings("", neighbour)
    node.host.run("ip", "-n", "outside", "route", "add", "10.50.0.0/24", "via", "192.0.2.1")
    assert node.pings(outside, neighbour)
    for number, name in enumerate(("c1", "c2")):
        node.check(chain(0), name)
        del number


def test_a_policy_changes_with_the_next_add(node: Any) -> None:
    bridge = node.bridge("10.50.0.0/24")
    first = node.chain(bridge, {"type": "firewall", "ingressPolicy": "isolated"})
    second = node.chain(bridge, {"type": "firewall"})
    result = node.add(first)
    assert [one for one in node.elements() if one.startswith("isolated ")]

    node.runtime.execute("ADD", second, second["plugins"][1], node.attachment(), result)

    assert not [one for one in node.elements() if one.startswith(("isolated ", "apart "))]


RATES = {"ingressRate": 8_000_000, "ingressBurst": 400_000, "egressRate": 8_000_000, "egressBurst": 400_000}


def bytes_a_second(node: Any, sender: str, receiver: str, address: str) -> float:
    """Send for a while and count what arrives."""
    receive = (
        "import socket, sys, time\n"
        "s = socket.create_server(('', 7788)); print('up', flush=True)\n"
        "c, _ = s.accept(); got = 0; begun = time.monotonic()\n"
        "while time.monotonic() - begun < 2: got += len(c.recv(65536))\n"
        "print(got / (time.monotonic() - begun))\n"
    )
    send = (
        "import socket, sys\n"
        "s = socket.create_connection((sys.argv[1], 7788))\n"
        "try:\n"
        "    while True: s.sendall(bytes(65536))\n"
        "except OSError: pass\n"
    )
    into = ["nsenter", f"--net={receiver}"] if receiver else []
    out_of = ["nsenter", f"--net={sender}"] if sender else []
    server = subprocess.Popen(
        [*into, sys.executable, "-IS", "-c", receive], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    server.stdout.readline()
    client = subprocess.Popen(
        [*out_of, sys.executable, "-IS", "-c", send, address], stderr=subprocess.DEVNULL
    )
    output, _ = server.communicate(timeout=30)
    client.kill()
    client.wait()
    return float(output)


@pytest.mark.cni(52)
def test_what_is_sent_and_received_is_held_to_its_rate(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24"), {"type": "bandwidth", **RATES}, version="1.1.0")
    result = node.add(chain)
    address = node.addresses()[0].partition("/")[0]

    into = bytes_a_second(node, "", node.inside("c1"), address)
    out = bytes_a_second(node, node.inside("c1"), "", "10.50.0.1")

    assert 300_000 < into < 1_500_000  # of 1,000,000; unbounded it is a thousand times as much
    assert 300_000 < out < 1_500_000
    ifb = result["interfaces"][-1]
    assert ifb["name"].startswith("bwp")
    assert node.host.links()[ifb["name"]]["address"] == ifb["mac"]
    node.check(chain)
    node.delete(chain)
    assert ifb["name"] not in node.host.links()


@either_way
def test_rates_may_come_from_the_runtime(node: Any) -> None:
    plugin = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
    chain = node.chain(node.bridge("10.50.0.0/24"), plugin)

    node.add(chain, bandwidth={"IngressRate": 8_000_000, "IngressBurst": 800_000})

    assert "rate 8Mbit" in node.host.run("tc", "qdisc", "show")
    node.runtime.check(chain, node.attachment(bandwidth={"IngressRate": 8_000_000, "IngressBurst": 800_000}))


def test_the_configurations_rates_count_where_the_runtime_gives_others(node: Any) -> None:
    rates = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
    plugin = {"type": "bandwidth", "capabilities": {"bandwidth": True}, **rates}

    node.add(
        node.chain(node.bridge("10.50.0.0/24"), plugin),
        bandwidth={"egressRate": 4_000_000, "egressBurst": 400_000},
    )

    assert "rate 8Mbit" in node.host.run("tc", "qdisc", "show")
    assert "rate 4Mbit" not in node.host.run("tc", "qdisc", "show")


def test_no_rates_are_no_part(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24"), {"type": "bandwidth"})
    node.add(chain)

    assert "tbf" not in node.host.run("tc", "qdisc", "show")
    assert not [row for row in node.rows() if row.startswith("bandwidth")]
    node.check(chain)


def test_a_failed_add_of_rates_leaves_the_pair_as_it_was(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24"), {"type": "bandwidth", **RATES, "ingressBurst": 2**36})

    error = node.refused(lambda: node.add(chain))

    assert (error.plugin, error.code) == ("bandwidth", 7)
    assert "tbf" not in node.host.run("tc", "qdisc", "show")
