"""GC and STATUS, which no reference plugin has."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from differential.libcni import Attachment

pytestmark = pytest.mark.root

either_way = pytest.mark.parametrize("site", ["daemon", "alone"], indirect=True)
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
BANDWIDTH = {"type": "bandwidth", "egressRate": 80_000_000, "egressBurst": 8_000_000}


def whole(node: Any, *, name: str = "pods", **keys: Any) -> dict[str, Any]:
    plugins = [node.bridge(ipMasq=True, **keys), PORTMAP, {"type": "firewall"}, BANDWIDTH]
    return dict(node.chain(*plugins, name=name, version="1.1.0"))


def mapping(number: int) -> list[dict[str, int]]:
    return [{"hostPort": 8080 + number, "containerPort": 80}]


@either_way
@pytest.mark.cni(28)
def test_gc_removes_what_the_runtime_does_not_have_and_nothing_else(node: Any) -> None:
    chain, other = whole(node), whole(node, name="others", bridge="br1")
    other["plugins"][0]["ipam"] = node.ipam("10.51.0.0/24")
    for number, name in enumerate(("c1", "c2", "c3")):
        node.add(chain, name, portMappings=mapping(number))
    node.add(chain, "c1", "eth1", portMappings=mapping(7))
    node.add(other, "c4", portMappings=mapping(9))
    node.host.run("ip", "netns", "del", "c3")
    kept, others = node.state("c1"), node.state("c4")

    node.runtime.gc(chain, [node.attachment("c1")])

    assert "eth0" not in node.host.links(node.inside("c2"))
    assert "eth1" not in node.host.links(node.inside("c1"))
    assert {
        json.loads(row.partition(" ")[2])["owner"]["container"] for row in node.rows() if row[0] != "("
    } == {"c1", "c4"}
    assert sorted(node.files()) == sorted(a.partition("/")[0] for a in node.addresses("c1"))
    assert len([name for name in node.host.links() if name.startswith("bwp")]) == 2
    assert len([one for one in node.elements() if one.startswith("publish4")]) == 2
    node.check(chain, "c1")
    node.check(other, "c4")
    assert node.state("c4")[f"{node.inside('c4')} links"] == others[f"{node.inside('c4')} links"]
    assert kept[f"{node.inside('c1')} routes-4"][0] in node.state("c1")[f"{node.inside('c1')} routes-4"]


@either_way
def test_an_empty_list_means_everything_and_no_list_means_nothing(node: Any) -> None:
    chain = whole(node)
    node.add(chain, portMappings=mapping(0))
    before = node.state("c1")

    node.runtime.gc(chain, None)  # Go writes a nil list as null
    for plugin in chain["plugins"]:
        node.runtime.execute("GC", chain, plugin, Attachment("", "", ""))
    assert node.state("c1") == before

    node.runtime.gc(chain, [])
    assert node.left() == []


def test_gc_twice_and_on_a_host_where_nothing_is(node: Any) -> None:
    for _ in range(2):
        node.runtime.gc(whole(node), [])
        node.runtime.gc(whole(node), [node.attachment("c9")])


def test_gc_of_the_older_name_of_the_list(node: Any) -> None:
    chain = whole(node)
    node.add(chain, "c1")
    node.add(chain, "c2")

    for plugin in chain["plugins"]:
        keys = {"cni.dev/attachments": [{"containerID": "c1", "ifname": "eth0"}]}
        node.runtime.execute("GC", chain, {**plugin, **keys}, Attachment("", "", ""))

    node.check(chain, "c1")
    assert node.host.links(node.inside("c2")).keys() == {"lo"}


def test_gc_gives_back_addresses_that_go_s_host_local_left(node: Any) -> None:
    chain = whole(node)
    node.add(node.chain(node.bridge()), "c1", runtime=node.go)
    node.add(chain, "c2")

    node.runtime.gc(chain, [node.attachment("c2")])

    assert set(node.files().values()) == {"c2\neth0"}  # a text file's reading makes one of CR and LF
    assert node.refused(lambda: node.add(chain, "c1")).code == 104  # its interface is there all the same


@pytest.mark.cni(28)
def test_gc_goes_on_past_what_fails_and_says_so(node: Any) -> None:
    chain = whole(node)
    node.add(chain, "c1", portMappings=mapping(0))
    node.add(chain, "c2", portMappings=mapping(1))
    missing = {**chain["plugins"][0], "ipam": {"type": "no-such-plugin"}}

    error = node.refused(lambda: node.runtime.gc({**chain, "plugins": [missing, *chain["plugins"][1:]]}, []))

    assert error.code == 7
    assert [name for name in node.host.links() if name.startswith(("veth", "bwp"))] == []
    assert node.elements() == set()
    node.runtime.gc(chain, [])
    assert node.left() == []


@either_way
def test_gc_and_status_are_handed_on_to_the_ipam_plugin(node: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    foreign = Path(node.bin, "foreign-ipam")
    foreign.write_text(f'#!/bin/sh\nprintf "%s %s\\n" "$CNI_COMMAND" "$(cat)" >>{seen}\n', encoding="ascii")
    foreign.chmod(0o755)
    chain = node.chain({"type": "bridge", "bridge": "br0", "ipam": {"type": "foreign-ipam"}}, version="1.1.0")

    node.runtime.gc(chain, [node.attachment("c1")])
    node.runtime.status(chain)
    os.unlink(foreign)

    lines = [line.partition(" ") for line in seen.read_text().splitlines()]
    assert [verb for verb, _, _ in lines] == ["GC", "STATUS"]
    assert json.loads(lines[0][2])["cni.dev/valid-attachments"] == [{"containerID": "c1", "ifname": "eth0"}]


@either_way
@pytest.mark.cni(29)
def test_status_is_50_where_no_address_is_left(node: Any) -> None:
    chain = node.chain(node.bridge("10.50.0.0/30"), version="1.1.0")
    node.runtime.status(chain)
    node.add(chain, "c1")
    before = node.state("c1")

    assert node.refused(lambda: node.runtime.status(chain)).code == 50
    assert node.refused(lambda: node.add(chain, "c2")).code == 102

    assert node.state("c1") == before
    node.delete(chain, "c1")
    node.runtime.status(chain)


@pytest.mark.parametrize(
    ("plugin", "code"),
    [
        ({"type": "bridge", "bridge": "br0", "ipam": {"type": "no-such-plugin"}}, 50),
        ({"type": "bridge", "hairpinMode": True, "promiscMode": True}, 7),
        ({"type": "bridge", "bridge": "x" * 16}, 7),
        ({"type": "bridge", "vlan": 4095}, 7),
        ({"type": "bridge", "mtu": -1}, 7),
        ({"type": "bridge", "ipam": {"type": "host-local"}}, 7),
        ({"type": "firewall", "ingressPolicy": "x"}, 7),
        ({"type": "bandwidth", "ingressRate": 1}, 7),
    ],
)
def test_status_says_what_the_next_add_would(node: Any, plugin: dict[str, Any], code: int) -> None:
    error = node.refused(lambda: node.runtime.status(node.chain(plugin, version="1.1.0")))

    assert error.code in {code, 50 if plugin.get("ipam") else code}
