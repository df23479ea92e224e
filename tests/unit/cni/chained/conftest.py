"""A plugin that comes after another one, over a recording kernel: the container has the interface already."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cni.plugin import run
from dovetail.kernel.protocol import LinkSpec
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.addresses import parse_address
from dovetail.model.attachment import Route
from dovetail.model.mac import Mac
from dovetail.store.sqlite import SqliteStore

NETNS = "/run/netns/c1"


class Chain:
    """A host with container c1, whose eth0 is 10.50.0.2 and fd50::2; calls one plugin as a runtime would."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.kernel = RecordingKernel()
        self.store = SqliteStore(str(directory / "dovetail.db"))
        self.engine = build_engine(
            state_dir=str(directory), run_dir=str(directory), kernel=self.kernel, store=self.store
        )
        with self.kernel.create_netns(NETNS) as netns:
            peer = LinkSpec("eth0", mac=Mac("02:00:00:00:00:02"), mtu=1500, netns=netns, up=True)
            self.kernel.add_veth(LinkSpec("veth1", up=True), peer)
            with self.kernel.inside(netns) as inner:
                for text in ("10.50.0.2/24", "fd50::2/64"):
                    inner.add_address("eth0", ip_interface(text))
                for destination, gateway in (("0.0.0.0/0", "10.50.0.1"), ("::/0", "fd50::1")):
                    route = Route(destination=ip_network(destination), gateway=parse_address(gateway))
                    inner.add_route("eth0", route)
                inner.set_sysctl("net/core/somaxconn", "4096")
                inner.set_sysctl("net/ipv4/conf/eth0/arp_filter", "0")
        self.kernel.commands.clear()

    @staticmethod
    def result(version: str = "1.1.0") -> dict[str, Any]:
        """Give what the plugin before says."""
        four, six = ("10.50.0.2/24", "10.50.0.1"), ("fd50::2/64", "fd50::1")
        if version in {"0.1.0", "0.2.0"}:
            return {
                "cniVersion": version,
                "ip4": {"ip": four[0], "gateway": four[1], "routes": [{"dst": "0.0.0.0/0"}]},
                "ip6": {"ip": six[0], "gateway": six[1]},
                "dns": {},
            }
        outer, inner = {"name": "veth1", "mac": "02:00:00:00:00:01"}, {"name": "eth0", "sandbox": NETNS}
        more = {"version": "4"}, {"version": "6"}
        return {
            "cniVersion": version,
            "interfaces": [outer, {**inner, "mac": "02:00:00:00:00:02"}],
            "ips": [
                {"interface": 1, "address": address, "gateway": gateway, **(extra if version < "1" else {})}
                for (address, gateway), extra in zip((four, six), more, strict=True)
            ],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.50.0.1"}],
            "dns": {"nameservers": ["10.50.0.1"]},
        }

    def call(
        self,
        verb: str,
        config: dict[str, Any],
        *,
        version: str = "1.1.0",
        netns: str = NETNS,
        args: str = "",
        result: Any = "",
    ) -> tuple[int, Any]:
        """Call the plugin; gives its status and what it printed. result: the previous one, None to leave it out."""
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": netns,
            "CNI_PATH": "/opt/cni/bin",
            "CNI_ARGS": args,
        }
        document = {"cniVersion": version, "name": "pods", **config}
        if result is not None and verb in {"ADD", "CHECK", "DEL"}:
            document["prevResult"] = result or self.result(version)
        stdin = json.dumps(document).encode()
        outcome = run(environment, stdin, lambda: self.engine, plugin=config["type"])
        return outcome.status, json.loads(outcome.stdout) if outcome.stdout else None

    def commands(self) -> list[str]:
        """Give the commands since the last call of this."""
        found = list(self.kernel.commands)
        self.kernel.commands.clear()
        return found

    def parts(self) -> list[str]:
        """Give the kinds of the parts that are kept."""
        return [part.kind for part in self.engine.parts.all()]


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[Chain]:
    """Give one."""
    chain = Chain(tmp_path)
    yield chain
    chain.store.close()
