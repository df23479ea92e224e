"""What every plugin owes the protocol, in every version of the specification."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from dovetail.cni.plugins import PLUGINS

pytestmark = pytest.mark.root

either_way = pytest.mark.parametrize("site", ["daemon", "alone"], indirect=True)
METAS = ("bandwidth", "firewall", "portmap")
IPAMS = ("host-local", "static")


def knows(version: str, verb: str) -> bool:
    since = {"CHECK": (0, 4), "GC": (1, 1), "STATUS": (1, 1)}
    return tuple(map(int, version.split(".")[:2])) >= since.get(verb, (0, 0))


def call(node: Any, plugin: str, stdin: bytes = b"", **environment: str) -> tuple[int, bytes, str]:
    done = subprocess.run(
        [f"{node.bin}/{plugin}"],
        input=stdin,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def error_of(answer: tuple[int, bytes, str]) -> Any:
    status, stdout, _ = answer
    assert status != 0
    return json.loads(stdout)


def attachment(node: Any, verb: str, **more: str) -> dict[str, str]:
    variables = {"CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_PATH": node.bin}
    return {**variables, "CNI_NETNS": node.inside("c1"), **more}


def config(**keys: Any) -> bytes:
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", **keys}).encode()


@either_way
@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_plugin_says_its_versions_and_what_it_is(node: Any, plugin: str) -> None:
    status, stdout, _ = call(node, plugin, CNI_COMMAND="VERSION")
    about = call(node, plugin)

    assert status == 0
    assert json.loads(stdout)["supportedVersions"] == [
        "0.1.0",
        "0.2.0",
        "0.3.0",
        "0.3.1",
        "0.4.0",
        "1.0.0",
        "1.1.0",
    ]
    assert about[:2] == (0, b"")
    assert about[2].startswith(f"CNI {plugin} plugin v1.9.")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_every_plugin_names_all_that_is_missing_and_what_is_malformed(node: Any, plugin: str) -> None:
    missing = error_of(call(node, plugin, config(), CNI_COMMAND="ADD"))
    malformed = error_of(call(node, plugin, config(), **attachment(node, "ADD", CNI_CONTAINERID="-x")))
    too_long = error_of(call(node, plugin, config(), **attachment(node, "ADD", CNI_IFNAME="e" * 16)))
    unknown = error_of(call(node, plugin, config(), **attachment(node, "add")))
    own = error_of(
        call(node, plugin, config(), **attachment(node, "ADD", CNI_NETNS=f"/proc/{os.getpid()}/ns/net"))
    )

    assert all(f"CNI_{name}" in missing["msg"] for name in ("CONTAINERID", "NETNS", "IFNAME"))
    assert [e["code"] for e in (missing, malformed, too_long, unknown)] == [4, 4, 4, 4]
    assert own["code"] in {4, 7}  # the process of the test is on the real host: no namespace of this one
    assert "unknown CNI_COMMAND: add" in unknown["msg"]


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
def test_every_plugin_refuses_what_is_no_configuration(node: Any, plugin: str, verb: str) -> None:
    variables = attachment(node, verb)

    junk = error_of(call(node, plugin, b"{", **variables))
    nameless = error_of(call(node, plugin, b'{"cniVersion": "1.1.0"}', **variables))
    future = error_of(call(node, plugin, config(cniVersion="9.0.0"), **variables))

    assert [junk["code"], nameless["code"], future["code"]] == [6, 7, 1]
    assert "9.0.0" in future["details"]


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize("verb", ["CHECK", "GC", "STATUS"])
def test_no_plugin_knows_a_verb_before_its_version(node: Any, plugin: str, verb: str, version: str) -> None:
    status, stdout, _ = call(node, plugin, config(cniVersion=version), **attachment(node, verb))

    early = status != 0 and json.loads(stdout)["code"] == 1
    assert early == (not knows(version, verb))


@pytest.mark.parametrize("plugin", METAS)
@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_a_plugin_that_comes_after_another_wants_its_result(node: Any, plugin: str, verb: str) -> None:
    error = error_of(call(node, plugin, config(type=plugin), **attachment(node, verb)))

    assert (error["code"], error["msg"]) == (7, "Required prevResult missing")


@pytest.mark.parametrize("plugin", ["bridge", "host-local", "static"])
@pytest.mark.cni(14)
def test_unknown_arguments_are_refused_unless_they_are_to_be_ignored(node: Any, plugin: str) -> None:
    ipam = {"type": "static", "addresses": [{"address": "10.50.0.9/24"}]}
    ipam = node.ipam() if plugin == "host-local" else ipam
    stdin = config(type=plugin, bridge="br0", ipam=ipam)

    refused = error_of(call(node, plugin, stdin, **attachment(node, "ADD", CNI_ARGS="X=1")))
    ignored = call(node, plugin, stdin, **attachment(node, "ADD", CNI_ARGS="IgnoreUnknown=1;X=1"))
    away = call(node, plugin, stdin, **attachment(node, "DEL", CNI_ARGS="IgnoreUnknown=1;X=1"))

    assert refused["code"] == 4
    assert 'unknown args ["X=1"]' in refused["msg"]
    assert (ignored[0], away[0]) == (0, 0), ignored


def whole(node: Any, version: str) -> dict[str, Any]:
    plugins = [
        node.bridge(ipMasq=True, hairpinMode=True),
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "firewall"},
        {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000},
    ]
    early = version in {"0.1.0", "0.2.0"}  # chains came with 0.3.0
    return dict(node.chain(*plugins[: 1 if early else None], version=version))


@either_way
@pytest.mark.cni(15)
def test_a_whole_chain_in_every_version(node: Any, version: str) -> None:
    chain = whole(node, version)

    result = node.add(chain, portMappings=[{"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP"}])

    assert result["cniVersion"] == version
    if version in {"0.1.0", "0.2.0"}:
        assert result["ip4"]["ip"] in node.addresses()
        assert result["ip4"]["gateway"] == "10.50.0.1"
    else:
        assert sorted(ip["address"] for ip in result["ips"]) == node.addresses()
        assert [i["name"] for i in result["interfaces"]][0::2] == ["br0", "eth0"]
        assert ("version" in result["ips"][0]) == (not version.startswith("1"))
    assert ("dns" in result) == (not version.startswith("1"))
    assert node.pings(node.inside("c1"), "10.50.0.1")
    if len(chain["plugins"]) > 1:
        with node.serving(node.inside("c1"), 80, name="c1"):
            assert node.ask("127.0.0.1", 8080).startswith("c1 ")
    before = node.state("c1")
    if knows(version, "CHECK"):
        node.check(chain)
    if knows(version, "GC"):
        node.runtime.gc(chain, [node.attachment()])
        node.runtime.status(chain)
    assert node.state("c1") == before
    node.delete(chain)
    assert "eth0" not in node.host.links(node.inside("c1"))


@pytest.mark.cni(10)
def test_a_configuration_without_a_version_is_of_the_first(node: Any) -> None:
    stdin = json.dumps({"name": "pods", **node.bridge("10.50.0.0/24")}).encode()

    status, stdout, _ = call(node, "bridge", stdin, **attachment(node, "ADD"))
    call(node, "bridge", stdin, **attachment(node, "DEL"))

    assert status == 0
    assert json.loads(stdout)["cniVersion"] == "0.1.0"


@pytest.mark.cni(15)
def test_a_result_of_any_version_is_taken(node: Any, version: str) -> None:
    """libcni hands on what it has in its cache, which may be of an older configuration."""
    result = node.add(node.chain(node.bridge(), version=version))
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    newest = node.chain(portmap, version="1.1.0")
    mappings = node.attachment(portMappings=[{"hostPort": 8080, "containerPort": 80}])

    printed = json.loads(node.runtime.execute("ADD", newest, portmap, mappings, result))
    node.runtime.execute("DEL", newest, portmap, mappings, result)

    assert printed["cniVersion"] == "1.1.0"
    assert sorted(ip["address"] for ip in printed["ips"]) == node.addresses()


@pytest.mark.parametrize("plugin", METAS)
@pytest.mark.cni(16)
def test_what_a_later_version_of_a_result_says_is_handed_on(node: Any, plugin: str) -> None:
    previous = {
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "br0", "mac": "02:00:00:00:00:01", "mtu": 1400},
            {
                "name": "eth0",
                "mac": "02:00:00:00:00:02",
                "sandbox": node.inside("c1"),
                "socketPath": "/s",
                "pciID": "1:2",
            },
        ],
        "ips": [{"address": "10.50.0.2/24", "gateway": "10.50.0.1", "interface": 1}],
        "routes": [
            {"dst": "10.9.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 9, "scope": 0}
        ],
        "dns": {"nameservers": ["10.50.0.1"], "domain": "d", "search": ["s"], "options": ["o"]},
    }
    chain = node.chain({"type": plugin}, version="1.1.0")

    printed = json.loads(node.runtime.execute("ADD", chain, {"type": plugin}, node.attachment(), previous))
    node.runtime.execute("DEL", chain, {"type": plugin}, node.attachment(), previous)

    assert printed == previous


@pytest.mark.cni(12)
def test_a_plugin_leaves_its_own_namespace_alone_unless_it_is_told_otherwise(node: Any) -> None:
    before = node.state()
    own = {"CNI_NETNS": "/proc/self/ns/net"}

    refused = error_of(call(node, "loopback", config(type="loopback"), **attachment(node, "ADD", **own)))
    after = node.state()
    told = call(
        node,
        "loopback",
        config(type="loopback"),
        **attachment(node, "ADD", CNI_NETNS_OVERRIDE="true", **own),
    )

    assert (refused["code"], "own network namespace" in refused["msg"]) == (4, True)
    assert after == before
    assert told[0] == 0
