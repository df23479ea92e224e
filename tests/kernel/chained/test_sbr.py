"""Type ``sbr`` in the kernel: tables, rules, and which way an answer takes; beside and after Go's."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from dovetail.errors import Busy
from dovetail.kernel.netns_lock import locked

pytestmark = pytest.mark.root
BOTH = pytest.mark.parametrize("chains", ["daemon", "in process"], indirect=True)
SBR: dict[str, Any] = {"type": "sbr"}


def rules(chains: Any) -> list[tuple[str, str]]:
    """Give the rules by source: from where, to which table."""
    shown = [*chains.ip("c1", "rule"), *chains.ip("c1", "-6", "rule")]
    return [(rule["src"], rule["table"]) for rule in shown if rule["src"] != "all"]


def routes(chains: Any, table: str) -> list[tuple[str, str, str]]:
    """Give a table's routes: destination, gateway, interface; without metrics, and the link-local ones."""
    shown = [r for r in chains.ip("c1", "route", "show", "table", "all") if r.get("table", "main") == table]
    return sorted(
        {
            (route["dst"], route.get("gateway", ""), route["dev"])
            for route in shown
            if not route["dst"].startswith("fe80") and route.get("type", "unicast") == "unicast"
        }
    )


def table(net: int, dev: str, *, six: bool) -> list[tuple[str, str, str]]:
    if six:
        return [("default", f"fd{net}::1", dev), (f"fd{net}::/64", "", dev)]
    return [(f"10.{net}.0.0/24", "", dev), ("default", f"10.{net}.0.1", dev)]


@BOTH
def test_the_interface_s_routes_move_and_del_deletes_the_rules(chains: Any) -> None:
    chains.wire("c1")
    result = chains.wire("c1", "net1", net=60)

    status, said = chains.call("ADD", SBR, result, ifname="net1")

    assert status == 0, said
    assert {key: said[key] for key in result} == result
    assert rules(chains) == [("10.60.0.2", "100"), ("fd60::2", "101")]
    assert routes(chains, "100") == table(60, "net1", six=False)
    assert routes(chains, "101") == table(60, "net1", six=True)
    assert routes(chains, "main") == sorted(table(50, "eth0", six=False) + table(50, "eth0", six=True))
    assert chains.call("CHECK", SBR, said, ifname="net1") == (0, None)
    assert [chains.call("DEL", SBR, said, ifname="net1") for _ in range(2)] == [(0, None)] * 2
    assert (rules(chains), chains.parts()) == ([], [])


def test_what_is_sent_from_an_address_goes_by_its_interface(chains: Any) -> None:
    chains.wire("c1")
    result = chains.wire("c1", "net1", net=60)
    # addresses behind the routers, and each router answers for its own side only
    chains.inside("router", "ip", "addr", "add", "192.0.2.1/32", "dev", "lo")
    chains.inside("router", "ip", "-6", "addr", "add", "2001:db8::1/128", "dev", "lo", "nodad")
    chains.call("ADD", SBR, result, ifname="net1")

    for source, far in (("10.60.0.2", "192.0.2.1"), ("fd60::2", "2001:db8::1")):
        (way,) = chains.ip("c1", "route", "get", far, "from", source)
        assert way["dev"] == "net1"
        chains.inside("c1", "ping", "-c1", "-W2", "-I", source, far)
    for far in ("192.0.2.1", "2001:db8::1"):
        (way,) = chains.ip("c1", "route", "get", far)
        assert way["dev"] == "eth0"
        chains.inside("c1", "ping", "-c1", "-W2", far)


def test_with_source_hints_what_is_bound_to_nothing_still_finds_its_way(chains: Any) -> None:
    result = chains.wire("c1")
    chains.inside("router", "ip", "addr", "add", "192.0.2.1/32", "dev", "lo")

    chains.call("ADD", {**SBR, "addSourceHints": True}, result)

    main = {route["dst"]: route for route in chains.ip("c1", "route")}
    assert main["default"]["prefsrc"] == "10.50.0.2"
    assert routes(chains, "main") == sorted(table(50, "eth0", six=False) + table(50, "eth0", six=True))
    assert routes(chains, "100") == table(50, "eth0", six=False)
    chains.inside("c1", "ping", "-c1", "-W2", "192.0.2.1")


def test_without_hints_the_main_table_has_no_way_by_the_interface(chains: Any) -> None:
    result = chains.wire("c1")
    chains.call("ADD", SBR, result)

    assert routes(chains, "main") == []
    chains.inside("c1", "ping", "-c1", "-W2", "-I", "10.50.0.2", "10.50.0.1")
    chains.inside("c1", "ping", "-c1", "-W2", "-I", "fd50::2", "fd50::1")


def test_an_administrator_s_table_is_left_as_it_is(chains: Any) -> None:
    result = chains.wire("c1")
    before = routes(chains, "main")

    chains.call("ADD", {**SBR, "table": 5000}, result)

    assert rules(chains) == [("10.50.0.2", "5000"), ("fd50::2", "5000")]
    assert (routes(chains, "main"), routes(chains, "5000")) == (before, [])
    assert chains.call("DEL", {**SBR, "table": 5000}, result) == (0, None)
    assert rules(chains) == []


def test_an_add_that_fails_leaves_routes_and_rules_as_they_were(chains: Any) -> None:
    result = chains.wire("c1")
    before = routes(chains, "main"), rules(chains)

    status, said = chains.call("ADD", {**SBR, "gateways": ["192.0.2.9"]}, result)  # which nothing leads to

    assert (status, said["code"]) == (1, 5), said
    assert (routes(chains, "main"), rules(chains)) == before
    assert (routes(chains, "100"), routes(chains, "101"), chains.parts()) == ([], [], [])
    chains.inside("c1", "ping", "-c1", "-W2", "10.50.0.1")


