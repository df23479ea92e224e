"""Type ``sbr``: what it reads, refuses, does and says, over a recording kernel."""

from __future__ import annotations

from ipaddress import ip_interface, ip_network
from typing import Any

import pytest

from dovetail.kernel.protocol import LinkSpec, Rule

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
SBR: dict[str, Any] = {"type": "sbr"}
FILLED = [
    "ip -n c1 route append default via 10.50.0.1 dev eth0 table 100 scope global",
    "ip -n c1 route append 10.50.0.0/24 dev eth0 table 100 scope link src 10.50.0.2",
    "ip -n c1 rule add from 10.50.0.2/32 lookup 100",
    "ip -n c1 -6 route append default via fd50::1 dev eth0 metric 1024 table 101 scope global",
    "ip -n c1 -6 route append fd50::/64 dev eth0 metric 256 table 101 scope global",
    "ip -n c1 -6 rule add from fd50::2/128 lookup 101",
]
CLEARED = [
    "ip -n c1 route del 10.50.0.0/24 dev eth0 table 254 scope link src 10.50.0.2",
    "ip -n c1 -6 route del fd50::/64 dev eth0 metric 256 table 254 scope global",
    "ip -n c1 route del default via 10.50.0.1 dev eth0 table 254 scope global",
    "ip -n c1 -6 route del default via fd50::1 dev eth0 metric 1024 table 254 scope global",
]


def inside(chain: Any, change: Any) -> Any:
    with chain.kernel.open_netns("/run/netns/c1") as netns, chain.kernel.inside(netns) as inner:
        return change(inner)


def state(chain: Any) -> Any:
    def read(inner: Any) -> Any:
        routes = {
            (r.destination, r.gateway, r.link, r.table, r.source, r.priority) for r in inner.table_routes()
        }
        return routes, inner.routing_rules()

    return inside(chain, read)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_result_is_handed_on_in_every_version(chain: Any, version: str) -> None:
    status, said = chain.call("ADD", SBR, version=version)

    wanted = chain.result(version)
    assert status == 0, said
    assert {key: said[key] for key in wanted if key != "dns"} == {
        k: v for k, v in wanted.items() if k != "dns"
    }


def test_each_address_has_a_table_which_is_filled_before_the_rule_leads_there(chain: Any) -> None:
    assert chain.call("ADD", SBR)[0] == 0

    commands = chain.commands()
    assert sorted(commands[:6]) == sorted(FILLED)
    assert [line for line in commands[:6] if "rule" in line] == [commands[2], commands[5]]
    assert sorted(commands[6:]) == sorted(CLEARED)


def test_a_taken_table_is_passed_over_whether_a_rule_or_a_route_has_it(chain: Any) -> None:
    from dovetail.model.attachment import Route

    inside(chain, lambda inner: inner.add_rule(Rule(4, table=100)))
    inside(
        chain, lambda inner: inner.add_route("eth0", Route(destination=ip_network("fd09::/64"), table=101))
    )
    chain.commands()

    chain.call("ADD", SBR)

    assert [line for line in chain.commands() if "rule" in line] == [
        "ip -n c1 rule add from 10.50.0.2/32 lookup 102",
        "ip -n c1 -6 rule add from fd50::2/128 lookup 103",
    ]


def test_with_a_table_there_are_rules_and_nothing_else(chain: Any) -> None:
    chain.call("ADD", {**SBR, "table": 5000})

    assert chain.commands() == [
        "ip -n c1 rule add from 10.50.0.2/32 lookup 5000",
        "ip -n c1 -6 rule add from fd50::2/128 lookup 5000",
    ]


def test_gateways_come_before_those_of_the_result_and_of_the_routes(chain: Any) -> None:
    chain.call("ADD", {**SBR, "gateways": ["10.50.0.254"]})

    added = [line for line in chain.commands() if "append default" in line]
    assert added == [
        "ip -n c1 route append default via 10.50.0.254 dev eth0 table 100",
        "ip -n c1 -6 route append default via fd50::1 dev eth0 metric 1024 table 101 scope global",
    ]


