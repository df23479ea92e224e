"""When a part is of no use any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine
from dovetail.errors import AlreadyExists, InvalidArgument, NamespaceGone
from dovetail.features.published import PublishedParts
from dovetail.kernel.protocol import Netns
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Owner
from dovetail.model.names import link_id
from dovetail.model.port import PortMapping
from dovetail.model.published import PublishedPorts
from dovetail.store.sqlite import SqliteStore

OWNER = Owner(face="cni", network="pods", container="c1", ifname="eth0")
PORTS = PublishedPorts(
    ports=(PortMapping(container_port=80, host_port=8080),), addresses=(ip_interface("10.0.0.2/24"),)
)
ON_BRIDGE = msgspec.structs.replace(PORTS, link="br0")


class Kernel(RecordingKernel):
    """One in which opening a namespace by its path fails as `failure` says, if it does."""

    failure: Exception | None = None

    def open_netns(self, path: str) -> Netns:
        if self.failure is not None:
            raise self.failure
        return super().open_netns(path)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    store = SqliteStore(":memory:")
    (tmp_path / "state").mkdir()
    yield build_engine(state_dir=str(tmp_path / "state"), run_dir=str(tmp_path), kernel=Kernel(), store=store)
    store.close()


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (None, ""),
        (NamespaceGone("nothing is at /run/netns/c1"), "its container's namespace is gone"),
        (InvalidArgument("/run/netns is not to be seen from here"), ""),
    ],
)
def test_a_part_is_lost_with_its_namespace_but_not_where_that_cannot_be_seen(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, failure: Exception | None, why: str
) -> None:
    with engine.kernel.open_netns("/run/netns/c1") as netns:
        engine.parts.add("portmap", OWNER, PORTS, netns=netns, path="/run/netns/c1")
    monkeypatch.setattr(Kernel, "failure", failure)

    (part,) = engine.parts.all()

    assert engine.parts.loss(part, frozenset()) == why


def test_the_last_to_go_waits_for_another_that_looks_whether_it_is_the_last(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each takes the other for one that stays, and what is the interface's stays for ever."""
    released = record_releases(monkeypatch)
    link = link_id("br0")
    with engine.kernel.open_netns("/run/netns/c1") as netns, ThreadPoolExecutor() as pool:
        engine.parts.add("portmap", OWNER, ON_BRIDGE, netns=netns, path="/run/netns/c1")
        with engine.core.locks.try_hold(link) as free:  # as the other does
            assert free
            going = pool.submit(engine.parts.remove, "portmap", OWNER, netns=None)
            poll(lambda: not engine.parts.all())
            assert not released
        going.result(timeout=10)

    assert released == ["br0"]


def test_the_last_to_go_leaves_the_interface_to_one_that_comes(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = record_releases(monkeypatch)
    with engine.kernel.open_netns("/run/netns/c1") as netns:
        engine.parts.add("portmap", OWNER, ON_BRIDGE, netns=netns, path="/run/netns/c1")
        with engine.core.locks.try_hold(link_id("br0"), shared=True):
            engine.parts.remove("portmap", OWNER, netns=None)

    assert not released


def test_one_that_fails_releases_what_was_left_to_it(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    released = record_releases(monkeypatch)
    other = msgspec.structs.replace(OWNER, container="c2")
    other_port = msgspec.structs.replace(ON_BRIDGE, ports=())

    def make(*_args: Any, **_kwargs: Any) -> PublishedPorts:
        engine.parts.remove("portmap", OWNER, netns=None)
        assert not released
        raise InvalidArgument("it does not work")

    with engine.kernel.open_netns("/run/netns/c1") as netns:
        engine.parts.add("portmap", OWNER, ON_BRIDGE, netns=netns, path="/run/netns/c1")
        monkeypatch.setattr(PublishedParts, "make", make)
        with pytest.raises(InvalidArgument, match="it does not work"):
            engine.parts.add("portmap", other, other_port, netns=netns, path="/run/netns/c1")

    assert released == ["br0"]
    assert not engine.parts.all()


def test_one_that_is_refused_releases_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with engine.kernel.open_netns("/run/netns/c1") as netns:
        engine.parts.add("portmap", OWNER, ON_BRIDGE, netns=netns, path="/run/netns/c1")
        monkeypatch.setattr(PublishedParts, "layer", "driver")
        monkeypatch.setattr(PublishedParts, "is_alive", lambda *_: True)
        released = record_releases(monkeypatch)
        with pytest.raises(AlreadyExists):
            engine.parts.add("portmap", OWNER, ON_BRIDGE, netns=netns, path="/run/netns/c1")

    assert not released


def record_releases(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keep the interfaces that are released from now on."""
    released: list[str] = []
    monkeypatch.setattr(
        PublishedParts, "release", lambda _self, _kernel, detail: released.append(detail.link)
    )
    return released


def poll(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)
