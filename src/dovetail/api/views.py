"""What the API gives: one type a noun, and the function that renders it from the engine's rows.

Every view names the things it refers to (a network's name beside its id), so that a reader needs no
second request. Times are seconds since the epoch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from dovetail.drivers.protocol import Driver
from dovetail.engine.engine import Engine
from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.attachment import DNS, HostInterface, Route
from dovetail.model.endpoint import Endpoint, EndpointStatus
from dovetail.model.mac import Mac
from dovetail.model.names import short
from dovetail.model.network import Face, Network, NetworkStatus, Scope, Subnet
from dovetail.model.pool import Pool
from dovetail.model.port import PortMapping
from dovetail.model.sandbox import Sandbox

__all__ = [
    "BindingView",
    "DriverView",
    "EndpointView",
    "NetworkRow",
    "NetworkView",
    "OptionView",
    "PoolView",
    "SandboxView",
    "SubnetView",
    "driver_view",
    "endpoint_view",
    "endpoint_views",
    "network_rows",
    "network_view",
    "pool_views",
    "sandbox_view",
    "sandbox_views",
]


_MANY = (1 << 53) - 1  # the largest integer that every reader of JSON keeps exact, RFC 8259 §6


class SubnetView(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet and how full it is.

    size: addresses that may be given out, at most 2^53 - 1; used: those that are held.
    """

    subnet: IPNetwork
    gateway: IPAddress | None = None
    ip_range: IPNetwork | None = None
    aux: dict[str, IPAddress] = {}
    pool_id: str = ""
    used: int = 0
    size: int = 0


