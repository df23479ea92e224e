"""Networks: what a user asks for, and what is kept."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.attachment import Route
from dovetail.model.firewall import FirewallIntent

__all__ = [
    "HOST",
    "Face",
    "FirewallIntent",
    "Network",
    "NetworkSpec",
    "NetworkStatus",
    "Scope",
    "Subnet",
    "SubnetSpec",
]

Face: TypeAlias = Literal["cli", "cni", "docker"]
"""Who asked: dovetail's own CLI or API, a CNI runtime, a Docker Engine."""

HOST = "host"
"""Name of the reserved address that is the host's own in a subnet where the host is not the gateway (``host_access``)."""

Scope: TypeAlias = Literal["local", "global"]
NetworkStatus: TypeAlias = Literal["creating", "active", "deleting"]


class SubnetSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet that is asked for; `subnet` None lets IPAM choose one of family `version`."""

    subnet: IPNetwork | None = None
    gateway: IPAddress | None = None
    ip_range: IPNetwork | None = None
    aux: dict[str, IPAddress] = {}
    version: Literal[4, 6] = 4


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of `Engine.create_network`.

    `subnets` empty means one IPv4 subnet chosen by IPAM (drivers without addresses: none).
    `routes`: of every endpoint, in addition to those of the option ``route``.
    `id` is given where the caller has one (Docker's network id), else made. `external_id` is what `face` knows it
    by: the network is bound to it from the moment it is there (`Networks.bind`), and goes with it.
    """

    name: str
    driver: str = "bridge"
    ipam: str = "local"
    subnets: tuple[SubnetSpec, ...] = ()
    internal: bool = False
    routes: tuple[Route, ...] = ()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    id: str = ""
    face: Face = "cli"
    external_id: str = ""


class Subnet(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet of a network. `pool_id` is empty where another IPAM (Docker's own) gives the addresses.

    gateway: the host's address in it, where the host is its gateway. aux: reserved addresses by name.
    """

    subnet: IPNetwork
    gateway: IPAddress | None = None
    ip_range: IPNetwork | None = None
    aux: dict[str, IPAddress] = {}
    pool_id: str = ""

    @property
    def default_gateway(self) -> IPAddress | None:
        """Where the endpoints' default route leads: the reserved address ``DefaultGatewayIPv4`` (or 6), else `gateway`.

        The name is Docker's (DefaultGatewayV4AuxKey, moby ``daemon/libnetwork/drivers/bridge``).
        """
        return self.aux.get(f"DefaultGatewayIPv{self.subnet.version}", self.gateway)


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network: endpoints that reach each other directly.

    parent: the host's link that the endpoints' links sit on (macvlan, ipvlan; of vlan the VLAN, as ``eth0.10``);
    parent_made: dovetail made it for them. one_endpoint: there can be only one (vlan). link: the host's
    interface (bridge), empty for drivers without one. adopted: `link` was there before, so it is never deleted;
    kept: the addresses it had then, which stay. mtu 0: the kernel's default. routes: of every endpoint.
    ifname_prefix: what Docker's and our own choice of an interface's name begins with. gwbridge: Docker may give
    a container that has no gateway an interface on its ``docker_gwbridge``. status says how far its creation or
    deletion has come, so that a crash between two steps can be finished (see engine/reconcile.py).
    """

    id: str
    name: str
    driver: str
    ipam: str = "local"
    subnets: tuple[Subnet, ...] = ()
    internal: bool = False
    routes: tuple[Route, ...] = ()
    ifname_prefix: str = "eth"
    gwbridge: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    parent: str = ""
    parent_made: bool = False
    one_endpoint: bool = False
    link: str = ""
    adopted: bool = False
    kept: tuple[IPInterface, ...] = ()
    mtu: int = 0
    firewall: FirewallIntent | None = None
    scope: Scope = "local"
    face: Face = "cli"
    created: float = 0.0
    status: NetworkStatus = "creating"

    @property
    def versions(self) -> tuple[int, ...]:
        """The IP versions that it has subnets of, 4 first."""
        return tuple(sorted({subnet.subnet.version for subnet in self.subnets}))
