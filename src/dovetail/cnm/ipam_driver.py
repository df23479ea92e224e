"""The IpamDriver half of the plugin: pools and addresses, as dockerd asks for them.

A pool is either Docker's to have (held for ``docker`` until CreateNetwork takes it over) or the
pool of a network that exists, asked for with ``--ipam-opt dovetail.network=NAME``. The id of the
second kind begins with ``shared:``; giving it back takes nothing from the network, which counts those
who use it by its bindings. A Docker Engine that starts anew is given an id that begins with ``again:``. To
give that back does not delete the network either: dockerd does it where the replay of one address fails, and goes on
using network and pool (cnm.md §2.3).
"""

from __future__ import annotations

import time

from dovetail.cnm import wire
from dovetail.cnm.options import read_ipam_options
from dovetail.engine.engine import Engine
from dovetail.errors import InvalidArgument, PoolOverlap
from dovetail.model.addresses import (
    IPAddress,
    IPNetwork,
    interface_in,
    parse_address,
    parse_subnet,
)
from dovetail.model.mac import Mac
from dovetail.model.network import Face, Network, Subnet
from dovetail.model.pool import AddressRequest, PoolRequest

__all__ = ["ANY_POOLS", "GLOBAL_SPACE", "LOCAL_SPACE", "IpamDriver"]

LOCAL_SPACE = "dovetail-local"
GLOBAL_SPACE = "dovetail-global"
_ANY_V4 = "0.0.0.0/0"
ANY_POOLS = (_ANY_V4, "::/0")
"""Stand for "no pool in particular": Docker's null IPAM says it, and so do we, see `IpamDriver._shared`."""

_SHARED = "shared:"
_AGAIN = "again:"
_DOCKER = "docker"
_FACE: Face = "docker"
_LOOP_S = 5.0
_LOOP_TIMES = 8
_GATEWAY = "com.docker.network.gateway"  # netlabel.Gateway, moby daemon/libnetwork/netlabel/labels.go
_NAME = "com.docker.network.endpoint.name"  # of the container; Docker 29 and later
_NAME_MAX = 255
_MAC = "com.docker.network.endpoint.macaddress"  # where `get_capabilities` asks for it


