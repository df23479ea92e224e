"""NetworkDriver.*: Docker's networks and endpoints as the engine's.

``-o dovetail.network=NAME`` attaches Docker to a network made elsewhere; without it a network is
made, of the technique in ``-o dovetail.driver`` (bridge), named by ``-o dovetail.name``. Every other
option goes to the driver, which knows its own.
"""

from __future__ import annotations

import os
from typing import Any

from dovetail.cnm.ipam_driver import ADDRESS_SPACES, NETWORK_OPTION
from dovetail.cnm.wire import (
    EndpointCreate,
    EndpointRef,
    Interface,
    IpamData,
    Join,
    NetworkCreate,
    NetworkRef,
    read,
)
from dovetail.engine.engine import Engine
from dovetail.errors import InvalidArgument, NotFound
from dovetail.model.addresses import IPAddress, parse_interface, parse_subnet
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.mac import Mac
from dovetail.model.names import short
from dovetail.model.network import Network, NetworkSpec, SubnetSpec
from dovetail.model.port import PortMapping, Protocol, check_port
from dovetail.model.sandbox import Sandbox

__all__ = ["NetworkDriver"]

_GENERIC = "com.docker.network.generic"
_INTERNAL = "com.docker.network.internal"
_PORTMAP = "com.docker.network.portmap"
_NAME_OPTION, _DRIVER_OPTION = "dovetail.name", "dovetail.driver"
_OURS = (NETWORK_OPTION, _NAME_OPTION, _DRIVER_OPTION)
_PROTOCOLS: dict[int, Protocol] = {6: "tcp", 17: "udp", 132: "sctp"}  # IANA protocol numbers
_PREFIX = "eth"


class NetworkDriver:
    """Each method takes a request's body and gives the reply as a dict."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def get_capabilities(self, _: bytes) -> dict[str, Any]:
        """Say that networks are of this host, and that we answer GwAllocCheck."""
        return {"Scope": "local", "ConnectivityScope": "local", "GwAllocChecker": True}

    def gw_alloc_check(self, body: bytes) -> dict[str, Any]:
        """Let Docker ask for a gateway in each family (28 and later)."""
        read(body, NetworkCreate)
        return {"SkipIPv4": False, "SkipIPv6": False}

    def allocate_network(self, body: bytes) -> dict[str, Any]:
        """Echo the options: a swarm manager hands them to the nodes."""
        return {"Options": read(body, NetworkCreate).Options}

    def free_network(self, body: bytes) -> dict[str, Any]:
        """Have nothing to free."""
        read(body, NetworkRef)
        return {}

    def create_network(self, body: bytes) -> dict[str, Any]:
        """Make a network, or bind Docker's id to one made elsewhere."""
        request = read(body, NetworkCreate)
        if not request.NetworkID:
            raise InvalidArgument("the network id is missing", where="$.NetworkID")
        generic = request.Options.get(_GENERIC) or {}
        options = {str(key): str(value) for key, value in generic.items()}
        ours = {key: options.pop(key) for key in list(options) if key.startswith("dovetail.")}
        unknown = sorted(set(ours) - set(_OURS))
        if unknown:
            raise InvalidArgument(f"unknown option {unknown[0]!r}", hint=f"there are {', '.join(_OURS)}")
        data = [*request.IPv4Data, *request.IPv6Data]
        if ours.get(NETWORK_OPTION):
            self._bind(request.NetworkID, ours[NETWORK_OPTION], data)
        else:
            self._create(request, ours, options, data)
        return {}

    def _bind(self, network_id: str, name: str, data: list[IpamData]) -> None:
        network = self._engine.networks.get(name)
        held = {subnet.subnet for subnet in network.subnets}
        for one in data:
            if one.AddressSpace not in ADDRESS_SPACES or parse_subnet(one.Pool, where="$.Pool") not in held:
                hint = f"create it with --ipam-driver dovetail --ipam-opt {NETWORK_OPTION}={name}"
                raise InvalidArgument(f"pool {one.Pool} is not one of network {name!r}", hint=hint)
        self._engine.networks.bind("docker", network_id, network.id)

    def _create(
        self, request: NetworkCreate, ours: dict[str, str], options: dict[str, str], data: list[IpamData]
    ) -> None:
        driver = ours.get(_DRIVER_OPTION) or "bridge"
        external = any(one.AddressSpace not in ADDRESS_SPACES for one in data)
        subnets = tuple(_subnet(one) for one in data if parse_subnet(one.Pool).prefixlen)
        network = self._engine.networks.create(
            NetworkSpec(
                id=request.NetworkID,
                name=ours.get(_NAME_OPTION) or f"docker-{short(request.NetworkID)}",
                driver=driver,
                ipam="external" if external else "local",
                subnets=subnets if driver not in {"null", "host"} else (),
                internal=bool(request.Options.get(_INTERNAL)),
                options=options,
                face="docker",
            )
        )
        self._engine.networks.bind("docker", request.NetworkID, network.id, made=True)

    def delete_network(self, body: bytes) -> dict[str, Any]:
        """Forget Docker's id, and the network if it was made for it."""
        self._engine.networks.unbind("docker", read(body, NetworkRef).NetworkID)
        return {}

    def create_endpoint(self, body: bytes) -> dict[str, Any]:
        """Write an endpoint down; the reply holds only what came empty (cnm.md §1.4, interface rule)."""
        request = read(body, EndpointCreate)
        network = self._engine.networks.bound("docker", request.NetworkID)
        wanted = request.Interface or Interface()
        given = tuple(
            parse_interface(text, where="$.Interface")
            for text in (wanted.Address, wanted.AddressIPv6)
            if text
        )
        endpoint = self._engine.endpoints.create(
            network.id,
            EndpointSpec(
                id=request.EndpointID,
                owner=Owner(face="docker", network=request.NetworkID),
                given=given,
                mac=Mac(wanted.MacAddress) if wanted.MacAddress else None,
            ),
        )
        if wanted.MacAddress or endpoint.mac is None:
            return {"Interface": {}}
        return {"Interface": {"MacAddress": str(endpoint.mac)}}

    def delete_endpoint(self, body: bytes) -> dict[str, Any]:
        """Forget an endpoint; an unknown one is no error."""
        self._engine.endpoints.delete(read(body, EndpointRef).EndpointID)
        return {}

    def endpoint_oper_info(self, body: bytes) -> dict[str, Any]:
        """Say nothing: dockerd cannot use what a remote driver says (cnm.md §1.4)."""
        read(body, EndpointRef)
        return {"Value": {}}

    def join(self, body: bytes) -> dict[str, Any]:
        """Hand the endpoint's interface over; dockerd moves, names and addresses it."""
        request = read(body, Join)
        network = self._engine.networks.bound("docker", request.NetworkID)
        key = os.path.basename(request.SandboxKey)
        sandbox = Sandbox(
            id=key or request.EndpointID,
            name=key or short(request.EndpointID),
            netns=request.SandboxKey,
            face="docker",
        )
        attachment = self._engine.endpoints.join(
            request.EndpointID, sandbox=sandbox, netns=None, ifname=_PREFIX
        )
        return _joined(network, attachment)

    def leave(self, body: bytes) -> dict[str, Any]:
        """Take an endpoint out of its sandbox; twice is no error."""
        self._engine.endpoints.leave(read(body, EndpointRef).EndpointID)
        return {}

    def program_external_connectivity(self, body: bytes) -> dict[str, Any]:
        """Publish the container's ports."""
        request = read(body, EndpointRef)
        self._engine.endpoints.publish(request.EndpointID, _ports(request.Options.get(_PORTMAP) or []))
        return {}

    def revoke_external_connectivity(self, body: bytes) -> dict[str, Any]:
        """Withdraw them; an endpoint that is gone has none."""
        try:
            self._engine.endpoints.unpublish(read(body, EndpointRef).EndpointID)
        except NotFound:
            pass
        return {}

    def discover(self, _: bytes) -> dict[str, Any]:
        """Take note of nothing: networks are of this host."""
        return {}


