from __future__ import annotations

import ipaddress
import socket

import pytest

from dovetail.cli.network import pair_subnets
from dovetail.cli.values import ADDRESS, CIDR


@pytest.fixture
def web(shell):
    assert shell("network", "create", "web", "--subnet", "10.88.0.0/24", "--subnet", "fd88::/64").status == 0
    assert shell("sandbox", "create", "box").out == "box\n"
    return shell


def test_network_create_prints_the_id_alone(shell):
    ran = shell("network", "create", "web")

    assert ran.status == 0
    assert len(ran.out.strip()) == 64
    assert ran.err == ""


def test_network_create_hands_on_every_option(shell):
    ran = shell(
        *("network", "create", "web", "-d", "bridge", "--subnet", "10.88.0.0/24", "--gateway", "10.88.0.254"),
        *("--ip-range", "10.88.0.128/25", "--aux-address", "nas=10.88.0.5", "--internal", "-o", "mtu=1400"),
        *("--label", "a=b=c", "--format", "json"),
    )

    view = ran.json()
    (subnet,) = view["subnets"]
    assert (subnet["gateway"], subnet["ip_range"]) == ("10.88.0.254", "10.88.0.128/25")
    assert subnet["aux"] == {"nas": "10.88.0.5"}
    assert (view["internal"], view["mtu"], view["labels"]) == (True, 1400, {"a": "b=c"})


def test_routes_are_given_one_by_one_and_shown_as_they_were(web):
    ran = web(
        *("network", "create", "lan", "--subnet", "10.91.0.0/24", "--route", "10.0.0.0/8 via 10.91.0.254"),
        *("--route", "10.99.0.0/16 metric 7"),
    )

    assert ran.status == 0
    shown = web("network", "inspect", "lan").out
    assert "routes   10.0.0.0/8 via 10.91.0.254, 10.99.0.0/16 metric 7" in shown
    web("network", "connect", "lan", "box", "--sysctl", "net.ipv4.conf.IFNAME.forwarding=1")
    assert "net.ipv4.conf.IFNAME.forwarding=1" in web("endpoint", "inspect", "box").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("network", "create", "x", "--route", "10.0.0.0/8 by 10.1.1.1"), "by"),
        (
            ("network", "connect", "web", "box", "--sysctl", "kernel.core_pattern=|/bin/sh"),
            "kernel.core_pattern",
        ),
        (("run", "--network", "web", "--sysctl", "net.ipv4.ip_forward=1", "true"), "net.ipv4.ip_forward"),
    ],
)
def test_what_is_no_route_or_sysctl_is_a_usage_error(web, words, told):
    ran = web(*words)

    assert ran.status == 2
    assert told in ran.err


def test_a_gateway_that_is_chosen_is_no_reserved_address(shell):
    ran = shell(
        *("network", "create", "web", "--subnet", "10.88.0.0/24", "--aux-address", "nas=10.88.0.1"),
        *("--format", "json"),
    )

    (subnet,) = ran.json()["subnets"]
    assert (subnet["gateway"], subnet["aux"]) == ("10.88.0.2", {"nas": "10.88.0.1"})


def test_format_is_understood_before_and_behind_the_command(web):
    assert web("--format", "json", "network", "ls").json() == web("network", "ls", "--format", "json").json()


def test_network_ls_aligns_its_columns(web):
    lines = web("network", "ls").out.splitlines()

    assert lines[0].split() == ["NAME", "DRIVER", "SUBNETS", "LINK", "ENDPOINTS", "FACE", "ID"]
    assert lines[1].startswith("web   bridge  10.88.0.0/24 fd88::/64  dv-")


def test_connect_prints_interface_addresses_and_ports(web):
    ran = web("network", "connect", "web", "box", "-p", "8080:80", "--ip", "10.88.0.9")

    assert ran.out == "eth0 10.88.0.9/24 fd88::2/64 8080->80/tcp\n"


