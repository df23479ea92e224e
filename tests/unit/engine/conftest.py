"""An engine over a recording kernel and a real store: no root, every row real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from dovetail.assembly import build_engine
from dovetail.engine.engine import Engine
from dovetail.engine.trace import Step
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.port import parse_publish
from dovetail.model.sandbox import Sandbox
from dovetail.store.sqlite import SqliteStore


class Rig(NamedTuple):
    """The engine and what it works on."""

    engine: Engine
    kernel: RecordingKernel
    store: SqliteStore

    def rows(self) -> dict[str, list[object]]:
        """Give every row of the store, to compare before and after."""
        return {
            "networks": list(self.store.networks()),
            "endpoints": list(self.store.endpoints()),
            "sandboxes": list(self.store.sandboxes()),
            "pools": list(self.store.pools()),
            "addresses": sorted(self.store.addresses(), key=str),
            "ports": list(self.store.published_ports()),
        }

    def kernel_state(self) -> tuple[object, ...]:
        """Give what the recorded host has now, and the namespace of the container that `attach` attaches."""
        with self.kernel.inside(self.kernel.open_netns("/run/netns/c1")) as inner:
            inside = [link.name for link in inner.links()], inner.addresses()
        routes = self.kernel.routes(), self.kernel.unreachable()
        return _links(self.kernel), self.kernel.addresses(), routes, self.kernel.nft_elements(), inside

    def attach(
        self, container: str = "c1", ifname: str = "eth0", publish: str = "", network: str = "web"
    ) -> object:
        """Attach a container as a CNI runtime would."""
        netns = self.kernel.open_netns(f"/run/netns/{container}")
        return self.engine.endpoints.attach(
            network,
            EndpointSpec(
                owner=Owner(face="cni", network=network, container=container, ifname=ifname),
                ports=parse_publish(publish) if publish else (),
            ),
            netns=netns,
            sandbox=Sandbox(id=container, name=container, netns=f"/run/netns/{container}", face="cni"),
        )


def _links(kernel: RecordingKernel) -> list[object]:
    gone = {"ifindex": 0, "peer_ifindex": 0, "parent_ifindex": 0, "master": 0}
    return sorted((link._replace(**gone) for link in kernel.links()), key=lambda link: link.name)


@pytest.fixture
def make_rig(tmp_path: Path) -> Callable[..., Rig]:
    """Build rigs; `on_step` sees each step begin, `directory` is the place of one with rows of its own."""

    def make(on_step: Callable[[Step], None] | None = None, directory: Path = tmp_path) -> Rig:
        kernel = RecordingKernel()
        store = SqliteStore(str(directory / "dovetail.db"))
        state_dir = directory / "state"
        state_dir.mkdir(exist_ok=True)
        engine = build_engine(
            state_dir=str(state_dir), run_dir=str(directory), kernel=kernel, store=store, on_step=on_step
        )
        return Rig(engine, kernel, store)

    return make


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """One rig without faults."""
    return make_rig()
