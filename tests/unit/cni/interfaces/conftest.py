"""Plugins that make an interface, over a recording kernel; addresses are the type ``static``'s."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cni.plugin import run
from dovetail.kernel.protocol import Dummy, LinkSpec
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.addresses import parse_subnet
from dovetail.model.attachment import Route
from dovetail.store.sqlite import SqliteStore


class Plugins:
    """Calls them in this process. The host has `up0`, which its default route leads out of, and `other`."""

    def __init__(self, directory: Path, store: SqliteStore) -> None:
        self.kernel = RecordingKernel()
        self.kernel.add_link(LinkSpec("up0", mtu=1450, up=True), Dummy())
        self.kernel.add_link(LinkSpec("other", mtu=9000, up=True), Dummy())
        self.kernel.add_route("up0", Route(destination=parse_subnet("0.0.0.0/0")))
        self.kernel.create_netns("/run/netns/c1")
        self.kernel.commands.clear()
        self.engine = build_engine(
            state_dir=str(directory / "state"), run_dir=str(directory), kernel=self.kernel, store=store
        )

    def call(
        self, verb: str, config: dict[str, Any], *, args: str = "", netns: str = "/run/netns/c1"
    ) -> tuple[int, Any]:
        """Run one call; gives the exit status, and what was printed as JSON."""
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": netns,
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": args,
        }
        body = json.dumps({"cniVersion": "1.1.0", "name": "pods", **config}).encode()
        outcome = run(environment, body, lambda: self.engine, plugin=config["type"])
        return outcome.status, json.loads(outcome.stdout) if outcome.stdout else None

    def add(self, config: dict[str, Any], **how: Any) -> Any:
        """ADD, which succeeds."""
        status, result = self.call("ADD", config, **how)
        assert status == 0, result
        return result

    def refusal(self, config: dict[str, Any], verb: str = "ADD", **how: Any) -> tuple[int, str]:
        """Give the code and the sentence of a call that fails; nothing has been done."""
        status, error = self.call(verb, config, **how)
        assert status == 1, error
        assert self.kernel.commands == []
        assert self.engine.parts.all() == []
        return error["code"], f"{error['msg']} ({error.get('details', '')})"

    def link(self, name: str = "eth0") -> Any:
        """Give a link of the container as it was recorded."""
        with self.kernel.open_netns("/run/netns/c1") as netns, self.kernel.inside(netns) as inner:
            return inner.link(name)


def static(*addresses: str, **keys: Any) -> dict[str, Any]:
    """Configure IPAM: each of `addresses` with the first of its subnet for a gateway."""
    given = [{"address": a, "gateway": str(parse_subnet(_subnet(a)).network_address + 1)} for a in addresses]
    return {"type": "static", "addresses": given or static("10.60.0.2/24")["addresses"], **keys}


def _subnet(address: str) -> str:
    from ipaddress import ip_interface

    return str(ip_interface(address).network)


@pytest.fixture
def plugins(tmp_path: Path) -> Iterator[Plugins]:
    """Give them, with an engine of their own."""
    (tmp_path / "state").mkdir()
    store = SqliteStore(str(tmp_path / "dovetail.db"))
    yield Plugins(tmp_path, store)
    store.close()


@pytest.fixture(name="static")
def _static() -> Any:
    return static