def test_inspect_gives_a_list_in_json_also_for_one(web):
    (view,) = web("network", "inspect", "web", "--format", "json").json()

    assert view["name"] == "web"


def test_inspect_shows_the_others_when_one_is_missing(web):
    ran = web("network", "inspect", "nope", "web")

    assert ran.status == 1
    assert "10.88.0.0/24" in ran.out
    assert ran.err == "dovetail: no such network: 'nope'\nhint: to see those there are: dovetail network ls\n"


def test_rm_removes_the_others_when_one_is_missing(web):
    web("network", "create", "db")

    ran = web("network", "rm", "nope", "db")

    assert (ran.status, ran.out) == (1, "")
    assert [row["name"] for row in web("network", "ls", "--format", "json").json()] == ["web"]


def test_rm_of_a_network_in_use_names_its_endpoints(web):
    web("network", "connect", "web", "box")

    ran = web("network", "rm", "web")

    assert ran.status == 1
    assert ran.err == "dovetail: network 'web' is in use by endpoint box\nhint: disconnect them first\n"


def test_a_whole_life_leaves_nothing(web):
    web("network", "connect", "web", "box")
    assert web("network", "disconnect", "web", "box") == (0, "", "")
    assert web("sandbox", "rm", "box") == (0, "", "")
    assert web("network", "rm", "web") == (0, "", "")

    assert [link.name for link in web.kernel.links()] == ["lo"]
    assert "no networks" in web("topology").out


