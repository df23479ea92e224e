"""Types ``host-local`` and ``static`` under a bridge, beside Go's host-local on the same files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

either_way = pytest.mark.parametrize("site", ["daemon", "alone"], indirect=True)


def bridge(ipam: dict[str, Any], **keys: Any) -> dict[str, Any]:
    return {"type": "bridge", "bridge": "br0", "isGateway": True, "ipam": ipam, **keys}


def ips(result: Any) -> list[str]:
    return [ip["address"] for ip in result["ips"]]


@either_way
@pytest.mark.cni(43, 44)
def test_addresses_go_round_and_the_gateway_s_is_never_given(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/29"))
    given = []
    for number in range(8):
        given += ips(node.add(chain, f"c{number % 2}"))
        node.delete(chain, f"c{number % 2}")

    assert given == [f"10.50.0.{last}/29" for last in (2, 3, 4, 5, 6, 2, 3, 4)]


@pytest.mark.cni(45)
def test_ranges_are_inclusive_and_sets_give_an_address_each(node: Any) -> None:
    first = {
        "subnet": "10.50.0.0/24",
        "rangeStart": "10.50.0.10",
        "rangeEnd": "10.50.0.11",
        "gateway": "10.50.0.254",
    }
    second = {"subnet": "10.60.0.0/24", "rangeStart": "10.60.0.7", "rangeEnd": "10.60.0.7"}
    sets = [[first, second], [{"subnet": "fd50::/64"}]]
    chain = node.chain({**node.bridge(), "isDefaultGateway": False, "ipam": {**node.ipam(), "ranges": sets}})

    given = [ips(node.add(chain, f"c{number}"))[0] for number in range(3)]

    assert given == ["10.50.0.10/24", "10.50.0.11/24", "10.60.0.7/24"]
    assert node.refused(lambda: node.add(chain, "c3")).code == 102


@either_way
@pytest.mark.cni(48)
def test_go_s_host_local_and_ours_go_on_where_the_other_ended(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24"))

    one = ips(node.add(chain, "c1", runtime=node.go))
    two = ips(node.add(chain, "c2"))
    three = ips(node.add(chain, "c3", runtime=node.go))

    assert one + two + three == ["10.50.0.2/24", "10.50.0.3/24", "10.50.0.4/24"]
    assert Path(node.data_dir, "pods", "10.50.0.3").read_bytes() == b"c2\r\neth0"
    assert Path(node.data_dir, "pods", "last_reserved_ip.0").read_text() == "10.50.0.4"
    node.delete(chain, "c2", runtime=node.go)
    node.delete(chain, "c1")
    assert node.files().keys() == {"10.50.0.4"}
    node.installation.cli("gc", "--yes")  # Go's plugin has left our rows


@pytest.mark.parametrize("source", ["CNI_ARGS", "args", "capability", "with a prefix"])
@pytest.mark.cni(46)
def test_an_address_can_be_asked_for(node: Any, source: str) -> None:
    plugin = {**node.bridge("10.50.0.0/24"), "capabilities": {"ips": True}}
    more: dict[str, Any] = {}
    match source:
        case "CNI_ARGS":
            more["args"] = "IgnoreUnknown=1;IP=10.50.0.77"
        case "args":
            plugin["args"] = {"cni": {"ips": ["10.50.0.77"]}}
        case "capability":
            more["ips"] = ["10.50.0.77"]
        case _:
            more["ips"] = ["10.50.0.77/24"]
    chain = node.chain(plugin)

    assert ips(node.add(chain, "c1", **more)) == ["10.50.0.77/24"]

    assert node.refused(lambda: node.add(chain, "c2", **more)).code == 101


@pytest.mark.parametrize("asked", ["10.50.0.1", "10.50.0.0", "10.50.0.255", "10.99.0.5", "x"])
@pytest.mark.cni(46)
def test_an_address_that_nobody_can_have_is_refused(node: Any, asked: str) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24"))
    before = node.state("c1")

    error = node.refused(lambda: node.add(chain, args=f"IgnoreUnknown=1;IP={asked}"))

    assert error.code in {4, 7}
    after = node.state("c1")
    assert after == before


@pytest.mark.cni(49)
def test_routes_and_resolv_conf_are_handed_on(node: Any, tmp_path: Path) -> None:
    resolv = tmp_path / "resolv.conf"
    resolv.write_text("nameserver 10.50.0.1\nsearch a b\noptions ndots:2\n", encoding="ascii")
    routes = [{"dst": "10.7.0.0/16", "gw": "10.50.0.9"}, {"dst": "10.8.0.0/16"}, {"dst": "0.0.0.0/0"}]
    ipam = node.ipam("10.50.0.0/24", routes=routes, resolvConf=str(resolv))

    chain = node.chain(bridge(ipam))
    result = node.add(chain)

    found = node.routes()
    assert found["10.7.0.0/16"]["gateway"] == "10.50.0.9"
    assert found["10.8.0.0/16"]["gateway"] == found["default"]["gateway"] == "10.50.0.1"
    assert result["dns"] == {"nameservers": ["10.50.0.1"], "search": ["a", "b"], "options": ["ndots:2"]}
    assert result["routes"] == routes
    node.check(chain)


def test_a_configuration_s_own_resolver_settings_count_more(node: Any) -> None:
    result = node.add(node.chain(node.bridge(dns={"nameservers": ["10.1.1.1"], "domain": "d"})))

    assert result["dns"] == {"nameservers": ["10.1.1.1"], "domain": "d"}


@pytest.mark.cni(47)
def test_the_same_interface_gets_no_second_address(node: Any) -> None:
    """As IPAM plugins are asked by a main plugin of somebody else's."""
    ipam = node.ipam()
    chain = node.chain({"type": "host-local", "ipam": ipam})
    node.add(chain)
    before = node.files()

    assert node.refused(lambda: node.add(chain)).code == 101
    assert node.files() == before


