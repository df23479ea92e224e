"""The NetworkDriver half of the plugin: networks and endpoints, as dockerd asks for them."""

from __future__ import annotations

import os
import string
from collections.abc import Collection

from dovetail.cnm import wire
from dovetail.cnm.ipam_driver import ANY_POOLS, GLOBAL_SPACE, LOCAL_SPACE
from dovetail.cnm.options import NetworkChoice, ifname_prefix, read_endpoint_options, read_options
from dovetail.drivers.network_options import without_gateway
from dovetail.engine.engine import Engine
from dovetail.errors import InvalidArgument, NotFound
from dovetail.model.addresses import IPInterface, parse_address, parse_interface, parse_subnet
from dovetail.model.attachment import DNS, Attachment
from dovetail.model.endpoint import EndpointSpec, Owner
from dovetail.model.mac import Mac
from dovetail.model.names import derive_id, short
from dovetail.model.network import Face, Network, NetworkSpec, SubnetSpec
from dovetail.model.port import PortMapping, Protocol, check_port, port_mapping
from dovetail.model.sandbox import Sandbox

__all__ = ["NetworkDriver"]

_FACE: Face = "docker"
_PATH_MAX = 4095  # PATH_MAX - 1, include/uapi/linux/limits.h
_ASIDE = "gateway"
"""Name of the reserved address that Docker holds for a gateway where the network has none."""
_CONNECTED, _NEXT_HOP = 1, 0  # types.StaticRoute.RouteType, moby daemon/libnetwork/types
_PROTOCOLS: dict[int, Protocol] = {6: "tcp", 17: "udp", 132: "sctp"}  # IANA protocol numbers
_OUR_SPACES = (LOCAL_SPACE, GLOBAL_SPACE)
_ADDRESSED_HERE = "dovetail.addressed"
"""Option on an endpoint whose addresses our IPAM gave without dockerd asking: it will not release them."""