_SUBNET = ("--subnet", "10.7.0.0/24")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("network", "create", "x", "--subnet", "10.0.0.0/33"), "'10.0.0.0/33' is not a CIDR"),
        (("network", "create", "x", "--subnet", "10.0.0.1/24"), "did you mean 10.0.0.0/24?"),
        (("network", "create", "x", "--gateway", "10.0.0"), "'10.0.0' is not an IP address"),
        (("network", "create", "x", "-o", "mtu"), "'mtu' is not KEY=VALUE"),
        (("network", "create"), "Missing argument 'NAME'"),
        (("network", "connect", "web", "box", "--mac", "zz"), "'zz' is not a MAC address"),
        (("network", "connect", "web", "box", "-p", "80:x"), "'x' in '80:x' is not a port"),
        (("network", "connect", "web", "box", "-p", "70000:1"), "70000 is not a port"),
        (("network", "remove", "web"), "No such command 'remove'"),
        (("run", "--network", "web"), "Missing argument"),
        (("run", "--network", "web", "--"), "Missing argument"),
        (("run", "--", "true"), "Missing option '--network'"),
        (("--explain", "demo"), "--explain has no meaning"),
        (("trace", "--last", "0"), "'0' is not a number of operations"),
        (("trace", "--last", "x"), "'x' is not a number of operations"),
        (("trace", "--depth", "-1"), "'-1' is not a depth"),
        (
            ("network", "create", "x", "--aux-address", "nas=10.0.0"),
            "--aux-address': '10.0.0' is not an IP address",
        ),
        (("network", "create", "x", "-o", "mtu=1400", "-o", "mtu=1500"), "'mtu' is given twice"),
        (("network", "create", "x", "--label", "a=1", "--label", "a=2"), "'a' is given twice"),
        (
            (
                "network",
                "create",
                "x",
                "--subnet",
                "10.7.0.0/24",
                "--gateway",
                "10.7.0.1",
                "--gateway",
                "10.7.0.2",
            ),
            "10.7.0.0/24 has one gateway, and both 10.7.0.1 and 10.7.0.2 are given",
        ),
        (
            ("network", "create", "x", *_SUBNET, "--ip-range", "10.7.0.0/25", "--ip-range", "10.7.0.128/25"),
            "10.7.0.0/24 has one IP range, and both 10.7.0.0/25 and 10.7.0.128/25 are given",
        ),
        (("network", "inspect", ""), "a network's name cannot be empty"),
        (("network", "rm", "web", ""), "a network's name cannot be empty"),
        (("sandbox", "rm", ""), "a sandbox's name cannot be empty"),
        (("endpoint", "inspect", ""), "an endpoint's name cannot be empty"),
        (("network", "create", "x", "-d", ""), "a driver's name cannot be empty"),
        (("network", "create", "\udcff"), "'\\udcff' is not valid UTF-8"),
        (("network", "inspect", "\udcff"), "'\\udcff' is not valid UTF-8"),
        (("network", "create", "x", "--label", "a=\udcff"), "'\\udcff' is not valid UTF-8"),
        (("run", "--network", "web", "--network", "web", "--", "true"), "network 'web' is given twice"),
        (("completion", "tcsh"), "'tcsh' is not one of"),
        (("--format", "xml", "network", "ls"), "--format"),
    ],
)
def test_wrong_usage_is_2_and_one_sentence_with_the_way_to_help(web, words, sentence):
    before = list(web.kernel.commands)

    ran = web(*words)

    assert (ran.status, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith("dovetail: ")
    assert sentence in first
    assert second.startswith("hint: dovetail")
    assert web.kernel.commands == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("network", "create", "web"), "network 'web' already exists"),
        (("network", "create", "a/b"), "'a/b' is not a valid network name"),
        (("network", "create", "x", "-d", "ring"), "no such network driver: 'ring'"),
        (("network", "create", "x", "-o", "colour=red"), "'colour' is not an option"),
        (("network", "create", "x", "--subnet", "10.88.0.0/25"), "10.88.0.0/24"),
        (
            ("network", "create", "x", "--subnet", "10.7.0.0/24", "--gateway", "10.8.0.1"),
            "10.8.0.1 is not in 10.7.0.0/24",
        ),
        (("network", "create", "x", "--gateway", "10.8.0.1"), "needs a subnet"),
        (("network", "connect", "web", "nobody"), "no such sandbox: 'nobody'"),
        (("network", "connect", "web", "box", "--ip", "10.88.0.1"), "10.88.0.1"),
        (("network", "connect", "web", "box", "--ip", "10.99.0.1"), "10.99.0.1 is not in network 'web'"),
        (("network", "connect", "web", "box", "--ifname", "a/b"), "'a/b' is not a valid interface name"),
        (("network", "disconnect", "web", "box"), "box on network web"),
        (("sandbox", "create", "box"), "sandbox 'box' already exists"),
        (("endpoint", "inspect", "nope"), "no such endpoint: 'nope'"),
    ],
)
def test_failure_is_1_and_one_sentence_naming_the_value(web, words, sentence):
    before = list(web.kernel.commands)

    ran = web(*words)

    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("dovetail: ")
    assert sentence in ran.err.splitlines()[0]
    assert "Traceback" not in ran.err
    assert web.kernel.commands == before