def test_files_of_a_container_that_a_row_forgot_are_given_back(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24"))
    node.add(chain)
    Path(node.data_dir, "pods", "10.50.0.200").write_bytes(b"c9\r\neth0")

    node.delete(chain, "c9")

    assert node.files().keys() == {"10.50.0.2"}


@either_way
def test_static_gives_what_the_configuration_says(node: Any) -> None:
    addresses = [
        {"address": "10.50.0.9/24", "gateway": "10.50.0.1"},
        {"address": "fd50::9/64", "gateway": "fd50::1"},
    ]
    ipam = {
        "type": "static",
        "addresses": addresses,
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": {"domain": "d"},
    }
    chain = node.chain(bridge(ipam))

    result = node.add(chain)

    assert node.addresses() == ["10.50.0.9/24", "fd50::9/64"]
    assert node.routes()["default"]["gateway"] == "10.50.0.1"
    assert result["dns"] == {"domain": "d"}
    node.check(chain)
    changed = {**ipam, "addresses": [{"address": "10.50.0.8/24"}]}
    chain_of_another = {**chain, "plugins": [bridge(changed)]}
    assert node.refused(lambda: node.check(chain_of_another)).code == 105


@pytest.mark.cni(50)
def test_what_the_runtime_says_comes_before_static_addresses(node: Any) -> None:
    ipam = {"type": "static", "addresses": [{"address": "10.50.0.9/24"}]}
    plugin = bridge(ipam, capabilities={"ips": True}, isGateway=False)

    assert ips(node.add(node.chain(plugin), "c1", ips=["10.50.0.10/24"])) == ["10.50.0.10/24"]
    assert ips(node.add(node.chain({**plugin, "args": {"cni": {"ips": ["10.50.0.11/24"]}}}), "c2")) == [
        "10.50.0.11/24"
    ]


@pytest.mark.parametrize(
    "ipam",
    [
        {"type": "static"},
        {"type": "static", "addresses": []},
        {"type": "static", "addresses": [{"address": "10.50.0.9"}]},
        {"type": "static", "addresses": [{"address": "255.255.255.255/32"}]},
        {"type": "static", "addresses": [{"address": "10.50.0.9/24", "gateway": "fd50::1"}]},
        {"type": "host-local"},
        {"type": "host-local", "subnet": "10.50.0.1/24"},
        {"type": "host-local", "subnet": "10.50.0.0/31"},
        {"type": "host-local", "subnet": "0.0.0.0/0"},
        {"type": "host-local", "subnet": "10.50.0.0/24", "rangeStart": "10.51.0.1"},
        {"type": "host-local", "subnet": "10.50.0.0/24", "dataDir": "relative"},
        {"type": "host-local", "subnet": "10.50.0.0/24", "routes": [{"dst": "x"}]},
        {"type": "host-local", "ranges": [[{"subnet": "10.50.0.0/24"}], [{"subnet": "10.50.0.0/25"}]]},
        {"type": "host-local", "ranges": [[{"subnet": "10.50.0.0/24"}, {"subnet": "fd50::/64"}]]},
        {"type": "host-local", "ranges": [[]]},
        {"type": "host-local", "subnet": "10.50.0.0/24", "resolvConf": "/no/such/file"},
    ],
    ids=json.dumps,
)
@pytest.mark.cni(18)
def test_ipam_that_cannot_be_leaves_nothing(node: Any, ipam: dict[str, Any]) -> None:
    before = node.state("c1")
    given = {"dataDir": node.data_dir} if ipam["type"] == "host-local" else {}

    error = node.refused(lambda: node.add(node.chain(bridge({**given, **ipam}))))

    assert error.code in {5, 7}
    assert node.state("c1") == before


@pytest.mark.parametrize("address", ["10.99.0.1/24", "fd99::1/64"])
def test_loopback_refuses_an_lo_with_an_address_of_another_network(node: Any, address: str) -> None:
    conflist = node.chain({"type": "loopback"})
    node.add(conflist, ifname="lo")
    node.host.run("ip", "-n", node.inside("c1").rpartition("/")[2], "addr", "add", address, "dev", "lo")

    error = node.refused(lambda: node.add(conflist, ifname="lo"))

    assert (error.code, address.partition("/")[0] in error.message) == (7, True)