class NetworkDriver:
    """One method a call; each takes the decoded request and gives the reply, or None for ``{}``."""

    def __init__(self, engine: Engine, scope: wire.Scope = "local", technique: str = "") -> None:
        """Work on `engine`. scope: where Docker keeps networks, on this host or in its swarm.

        technique: the driver of all networks; empty leaves it to ``-o dovetail.driver``.
        """
        self._engine = engine
        self._scope = scope
        self._technique = technique

    def get_capabilities(self) -> wire.CapabilitiesReply:
        """Say where Docker is to keep networks, and that `gw_alloc_check` may be asked.

        `connectivity_scope` follows: dockerd gives the names of a swarm's services on networks where it is global only.
        """
        return wire.CapabilitiesReply(scope=self._scope, connectivity_scope=self._scope)

    def gw_alloc_check(self, request: wire.GwAllocCheckRequest) -> wire.GwAllocCheckReply:
        """Say for which families no gateway address is to be taken, if none is given (Docker 28 and later ask)."""
        choice = read_options(request.options.generic, self._technique)
        if choice.network:
            network = self._engine.networks.get(choice.network)
            without = {4, 6} - {s.subnet.version for s in network.subnets if s.gateway is not None}
        else:
            driver = self._engine.core.driver(choice.driver)
            without = set(without_gateway(choice.options, driver.options())) if driver.is_gateway else {4, 6}
        return wire.GwAllocCheckReply(skip_ipv4=4 in without, skip_ipv6=6 in without)

    # -- networks -------------------------------------------------------------------------------------

    def create_network(self, request: wire.CreateNetworkRequest) -> None:
        """Make a network, or bind Docker's id to the one that ``-o dovetail.network`` names."""
        choice = read_options(request.options.generic, self._technique)
        pools = [*request.ipv4_data, *request.ipv6_data]
        if choice.network:
            network = self._engine.networks.get(choice.network)
            _check_pools(network, pools)
            _check_internal(network, internal=request.options.internal)
            self._engine.networks.bind(_FACE, request.network_id, network.id)
            return
        self._make(request, choice, pools)

    def _make(
        self, request: wire.CreateNetworkRequest, choice: NetworkChoice, data: list[wire.IPAMData]
    ) -> None:
        """Make a network on the pools that Docker has asked an IPAM for; where that was the null one, on ours."""
        pools = [one for one in data if one.pool not in {"", *ANY_POOLS}]
        ours = not pools or {one.address_space for one in data} <= set(_OUR_SPACES)
        self._refuse_shared(request, pools, ours=ours)
        network_id = _engine_id(request.network_id)
        driver = self._engine.core.driver(choice.driver)
        without = without_gateway(choice.options, driver.options())
        subnets = [_subnet_spec(one, without) for one in pools]
        if not pools and driver.addressed:
            subnets = [SubnetSpec(version=6 if ":" in one.pool else 4) for one in data if one.pool]
        self._engine.networks.create(
            NetworkSpec(
                id=network_id,
                name=choice.name or f"docker-{short(network_id)}",
                driver=choice.driver,
                ipam="local" if ours else "external",
                subnets=tuple(subnets),
                internal=request.options.internal,
                options=choice.options,
                face=_FACE,
                external_id=request.network_id,
            )
        )

    def _refuse_shared(
        self, request: wire.CreateNetworkRequest, pools: list[wire.IPAMData], *, ours: bool
    ) -> None:
        """Refuse ``--ipam-opt dovetail.network`` without ``-o dovetail.network``: two networks on one pool."""
        any_pool = [d for d in request.ipv4_data if d.pool in ANY_POOLS and d.address_space in _OUR_SPACES]
        for network in self._engine.networks.all():
            if network.id == _engine_id(request.network_id) or not ours:
                continue
            subnets = {str(s.subnet) for s in network.subnets}
            gateways = {str(s.gateway) for s in network.subnets}
            if any(d.pool in subnets for d in pools) or any(
                d.gateway.partition("/")[0] in gateways for d in any_pool
            ):
                raise InvalidArgument(
                    f"the pool belongs to network {network.name!r}",
                    hint=f"to use that network, give -o dovetail.network={network.name} as well",
                )

    def delete_network(self, request: wire.NetworkRequest) -> None:
        """Forget Docker's id; a network made for it goes with it unless others are on it.

        dockerd asks when it knows of no endpoint on it any more. Those that are here it has lost, in a crash.
        """
        for endpoint in self._engine.endpoints.all():
            if (endpoint.owner.face, endpoint.owner.network) == (_FACE, request.network_id):
                self._engine.endpoints.delete(endpoint.id)
        self._engine.networks.unbind(_FACE, request.network_id)

    def allocate_network(self, request: wire.AllocateNetworkRequest) -> wire.AllocateNetworkReply:
        """Give the options back: managers of a swarm hand them to the nodes, and have nothing to decide."""
        return wire.AllocateNetworkReply(options=request.options)

    def free_network(self, request: wire.NetworkRequest) -> None:
        """Do nothing: `allocate_network` took nothing."""

    # -- endpoints ------------------------------------------------------------------------------------

    def create_endpoint(self, request: wire.CreateEndpointRequest) -> wire.CreateEndpointReply:
        """Write the endpoint down; the reply fills only what came empty (dockerd refuses even an equal value)."""
        network = self._engine.networks.bound(_FACE, request.network_id)
        asked = request.interface
        given = tuple(
            parse_interface(text, where=f"$.Interface.{key}")
            for key, text in (("Address", asked.address), ("AddressIPv6", asked.address_ipv6))
            if text
        )
        docker = wire.convert(request.options, wire.EndpointOptions)
        options = read_endpoint_options(request.options)
        prefix = ifname_prefix(options) or network.ifname_prefix
        endpoint = self._engine.endpoints.create(
            network.id,
            EndpointSpec(
                id=_engine_id(request.endpoint_id),
                owner=Owner(face=_FACE, network=request.network_id, ifname=prefix),
                given=given,
                mac=Mac(asked.mac_address) if asked.mac_address else None,
                dns=DNS(nameservers=tuple(docker.dns_servers)),
                options=options if given else {**options, _ADDRESSED_HERE: "yes"},
            ),
        )
        chosen: tuple[IPInterface, ...] = () if given else endpoint.addresses
        return wire.CreateEndpointReply(
            interface=wire.EndpointInterface(
                address=next((str(a) for a in chosen if a.version == 4), ""),
                address_ipv6=next((str(a) for a in chosen if a.version == 6), ""),
                mac_address="" if asked.mac_address else str(endpoint.mac or ""),
            )
        )

    def delete_endpoint(self, request: wire.EndpointRequest) -> None:
        """Delete the endpoint with its interface; one that is gone is no error."""
        endpoint = self._engine.endpoints.delete(_engine_id(request.endpoint_id))
        if endpoint is None or _ADDRESSED_HERE not in endpoint.options:
            return
        try:
            network = self._engine.networks.get(endpoint.network_id)
        except NotFound:
            return
        for interface in endpoint.addresses:
            for subnet in network.subnets:
                if subnet.pool_id and interface.ip in subnet.subnet:
                    self._engine.addresses.release(subnet.pool_id, interface.ip, _FACE)

    def endpoint_oper_info(self, request: wire.EndpointRequest) -> dict[str, object]:
        """Say nothing: dockerd reads no value of a remote driver, and asks often."""
        return {"Value": {}}

    def join(self, request: wire.JoinRequest) -> wire.JoinReply:
        """Make the interface and leave it in the host's namespace, from where dockerd moves it.

        Up to Docker 25 the sandbox's namespace is not there yet; moving works with every engine.
        """
        network = self._engine.networks.bound(_FACE, request.network_id)
        key = _sandbox_key(request.sandbox_key)
        name = os.path.basename(key)
        attachment = self._engine.endpoints.join(
            _engine_id(request.endpoint_id),
            network=network.id,
            sandbox=Sandbox(id=name, name=name, netns=key, face=_FACE),
            netns=None,
        )
        return _join_reply(network, attachment)

    def leave(self, request: wire.EndpointRequest) -> None:
        """Take the endpoint out of its sandbox; twice is no error (dockerd does after a failure)."""
        self._engine.endpoints.leave(_engine_id(request.endpoint_id))

    def program_external_connectivity(self, request: wire.EndpointRequest) -> None:
        """Publish the ports; those published before are replaced.

        On a network that has no host in front of it (macvlan) they are left out, as Docker's own driver does.
        """
        endpoint = self._engine.endpoints.known(_engine_id(request.endpoint_id))
        mappings = _mappings(request.options.portmap or [])
        if mappings:
            network = self._engine.networks.get(endpoint.network_id)
            if network.firewall is None:
                ports = " ".join(map(str, mappings))
                self._engine.tracer.note("ignored", f"a {network.driver} network publishes no ports: {ports}")
                return
        if mappings or endpoint.ports:
            self._engine.endpoints.publish(endpoint.id, mappings)

    def revoke_external_connectivity(self, request: wire.EndpointRequest) -> None:
        """Withdraw the ports; none is no error."""
        self._engine.endpoints.unpublish(_engine_id(request.endpoint_id))