class IpamDriver:
    """One method a call; each takes the decoded request and gives the reply as JSON's builtins."""

    def __init__(self, engine: Engine, *, by_mac: bool = False) -> None:
        """Work on `engine`. by_mac: Docker is to settle an endpoint's MAC before it asks for the address."""
        self._engine = engine
        self._by_mac = by_mac
        self._asked: dict[str, list[float]] = {}

    def get_capabilities(self) -> dict[str, object]:
        """Ask for replay: an exact re-request of what Docker holds succeeds (cnm.md §2.3).

        A session begins: dockerd asks this when it loads the plugin, and a swarm's manager when it becomes the
        leader. ``Plugin.Activate`` comes before it from dockerd alone, and not for a managed plugin.
        """
        self._engine.addresses.begin_replay()
        return {"RequiresMACAddress": self._by_mac, "RequiresRequestReplay": True}

    def get_default_address_spaces(self) -> dict[str, object]:
        """Name our spaces; they only tell our pools from those of other IPAM drivers."""
        return {"LocalDefaultAddressSpace": LOCAL_SPACE, "GlobalDefaultAddressSpace": GLOBAL_SPACE}

    def request_pool(self, request: wire.PoolRequest) -> wire.PoolReply:
        """Hold a pool for Docker, or point at that of the network that the options name."""
        name, sticky = read_ipam_options(request.options)
        subnet = _subnet(request.pool, v6=request.v6, where="$.Pool")
        ip_range = _subnet(request.sub_pool, v6=request.v6, where="$.SubPool")
        if name:
            if request.address_space == GLOBAL_SPACE:
                raise InvalidArgument(
                    f"network {name!r} is this host's, and a swarm's manager asks for a pool for all hosts",
                    where="--ipam-opt dovetail.network",
                    hint="use the plugin with scope local, and make the swarm's network from a --config-only one",
                )
            network = self._engine.networks.get(name)
            return self._shared(network, subnet, ip_range, v6=request.v6)
        try:
            pool = self._engine.addresses.request_pool(
                PoolRequest(
                    subnet=subnet,
                    ip_range=ip_range,
                    version=6 if request.v6 else 4,
                    owner=_DOCKER,
                    space="global" if request.address_space == GLOBAL_SPACE else "local",
                    sticky=sticky,
                )
            )
        except PoolOverlap as exc:
            raise self._with_owner(exc, subnet) from exc
        again = self._engine.addresses.is_claimed_again(pool.id)
        return wire.PoolReply(pool_id=_AGAIN + pool.id if again else pool.id, pool=str(pool.subnet))

    def _shared(
        self, network: Network, asked: IPNetwork | None, ip_range: IPNetwork | None, *, v6: bool
    ) -> wire.PoolReply:
        """Answer with the pool that `network` has for the family, and with its gateway.

        Asked for no pool in particular, dockerd compares an IPv4 answer with the host's routes and, as the
        network's own bridge has put one there, asks again for ever (requestPoolHelper, moby
        ``daemon/libnetwork/network.go``). It takes 0.0.0.0/0 as it is, so that is the answer then; the
        addresses carry the true prefix length. Started anew, dockerd asks for just that pool.
        """
        subnet = _choose(network, asked, v6=v6)
        if ip_range is not None and ip_range != subnet.ip_range:
            raise InvalidArgument(
                f"network {network.name!r} exists and has {_range(subnet)}",
                where="--ip-range",
                hint="leave --ip-range out",
            )
        answer = asked or subnet.subnet
        if asked is None and v6:
            self._refuse_loop(network, subnet)
        elif asked is None and self._is_routed(subnet.subnet):
            answer = parse_subnet(_ANY_V4)
        self._engine.addresses.claim_again(subnet.pool_id)
        gateway = ANY_POOLS[v6]  # says that there is none, and keeps an engine before 28 from asking for one
        if subnet.gateway is not None:
            gateway = str(interface_in(subnet.gateway, subnet.subnet))
        return wire.PoolReply(pool_id=_SHARED + subnet.pool_id, pool=str(answer), data={_GATEWAY: gateway})

    def _is_routed(self, subnet: IPNetwork) -> bool:
        routes = (route.destination for route in self._engine.kernel.routes())
        return any(r.prefixlen and r.version == subnet.version and r.overlaps(subnet) for r in routes)

    def _refuse_loop(self, network: Network, subnet: Subnet) -> None:
        """Stop an engine that compares IPv6 pools with the host's routes as well, and does not take ``::/0``."""
        now = time.monotonic()
        times = [each for each in self._asked.get(subnet.pool_id, []) if now - each < _LOOP_S]
        self._asked[subnet.pool_id] = [*times, now]
        if len(times) >= _LOOP_TIMES:
            raise InvalidArgument(
                f"this Docker Engine refuses the IPv6 pool of network {network.name!r}, as the host has a route to it",
                hint=f"give --subnet {subnet.subnet}",
            )

    def _with_owner(self, error: PoolOverlap, subnet: IPNetwork | None) -> PoolOverlap:
        """Say how to use the network that has just this subnet, if one has."""
        for network in self._engine.networks.all():
            if any(s.subnet == subnet and s.pool_id for s in network.subnets):
                hint = (
                    f"to use network {network.name!r}, give -o and --ipam-opt dovetail.network={network.name}"
                )
                return PoolOverlap(f"subnet {subnet} belongs to network {network.name!r}", hint=hint)
        return error

    def release_pool(self, request: wire.ReleasePoolRequest) -> None:
        """Give a pool back, with the network that was made on it for Docker; a shared one is left alone."""
        again = request.pool_id.startswith(_AGAIN)
        pool_id = request.pool_id.removeprefix(_AGAIN)
        if pool_id.startswith(_SHARED):
            return
        self._engine.addresses.release_pool(pool_id, _DOCKER)
        if not again:
            self._engine.networks.disown(_FACE, pool_id)

    def request_address(self, request: wire.RequestAddressRequest) -> wire.RequestAddressReply:
        """Hold an address: the one asked for or none; a substitute is never given."""
        pool_id = _plain(request.pool_id)
        asked = parse_address(request.address, where="$.Address") if request.address else None
        kind = request.options.get("RequestAddressType", "")
        if request.pool_id.startswith(_SHARED):
            reserved = self._reserved(pool_id, asked, gateway=kind == _GATEWAY)
            if reserved is not None:
                return wire.RequestAddressReply(address=reserved)
        name = request.options.get(_NAME, "")[:_NAME_MAX]
        interface = self._engine.addresses.request(
            pool_id,
            AddressRequest(
                kind="gateway" if kind == _GATEWAY else "docker",
                owner=_DOCKER,
                address=asked,
                key=_key(name, request.options.get(_MAC, "")),
            ),
            name=name,
        )
        return wire.RequestAddressReply(address=str(interface))

    def _reserved(self, pool_id: str, asked: IPAddress | None, *, gateway: bool) -> str | None:
        """Give what the network of a shared pool has reserved itself: its gateway, an auxiliary address."""
        network = self._engine.networks.get(self._engine.addresses.pool(pool_id).owner)
        subnet = next((s for s in network.subnets if s.pool_id == pool_id), None)
        if subnet is None:
            return None
        if not gateway:
            mine = asked is not None and asked in subnet.aux.values()
            return str(interface_in(asked, subnet.subnet)) if mine and asked else None
        if subnet.gateway is None or asked not in {None, subnet.gateway}:
            has = subnet.gateway or "none"
            raise InvalidArgument(
                f"the gateway of network {network.name!r} is {has}, not {asked}",
                where="--gateway",
                hint="leave --gateway out",
            )
        return str(interface_in(subnet.gateway, subnet.subnet))

    def release_address(self, request: wire.ReleaseAddressRequest) -> None:
        """Give an address back; one that Docker does not hold (any more) is left alone."""
        address = parse_address(request.address, where="$.Address")
        self._engine.addresses.release(_plain(request.pool_id), address, _DOCKER)


