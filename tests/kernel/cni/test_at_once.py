"""Many plugins at the same time on a fresh host: nothing is made twice, nothing is given twice, nothing is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from differential.libcni import PluginError

pytestmark = pytest.mark.root

PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}


def at_once(count: int, action: Callable[[int], Any]) -> list[Any]:
    """Do `action` with each number, all at the same time; the threads are in the test's namespace."""
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(action, range(count)))


def mapping(number: int) -> dict[str, Any]:
    return {"portMappings": [{"hostPort": 20000 + number, "containerPort": 80}]}


@pytest.mark.parametrize(
    ("site", "remove"), [("daemon", False), ("daemon", True), ("alone", True)], indirect=["site"]
)
def test_64_containers_come_and_go_at_once(node: Any, remove: bool) -> None:
    chain = node.chain(node.bridge(ipMasq=True, removeBridge=remove), PORTMAP, version="1.1.0")
    attachments = [node.attachment(f"c{number}", **mapping(number)) for number in range(64)]

    results = at_once(64, lambda number: node.runtime.add(chain, attachments[number]))

    addresses = Counter(ip["address"] for result in results for ip in result["ips"])
    assert len(addresses) == 128
    assert set(addresses.values()) == {1}
    assert {result["interfaces"][0]["mac"] for result in results} == {node.host.links()["br0"]["address"]}
    ports = [link for link in node.host.links().values() if link.get("master") == "br0"]
    assert len(ports) == 64
    assert len([one for one in node.elements() if one.startswith("publish4 ")]) == 64
    gateways = [
        a["local"] for a in node.host.ip("addr", "show", "br0")[0]["addr_info"] if a["scope"] == "global"
    ]
    assert sorted(gateways) == ["10.50.0.1", "fd50::1"]
    for number in (0, 31, 63):
        node.runtime.check(chain, attachments[number])
        assert node.pings(attachments[number].netns, results[(number + 1) % 64]["ips"][0]["address"])

    at_once(64, lambda number: node.runtime.delete(chain, attachments[number]))

    assert node.left() == []
    assert ("br0" in node.host.links()) == (not remove)


def test_a_hundred_attachments_go_at_once(node: Any) -> None:
    chain = node.chain(node.bridge(ipMasq=True), version="1.1.0")
    attachments = [node.attachment(f"c{number}") for number in range(100)]
    at_once(100, lambda number: node.runtime.add(chain, attachments[number]))
    assert len(node.files()) == 200

    at_once(100, lambda number: node.runtime.delete(chain, attachments[number]))

    assert node.left() == []
    assert all(node.host.links(a.netns).keys() == {"lo"} for a in attachments[::10])


def test_comings_and_goings_cross(node: Any) -> None:
    """Each adds and deletes over and over: the bridge goes with the last and comes with the next."""
    chain = node.chain(node.bridge("10.50.0.0/24", removeBridge=True), PORTMAP, version="1.1.0")
    attachments = [node.attachment(f"c{number}", **mapping(number)) for number in range(12)]

    def come_and_go(number: int) -> None:
        for _ in range(8):
            node.runtime.add(chain, attachments[number])
            node.runtime.check(chain, attachments[number])
            node.runtime.delete(chain, attachments[number])

    at_once(12, come_and_go)

    assert node.left() == []
    assert "br0" not in node.host.links()


def test_the_same_attachment_is_made_once(node: Any) -> None:
    """A runtime that gave up and tries again, while the first call is still at work."""
    chain = node.chain(node.bridge(), version="1.1.0")
    attachment = node.attachment("c1")

    def add(_: int) -> int:
        try:
            node.runtime.add(chain, attachment)
        except PluginError as exc:
            return int(exc.code)
        return 0

    outcomes = Counter(at_once(16, add))

    assert outcomes == {0: 1, 104: 15}
    node.runtime.check(chain, attachment)
    assert len(node.files()) == 2
    at_once(16, lambda _: node.runtime.delete(chain, attachment))
    assert node.left() == []


@pytest.mark.parametrize("broken", [2, 32])
def test_failures_take_nothing_from_those_that_succeed(node: Any, broken: int) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24", removeBridge=True), PORTMAP, version="1.1.0")
    failing = node.chain(
        {**node.bridge("10.50.0.0/24"), "mtu": 40}, version="1.1.0"
    )  # the kernel refuses the pair
    attachments = [node.attachment(f"c{number}", **mapping(number)) for number in range(32)]

    def add(number: int) -> int:
        try:
            node.runtime.add(
                failing if number % 32 < broken and number % 2 == 0 else chain, attachments[number]
            )
        except PluginError as exc:
            assert exc.code in {5, 7}, exc
            return 1
        return 0

    failed = at_once(32, add)

    assert 0 < sum(failed) < 32
    for number, bad in enumerate(failed):
        if not bad:
            node.runtime.check(chain, attachments[number])
    at_once(32, lambda number: node.runtime.delete(chain, attachments[number], without_result=True))
    assert node.left() == []
    assert "br0" not in node.host.links()


def test_go_s_host_local_takes_part_in_the_crowd(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/24"))
    attachments = [node.attachment(f"c{number}") for number in range(24)]

    def add(number: int) -> Any:
        return (node.go if number % 3 == 0 else node.runtime).add(chain, attachments[number])

    results = at_once(24, add)

    assert len({result["ips"][0]["address"] for result in results}) == 24
    at_once(24, lambda number: node.runtime.delete(chain, attachments[number], without_result=True))
    assert node.left() == []
