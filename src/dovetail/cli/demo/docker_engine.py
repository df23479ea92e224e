"""What a Docker Engine does on the plugin socket, call for call, and to the interface that it is handed.

Source: the calls recorded from dockerd 20.10; libnetwork's osl/interface_linux.go for what happens to
the interface.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from http.client import HTTPConnection
from typing import Any

from dovetail.cli.demo.report import StepFailedError
from dovetail.cli.demo.stage import Stage, call

__all__ = ["EnginePart"]

_TCP = 6
_OK = 200
_TIMEOUT_S = 30.0


class EnginePart:
    """One Docker network that lies on a network of dovetail's, and one container on it."""

    def __init__(self, stage: Stage, *, network: str, publish: tuple[int, int]) -> None:
        self._stage = stage
        self._generic = {"dovetail.network": network}
        self._network_id = secrets.token_hex(32)
        self._endpoint_id = secrets.token_hex(32)
        self.name = secrets.token_hex(6)  # dockerd names a sandbox's key after the first digits of its id
        self.netns = f"/run/docker/netns/{self.name}"
        self._pools: list[tuple[str, str, str]] = []
        self._addresses: list[tuple[str, str]] = []
        host_port, port = publish
        self._ports = {
            "com.docker.network.endpoint.exposedports": [{"Proto": _TCP, "Port": port}],
            "com.docker.network.portmap": [
                {
                    "Proto": _TCP,
                    "IP": "",
                    "Port": port,
                    "HostIP": "",
                    "HostPort": host_port,
                    "HostPortEnd": host_port,
                }
            ],
        }

    def activate(self) -> None:
        """Load the plugin, as at the first network of its driver."""
        implements = self._call("Plugin.Activate")["Implements"]
        if set(implements) != {"NetworkDriver", "IpamDriver"}:
            raise StepFailedError(f"it implements {implements}")
        self._call("NetworkDriver.GetCapabilities")
        self._call("IpamDriver.GetCapabilities")

    def create_network(self, subnets: list[str]) -> None:
        """``docker network create -d dovetail --ipam-driver dovetail`` on the network that is there."""
        spaces = self._call("IpamDriver.GetDefaultAddressSpaces")
        data: dict[bool, list[dict[str, str]]] = {False: [], True: []}
        for subnet in subnets:
            v6 = ":" in subnet
            space = spaces["LocalDefaultAddressSpace"]
            pool = self._call(
                "IpamDriver.RequestPool",
                {"AddressSpace": space, "Pool": subnet, "SubPool": "", "Options": self._generic, "V6": v6},
            )
            gateway = pool.get("Data", {}).get("com.docker.network.gateway") or self._gateway(pool["PoolID"])
            self._pools.append((pool["PoolID"], pool["Pool"], gateway))
            data[v6].append({"AddressSpace": space, "Pool": pool["Pool"], "Gateway": gateway})
        options = {
            "com.docker.network.enable_ipv6": bool(data[True]),
            "com.docker.network.generic": self._generic,
        }
        self._call(
            "NetworkDriver.CreateNetwork",
            {
                "NetworkID": self._network_id,
                "Options": options,
                "IPv4Data": data[False],
                "IPv6Data": data[True],
            },
        )

    def _gateway(self, pool_id: str) -> str:
        options = {"RequestAddressType": "com.docker.network.gateway"}
        return str(self._request_address(pool_id, options))

    def _request_address(self, pool_id: str, options: dict[str, str] | None = None) -> str:
        request = {"PoolID": pool_id, "Address": "", "Options": options}
        return str(self._call("IpamDriver.RequestAddress", request)["Address"])

    def start_container(self) -> list[str]:
        """``docker run -p``: the namespace, the endpoint, Join, the interface, the ports; gives the addresses."""
        os.makedirs(os.path.dirname(self.netns), exist_ok=True)
        self._stage.kernel.create_netns(self.netns).close()
        self._addresses = [(pool_id, self._request_address(pool_id)) for pool_id, _, _ in self._pools]
        addresses = [address for _, address in self._addresses]
        interface = {
            "Address": next((a for a in addresses if ":" not in a), ""),
            "AddressIPv6": next((a for a in addresses if ":" in a), ""),
            "MacAddress": "",
        }
        ids = {"NetworkID": self._network_id, "EndpointID": self._endpoint_id}
        made = self._call(
            "NetworkDriver.CreateEndpoint", {**ids, "Interface": interface, "Options": self._ports}
        )
        joined = self._call("NetworkDriver.Join", {**ids, "SandboxKey": self.netns, "Options": self._ports})
        self._take_interface(joined, (made.get("Interface") or {}).get("MacAddress", ""), addresses)
        self._call("NetworkDriver.ProgramExternalConnectivity", {**ids, "Options": self._ports})
        self._call("NetworkDriver.EndpointOperInfo", ids)
        return addresses

    def _take_interface(self, joined: dict[str, Any], mac: str, addresses: list[str]) -> None:
        """Move what Join left for us into the container, rename it, address it, bring it up, add the routes."""
        name = joined["InterfaceName"]
        source, target = name["SrcName"], f"{name['DstPrefix']}0"
        call("ip", "link", "set", "dev", source, "netns", self.netns)
        steps = [["link", "set", "dev", source, "name", target]]
        if mac:
            steps.append(["link", "set", "dev", target, "address", mac])
        steps += [["addr", "add", address, "dev", target, "nodad"] for address in addresses if ":" in address]
        steps += [["addr", "add", address, "dev", target] for address in addresses if ":" not in address]
        steps.append(["link", "set", "dev", target, "up"])
        if joined.get("Gateway"):
            steps.append(["route", "add", "default", "via", joined["Gateway"]])
        if joined.get("GatewayIPv6"):
            steps.append(["route", "add", "default", "via", joined["GatewayIPv6"]])
        batch = "".join(f"{' '.join(step)}\n" for step in steps)
        call("nsenter", f"--net={self.netns}", "ip", "-batch", "-", stdin=batch.encode())

    def stop_container(self) -> None:
        """``docker rm -f``: ports, Leave, the interface back to the host, the endpoint, the addresses."""
        ids = {"NetworkID": self._network_id, "EndpointID": self._endpoint_id}
        self._call("NetworkDriver.RevokeExternalConnectivity", ids)
        self._call("NetworkDriver.Leave", ids)
        self._stage.kernel.delete_netns(self.netns)
        self._call("NetworkDriver.DeleteEndpoint", ids)
        for pool_id, address in self._addresses:
            self._call("IpamDriver.ReleaseAddress", {"PoolID": pool_id, "Address": address.partition("/")[0]})

    def delete_network(self) -> None:
        """``docker network rm``: IPAM first, then the network."""
        for pool_id, _, gateway in self._pools:
            self._call("IpamDriver.ReleaseAddress", {"PoolID": pool_id, "Address": gateway.partition("/")[0]})
            self._call("IpamDriver.ReleasePool", {"PoolID": pool_id})
        self._call("NetworkDriver.DeleteNetwork", {"NetworkID": self._network_id})

    def _call(self, method: str, body: object = None) -> dict[str, Any]:
        connection = HTTPConnection("plugin.moby.localhost", timeout=_TIMEOUT_S)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(_TIMEOUT_S)
        try:
            connection.sock.connect(self._stage.plugin_socket)
            headers = {
                "Accept": "application/vnd.docker.plugins.v1.2+json",
                "User-Agent": "Go-http-client/1.1",
            }
            payload = json.dumps(body).encode() if body is not None else b""
            connection.request("POST", f"/{method}", payload, headers)
            answer = connection.getresponse()
            reply: dict[str, Any] = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != _OK or reply.get("Err"):
            raise StepFailedError(f"{method}: {reply.get('Err') or reply}")
        return reply
