"""Elements of ``table inet dovetail`` through `LinuxKernel`, written and read against ``nft``."""

from __future__ import annotations

import errno
import ipaddress
import threading
from typing import Any

import pytest

from dovetail.errors import AlreadyExists, InvalidArgument, KernelError, NotFound
from dovetail.features import ruleset as features
from dovetail.kernel import nft_table
from dovetail.kernel.linux import LinuxKernel
from dovetail.kernel.netlink import Message, NetlinkSocket, Refusal
from dovetail.kernel.nft_text import table_state
from dovetail.kernel.protocol import Netns, TableState
from dovetail.model.element import Element

pytestmark = pytest.mark.root

RULESET = """\
add table inet dovetail
delete table inet dovetail
table inet dovetail {
    set names { type ifname; }
    set pairs { type ifname . ifname; }
    set plain4 { type ipv4_addr; }
    set nets4 { type ipv4_addr; flags interval; }
    set nets6 { type ipv6_addr; flags interval; }
    set both4 { type ipv4_addr . ipv4_addr; flags interval; }
    set both6 { type ipv6_addr . ipv6_addr; flags interval; }
    set ports { type inet_service; flags interval; }
    set protos { type inet_proto; }
    set marks { type mark; }
    map to4 { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map to6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
    map at4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
    map at6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
    map where { type ipv4_addr : ipv4_addr; flags interval; }
    chain c { meta l4proto != { tcp, udp } return; }
}
"""
four, six = ipaddress.IPv4Address, ipaddress.IPv6Address
net4, net6 = ipaddress.IPv4Network, ipaddress.IPv6Network

EXAMPLES = [
    (Element("names", ("dv-0123456789ab",)), "dv-0123456789ab"),
    (Element("pairs", ("dv-a", "fifteen-letters")), {"concat": ["dv-a", "fifteen-letters"]}),
    (Element("plain4", (four("10.0.0.1"),)), "10.0.0.1"),
    (Element("nets4", (net4("10.0.0.0/24"),)), {"prefix": {"addr": "10.0.0.0", "len": 24}}),
    (Element("nets4", (net4("10.5.0.1/32"),)), "10.5.0.1"),
    (Element("nets4", (net4("240.0.0.0/4"),)), {"prefix": {"addr": "240.0.0.0", "len": 4}}),
    (Element("nets6", (net6("fd00::/64"),)), {"prefix": {"addr": "fd00::", "len": 64}}),
    (
        Element("both4", (net4("10.1.0.0/24"), net4("10.2.0.0/16"))),
        {
            "concat": [
                {"prefix": {"addr": "10.1.0.0", "len": 24}},
                {"prefix": {"addr": "10.2.0.0", "len": 16}},
            ]
        },
    ),
    (
        Element("both6", (net6("fd01::/64"), net6("fd02::/48"))),
        {"concat": [{"prefix": {"addr": "fd01::", "len": 64}}, {"prefix": {"addr": "fd02::", "len": 48}}]},
    ),
    (Element("ports", (80,)), 80),
    (Element("protos", ("sctp",)), "sctp"),
    (
        Element("to4", ("tcp", 8080), (four("10.0.0.2"), 80)),
        [{"concat": ["tcp", 8080]}, {"concat": ["10.0.0.2", 80]}],
    ),
    (
        Element("to6", ("udp", 53), (six("fd00::2"), 5353)),
        [{"concat": ["udp", 53]}, {"concat": ["fd00::2", 5353]}],
    ),
    (
        Element("at4", (four("127.0.0.1"), "sctp", 65535), (four("10.0.0.2"), 1)),
        [{"concat": ["127.0.0.1", "sctp", 65535]}, {"concat": ["10.0.0.2", 1]}],
    ),
    (
        Element("at6", (six("::1"), "tcp", 443), (six("fd00::2"), 8443)),
        [{"concat": ["::1", "tcp", 443]}, {"concat": ["fd00::2", 8443]}],
    ),
    (
        Element("where", (net4("10.3.0.0/24"),), (four("10.0.0.9"),)),
        [{"prefix": {"addr": "10.3.0.0", "len": 24}}, "10.0.0.9"],
    ),
]
ALL = [element for element, _ in EXAMPLES]


