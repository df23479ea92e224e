"""What Docker has forgotten, or never heard of, is found where Docker can be asked: by ``dovetail gc`` and on its own."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.interop]

SLEEP = ("bb", "sleep", "1000")
OURS = ("-d", "dovetail", "--ipam-driver", "dovetail")


@pytest.fixture(scope="module")
def town(module_docker: Any) -> Any:
    """Docker and a daemon that waits only for some seconds for a call that may still come."""
    docker, dovetail = module_docker
    dovetail.env["DOVETAIL_ORPHAN_GRACE"] = "3"
    dovetail.stop()
    dovetail.start()
    return docker, dovetail


@pytest.fixture
def clean(town: Any) -> Iterator[None]:
    yield
    docker, dovetail = town
    if not dovetail.running:
        dovetail.start()
    for container in docker("ps", "-aq").split():
        docker("rm", "-f", container)
    docker("network", "prune", "-f")
    assert dovetail.left() == []


@pytest.mark.usefixtures("clean")
def test_a_network_that_docker_never_heard_of_is_shown_and_removed_by_hand_only(town: Any) -> None:
    """With Docker's own IPAM nothing is given back to us when the reply to CreateNetwork is lost."""
    docker, dovetail = town
    _create_network_for_nobody(docker)
    (network,) = dovetail.json("network", "ls")
    assert network["subnets"] == ["10.79.0.0/24"]

    assert dovetail.json("gc", "--dry-run")["findings"] == [], "Docker may be making it"
    dovetail.host.wait_for(lambda: dovetail.json("gc", "--dry-run")["findings"], what="it is found")
    shown = dovetail.json("gc", "--dry-run")

    assert shown["notes"] == shown["failed"] == []
    (finding,) = shown["findings"]
    assert (finding["action"], finding["kind"]) == ("remove", "network")
    assert finding["what"].startswith(network["name"])
    assert finding["why"] == "Docker does not have it"
    assert dovetail.json("network", "ls")[0]["id"] == network["id"], "only a person decides that"
    assert "does not have it" in dovetail.cli("gc", "--yes")
    assert dovetail.left() == []
    assert dovetail.cli("gc") == "Everything belongs to somebody."


def _create_network_for_nobody(docker: Any) -> None:
    """Ask for a network as dockerd does: what is there when the daemon dies before the reply has gone out."""
    body = {
        "NetworkID": "a" * 64,
        "Options": {"com.docker.network.generic": {}},
        "IPv4Data": [{"AddressSpace": "LocalDefault", "Pool": "10.79.0.0/24", "Gateway": "10.79.0.1/24"}],
    }
    plugin = ("--unix-socket", "/run/docker/plugins/dovetail.sock", "http://x/NetworkDriver.CreateNetwork")
    assert docker.host.run("curl", "-sS", *plugin, "-d", json.dumps(body)) == "{}"


@pytest.mark.usefixtures("clean")
def test_a_network_that_docker_has_lost_goes_on_its_own_unless_others_are_on_it(town: Any) -> None:
    """``rm local-kv.db`` is what people are told to do when Docker's networks are broken."""
    docker, dovetail = town
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "shop")
    docker("network", "create", *OURS, "-o", "dovetail.name=kept", "--subnet", "10.78.0.0/24", "kept")
    dovetail.host.wait_for(lambda: _known(dovetail) == {"shop", "kept"}, what="Docker's names are learned")
    dovetail.cli("sandbox", "create", "box")
    dovetail.cli("network", "connect", "kept", "box")

    docker.stop()
    (docker.host.dir / "docker" / "data" / "network" / "files" / "local-kv.db").unlink()
    docker.start()
    assert {n["name"] for n in dovetail.json("network", "ls")} >= {"kept"}, "Docker has not called yet"
    docker("network", "create", *OURS, "--subnet", "10.80.0.0/24", "next")

    dovetail.host.wait_for(
        lambda: _subnets(dovetail) == {"10.78.0.0/24", "10.80.0.0/24"}, timeout_s=60, what="shop is gone"
    )
    assert _known(dovetail) == {"next"}
    assert "Docker does not have it any more" in dovetail.host.log("dovetail.log")
    dovetail.cli("sandbox", "rm", "box")
    collected = {finding["what"]: finding["why"] for finding in dovetail.json("gc", "--yes")["findings"]}
    assert collected["kept"] == "it was made for Docker, which has removed it, and nobody else is on it"


def _known(dovetail: Any) -> set[str]:
    found = {name for network in dovetail.json("network", "ls") for name in network["known_as"]}
    names = [b["name"] for n in dovetail.json("topology")["networks"] for b in n["bindings"]]
    return found | set(filter(None, names))


def _subnets(dovetail: Any) -> set[str]:
    return {subnet for network in dovetail.json("network", "ls") for subnet in network["subnets"]}


@pytest.mark.usefixtures("clean")
def test_a_living_containers_network_is_never_taken_whatever_docker_says(town: Any) -> None:
    docker, dovetail = town
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    docker("run", "-d", "--stop-timeout", "0", "--name", "c1", "--network", "one", *SLEEP)
    dovetail.host.wait_for(
        lambda: [e["container"] for e in dovetail.json("endpoint", "ls")] == ["c1"],
        what="its name is learned",
    )
    # as if this Docker had never listed it: it is another one's
    with closing(sqlite3.connect(docker.host.dir / "state" / "dovetail.db")) as database, database:
        database.execute("UPDATE bindings SET external_id = 'f' || external_id, name = ''")
        database.execute(
            "UPDATE endpoints SET doc = json_set(doc, '$.owner.network', 'f' || json_extract(doc, '$.owner.network'))"
        )
        database.execute("UPDATE sandboxes SET doc = json_set(doc, '$.container', '')")
        database.execute("UPDATE bindings SET created = created - 60")
        database.execute(
            "UPDATE endpoints SET doc = json_set(doc, '$.created', json_extract(doc, '$.created') - 60)"
        )

    assert dovetail.json("gc", "--dry-run")["findings"] == []

    with closing(sqlite3.connect(docker.host.dir / "state" / "dovetail.db")) as database, database:
        database.execute("UPDATE bindings SET external_id = substr(external_id, 2)")
        database.execute(
            "UPDATE endpoints SET doc = json_set(doc, '$.owner.network', substr(json_extract(doc, '$.owner.network'), 2))"
        )
    docker("rm", "-f", "c1")
    docker("network", "rm", "one")


@pytest.mark.usefixtures("clean")
def test_without_a_daemon_gc_does_it_itself_and_asks_the_docker_that_is_given(town: Any) -> None:
    docker, dovetail = town
    docker("network", "create", *OURS, "--subnet", "10.77.0.0/24", "one")
    dovetail.stop()
    shown = json.loads(dovetail.cli("gc", "--dry-run", "--format", "json"))
    assert shown == {"findings": [], "failed": [], "notes": []}

    nowhere = dovetail.try_cli("gc", "--dry-run", "--docker-socket", "/run/nowhere.sock")

    assert nowhere.returncode == 0
    assert "Everything belongs to somebody." in nowhere.stdout
    assert (
        "note: what Docker has forgotten is not known: no Docker listens at /run/nowhere.sock"
        in nowhere.stdout
    )
    dovetail.start()
