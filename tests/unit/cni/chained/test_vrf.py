"""Type ``vrf`` over a recording kernel that loses what the kernel loses when an interface gets a master."""

from __future__ import annotations

from typing import Any

import pytest

from dovetail.kernel.protocol import Dummy, LinkSpec, Rule, Vrf
from dovetail.kernel.recording import RecordingKernel

VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
VRF: dict[str, Any] = {"type": "vrf", "vrfname": "blue"}
SET = "ip -n c1 link set dev eth0"
MADE = ["ip -n c1 link add name blue type vrf table 1", "ip -n c1 link set dev blue up"]
MOVED = [
    f"{SET} master blue",
    "ip -n c1 addr add fd50::2/64 dev eth0 nodad",
    "ip -n c1 route append default via 10.50.0.1 dev eth0 table 1 scope global",
    "ip -n c1 -6 route append default via fd50::1 dev eth0 metric 1024 table 1 scope global",
]


@pytest.fixture(autouse=True)
def _cycling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take an interface down and up with a change of its master, as drivers/net/vrf.c does."""
    plain = RecordingKernel.set_link

    def set_link(self: Any, name: str, **changes: Any) -> None:
        plain(self, name, **changes)
        if changes.get("master") is not None:
            space = self._space
            space.addresses = {pair for pair in space.addresses if pair[0] != name or pair[1].version == 4}
            space.routes = [route for route in space.routes if route.link != name]

    monkeypatch.setattr(RecordingKernel, "set_link", set_link)


def inside(chain: Any, change: Any) -> Any:
    with chain.kernel.open_netns("/run/netns/c1") as netns, chain.kernel.inside(netns) as inner:
        return change(inner)


def state(chain: Any) -> Any:
    def read(inner: Any) -> Any:
        routes = {(r.destination, r.gateway, r.table, r.priority) for r in inner.table_routes()}
        return routes, set(inner.addresses()), {(link.name, link.master) for link in inner.links()}

    return inside(chain, read)


def add_vrf(chain: Any, name: str, table: int) -> None:
    inside(chain, lambda inner: inner.add_link(LinkSpec(name, up=True), Vrf(table)))
    chain.commands()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_result_is_handed_on_in_every_version(chain: Any, version: str) -> None:
    status, said = chain.call("ADD", VRF, version=version)

    wanted = chain.result(version)
    assert status == 0, said
    assert {key: said[key] for key in wanted if key != "dns"} == {
        k: v for k, v in wanted.items() if k != "dns"
    }


def test_the_vrf_is_made_and_what_the_interface_loses_is_put_back(chain: Any) -> None:
    assert chain.call("ADD", VRF)[0] == 0

    assert chain.commands() == MADE + MOVED


def test_a_vrf_that_is_there_is_used(chain: Any) -> None:
    add_vrf(chain, "blue", 7)

    assert chain.call("ADD", VRF)[0] == 0

    assert chain.commands() == [line.replace("table 1 ", "table 7 ") for line in MOVED]


@pytest.mark.parametrize(
    ("before", "table"),
    [
        (lambda inner: inner.add_link(LinkSpec("red"), Vrf(1)), 2),
        (lambda inner: [inner.add_link(LinkSpec(f"red{n}"), Vrf(n)) for n in (1, 3)], 2),
        (lambda inner: inner.add_rule(Rule(4, table=1)), 2),
    ],
)
def test_the_first_free_table_is_taken(chain: Any, before: Any, table: int) -> None:
    inside(chain, before)
    chain.commands()

    chain.call("ADD", VRF)

    assert chain.commands()[0] == f"ip -n c1 link add name blue type vrf table {table}"


def test_a_table_that_is_named_is_the_vrf_s(chain: Any) -> None:
    chain.call("ADD", {**VRF, "table": 1001})

    assert chain.commands()[0] == "ip -n c1 link add name blue type vrf table 1001"


def test_the_vrf_goes_with_its_last_interface(chain: Any) -> None:
    chain.call("ADD", VRF)
    add = LinkSpec("net1", master="blue")
    inside(chain, lambda inner: inner.add_link(add, Dummy()))
    chain.commands()

    assert chain.call("DEL", VRF) == (0, None)
    assert chain.commands() == [f"{SET} nomaster"]

    inside(chain, lambda inner: inner.delete_links(["net1"]))
    chain.commands()
    assert chain.call("DEL", VRF) == (0, None)
    assert chain.commands() == ["ip -n c1 link del dev blue"]
    assert [chain.call("DEL", VRF) for _ in range(2)] == [(0, None)] * 2
    assert (chain.commands(), chain.parts()) == ([], [])


@pytest.mark.parametrize("result", ["", None, {"cniVersion": "9.9.9"}])
def test_del_of_what_the_reference_plugin_made_needs_no_result(chain: Any, result: Any) -> None:
    add_vrf(chain, "blue", 7)
    inside(chain, lambda inner: inner.set_link("eth0", master="blue"))
    chain.commands()

    assert chain.call("DEL", VRF, result=result) == (0, None)

    assert chain.commands() == [f"{SET} nomaster", "ip -n c1 link del dev blue"]


def test_del_without_a_namespace_forgets_the_part(chain: Any) -> None:
    chain.call("ADD", VRF)
    chain.kernel.delete_netns("/run/netns/c1")

    assert chain.call("DEL", VRF, netns="", result=None) == (0, None)
    assert chain.parts() == []


def test_del_leaves_an_interface_in_the_vrf_that_somebody_else_put_it_into(chain: Any) -> None:
    chain.call("ADD", VRF)
    add_vrf(chain, "red", 9)
    inside(chain, lambda inner: inner.set_link("eth0", master="red"))
    chain.commands()

    assert chain.call("DEL", VRF) == (0, None)

    assert chain.commands() == ["ip -n c1 link del dev blue"]


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize("fails", range(1, 6))
def test_an_add_that_fails_leaves_everything_as_it_was(chain: Any, fails: int, *, is_there: bool) -> None:
    if is_there:
        add_vrf(chain, "blue", 7)
        inside(chain, lambda inner: inner.add_link(LinkSpec("net1", master="blue"), Dummy()))
    before = state(chain)
    chain.kernel.fail(at=fails)

    status, said = chain.call("ADD", VRF)
    chain.kernel.fail()

    if status == 0:
        assert fails > 4
        return
    assert said["code"] == 5
    assert (state(chain), chain.parts()) == (before, [])


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"vrfname": ""}, "$.vrfname: configuration is expected to have a valid vrf name"),
        ({"vrfname": "b" * 16}, "$.vrfname: 'bbbbbbbbbbbbbbbb' is not a valid interface name"),
        ({"vrfname": "a/b"}, "$.vrfname"),
        ({"vrfname": 5}, "$.vrfname: expected a string"),
        ({"table": -1}, "$.table: -1 is not the number of a routing table"),
        ({"table": 2**32}, "$.table"),
        ({"table": "7"}, "$.table: expected a whole number"),
    ],
)
@pytest.mark.parametrize("verb", ["ADD", "STATUS"])
def test_a_value_that_cannot_be_is_refused_by_its_place(chain: Any, verb: str, keys: Any, told: str) -> None:
    status, said = chain.call(verb, {**VRF, **keys})

    assert (status, said["code"]) == (1, 7), said
    assert told in said["msg"]
    assert (chain.commands(), chain.parts()) == ([], [])


@pytest.mark.parametrize("name", ["", "b" * 16, "a/b", 5])
def test_del_with_a_name_that_cannot_be_succeeds(chain: Any, name: Any) -> None:
    assert (chain.call("DEL", {**VRF, "vrfname": name}), chain.commands()) == ((0, None), [])


def test_a_name_that_is_another_link_s_is_refused(chain: Any) -> None:
    inside(chain, lambda inner: inner.add_link(LinkSpec("blue"), Dummy()))

    status, said = chain.call("ADD", VRF)

    assert (status, said["code"], said["msg"]) == (1, 7, "$.vrfname: 'blue' is a dummy, not a VRF")
    assert "blue" in {name for name, _ in state(chain)[2]}


def test_another_table_than_the_vrf_has_is_refused(chain: Any) -> None:
    add_vrf(chain, "blue", 7)
    inside(chain, lambda inner: inner.add_link(LinkSpec("net1", master="blue"), Dummy()))

    status, said = chain.call("ADD", {**VRF, "table": 8})

    assert (status, said["code"]) == (1, 7)
    assert said["msg"] == "$.table: VRF blue already exist with different routing table 7"


def test_an_interface_with_a_master_is_refused(chain: Any) -> None:
    add_vrf(chain, "red", 7)
    inside(chain, lambda inner: inner.set_link("eth0", master="red"))

    status, said = chain.call("ADD", VRF)

    assert (status, said["msg"]) == (1, "interface eth0 has already a master set: red")
    assert "blue" not in {name for name, _ in state(chain)[2]}


@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_without_a_previous_result_it_is_refused(chain: Any, verb: str) -> None:
    status, said = chain.call(verb, VRF, result=None)

    assert (status, said["code"], said["msg"]) == (1, 7, "Required prevResult missing")


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda inner: inner.set_link("eth0", master=""), "interface 'eth0' is not in VRF 'blue'"),
        (lambda inner: inner.delete_links(["blue"]), "VRF 'blue' is gone"),
        (lambda inner: inner.delete_links(["eth0"]), "interface 'eth0' is gone from the sandbox"),
    ],
)
def test_check_names_what_is_not_as_add_made_it(chain: Any, change: Any, told: str, *, ours: bool) -> None:
    chain.call("ADD", VRF)
    if not ours:
        chain.engine.core.store.delete_part(chain.engine.parts.all()[0].attachment, "vrf")
    assert chain.call("CHECK", VRF) == (0, None)
    inside(chain, change)
    chain.commands()

    status, said = chain.call("CHECK", VRF)

    assert (status, said["code"], said["msg"], chain.commands()) == (1, 105, told, [])


def test_check_names_a_vrf_that_has_been_made_anew_with_another_table(chain: Any) -> None:
    chain.call("ADD", VRF)
    inside(chain, lambda inner: inner.delete_links(["blue"]))
    add_vrf(chain, "blue", 9)

    _, said = chain.call("CHECK", VRF)

    assert said["msg"] == "VRF 'blue' has table 9, not 1; interface 'eth0' is not in VRF 'blue'"


def test_gc_takes_back_what_the_runtime_does_not_have(chain: Any) -> None:
    chain.call("ADD", VRF)
    chain.commands()

    assert chain.call("GC", {**VRF, "cni.dev/valid-attachments": []}) == (0, None)

    assert chain.commands() == [f"{SET} nomaster", "ip -n c1 link del dev blue"]
    assert chain.parts() == []