def _subnet(data: IpamData) -> SubnetSpec:
    subnet = parse_subnet(data.Pool, where="$.Pool")
    return SubnetSpec(
        subnet=subnet,
        gateway=parse_interface(data.Gateway, where="$.Gateway").ip if data.Gateway else None,
        aux={
            name: parse_interface(text, where="$.AuxAddresses").ip for name, text in data.AuxAddresses.items()
        },
        version=subnet.version,
    )


def _joined(network: Network, attachment: Attachment) -> dict[str, Any]:
    """Render an attachment as Join's reply. An internal network gets no gateway, and no docker_gwbridge either."""
    reply: dict[str, Any] = {"StaticRoutes": []}
    if attachment.handover:
        reply["InterfaceName"] = {"SrcName": attachment.handover, "DstPrefix": _PREFIX}
    gateways: tuple[IPAddress, ...] = () if network.internal else attachment.gateways
    for gateway in gateways:
        reply["Gateway" if gateway.version == 4 else "GatewayIPv6"] = str(gateway)
    if not gateways:
        reply["DisableGatewayService"] = True
    return reply


def _ports(bindings: object) -> tuple[PortMapping, ...]:
    """Read ``com.docker.network.portmap``: one mapping for each binding, the first free port of a range."""
    from dovetail.model.addresses import parse_address

    found = []
    for binding in bindings if isinstance(bindings, list) else []:
        if not isinstance(binding, dict):
            raise InvalidArgument("a port binding is not an object", where=f"$.Options.{_PORTMAP}")
        protocol = _PROTOCOLS.get(binding.get("Proto", 6))
        if protocol is None:
            raise InvalidArgument(f"protocol {binding.get('Proto')} cannot be published", where="$.Proto")
        host_ip = str(binding.get("HostIP") or "")
        found.append(
            PortMapping(
                container_port=check_port(int(binding.get("Port") or 0), where="$.Port"),
                host_port=check_port(int(binding.get("HostPort") or 0), where="$.HostPort", zero=True),
                protocol=protocol,
                host_ip=None if host_ip in {"", "0.0.0.0", "::"} else parse_address(host_ip),  # noqa: S104
            )
        )
    return tuple(found)