class EndpointView(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint. container: what a person calls the other end: the container's or the sandbox's name.

    known_as: other names of its network, see `NetworkRow`. container_id: the runtime's, where it is known.
    link: the host's end. netns: path of the sandbox's namespace. host_interfaces: from the outside in.
    sysctls: of the interface, with IFNAME for its name. plugins: the CNI plugins that attached it, where a chain of
    them did and no network of dovetail's is behind it; it has no network_id then. lease_ends: when a DHCP server has the
    addresses back unless they are renewed, in seconds since the epoch.
    """

    id: str
    network: str
    network_id: str
    known_as: tuple[str, ...] = ()
    face: Face
    container: str
    container_id: str = ""
    sandbox_id: str = ""
    ifname: str = ""
    status: EndpointStatus
    mac: Mac | None = None
    mtu: int = 0
    addresses: tuple[IPInterface, ...] = ()
    gateways: tuple[IPAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()
    aliases: tuple[str, ...] = ()
    ports: tuple[PortMapping, ...] = ()
    options: dict[str, str] = {}
    sysctls: dict[str, str] = {}
    link: str = ""
    host_interfaces: tuple[HostInterface, ...] = ()
    netns: str = ""
    plugins: tuple[str, ...] = ()
    lease_ends: float | None = None
    created: float = 0.0


class NetworkRow(msgspec.Struct, frozen=True, kw_only=True):
    """A network as a list shows it; `endpoints` is their number. known_as: other names, by which faces know it."""

    id: str
    name: str
    known_as: tuple[str, ...] = ()
    driver: str
    scope: Scope
    face: Face
    status: NetworkStatus
    internal: bool
    subnets: tuple[IPNetwork, ...] = ()
    link: str = ""
    endpoints: int = 0
    labels: dict[str, str] = {}
    created: float = 0.0


class BindingView(msgspec.Struct, frozen=True, kw_only=True):
    """A face's knowing a network by an id of its own: Docker's.

    name, labels: what the face calls it and says of it, where that is known. made: the network was made for this.
    """

    face: Face
    id: str
    name: str = ""
    labels: dict[str, str] = {}
    made: bool = False


class NetworkView(msgspec.Struct, frozen=True, kw_only=True):
    """A network with its subnets, their use, its endpoints, and the faces that know it by an id of their own.

    parent: the host's link that its endpoints are on (macvlan, ipvlan). link: the host's interface in it.
    """

    id: str
    name: str
    driver: str
    scope: Scope
    ipam: str
    face: Face
    status: NetworkStatus
    internal: bool
    subnets: tuple[SubnetView, ...] = ()
    routes: tuple[Route, ...] = ()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    parent: str = ""
    link: str = ""
    adopted: bool = False
    mtu: int = 0
    bindings: tuple[BindingView, ...] = ()
    endpoints: tuple[EndpointView, ...] = ()
    created: float = 0.0


class SandboxView(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox and its endpoints. made: dovetail made the namespace and deletes it with the sandbox.

    container: Docker's id of it, where it is known.
    """

    id: str
    name: str
    face: Face
    netns: str
    made: bool
    container: str = ""
    endpoints: tuple[EndpointView, ...] = ()
    created: float = 0.0


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """A pool and how full it is. owner: a network's id, or ``docker``; network: that network's name."""

    id: str
    subnet: IPNetwork
    ip_range: IPNetwork | None = None
    owner: str = ""
    network: str = ""
    used: int = 0
    size: int = 0
    created: float = 0.0


class OptionView(msgspec.Struct, frozen=True, kw_only=True):
    """An option of a driver: what it does, with its default, and the keys that Docker has for the same."""

    meaning: str
    synonyms: list[str] = []


class DriverView(msgspec.Struct, frozen=True, kw_only=True):
    """A network driver. summary: what an endpoint gets. plugin: its name among Docker's drivers.

    addressed: its networks have subnets. is_gateway: the host is their gateway; else a router may be.
    """

    name: str
    summary: str
    plugin: str
    addressed: bool
    is_gateway: bool
    options: dict[str, OptionView] = {}


def driver_view(driver: Driver) -> DriverView:
    """Render a driver. Docker finds those with addresses under a name of their own, but for the usual one."""
    has_own = driver.addressed and driver.name != "bridge"
    return DriverView(
        name=driver.name,
        summary=driver.summary,
        plugin=f"dovetail-{driver.name}" if has_own else "dovetail",
        addressed=driver.addressed,
        is_gateway=driver.is_gateway,
        options={
            key: OptionView(meaning=option.meaning, synonyms=list(option.synonyms))
            for key, option in driver.options().items()
        },
    )


def endpoint_view(engine: Engine, endpoint: Endpoint) -> EndpointView:
    """Render one endpoint."""
    return endpoint_views(engine, [endpoint])[0]


def endpoint_views(engine: Engine, endpoints: Sequence[Endpoint]) -> list[EndpointView]:
    """Render endpoints, by network, container and interface."""
    networks = {network.id: network.name for network in engine.networks.all()}
    known = _known(engine)
    sandboxes = {sandbox.id: sandbox for sandbox in engine.sandboxes.all()}
    views = [
        _endpoint(
            endpoint,
            networks.get(endpoint.network_id, ""),
            known.get(endpoint.network_id, ()),
            sandboxes.get(endpoint.sandbox_id),
        )
        for endpoint in endpoints
    ]
    return sorted(views, key=lambda view: (view.network, view.container, view.ifname, view.id))


def _known(engine: Engine) -> dict[str, tuple[str, ...]]:
    """Give the names by which faces know networks, by the network's id; its own name is left out."""
    names: dict[str, set[str]] = defaultdict(set)
    for binding in engine.core.store.bindings():
        names[binding.network_id].add(binding.name)
    own = {network.id: network.name for network in engine.networks.all()}
    return {key: tuple(sorted(found - {"", own.get(key, "")})) for key, found in names.items()}


def _endpoint(
    endpoint: Endpoint, network: str, known_as: tuple[str, ...], sandbox: Sandbox | None
) -> EndpointView:
    attachment = endpoint.attachment
    name = endpoint.name or (sandbox.name if sandbox is not None else "") or endpoint.owner.container
    return EndpointView(
        id=endpoint.id,
        network=network,
        network_id=endpoint.network_id,
        known_as=known_as,
        face=endpoint.owner.face,
        container=name or short(endpoint.id),
        container_id=_container_id(endpoint, sandbox),
        sandbox_id=endpoint.sandbox_id,
        ifname=attachment.ifname if attachment is not None else endpoint.owner.ifname,
        status=endpoint.status,
        mac=endpoint.mac or (attachment.mac if attachment is not None else None),
        mtu=attachment.mtu if attachment is not None else 0,
        addresses=endpoint.addresses,
        gateways=attachment.gateways if attachment is not None else (),
        routes=attachment.routes if attachment is not None else (),
        dns=endpoint.dns,
        aliases=endpoint.aliases,
        ports=endpoint.ports,
        options=endpoint.options,
        sysctls=endpoint.sysctls,
        link=endpoint.link,
        host_interfaces=attachment.host_interfaces if attachment is not None else (),
        netns=sandbox.netns if sandbox is not None else "",
        created=endpoint.created,
    )


def _container_id(endpoint: Endpoint, sandbox: Sandbox | None) -> str:
    if endpoint.owner.face == "cni":
        return endpoint.owner.container
    return sandbox.container if sandbox is not None else ""


def network_rows(engine: Engine) -> list[NetworkRow]:
    """Render the list of networks."""
    known = _known(engine)
    counts: dict[str, int] = defaultdict(int)
    for endpoint in engine.endpoints.all():
        counts[endpoint.network_id] += 1
    return [
        NetworkRow(
            id=network.id,
            name=network.name,
            known_as=known.get(network.id, ()),
            driver=network.driver,
            scope=network.scope,
            face=network.face,
            status=network.status,
            internal=network.internal,
            subnets=tuple(subnet.subnet for subnet in network.subnets),
            link=network.link,
            endpoints=counts[network.id],
            labels=network.labels,
            created=network.created,
        )
        for network in engine.networks.all()
    ]


def network_view(engine: Engine, network: Network) -> NetworkView:
    """Render one network in full."""
    endpoints = endpoint_views(engine, engine.endpoints.all(network=network.id))
    bindings = [
        BindingView(face=b.face, id=b.external_id, name=b.name, labels=dict(b.labels), made=b.made)
        for b in engine.core.store.bindings(network_id=network.id)
    ]
    return NetworkView(
        id=network.id,
        name=network.name,
        driver=network.driver,
        scope=network.scope,
        ipam=network.ipam,
        face=network.face,
        status=network.status,
        internal=network.internal,
        subnets=tuple(_subnet(engine, subnet) for subnet in network.subnets),
        routes=network.routes,
        options=network.options,
        labels=network.labels,
        parent=network.parent,
        link=network.link,
        adopted=network.adopted,
        mtu=network.mtu,
        bindings=tuple(bindings),
        endpoints=tuple(endpoints),
        created=network.created,
    )


def _subnet(engine: Engine, subnet: Subnet) -> SubnetView:
    return SubnetView(
        subnet=subnet.subnet,
        gateway=subnet.gateway,
        ip_range=subnet.ip_range,
        aux=subnet.aux,
        pool_id=subnet.pool_id,
        used=engine.addresses.used(subnet.pool_id) if subnet.pool_id else 0,
        size=_size(subnet.subnet, subnet.ip_range),
    )


def sandbox_view(engine: Engine, sandbox: Sandbox) -> SandboxView:
    """Render one sandbox."""
    return _sandbox(sandbox, endpoint_views(engine, engine.endpoints.all(sandbox=sandbox.id)))


def sandbox_views(engine: Engine) -> list[SandboxView]:
    """Render all sandboxes, by name."""
    joined: dict[str, list[EndpointView]] = defaultdict(list)
    for view in endpoint_views(engine, engine.endpoints.all()):
        joined[view.sandbox_id].append(view)
    return [_sandbox(sandbox, joined[sandbox.id]) for sandbox in engine.sandboxes.all()]


def _sandbox(sandbox: Sandbox, endpoints: Iterable[EndpointView]) -> SandboxView:
    return SandboxView(
        id=sandbox.id,
        name=sandbox.name,
        face=sandbox.face,
        netns=sandbox.netns,
        made=sandbox.made,
        container=sandbox.container,
        endpoints=tuple(endpoints),
        created=sandbox.created,
    )


def pool_views(engine: Engine) -> list[PoolView]:
    """Render all pools, IPv4 first, by subnet."""
    networks = {network.id: network.name for network in engine.networks.all()}
    return [
        PoolView(
            id=pool.id,
            subnet=pool.subnet,
            ip_range=pool.ip_range,
            owner=pool.owner,
            network=networks.get(pool.owner, ""),
            used=engine.addresses.used(pool.id),
            size=_size(pool.subnet, pool.ip_range),
            created=pool.created,
        )
        for pool in sorted(engine.addresses.pools(), key=_order)
    ]


def _order(pool: Pool) -> tuple[int, int]:
    return pool.subnet.version, int(pool.subnet.network_address)


def _size(subnet: IPNetwork, ip_range: IPNetwork | None) -> int:
    """Count what may be given out: of a subnet all but network and broadcast address (RFC 3021, RFC 6164 excepted)."""
    spare = subnet.max_prefixlen - subnet.prefixlen
    if ip_range is not None and ip_range != subnet:
        size = ip_range.num_addresses
    elif spare <= 1:
        size = subnet.num_addresses
    else:
        size = subnet.num_addresses - (2 if subnet.version == 4 else 1)
    return min(size, _MANY)