def test_without_a_default_route_the_gateway_of_the_result_makes_one(chain: Any) -> None:
    def without(inner: Any) -> None:
        for route in inner.table_routes():
            if not route.destination.prefixlen:
                inner.delete_route("eth0", route.route())

    inside(chain, without)
    chain.commands()

    chain.call("ADD", SBR)

    added = [line for line in chain.commands() if "append default" in line]
    assert added == [
        "ip -n c1 route append default via 10.50.0.1 dev eth0 table 100",
        "ip -n c1 -6 route append default via fd50::1 dev eth0 table 101",
    ]


def test_source_hints_keep_the_routes_and_say_which_address_to_send_from(chain: Any) -> None:
    chain.call("ADD", {**SBR, "addSourceHints": True})

    after = chain.commands()[6:]
    assert sorted(after) == sorted(
        [
            "ip -n c1 -6 route del fd50::/64 dev eth0 metric 256 table 254 scope global",
            "ip -n c1 -6 route append fd50::/64 dev eth0 metric 256 table 254 scope global src fd50::2",
            "ip -n c1 route del default via 10.50.0.1 dev eth0 table 254 scope global",
            "ip -n c1 route append default via 10.50.0.1 dev eth0 table 254 scope global src 10.50.0.2",
            "ip -n c1 -6 route del default via fd50::1 dev eth0 metric 1024 table 254 scope global",
            "ip -n c1 -6 route append default via fd50::1 dev eth0 metric 1024 table 254 scope global src fd50::2",
        ]
    )


def test_routes_of_other_interfaces_and_link_local_ones_stay(chain: Any) -> None:
    def more(inner: Any) -> None:
        inner.add_veth(LinkSpec("net1", up=True), LinkSpec("net2", up=True))
        inner.add_address("net1", ip_interface("10.60.0.2/24"))
        inner.add_address("eth0", ip_interface("fe80::2/64"))

    inside(chain, more)

    chain.call("ADD", SBR)

    main = {(str(r[0]), r[2]) for r in state(chain)[0] if r[3] == 254}
    assert main == {("10.60.0.0/24", "net1"), ("fe80::/64", "eth0")}
    assert ("fe80::/64", 101) in {(str(r[0]), r[3]) for r in state(chain)[0]}


def test_del_deletes_the_rules_from_the_addresses_and_a_second_one_none(chain: Any) -> None:
    chain.call("ADD", SBR)
    inside(chain, lambda inner: inner.add_rule(Rule(4, source=ip_network("10.9.0.9/32"), table=100)))
    chain.commands()

    assert [chain.call("DEL", SBR)[0] for _ in range(2)] == [0, 0]

    assert chain.commands() == [
        "ip -n c1 rule del from 10.50.0.2/32 lookup 100 priority 32765",
        "ip -n c1 -6 rule del from fd50::2/128 lookup 101 priority 32765",
    ]
    assert chain.parts() == []


@pytest.mark.parametrize("result", ["", None, {"cniVersion": "9.9.9"}])
def test_del_of_what_the_reference_plugin_made_needs_no_result(chain: Any, result: Any) -> None:
    inside(chain, lambda inner: inner.add_rule(Rule(4, source=ip_network("10.50.0.2/32"), table=100)))
    chain.commands()

    assert chain.call("DEL", SBR, result=result) == (0, None)

    assert chain.commands() == ["ip -n c1 rule del from 10.50.0.2/32 lookup 100 priority 32765"]


def test_del_leaves_rules_to_other_tables_where_there_is_one(chain: Any) -> None:
    chain.call("ADD", {**SBR, "table": 5000})
    inside(chain, lambda inner: inner.add_rule(Rule(4, source=ip_network("10.50.0.2/32"), table=7)))
    chain.call("DEL", {**SBR, "table": 5000})

    assert [rule.table for rule in state(chain)[1] if rule.source is not None] == [7]


def test_del_without_a_namespace_forgets_the_part(chain: Any) -> None:
    chain.call("ADD", SBR)
    chain.commands()

    assert chain.call("DEL", SBR, netns="/run/netns/gone", result=None)[0] == 0
    assert chain.parts() == []