def _engine_id(docker_id: str) -> str:
    """Give the engine's id for one of Docker's: the same, where it is of that form (64 hexadecimal digits)."""
    if len(docker_id) == 64 and set(docker_id) <= set(string.hexdigits.lower()):
        return docker_id
    return derive_id(_FACE, docker_id)


def _sandbox_key(key: str) -> str:
    """Give a sandbox's path if it can be one; where Docker keeps its namespaces is its own affair (cnm.md §1.4)."""
    parts = key.split("/")
    if parts[0] or not parts[-1] or ".." in parts or not key.isprintable() or len(key) > _PATH_MAX:
        raise InvalidArgument(f"{key[:99]!r} cannot be the path of a sandbox", where="$.SandboxKey")
    return key


def _subnet_spec(data: wire.IPAMData, without_gateway: Collection[int]) -> SubnetSpec:
    """Read a pool. Docker before 28 takes a gateway in any case: where there is to be none, it is kept aside."""
    subnet = parse_subnet(data.pool, where="$.Pool")
    gateway = parse_interface(data.gateway, where="$.Gateway").ip if data.gateway else None
    aux = {
        name: parse_interface(text, where=f"$.AuxAddresses.{name}").ip
        for name, text in data.aux_addresses.items()
    }
    if gateway is not None and (gateway.is_unspecified or subnet.version in without_gateway):
        aux |= {} if gateway.is_unspecified else {_ASIDE: gateway}
        gateway = None
    return SubnetSpec(subnet=subnet, gateway=gateway, aux=aux, version=6 if subnet.version == 6 else 4)