@pytest.fixture
def kernel(kernel: LinuxKernel) -> LinuxKernel:
    kernel.nft_apply(RULESET)
    return kernel


def listed(host: Any, name: str) -> list[Any]:
    for entry in host.nft("list", "table", "inet", "dovetail"):
        for kind in ("set", "map"):
            if entry.get(kind, {}).get("name") == name:
                return list(entry[kind].get("elem", []))
    raise AssertionError(name)


@pytest.mark.parametrize(("element", "shown"), EXAMPLES)
def test_an_element_is_what_nft_shows(host: Any, kernel: LinuxKernel, element: Element, shown: Any) -> None:
    kernel.nft_add_elements([element])

    assert listed(host, element.set) == [shown]

    kernel.nft_delete_elements([element])

    assert listed(host, element.set) == []


def test_elements_of_every_shape_go_in_one_transaction_and_read_back(kernel: LinuxKernel) -> None:
    kernel.nft_add_elements(ALL)
    kernel.nft_add_elements(ALL)

    assert kernel.nft_elements() == set(ALL)

    kernel.nft_delete_elements([*ALL, Element("names", ("never-there",))])
    kernel.nft_delete_elements(ALL)

    assert kernel.nft_elements() == set()


def test_elements_that_nft_wrote_are_read(host: Any, kernel: LinuxKernel) -> None:
    host.run("nft", "add element inet dovetail nets4 { 10.0.0.0/24, 10.0.1.0/24, 10.9.0.1, 255.0.0.0/8 }")
    host.run("nft", "add element inet dovetail nets6 { fd00::/64, ff00::/8 }")
    host.run("nft", "add element inet dovetail marks { 7 }")
    host.run("nft", "add element inet dovetail to4 { tcp . 80 : 10.0.0.1 . 8080 }")

    assert kernel.nft_elements() == {
        Element("nets4", (net4("10.0.0.0/24"),)),
        Element("nets4", (net4("10.0.1.0/24"),)),
        Element("nets4", (net4("10.9.0.1/32"),)),
        Element("nets4", (net4("255.0.0.0/8"),)),
        Element("nets6", (net6("fd00::/64"),)),
        Element("nets6", (net6("ff00::/8"),)),
        Element("to4", ("tcp", 80), (four("10.0.0.1"), 8080)),
    }


def test_each_element_is_found_and_what_is_missing_is_told(kernel: LinuxKernel) -> None:
    kernel.nft_add_elements(ALL)
    absent = {
        Element("names", ("other",)),
        Element("both4", (net4("10.1.0.0/25"), net4("10.2.0.0/16"))),  # begins as another one does
        Element("nets4", (net4("10.0.0.0/25"),)),
        Element("to4", ("tcp", 80), (four("192.0.2.1"), 1)),
        Element("nowhere", ("x",)),
    }

    assert kernel.nft_missing(ALL) == set()
    assert kernel.nft_missing([*ALL, *absent]) == absent


def test_without_the_table_every_element_is_missing(host: Any, kernel: LinuxKernel) -> None:
    element = Element("names", ("one",))
    kernel.nft_add_elements([element])
    assert kernel.nft_missing([element]) == set()

    host.run("nft", "delete", "table", "inet", "dovetail")

    assert kernel.nft_missing([element]) == {element}


def test_elements_that_we_wrote_nft_can_delete(host: Any, kernel: LinuxKernel) -> None:
    kernel.nft_add_elements([Element("nets4", (net4(f"10.0.{n}.0/24"),)) for n in range(4)])

    host.run("nft", "delete element inet dovetail nets4 { 10.0.1.0/24, 10.0.2.0/24 }")

    assert kernel.nft_elements() == {Element("nets4", (net4(f"10.0.{n}.0/24"),)) for n in (0, 3)}