def test_interfaces_of_a_pod_that_come_at_once_have_tables_of_their_own(chains: Any) -> None:
    numbers = range(4)
    results = [chains.wire("c1", f"net{n}", net=60 + n) for n in numbers]
    ways = ["daemon", "in process"]
    outcomes: dict[int, Any] = {}

    def add(n: int) -> None:
        outcomes[n] = chains.call("ADD", SBR, results[n], ifname=f"net{n}", way=ways[n % 2])

    threads = [threading.Thread(target=add, args=(n,)) for n in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [outcomes[n][0] for n in numbers] == [0] * 4, outcomes
    found = rules(chains)
    assert len(found) == 8
    assert len({number for _, number in found}) == 8
    for source, number in found:
        net = int(source.split(".")[1] if "." in source else source[2:4])
        assert routes(chains, number) == table(net, f"net{net - 60}", six=":" in source)


def test_a_namespace_that_somebody_keeps_locked_is_told(chains: Any) -> None:
    path = chains.netns("c1")
    with chains.engine.kernel.open_netns(path) as first, chains.engine.kernel.open_netns(path) as second:
        with (
            locked(first),
            pytest.raises(Busy, match="is locked by another plugin"),
            locked(second, timeout_s=0.01),
        ):
            pass
        with locked(second, timeout_s=0.01):
            pass


def test_check_sees_what_others_delete(chains: Any) -> None:
    result = chains.wire("c1")
    chains.inside("c1", "ip", "-6", "route", "del", "default")
    _, said = chains.call("ADD", SBR, result)
    chains.inside("c1", "ip", "rule", "del", "from", "10.50.0.2")
    chains.inside("c1", "ip", "-6", "route", "flush", "table", "101", "exact", "default")

    status, error = chains.call("CHECK", SBR, said)

    assert (status, error["code"]) == (1, 105)
    assert error["msg"] == (
        "the rule from 10.50.0.2 to table 100 is missing; "
        "the default route via fd50::1 dev eth0 is missing from table 101"
    )


def test_del_after_the_interface_went_still_deletes_the_rules(chains: Any) -> None:
    _, said = chains.call("ADD", SBR, chains.wire("c1"))
    chains.inside("c1", "ip", "link", "del", "eth0")

    assert chains.call("DEL", SBR, said) == (0, None)
    assert rules(chains) == []


# -- with the reference plugins ------------------------------------------------------------------------


@pytest.mark.parametrize(("adds", "deletes"), [("go", "daemon"), ("daemon", "go"), ("go", "in process")])
@pytest.mark.parametrize("with_result", [True, False])
def test_either_s_del_deletes_the_other_s_rules(
    go: Any, adds: str, deletes: str, *, with_result: bool
) -> None:
    result = go.wire("c1")

    status, said = go.call("ADD", SBR, result, way=adds)
    assert status == 0, said
    assert rules(go) == [("10.50.0.2", "100"), ("fd50::2", "101")]
    assert go.call("CHECK", SBR, said, way=deletes) == (0, None)
    assert go.call("DEL", SBR, said if with_result else None, way=deletes) == (0, None)

    assert rules(go) == []


def test_ours_fills_the_tables_as_theirs(go: Any) -> None:
    found = []
    for way in ("go", "daemon"):
        result = go.wire("c1")
        go.inside("c1", "ip", "route", "add", "198.51.100.0/24", "via", "10.50.0.1")
        go.inside("c1", "ip", "route", "add", "203.0.113.0/24", "dev", "eth0", "metric", "7")
        go.call("ADD", SBR, result, way=way)
        shown = [
            {**route, "protocol": "any"}
            for family, number in (("-4", "100"), ("-6", "101"))
            for route in go.ip("c1", family, "route", "show", "table", number)
            if not route["dst"].startswith("fe80")
        ]
        found.append((rules(go), shown, routes(go, "main")))
        go.call("DEL", SBR, result, way=way)
        for container in ("c1", "router"):
            go.engine.kernel.delete_netns(str(go.directory / container))

    assert found[0] == found[1]


@pytest.mark.parametrize(("main", "meta"), [("go", "daemon"), ("daemon", "go"), ("daemon", "daemon")])
def test_in_a_chain_with_a_bridge_it_works_and_its_checks_pass(go: Any, main: str, meta: str) -> None:
    bridge = {
        "type": "bridge",
        "bridge": "br60",
        "isDefaultGateway": True,
        "ipam": {"type": "host-local", "subnet": "10.60.0.0/24", "dataDir": str(go.directory / "networks")},
    }

    status, first = go.call("ADD", bridge, way=main)
    assert status == 0, first
    status, last = go.call("ADD", SBR, first, way=meta)
    assert status == 0, last
    assert {**last, "dns": {}} == {**first, "dns": {}}  # which Go's prints when it is empty

    go.inside("c1", "ping", "-c1", "-W2", "-I", last["ips"][0]["address"].partition("/")[0], "10.60.0.1")
    assert go.call("CHECK", SBR, last, way=meta) == (0, None)
    if main != "go":  # Go's bridge misses its routes
        assert go.call("CHECK", bridge, last, way=main) == (0, None)
    assert go.call("DEL", SBR, last, way=meta) == (0, None)
    assert go.call("DEL", bridge, last, way=main) == (0, None)
    assert (rules(go), go.parts()) == ([], [])
    go.host.run("ip", "link", "del", "br60")