def test_a_defect_is_a_sentence_too(web, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("dovetail.cli.topology.draw", broken)

    ran = web("topology")
    assert ran.status == 1
    assert ran.err.startswith("dovetail: internal error: ZeroDivisionError: division by zero\n")


def test_topology_draws_every_endpoint_with_its_face_and_link(web):
    web("network", "connect", "web", "box", "-p", "8080:80")
    web("sandbox", "create", "spare")

    lines = web("topology").out.splitlines()

    link = web("endpoint", "ls", "--format", "json").json()[0]["link"]
    bridge = web("network", "ls", "--format", "json").json()[0]["link"]
    assert lines == [
        f"host {socket.gethostname()}",
        f"├─ network web  (bridge)  10.88.0.0/24  fd88::/64  link {bridge}",
        f"│  └─ box  cli  eth0  10.88.0.2/24 fd88::2/64  {link}  ports 8080->80/tcp",
        "└─ on no network",
        f"   └─ spare  cli  {web.run_dir}/netns/spare",
    ]


def test_trace_shows_what_ran_without_a_daemon(web):
    web("network", "connect", "web", "box")

    ran = web("trace", "--last", "1")

    lines = ran.out.splitlines()
    assert "cli network connect  network=web sandbox=box" in lines[0]
    assert " ms" in lines[0]
    assert any("ip addr add 10.88.0.2/24 dev eth0" in line for line in lines)
    assert web("trace", "--last", "2", "--format", "json").json()[-1]["name"] == "network connect"


def test_trace_shows_failures_with_their_sentence(web):
    web("network", "create", "web")

    assert "FAILED: network 'web' already exists" in web("trace", "--last", "1", "--depth", "0").out


def test_doctor_exits_1_on_a_problem_and_says_what_to_do(web):
    web.kernel.set_sysctl("net/ipv4/ip_forward", "0")

    ran = web("doctor")

    assert ran.status == 1
    assert "problem  IPv4 forwarding" in ran.out
    assert "-> run: sysctl -w net.ipv4.ip_forward=1" in ran.out
    assert "warning  daemon: nobody listens" in ran.out


def test_version_needs_neither_root_nor_a_daemon(shell, monkeypatch):
    def refuse(**_):
        raise AssertionError("an engine was built")

    monkeypatch.setattr("dovetail.cli.backend.build_engine", refuse)

    assert "not running" in shell("version").out
    assert shell("version", "--format", "json").json()["daemon"] is None


@pytest.mark.parametrize(
    "words",
    [
        ("driver", "ls"),
        ("driver", "inspect", "bridge"),
        ("pool", "ls"),
        ("sandbox", "ls"),
        ("sandbox", "inspect", "box"),
    ],
)
def test_lists_print_something_for_people_and_for_programs(web, words):
    assert web(*words).out.strip()
    assert web(*words, "--format", "json").json()


def test_a_driver_is_shown_with_its_options_and_dockers_names_for_them(web):
    ran = web("driver", "inspect", "macvlan")

    assert "in Docker         docker network create -d dovetail-macvlan" in ran.out
    lines = ran.out.splitlines()
    (mode,) = [number for number, line in enumerate(lines) if line.startswith("mode ")]
    assert [line.strip() for line in lines[mode + 1 :]][-1] == "in Docker macvlan_mode"
    assert web("driver", "inspect", "nope", "bridge").status == 1


def test_gateways_and_ranges_go_to_the_subnet_they_lie_in():
    four, six = ipaddress.ip_network("10.0.0.0/24"), ipaddress.ip_network("fd00::/64")

    first, second = pair_subnets(
        subnets=[four, six],
        gateways=[ipaddress.ip_address("fd00::9"), ipaddress.ip_address("10.0.0.9")],
        ranges=[ipaddress.ip_network("10.0.0.128/25")],
        aux={"x": ipaddress.ip_address("10.0.0.3"), "y": ipaddress.ip_address("10.0.0.4")},
        ipv6=False,
    )

    assert (str(first.gateway), str(second.gateway)) == ("10.0.0.9", "fd00::9")
    assert str(first.ip_range) == "10.0.0.128/25"
    assert sorted(first.aux) == ["x", "y"]


@pytest.mark.parametrize(
    ("subnets", "versions"), [((), [4, 6]), (("10.0.0.0/24",), [4, 6]), (("fd00::/64",), [6])]
)
def test_ipv6_adds_a_subnet_to_be_chosen_where_none_is_given(subnets, versions):
    pairs = pair_subnets(
        subnets=[CIDR.convert(text, None, None) for text in subnets],
        gateways=[],
        ranges=[],
        aux={},
        ipv6=True,
    )

    assert [pair.spec().version for pair in pairs] == versions


def test_values_that_were_read_already_are_left_alone():
    address = ipaddress.ip_address("10.0.0.1")

    assert ADDRESS.convert(address, None, None) is address
