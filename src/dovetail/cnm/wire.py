"""Docker's plugin messages: what dockerd sends and what it reads, in its own spelling.

dockerd is written in Go, whose ``encoding/json`` matches keys in any case, ignores unknown keys and
takes ``null`` as empty; so does `decode`. Keys of maps that a user fills (options, auxiliary
addresses) are his and stay as they are.

Source: moby ``daemon/libnetwork/drivers/remote/api/api.go`` and ``ipams/remote/api/api.go``.
"""

from __future__ import annotations

import typing
from functools import cache
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec

from dovetail.errors import DovetailError

__all__ = [
    "AllocateNetworkReply",
    "AllocateNetworkRequest",
    "CapabilitiesReply",
    "CreateEndpointReply",
    "CreateEndpointRequest",
    "CreateNetworkRequest",
    "DiscoveryRequest",
    "EndpointInterface",
    "EndpointOptions",
    "EndpointRequest",
    "GwAllocCheckReply",
    "GwAllocCheckRequest",
    "IPAMData",
    "InterfaceName",
    "JoinReply",
    "JoinRequest",
    "Malformed",
    "NetworkOptions",
    "NetworkRequest",
    "PoolReply",
    "PoolRequest",
    "PortBinding",
    "ReleaseAddressRequest",
    "ReleasePoolRequest",
    "RequestAddressReply",
    "RequestAddressRequest",
    "Scope",
    "StaticRoute",
    "convert",
    "decode",
]

S = TypeVar("S", bound=msgspec.Struct)
Identifier = Annotated[str, msgspec.Meta(min_length=1)]
Scope: TypeAlias = Literal["local", "global"]
"""Where Docker keeps a driver's networks: on each host for itself, or in its swarm."""


class Malformed(DovetailError):
    """The body is no JSON object of the form that the method takes."""


class _Wire(msgspec.Struct, kw_only=True, omit_defaults=True, rename="pascal"):
    """A message; `rename` gives Go's spelling, fields with an initialism name it themselves."""


# -- NetworkDriver ------------------------------------------------------------------------------------


class CapabilitiesReply(_Wire, omit_defaults=False):
    scope: Scope = "local"
    connectivity_scope: Scope = "local"
    gw_alloc_checker: bool = True


class IPAMData(_Wire):
    """One pool of a network. `gateway` and the auxiliary addresses carry a prefix length."""

    address_space: str = ""
    pool: str = ""
    gateway: str = ""
    aux_addresses: dict[str, str] = {}


class NetworkOptions(_Wire):
    """Options of CreateNetwork; `generic` holds what the user gave with ``-o``."""

    internal: bool = msgspec.field(name="com.docker.network.internal", default=False)
    generic: dict[str, str] = msgspec.field(name="com.docker.network.generic", default_factory=dict)


class CreateNetworkRequest(_Wire):
    network_id: Identifier = msgspec.field(name="NetworkID")
    options: NetworkOptions = msgspec.field(default_factory=NetworkOptions)
    ipv4_data: list[IPAMData] = msgspec.field(name="IPv4Data", default_factory=list)
    ipv6_data: list[IPAMData] = msgspec.field(name="IPv6Data", default_factory=list)


class GwAllocCheckRequest(_Wire):
    options: NetworkOptions = msgspec.field(default_factory=NetworkOptions)


class GwAllocCheckReply(_Wire, omit_defaults=False):
    skip_ipv4: bool = msgspec.field(name="SkipIPv4", default=False)
    skip_ipv6: bool = msgspec.field(name="SkipIPv6", default=False)


class NetworkRequest(_Wire):
    """DeleteNetwork, FreeNetwork."""

    network_id: Identifier = msgspec.field(name="NetworkID")


class AllocateNetworkRequest(_Wire):
    network_id: Identifier = msgspec.field(name="NetworkID")
    options: dict[str, str] = {}


class AllocateNetworkReply(_Wire, omit_defaults=False):
    options: dict[str, str] = {}


class DiscoveryRequest(_Wire):
    """DiscoverNew, DiscoverDelete: type 1 is a node of the swarm, with its addresses."""

    discovery_type: int = 0
    discovery_data: Any = None


class EndpointInterface(_Wire):
    """An endpoint's interface; addresses carry a prefix length. In a reply only what came empty."""

    address: str = ""
    address_ipv6: str = msgspec.field(name="AddressIPv6", default="")
    mac_address: str = ""


class PortBinding(_Wire):
    """One published port. `proto` is the IP protocol's number; `host_port` 0 leaves the choice to us."""

    proto: int = 6
    port: int = 0
    host_ip: str = msgspec.field(name="HostIP", default="")
    host_port: int = 0
    host_port_end: int = 0


