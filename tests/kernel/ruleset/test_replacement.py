"""The table is replaced while flows begin by the thousand: all are translated, and none gets where it may not."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from dovetail.engine.table import Table
from dovetail.features.protocol import RulesFile
from dovetail.features.ruleset import ruleset

pytestmark = pytest.mark.root

_REPLACEMENTS = 15
_HAMMER = """
import socket, sys
while True:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as new:
        try:
            new.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
        except OSError:
            pass
"""


def wait_for(condition: Callable[[], object], *, what: str) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, f"not within 10 s: {what}"
        time.sleep(0.01)


class Ear:
    """Somebody who counts whom packets come from."""

    def __init__(self, space: Any, port: int) -> None:
        self.heard: Counter[str] = Counter()
        self._socket = space.socket(4, "udp")
        self._socket.bind(("", port))
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Ear:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._over.is_set():
            try:
                _, (host, _port) = self._socket.recvfrom(16)
            except TimeoutError:
                continue
            self.heard[host] += 1


@contextmanager
def hammer(space: Any, address: str, port: int) -> Iterator[None]:
    """Begin one flow after the other from `space` to ADDRESS:PORT."""
    command = ["nsenter", f"--net={space.path}", sys.executable, "-c", _HAMMER, address, str(port)]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


def test_no_flow_that_begins_during_a_replacement_goes_by_the_rules(lab: Any) -> None:
    network = lab.network()
    inside, victim = lab.container(network, 2), lab.container(network, 3)
    files: list[RulesFile] = []
    table = Table(SimpleNamespace(kernel=lab.kernel, ruleset=ruleset, user_rules=lambda: files))  # type: ignore[arg-type]
    elements = lab.kernel.nft_elements()

    with ExitStack() as stack:
        outside, within = (stack.enter_context(Ear(space, 9)) for space in (lab.outside, victim))
        stack.enter_context(hammer(inside, "192.0.2.2", 9))
        stack.enter_context(hammer(lab.outside, "10.88.1.3", 9))
        wait_for(lambda: outside.heard, what="flows arrive")
        for number in range(_REPLACEMENTS):
            files[:] = [RulesFile("x.nft", f"ip saddr 203.0.113.{number} drop")]
            lab.kernel.flush_conntrack("udp")
            assert table.ensure(lambda: elements) == "the user's rules have changed"
        more = outside.heard.total()
        wait_for(lambda: outside.heard.total() > more, what="flows arrive to the end")

    assert set(outside.heard) == {"192.0.2.1"}, outside.heard
    assert not within.heard, "the network is protected"
    assert lab.kernel.nft_elements() == elements
    assert lab.host.run("nft", "list", "tables").split() == ["table", "inet", "dovetail"]
