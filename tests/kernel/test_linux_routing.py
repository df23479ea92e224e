"""Routes of any table and policy rules of `LinuxKernel`, seen by ``ip``."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, KernelError, NotFound
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.protocol import KernelRoute, Netns, Rule
from dovetail.model.attachment import Route

pytestmark = pytest.mark.root


def route(destination: str, gateway: str = "", **more: Any) -> Route:
    via = ipaddress.ip_address(gateway) if gateway else None
    return Route(destination=ipaddress.ip_network(destination), gateway=via, **more)


def net(text: str) -> Any:
    return ipaddress.ip_network(text)


@pytest.fixture
def wired(host: Any, kernel: LinuxKernel) -> LinuxKernel:
    """``br0`` with an address of each family, up."""
    kernel.add_bridge("br0")
    kernel.set_link("br0", up=True)
    for text in ("10.0.0.1/24", "fd00::1/64"):
        kernel.add_address("br0", ipaddress.ip_interface(text))
    return kernel


# -- routes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [0, 100, 1000])
def test_a_route_reads_as_it_was_added(host: Any, wired: LinuxKernel, table: int) -> None:
    more: dict[str, Any] = {"mtu": 1300, "advmss": 1200, "priority": 7, "table": table}
    wired.add_route(
        "br0", route("10.9.0.0/16", "10.0.0.254", **more), source=ipaddress.ip_address("10.0.0.1")
    )
    wired.add_route("br0", route("10.8.0.0/16", scope=254, table=table))
    wired.add_route("br0", route("fd09::/64", "fd00::fe", **more))

    shown = {r["dst"]: r for r in host.ip("route", "show", "table", str(table or 254))}
    assert (shown["10.9.0.0/16"]["prefsrc"], shown["10.9.0.0/16"]["metric"]) == ("10.0.0.1", 7)
    assert shown["10.9.0.0/16"]["metrics"] == [{"mtu": 1300, "advmss": 1200}]
    assert shown["10.8.0.0/16"]["scope"] == "host"
    (six,) = host.ip("-6", "route", "show", "table", str(table or 254), "fd09::/64")
    assert (six["gateway"], six["metric"]) == ("fd00::fe", 7)
    assert six["metrics"] == [{"mtu": 1300, "advmss": 1200}]
    numbers: dict[str, Any] = {**more, "table": table or 254, "protocol": 3}
    found = wired.table_routes(table or 254)
    via = ipaddress.ip_address("10.0.0.254")
    assert KernelRoute(net("10.9.0.0/16"), via, "br0", ipaddress.ip_address("10.0.0.1"), **numbers) in found
    assert KernelRoute(net("fd09::/64"), ipaddress.ip_address("fd00::fe"), "br0", **numbers) in found
    assert KernelRoute(net("10.8.0.0/16"), None, "br0", table=table or 254, scope=254, protocol=3) in found
    assert set(found) <= set(wired.table_routes())


def test_one_table_is_listed_without_the_others(wired: LinuxKernel) -> None:
    wired.add_route("br0", route("10.9.0.0/16", table=100))
    wired.add_route("br0", route("10.8.0.0/16", table=1000))

    assert [str(r.destination) for r in wired.table_routes(1000)] == ["10.8.0.0/16"]
    assert wired.table_routes(77) == []
    assert {r.table for r in wired.table_routes()} >= {100, 254, 1000}
    assert not {net("10.9.0.0/16"), net("10.8.0.0/16")} & {r.destination for r in wired.routes()}


@pytest.mark.parametrize(
    ("destination", "first", "second"),
    [
        ("10.9.0.0/16", "10.0.0.2", "10.0.0.3"),
        ("fd09::/64", "fd00::2", "fd00::3"),
        ("::/0", "fd00::2", "fd00::3"),
    ],
)
def test_routes_by_several_gateways_are_appended(
    wired: LinuxKernel, destination: str, first: str, second: str
) -> None:
    wired.add_route("br0", route(destination, first), append=True)
    wired.add_route("br0", route(destination, second), append=True)

    with pytest.raises(AlreadyExists, match=destination):
        wired.add_route("br0", route(destination, second))
    with pytest.raises(AlreadyExists, match=destination):
        wired.add_route("br0", route(destination, second), append=True)
    gateways = [str(r.gateway) for r in wired.routes() if r.destination == net(destination)]
    assert gateways == [first, second]

    wired.delete_route("br0", route(destination, first))

    assert [str(r.gateway) for r in wired.routes() if r.destination == net(destination)] == [second]


def test_a_route_is_deleted_from_its_table_alone(host: Any, wired: LinuxKernel) -> None:
    for table in (0, 1000):
        for priority in (5, 6):
            for destination in ("10.9.0.0/16", "fd09::/64"):
                wired.add_route("br0", route(destination, priority=priority, table=table))

    for destination in ("10.9.0.0/16", "fd09::/64"):
        for _ in range(2):  # the second time nothing is left to do
            wired.delete_route("br0", route(destination, priority=6, table=1000))

    left = [
        (r.table, r.priority)
        for r in wired.table_routes()
        if r.destination in (net("10.9.0.0/16"), net("fd09::/64"))
    ]
    assert sorted(left) == sorted([(254, 5), (254, 6), (1000, 5)] * 2)


def test_what_is_missing_is_deleted_already(wired: LinuxKernel) -> None:
    for missing in (route("10.9.0.0/16"), route("10.9.0.0/16", table=77), route("fd09::/64", table=77)):
        wired.delete_route("br0", missing)
        wired.delete_route("no-such-link", missing)


def test_the_routes_of_a_link_move_to_a_table_and_back(host: Any, wired: LinuxKernel) -> None:
    wired.add_route("br0", route("0.0.0.0/0", "10.0.0.254", mtu=1300))
    wired.add_route("br0", route("::/0", "fd00::fe", priority=7))
    before = host.ip("route", "show", "dev", "br0")
    routes = [r for r in wired.table_routes(254) if not r.destination.is_link_local]

    for there in routes:
        wired.add_route("br0", there.route(table=1000), source=there.source)
        wired.delete_route("br0", there.route())

    assert host.ip("route", "show", "dev", "br0") == []
    moved = {r["dst"]: r for r in host.ip("route", "show", "table", "1000")}
    assert (moved["10.0.0.0/24"]["scope"], moved["10.0.0.0/24"]["prefsrc"]) == ("link", "10.0.0.1")
    assert moved["default"]["metrics"] == [{"mtu": 1300}]

    for there in sorted(wired.table_routes(1000), key=lambda r: r.gateway is not None):
        wired.add_route("br0", there.route(table=254), source=there.source)

    after = host.ip("route", "show", "dev", "br0")
    assert [{**r, "protocol": ""} for r in after] == [{**r, "protocol": ""} for r in before]


def test_routes_leave_with_a_train(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with kernel.inside(box) as inner:
        with inner.batch():
            inner.add_bridge("eth0")
            inner.set_link("eth0", up=True)
            inner.add_address("eth0", ipaddress.ip_interface("10.0.0.2/24"))
            inner.add_route("eth0", route("0.0.0.0/0", "10.0.0.1", table=1000))
            inner.add_rule(Rule(4, net("10.0.0.2/32"), table=1000))
            inner.delete_route("eth0", route("10.0.0.0/24"))
        assert net("10.0.0.0/24") not in {r.destination for r in inner.routes()}
        assert [r.link for r in inner.table_routes(1000)] == ["eth0"]

    assert host.ip("rule", netns=box.path)[1]["table"] == "1000"


def test_a_gateway_that_cannot_be_reached_is_named_with_its_table(wired: LinuxKernel) -> None:
    with pytest.raises(KernelError, match=r"ip route append 10.9.0.0/16 via 10.77.0.1 dev br0 table 1000"):
        wired.add_route("br0", route("10.9.0.0/16", "10.77.0.1", table=1000), append=True)
    with pytest.raises(NotFound, match="'no'"):
        wired.add_route("no", route("10.9.0.0/16"))


# -- rules ----------------------------------------------------------------------------------------


def test_rules_of_both_families_are_added_and_read(host: Any, kernel: LinuxKernel) -> None:
    rules = [
        Rule(4, source=net("10.0.0.2/32"), table=100, priority=10),
        Rule(4, destination=net("10.9.0.0/16"), iif="lo", table=1000, priority=11),
        Rule(6, source=net("fd00::2/128"), destination=net("fd09::/64"), table=1000, priority=12),
    ]

    for rule in rules:
        kernel.add_rule(rule)

    four, six = ([without_protocol(r) for r in host.ip(f, "rule")] for f in ("-4", "-6"))
    assert {"priority": 10, "src": "10.0.0.2", "table": "100"} in four
    assert {
        "priority": 11,
        "src": "all",
        "dst": "10.9.0.0",
        "dstlen": 16,
        "iif": "lo",
        "table": "1000",
    } in four
    assert {"priority": 12, "src": "fd00::2", "dst": "fd09::", "dstlen": 64, "table": "1000"} in six
    found = kernel.routing_rules()
    assert set(found) >= {*rules, Rule(4, table=255, priority=0), Rule(6, table=254, priority=32766)}
    assert [(r.version, r.priority) for r in found] == sorted((r.version, r.priority or 0) for r in found)


def without_protocol(rule: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in rule.items() if key != "protocol"}


def test_a_rule_without_a_priority_comes_before_the_main_table(kernel: LinuxKernel) -> None:
    kernel.add_rule(Rule(4, net("10.0.0.2/32"), table=100))
    kernel.add_rule(Rule(4, net("10.0.0.3/32"), table=101))

    found = {str(r.source): r.priority for r in kernel.routing_rules() if r.source is not None}
    assert found == {"10.0.0.2/32": 32765, "10.0.0.3/32": 32764}


def test_a_rule_is_deleted_once_and_what_is_open_fits_any(host: Any, kernel: LinuxKernel) -> None:
    for last in (2, 3):
        kernel.add_rule(Rule(4, net(f"10.0.0.{last}/32"), table=100))
    kernel.add_rule(Rule(6, net("fd00::2/128"), table=100))

    kernel.delete_rule(Rule(4, net("10.0.0.3/32"), table=100))
    kernel.delete_rule(Rule(4, net("10.0.0.3/32"), table=100))
    kernel.delete_rule(Rule(6, table=100))

    assert [rule.get("src") for rule in host.ip("rule") if rule["table"] == "100"] == ["10.0.0.2"]
    assert "100" not in {rule["table"] for rule in host.ip("-6", "rule")}


def test_an_equal_rule_already_exists(kernel: LinuxKernel) -> None:
    rule = Rule(6, net("fd00::2/128"), table=100, priority=5)
    kernel.add_rule(rule)

    with pytest.raises(AlreadyExists, match="ip -6 rule add from fd00::2/128 lookup 100 priority 5"):
        kernel.add_rule(rule)


def test_rules_that_look_at_more_are_left_to_their_owner(host: Any, kernel: LinuxKernel) -> None:
    before = kernel.routing_rules()
    for words in (["fwmark", "7"], ["not", "from", "10.0.0.0/8"], ["oif", "lo"]):
        host.run("ip", "rule", "add", *words, "lookup", "100")
    host.run("ip", "rule", "add", "blackhole", "from", "10.0.0.0/8")

    assert kernel.routing_rules() == before