class EndpointOptions(_Wire):
    """Options that Docker adds for an endpoint.

    The MAC in base64 (``…endpoint.macaddress``) is not read: `EndpointInterface` has it as text.
    `portmap` is None where Docker says nothing of ports.
    """

    portmap: list[PortBinding] | None = msgspec.field(name="com.docker.network.portmap", default=None)
    dns_servers: list[str] = msgspec.field(
        name="com.docker.network.endpoint.dnsservers", default_factory=list
    )


class CreateEndpointRequest(_Wire):
    network_id: Identifier = msgspec.field(name="NetworkID")
    endpoint_id: Identifier = msgspec.field(name="EndpointID")
    interface: EndpointInterface = msgspec.field(default_factory=EndpointInterface)
    options: dict[str, Any] = {}


class CreateEndpointReply(_Wire, omit_defaults=False):
    interface: EndpointInterface


class EndpointRequest(_Wire):
    """DeleteEndpoint, EndpointOperInfo, Leave, Program- and RevokeExternalConnectivity."""

    network_id: Identifier = msgspec.field(name="NetworkID")
    endpoint_id: Identifier = msgspec.field(name="EndpointID")
    options: EndpointOptions = msgspec.field(default_factory=EndpointOptions)


class JoinRequest(_Wire):
    network_id: Identifier = msgspec.field(name="NetworkID")
    endpoint_id: Identifier = msgspec.field(name="EndpointID")
    sandbox_key: Identifier


class InterfaceName(_Wire):
    """`src_name` is moved into the sandbox and becomes `dst_prefix` and the lowest free number."""

    src_name: str
    dst_prefix: str


class StaticRoute(_Wire, omit_defaults=False):
    """A route; `route_type` 0 is via `next_hop`, 1 on-link."""

    destination: str
    route_type: int
    next_hop: str = ""


class JoinReply(_Wire):
    interface_name: InterfaceName | None = None
    gateway: str = ""
    gateway_ipv6: str = msgspec.field(name="GatewayIPv6", default="")
    static_routes: list[StaticRoute] = []
    disable_gateway_service: bool = False


# -- IpamDriver -----------------------------------------------------------------------------------------


class PoolRequest(_Wire):
    """RequestPool: `pool` empty leaves the choice to us."""

    address_space: str = ""
    pool: str = ""
    sub_pool: str = ""
    options: dict[str, str] = {}
    v6: bool = False


class PoolReply(_Wire, omit_defaults=False):
    pool_id: str = msgspec.field(name="PoolID")
    pool: str
    data: dict[str, str] = {}


class ReleasePoolRequest(_Wire):
    pool_id: Identifier = msgspec.field(name="PoolID")


class RequestAddressRequest(_Wire):
    pool_id: Identifier = msgspec.field(name="PoolID")
    address: str = ""
    options: dict[str, str] = {}


class RequestAddressReply(_Wire, omit_defaults=False):
    """`address` carries the pool's prefix length."""

    address: str
    data: dict[str, str] = {}


class ReleaseAddressRequest(_Wire):
    pool_id: Identifier = msgspec.field(name="PoolID")
    address: Identifier


# -- decoding ---------------------------------------------------------------------------------------------


def decode(body: bytes, kind: type[S]) -> S:
    """Read `body` as `kind`, as Go's ``encoding/json`` would; raises Malformed with the ``$.path``.

    An empty body is malformed too: a Go client that retries sends one where JSON was due (cnm.md §1.2).
    """
    if not body.strip():
        raise Malformed("the request has no body", hint="a JSON object is due")
    try:
        return convert(msgspec.json.decode(body), kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Malformed(f"the request is not valid JSON: {exc}") from exc


def convert(value: object, kind: type[S]) -> S:
    """Read decoded JSON as `kind`; raises Malformed."""
    try:
        return msgspec.convert(_canonical(value, kind), kind)
    except msgspec.ValidationError as exc:
        message, _, where = str(exc).partition(" - at ")
        raise Malformed(message, where=where.strip("`")) from exc


def _canonical(value: object, kind: Any) -> object:
    """Spell the keys of `value` as `kind` does, and leave out what is null."""
    arguments = typing.get_args(kind)
    if isinstance(value, dict):
        present = {key: item for key, item in value.items() if item is not None}
        spelling = _spelling(kind) if _is_struct(kind) else None
        if spelling is None:
            return present
        known = ((spelling.get(key.lower()), item) for key, item in present.items())
        return {field[0]: _canonical(item, field[1]) for field, item in known if field is not None}
    if isinstance(value, list) and arguments:
        members = [argument for argument in arguments if argument is not type(None)]
        inner = typing.get_args(members[0]) or members  # list[X], or the list[X] of ``list[X] | None``
        return [_canonical(item, inner[0]) for item in value]
    return value


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@cache
def _spelling(kind: type[msgspec.Struct]) -> dict[str, tuple[str, Any]]:
    return {
        field.encode_name.lower(): (field.encode_name, field.type) for field in msgspec.structs.fields(kind)
    }