def _check_pools(network: Network, pools: list[wire.IPAMData]) -> None:
    """Check that the pools of Docker's network are those of `network`, given by our IPAM or by none."""
    use = f"--ipam-driver dovetail --ipam-opt dovetail.network={network.name}"
    for data in pools:
        if data.address_space not in _OUR_SPACES and data.pool not in ANY_POOLS:
            raise InvalidArgument(
                f"network {network.name!r} exists, and Docker's own IPAM cannot give its addresses",
                hint=f"give {use}",
            )
        if data.aux_addresses:
            raise InvalidArgument(
                f"addresses of network {network.name!r}, which exists already, cannot be reserved from here",
                where="--aux-address",
            )
        subnets = [str(s.subnet) for s in network.subnets]
        if data.pool not in {"", *ANY_POOLS, *subnets}:
            has = " and ".join(subnets) or "no subnet"
            raise InvalidArgument(
                f"network {network.name!r} has {has}, not {data.pool}", where="--subnet", hint=f"give {use}"
            )


def _check_internal(network: Network, *, internal: bool) -> None:
    if internal and not network.internal:
        raise InvalidArgument(
            f"network {network.name!r} exists and is not internal", where="--internal", hint="leave it out"
        )


def _join_reply(network: Network, attachment: Attachment) -> wire.JoinReply:
    """Render an attachment; a driver without an interface of its own (null) leaves dockerd nothing to do.

    Without `disable_gateway_service` dockerd gives a sandbox whose Join names no IPv4 gateway a second
    interface, on ``docker_gwbridge``, which leads out of an internal network too (cnm.md §1.6).
    """
    routes = [
        wire.StaticRoute(
            destination=str(route.destination),
            route_type=_NEXT_HOP if route.gateway else _CONNECTED,
            next_hop=str(route.gateway or ""),
        )
        for route in attachment.routes
        if route.gateway is None or route.destination.prefixlen  # dockerd fails on a default route here
    ]
    name = (
        wire.InterfaceName(src_name=attachment.handover, dst_prefix=attachment.ifname)
        if attachment.handover
        else None
    )
    gateway = next((str(g) for g in attachment.gateways if g.version == 4), "")
    return wire.JoinReply(
        interface_name=name,
        gateway=gateway,
        gateway_ipv6=next((str(g) for g in attachment.gateways if g.version == 6), ""),
        static_routes=routes,
        disable_gateway_service=not (gateway or network.gwbridge),
    )


def _mappings(portmap: list[wire.PortBinding]) -> tuple[PortMapping, ...]:
    """Read the bindings; dockerd leaves the choice from a range of host ports to the driver."""
    return tuple(_mapping(binding, f"$.Options.portmap[{index}]") for index, binding in enumerate(portmap))


def _mapping(binding: wire.PortBinding, where: str) -> PortMapping:
    protocol = _PROTOCOLS.get(binding.proto)
    if protocol is None:
        raise InvalidArgument(
            f"protocol {binding.proto} cannot be published",
            where=where,
            hint="6 (tcp), 17 (udp) or 132 (sctp)",
        )
    first = check_port(binding.host_port, where=where, zero=True)
    last = check_port(binding.host_port_end or first, where=where, zero=True)
    if last < first or (last and not first):
        raise InvalidArgument(f"{first}-{last} is not a range of ports", where=where)
    return port_mapping(
        check_port(binding.port, where=where),
        range(first, last + 1),
        protocol,
        parse_address(binding.host_ip, where=where) if binding.host_ip else None,
    )