def test_thousands_of_elements_arrive_and_go(kernel: LinuxKernel) -> None:
    many = [
        Element("at6", (six("fd00::1"), "tcp", 1024 + n), (six(0xFD00 << 112 | n), 80)) for n in range(3000)
    ]
    many += [Element("nets4", (net4((n << 8, 24)),)) for n in range(2000)]

    kernel.nft_add_elements(many)

    assert kernel.nft_elements() == set(many)

    kernel.nft_delete_elements(many[::2])

    assert kernel.nft_elements() == set(many[1::2])


def test_a_key_with_other_data_already_exists_and_nothing_is_added(kernel: LinuxKernel) -> None:
    taken = Element("to4", ("tcp", 80), (four("10.0.0.1"), 80))
    kernel.nft_add_elements([taken])
    others = [Element("to4", ("tcp", port), (four("10.0.0.2"), port)) for port in (79, 80, 81)]

    with pytest.raises(AlreadyExists, match=r"element 'to4 tcp \. 80 : 10.0.0.2 \. 80' already exists"):
        kernel.nft_add_elements([Element("names", ("x",)), *others])

    assert kernel.nft_elements() == {taken}


def test_an_overlapping_interval_already_exists(kernel: LinuxKernel) -> None:
    kernel.nft_add_elements([Element("nets4", (net4("10.0.0.0/16"),))])

    with pytest.raises(AlreadyExists, match=r"nets4 10.0.1.0/24"):
        kernel.nft_add_elements([Element("nets4", (net4("10.0.1.0/24"),))])


def test_without_the_table_adding_is_not_found_and_the_rest_is_no_error(host: Any) -> None:
    kernel = LinuxKernel()

    assert kernel.nft_has_table() is False
    assert kernel.nft_elements() == set()
    kernel.nft_delete_elements(ALL)
    with pytest.raises(NotFound, match="nftables table: 'inet dovetail'"):
        kernel.nft_add_elements(ALL)
    kernel.close()


def test_a_missing_set_is_named(kernel: LinuxKernel) -> None:
    assert kernel.nft_has_table() is True
    kernel.nft_delete_elements([Element("no-set", ("x",)), *ALL])
    with pytest.raises(NotFound, match="no such nftables set: 'no-set'"):
        kernel.nft_add_elements([Element("no-set", ("x",))])


def test_a_table_that_somebody_flushed_is_noticed(host: Any, kernel: LinuxKernel) -> None:
    kernel.nft_add_elements(ALL)

    host.run("nft", "flush", "ruleset")

    kernel.nft_delete_elements(ALL)
    with pytest.raises(NotFound):
        kernel.nft_add_elements(ALL)


def test_a_table_that_somebody_made_anew_with_other_types_is_learnt_again(
    host: Any, kernel: LinuxKernel
) -> None:
    kernel.nft_add_elements([Element("plain4", (four("10.0.0.1"),))])
    host.run("nft", "flush", "ruleset")
    host.run(
        "nft",
        "-f",
        "-",
        stdin=RULESET.replace("set plain4 { type ipv4_addr; }", "set plain4 { type ifname; }"),
    )

    with pytest.raises((InvalidArgument, KernelError)):
        kernel.nft_add_elements([Element("plain4", (four("10.0.0.1"),))])
    kernel.nft_add_elements([Element("plain4", ("eth0",))])

    assert listed(host, "plain4") == ["eth0"]


def test_a_value_that_does_not_fit_is_an_invalid_argument(kernel: LinuxKernel) -> None:
    for element in (
        Element("names", (80,)),
        Element("names", ("a-name-of-17-chars",)),
        Element("plain4", (six("::1"),)),
        Element("to4", ("tcp", 80)),
        Element("to4", ("nothing", 80), (four("10.0.0.1"), 80)),
        Element("ports", (70000,)),
    ):
        with pytest.raises(InvalidArgument, match=r"does not fit|is no value of the nftables type"):
            kernel.nft_add_elements([element])


