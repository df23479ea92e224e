"""When a part is of no use any more."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest

from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine
from dovetail.errors import InvalidArgument, NamespaceGone
from dovetail.kernel.protocol import Netns
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Owner
from dovetail.model.port import PortMapping
from dovetail.model.published import PublishedPorts
from dovetail.store.sqlite import SqliteStore

OWNER = Owner(face="cni", network="pods", container="c1", ifname="eth0")
PORTS = PublishedPorts(
    ports=(PortMapping(container_port=80, host_port=8080),), addresses=(ip_interface("10.0.0.2/24"),)
)


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