def _key(name: str, mac: str) -> str:
    """Say for which container an address is, so that a sticky pool gives it the same again.

    By its name where Docker says it, as a MAC that no user has fixed is another one each time.
    """
    if name:
        return f"name:{name}"
    return f"mac:{Mac(mac)}" if mac else ""


def _plain(pool_id: str) -> str:
    """Give our id of a pool for the one that Docker was given."""
    return pool_id.removeprefix(_SHARED).removeprefix(_AGAIN)


def _subnet(text: str, *, v6: bool, where: str) -> IPNetwork | None:
    if not text:
        return None
    subnet = parse_subnet(text, where=where)
    if (subnet.version == 6) != v6:
        raise InvalidArgument(f"{subnet} is not an IPv{6 if v6 else 4} subnet", where=where)
    return subnet


def _choose(network: Network, asked: IPNetwork | None, *, v6: bool) -> Subnet:
    version = 6 if v6 else 4
    own = [s for s in network.subnets if s.subnet.version == version and s.pool_id]
    if not own:
        raise InvalidArgument(
            f"network {network.name!r} has no IPv{version} pool of dovetail's",
            where="--ipam-opt dovetail.network",
            hint="leave --ipv6 out" if v6 else "",
        )
    if asked is None or str(asked) in ANY_POOLS:
        return own[0]
    for subnet in own:
        if subnet.subnet == asked:
            return subnet
    names = " and ".join(str(s.subnet) for s in own)
    raise InvalidArgument(
        f"network {network.name!r} has {names}, not {asked}",
        where="--subnet",
        hint=f"give --subnet {own[0].subnet}, or no subnet",
    )


def _range(subnet: Subnet) -> str:
    return f"the IP range {subnet.ip_range}" if subnet.ip_range else "no IP range"