def test_a_kernel_that_cannot_destroy_deletes_what_is_there(
    host: Any, kernel: LinuxKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux before 6.3 answers the unknown message with EINVAL."""
    kernel.nft_add_elements(ALL)
    transact = NetlinkSocket.transact

    def old(self: NetlinkSocket, messages: list[Message]) -> list[Refusal | None]:
        if any(message.kind & 0xFF == nft_table.DESTROY for message in messages):
            return [None, Refusal(errno.EINVAL), *[None] * (len(messages) - 2)]
        return transact(self, messages)

    monkeypatch.setattr(NetlinkSocket, "transact", old)

    kernel.nft_delete_elements([Element("names", ("never-there",)), *ALL[:-1], Element("no-set", ("x",))])
    kernel.nft_delete_elements([Element("names", ("never-there",))])

    assert kernel.nft_elements() == {ALL[-1]}


def test_threads_add_and_delete_beside_each_other(kernel: LinuxKernel) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(20):
                mine = [
                    Element("to4", ("tcp", 1000 * number + turn + 1000), (four("10.0.0.1"), 80)),
                    Element("nets4", (net4(f"10.{number}.{turn}.0/24"),)),
                ]
                kernel.nft_add_elements(mine)
                assert set(mine) <= kernel.nft_elements()
                kernel.nft_delete_elements(mine)
        except BaseException as exc:
            failed.append(exc)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    assert kernel.nft_elements() == set()


def test_a_ruleset_that_is_wrong_is_refused_in_nfts_words(kernel: LinuxKernel) -> None:
    kernel.nft_add_elements(ALL)

    with pytest.raises(KernelError, match="nft -f -.*syntax error"):
        kernel.nft_apply("table inet dovetail { chain x { nonsense; } }\n")

    assert kernel.nft_elements() == set(ALL)


def test_a_table_is_applied_together_with_its_elements(host: Any, kernel: LinuxKernel) -> None:
    kernel.nft_apply(RULESET, ALL)

    assert kernel.nft_elements() == set(ALL)
    assert listed(host, "names") == ["dv-0123456789ab"]


def test_a_table_is_known_by_its_comment_and_its_rules(host: Any, kernel: LinuxKernel) -> None:
    assert kernel.nft_table() == TableState("", {"c": 1})

    kernel.nft_apply(features.RULESET)
    assert kernel.nft_table() == table_state(features.RULESET)

    host.run("nft", "flush", "chain", "inet", "dovetail", "within")
    host.run("nft", "add", "rule", "inet", "dovetail", "user", "drop")
    changed = kernel.nft_table()
    assert changed is not None
    assert changed.rules == {
        **{k: v for k, v in rules_of(features.RULESET).items() if k != "within"},
        "user": 1,
    }

    host.run("nft", "flush", "ruleset")
    assert kernel.nft_table() is None


def rules_of(ruleset: str) -> dict[str, int]:
    state = table_state(ruleset)
    assert state is not None
    return dict(state.rules)


def test_a_text_is_checked_and_nothing_changes(kernel: LinuxKernel) -> None:
    kernel.nft_add_elements(ALL)

    wrong = RULESET + "table inet dovetail {\n  chain x {\n    ip saddr 10.0.0.1 nonsense\n  }\n}\n"
    assert kernel.nft_check(RULESET) == ""
    assert kernel.nft_check(wrong).startswith("23:31-31: Error: syntax error")
    assert "No such file" in kernel.nft_check("add rule inet dovetail nowhere accept\n")
    assert kernel.nft_elements() == set(ALL)


def test_elements_belong_to_the_handles_namespace(host: Any, kernel: LinuxKernel, box: Netns) -> None:
    with kernel.inside(box) as inner:
        assert inner.nft_has_table() is False
        inner.nft_apply(RULESET)
        inner.nft_add_elements(ALL)
        assert inner.nft_elements() == set(ALL)

    assert kernel.nft_elements() == set()
