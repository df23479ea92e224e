"""A plugin server over a recording kernel and a real store, called in the order in which dockerd calls."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dovetail.assembly import build_engine
from dovetail.cnm.server import PluginServer
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.addresses import parse_address, parse_subnet
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.store.sqlite import SqliteStore

_EXPOSED = "com.docker.network.endpoint.exposedports"
_PORTMAP = "com.docker.network.portmap"


class Dockerd:
    """Plays dockerd 20.10: the calls and their order are those of a recorded session."""

    def __init__(
        self, server: PluginServer, store: SqliteStore, engine: Any, kernel: RecordingKernel
    ) -> None:
        self.server = server
        self.store = store
        self.engine = engine
        self.kernel = kernel
        self._count = 0

    def new_id(self) -> str:
        """Make an id of Docker's form that differs in its first digits."""
        self._count += 1
        return f"{self._count:012x}".ljust(64, "d")

    def ask(self, method: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        """Call a method; `body` None sends no body, bytes go as they are."""
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        status, payload = self.server.handle(f"/{method}", raw)
        reply = json.loads(payload)
        assert isinstance(reply, dict)
        return status, reply

    def call(self, method: str, body: Any = None) -> dict[str, Any]:
        """Call a method that must succeed."""
        status, reply = self.ask(method, body)
        assert status == 200, reply
        return reply

    def refused(self, method: str, body: Any = None) -> str:
        """Call a method that must fail; give its message, which stands under both keys."""
        status, reply = self.ask(method, body)
        assert 400 <= status < 600, reply
        assert reply["Err"] == reply["Error"]
        assert "\n" not in reply["Err"]
        return str(reply["Err"])

    def restart_plugin(self) -> None:
        """Let another daemon answer from now on, over the same store and kernel."""
        core = self.engine.core
        state_dir = os.path.dirname(core.netns_dir)
        self.engine = build_engine(
            state_dir=f"{state_dir}/state", run_dir=state_dir, kernel=self.kernel, store=self.store
        )
        self.server = PluginServer(self.engine)

    def activate(self) -> None:
        """Begin a session, as the first use of the plugin does."""
        self.call("Plugin.Activate")
        self.call("NetworkDriver.GetCapabilities")
        self.call("IpamDriver.GetCapabilities")
        self.call("IpamDriver.GetDefaultAddressSpaces")

    def pool(
        self, subnet: str = "", *, v6: bool = False, gateway: str = "", opts: Any = None
    ) -> dict[str, Any]:
        """RequestPool and, where the reply brings none, RequestAddress for the gateway; gives an IPAMData."""
        pool = self.call(
            "IpamDriver.RequestPool",
            {
                "AddressSpace": "dovetail-local",
                "Options": opts or {},
                "Pool": subnet,
                "SubPool": "",
                "V6": v6,
            },
        )
        found = pool["Data"].get("com.docker.network.gateway", "")
        if gateway or not found:
            options = {"RequestAddressType": "com.docker.network.gateway"}
            body = {"Address": gateway, "Options": options, "PoolID": pool["PoolID"]}
            found = self.call("IpamDriver.RequestAddress", body)["Address"]
        data = {"AddressSpace": "dovetail-local", "Gateway": found, "Pool": pool["Pool"]}
        return {"id": pool["PoolID"], "data": data}

    def create_network(self, *pools: dict[str, Any], opts: Any = None, internal: bool = False) -> str:
        """CreateNetwork; gives the network's id."""
        network = self.new_id()
        self.call(
            "NetworkDriver.CreateNetwork", self.network_body(network, *pools, opts=opts, internal=internal)
        )
        return network

    def network_body(
        self, network: str, *pools: dict[str, Any], opts: Any = None, internal: bool = False
    ) -> Any:
        """Write the body of CreateNetwork."""
        options: dict[str, Any] = {
            "com.docker.network.enable_ipv6": False,
            "com.docker.network.generic": opts or {},
        }
        if internal:
            options["com.docker.network.internal"] = True
        data = [pool["data"] for pool in pools]
        return {
            "IPv4Data": [d for d in data if ":" not in d["Pool"]],
            "IPv6Data": [d for d in data if ":" in d["Pool"]],
            "NetworkID": network,
            "Options": options,
        }

    def run(self, network: str, *pools: dict[str, Any], ports: Any = (), mac: str = "") -> dict[str, Any]:
        """What ``docker run`` asks: addresses, endpoint, join, ports."""
        addresses = [
            self.call("IpamDriver.RequestAddress", {"Address": "", "Options": None, "PoolID": pool["id"]})[
                "Address"
            ]
            for pool in pools
        ]
        endpoint = self.new_id()
        ids = {"EndpointID": endpoint, "NetworkID": network}
        options = {_EXPOSED: [], _PORTMAP: list(ports)}
        interface = {
            "Address": next((a for a in addresses if ":" not in a), ""),
            "AddressIPv6": next((a for a in addresses if ":" in a), ""),
            "MacAddress": mac,
        }
        made = self.call("NetworkDriver.CreateEndpoint", {**ids, "Interface": interface, "Options": options})
        joined = self.call(
            "NetworkDriver.Join",
            {**ids, "SandboxKey": f"/run/docker/netns/{endpoint[:12]}", "Options": options},
        )
        self.call("NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": options})
        assert self.call("NetworkDriver.EndpointOperInfo", ids) == {"Value": {}}
        return {
            "ids": ids,
            "addresses": addresses,
            "interface": made["Interface"],
            "join": joined,
            "pools": pools,
        }

    def stop(self, container: dict[str, Any]) -> None:
        """What stopping a container asks."""
        for method in ("RevokeExternalConnectivity", "Leave", "DeleteEndpoint"):
            assert self.call(f"NetworkDriver.{method}", container["ids"]) == {}
        for pool, address in zip(container["pools"], container["addresses"], strict=False):
            body = {"Address": address.partition("/")[0], "PoolID": pool["id"]}
            assert self.call("IpamDriver.ReleaseAddress", body) == {}

    def remove_network(self, network: str, *pools: dict[str, Any]) -> None:
        """What ``docker network rm`` asks: IPAM first."""
        for pool in pools:
            gateway = pool["data"]["Gateway"].partition("/")[0]
            self.call("IpamDriver.ReleaseAddress", {"Address": gateway, "PoolID": pool["id"]})
            self.call("IpamDriver.ReleasePool", {"PoolID": pool["id"]})
        self.call("NetworkDriver.DeleteNetwork", {"NetworkID": network})

    def web(self, *subnets: str) -> Any:
        """Make network ``web`` as the CLI does."""
        specs = tuple(
            SubnetSpec(subnet=parse_subnet(s), version=6 if ":" in s else 4)
            for s in subnets or ("10.88.0.0/24",)
        )
        return self.engine.networks.create(NetworkSpec(name="web", subnets=specs))

    def held(self) -> list[str]:
        """Give the addresses that are held, with their owners' kinds."""
        return sorted(f"{row.kind} {row.address}" for row in self.store.addresses())

    def is_empty(self) -> bool:
        """Say whether nothing is left anywhere."""
        rows = (
            self.store.networks(),
            self.store.endpoints(),
            self.store.sandboxes(),
            self.store.pools(),
            self.store.addresses(),
            self.store.published_ports(),
            self.store.bindings(),
            [link for link in self.kernel.links() if link.name != "lo"],
            self.kernel.nft_elements(),
        )
        return not any(rows)

    @staticmethod
    def address(text: str) -> Any:
        """Read an address."""
        return parse_address(text)


@pytest.fixture
def dockerd(tmp_path: Path) -> Iterator[Dockerd]:
    """A dockerd that has activated the plugin of a fresh engine."""
    kernel = RecordingKernel()
    store = SqliteStore(str(tmp_path / "dovetail.db"))
    (tmp_path / "state").mkdir()
    engine = build_engine(
        state_dir=str(tmp_path / "state"), run_dir=str(tmp_path), kernel=kernel, store=store
    )
    docker = Dockerd(PluginServer(engine), store, engine, kernel)
    docker.activate()
    yield docker
    store.close()