@pytest.mark.parametrize("hints", [False, True])
@pytest.mark.parametrize("fails", range(1, 13))
def test_an_add_that_fails_leaves_routes_and_rules_as_they_were(
    chain: Any, fails: int, *, hints: bool
) -> None:
    before = state(chain)
    chain.kernel.fail(at=fails)

    status, said = chain.call("ADD", {**SBR, "addSourceHints": hints})
    chain.kernel.fail()

    if status == 0:
        assert fails > 10
        return
    assert said["code"] == 5
    assert (state(chain), chain.parts()) == (before, [])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"table": -1}, "$.table: -1 is not the number of a routing table"),
        ({"table": 2**32}, "$.table"),
        ({"table": "100"}, "$.table: expected a whole number"),
        ({"gateways": "10.50.0.1"}, "$.gateways: expected a list"),
        ({"gateways": ["nonsense"]}, "$.gateways"),
        ({"gateways": ["10.50.0.1", "10.50.0.2"]}, "$.gateways: 10.50.0.2 is a second gateway of IPv4"),
        ({"addSourceHints": "yes"}, "$.addSourceHints: expected true or false"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_its_place(chain: Any, keys: Any, told: str) -> None:
    status, said = chain.call("ADD", {**SBR, **keys})

    assert (status, said["code"]) == (1, 7), said
    assert told in said["msg"]
    assert (chain.commands(), chain.parts()) == ([], [])


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_without_a_previous_result_it_is_refused(chain: Any, verb: str) -> None:
    status, said = chain.call(verb, SBR, result=None)

    assert (status, said["code"], said["msg"]) == (1, 7, "Required prevResult missing")


def test_without_an_address_of_the_interface_it_is_refused(chain: Any) -> None:
    result = {**chain.result(), "ips": [{"interface": 0, "address": "10.50.0.1/24"}]}

    status, said = chain.call("ADD", SBR, result=result)

    assert (status, said["code"], said["msg"]) == (1, 7, "No IP addresses supplied on interface: eth0")


def test_an_interface_that_is_missing_is_refused(chain: Any) -> None:
    chain.kernel.delete_links(["veth1"])

    status, said = chain.call("ADD", SBR)

    assert (status, "no such interface: 'eth0'" in said["msg"], chain.parts()) == (1, True, [])


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(
    ("lost", "told"),
    [
        ("rule", "the rule from 10.50.0.2{to} is missing"),
        ("default", "the default route via 10.50.0.1 dev eth0 is missing from table 100"),
    ],
)
def test_check_names_what_is_missing(chain: Any, lost: str, told: str, *, ours: bool) -> None:
    chain.call("ADD", SBR)
    if not ours:
        chain.engine.core.store.delete_part(chain.engine.parts.all()[0].attachment, "sbr")
    assert chain.call("CHECK", SBR) == (0, None)

    def change(inner: Any) -> None:
        if lost == "rule":
            inner.delete_rule(Rule(4, source=ip_network("10.50.0.2/32"), table=100))
        else:
            (default,) = [r for r in inner.table_routes(100) if not r.destination.prefixlen]
            inner.delete_route("eth0", default.route())

    inside(chain, change)
    chain.commands()

    status, said = chain.call("CHECK", SBR)

    assert (status, said["code"], chain.commands()) == (1, 105, [])
    assert told.format(to=" to table 100" if ours else "") in said["msg"]


def test_gc_takes_back_what_the_runtime_does_not_have(chain: Any) -> None:
    chain.call("ADD", SBR)

    assert chain.call("GC", {**SBR, "cni.dev/valid-attachments": []}) == (0, None)

    assert [rule for rule in state(chain)[1] if rule.source is not None] == []
    assert chain.parts() == []


def test_status_refuses_a_configuration_that_add_would_refuse(chain: Any) -> None:
    assert chain.call("STATUS", SBR) == (0, None)
    assert chain.call("STATUS", {**SBR, "table": -1})[1]["code"] == 7
