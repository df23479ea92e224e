"""kill -9 of the daemon at each step of a chain's ADD and DEL, and a reboot: nothing is left, and the next ADD succeeds."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from differential.libcni import PluginError, Runtime

pytestmark = pytest.mark.root

_LIMIT = 150
_STRIDE = 1 if "SOAK_MINUTES" in os.environ else 7
MAPPINGS = [
    {"hostPort": 8080, "containerPort": 80},
    {"hostPort": 8053, "containerPort": 53, "protocol": "udp"},
]
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
BANDWIDTH = {"type": "bandwidth", "ingressRate": 80_000_000, "ingressBurst": 8_000_000}
BANDWIDTH = {**BANDWIDTH, "egressRate": 80_000_000, "egressBurst": 8_000_000}


def whole(node: Any) -> dict[str, Any]:
    bridge = node.bridge(ipMasq=True, hairpinMode=True, removeBridge=True)
    return dict(node.chain(bridge, PORTMAP, {"type": "firewall"}, BANDWIDTH, version="1.1.0"))


def deaths(node: Any, where: str, operation: Callable[[Runtime], None], *, at_least: int) -> Iterator[int]:
    """Let the daemon die at each step from `where` on, with plugins that do nothing without one; it does not run then.

    Each step costs two starts of a daemon: `make soak` goes through all, any other run through one in `_STRIDE`.
    """
    mortal = Runtime(str(node.installation.directory / "mortal"))
    for nth in range(random.randrange(_STRIDE), _LIMIT, _STRIDE):
        if node.installation.alive:
            node.installation.stop(signal.SIGKILL)
        node.installation.start(DOVETAIL_FAILPOINT=f"{where}+{nth}=kill")
        try:
            operation(mortal)
        except PluginError:
            assert not node.installation.survived()
        else:
            if node.installation.survived():
                assert nth >= at_least, "the walk has left something out"
                node.installation.stop(signal.SIGKILL)
                node.installation.start()
                return
        yield nth
    pytest.fail("the operation never came through")


@pytest.mark.parametrize("then", ["DEL without a daemon", "DEL by a daemon", "no DEL"])
def test_an_add_that_dies_with_its_daemon(node: Any, then: str) -> None:
    chain = whole(node)
    attachment = node.attachment(portMappings=MAPPINGS)

    for nth in deaths(node, "cni:ADD", lambda mortal: mortal.add(chain, attachment), at_least=30):
        match then:
            case "DEL without a daemon":
                node.runtime.delete(chain, attachment, without_result=True)
            case "DEL by a daemon":
                node.installation.start()
                node.runtime.delete(chain, attachment, without_result=True)
            case _:
                node.host.run("ip", "netns", "del", "c1")
                node.host.run("ip", "netns", "add", "c1")
                node.installation.start()
                node.installation.cli("gc", "--yes")
        assert node.left() == [], f"step {nth}"
        assert "br0" not in node.host.links(), f"step {nth}"
        assert node.host.links(node.inside("c1")).keys() == {"lo"}
    node.runtime.delete(chain, attachment, without_result=True)
    node.add(chain, portMappings=MAPPINGS)
    node.check(chain)


def test_an_add_whose_daemon_dies_is_finished_by_the_plugins_themselves(node: Any) -> None:
    chain = whole(node)
    attachment = node.attachment(portMappings=MAPPINGS)

    for nth in deaths(node, "cni:ADD", lambda _: node.runtime.add(chain, attachment), at_least=30):
        # what was done already, though its answer was lost, is refused: the runtime deletes, and tries again
        result = node.runtime.result_of(chain, attachment)
        if result is not None:
            node.runtime.check(chain, attachment)
        node.runtime.delete(chain, attachment)
        assert node.left() == [], f"step {nth}"
    node.runtime.delete(chain, attachment)


@pytest.mark.parametrize("then", ["DEL without a daemon", "a daemon"])
def test_a_del_that_dies_with_its_daemon(node: Any, then: str) -> None:
    chain = whole(node)
    attachment = node.attachment(portMappings=MAPPINGS)

    def operation(mortal: Runtime) -> None:
        node.runtime.add(chain, attachment)
        mortal.delete(chain, attachment, without_result=True)

    for nth in deaths(node, "cni:DEL", operation, at_least=12):
        if then == "a daemon":
            node.installation.start()
        node.runtime.delete(chain, attachment)
        assert node.left() == [], f"step {nth}"
        assert "br0" not in node.host.links(), f"step {nth}"


def reboot(node: Any) -> None:
    """Take away what a reboot takes away, and let the rows be of another boot."""
    if node.installation.alive:
        node.installation.stop(signal.SIGKILL)
    for name in list(node.host.links()):
        if name != "lo":
            node.host.run("ip", "link", "del", name, check=False)
    node.host.run("nft", "flush", "ruleset")
    for name in ("c1", "c2"):
        node.host.run("ip", "netns", "del", name)
        node.host.run("ip", "netns", "add", name)
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    with closing(sqlite3.connect(f"{node.installation.state_dir}/dovetail.db")) as database, database:
        database.execute("UPDATE parts SET doc = replace(doc, ?, 'another')", (boot_id,))
    for path in Path(node.installation.run_dir).glob("settled*"):
        path.unlink()


@pytest.mark.parametrize("then", ["a daemon", "the next ADD", "DEL"])
def test_addresses_of_attachments_that_a_reboot_ended_are_free(node: Any, then: str) -> None:
    chain = node.chain(
        node.bridge("10.50.0.0/29", removeBridge=True), PORTMAP, {"type": "firewall"}, version="1.1.0"
    )
    chain["plugins"][0]["ipMasq"] = True
    for number, name in enumerate(("c1", "c2")):
        node.add(chain, name, portMappings=[{"hostPort": 8080 + number, "containerPort": 80}])
    reboot(node)

    match then:
        case "a daemon":
            node.installation.start()
        case "the next ADD":
            node.add(chain, "c1", portMappings=[{"hostPort": 8081, "containerPort": 80}])
            node.check(chain, "c1")
            assert len(node.files()) == 1
            node.delete(chain, "c1")
        case _:
            for name in ("c1", "c2"):
                node.delete(chain, name)

    assert node.left() == []
    if not node.installation.alive:
        node.installation.start()


def test_what_a_crash_left_does_not_take_the_next_one_s_part(node: Any) -> None:
    """The same container is attached again before anybody has noticed that its daemon died."""
    chain = whole(node)
    attachment = node.attachment(portMappings=MAPPINGS)
    node.installation.stop(signal.SIGKILL)
    node.installation.start(DOVETAIL_FAILPOINT="driver:bridge+3=kill")
    with pytest.raises(PluginError):
        Runtime(str(node.installation.directory / "mortal")).add(chain, attachment)
    node.installation.wait()

    node.add(chain, portMappings=MAPPINGS)

    node.check(chain)
    node.installation.start()
    node.check(chain)
    assert len(node.files()) == 2
