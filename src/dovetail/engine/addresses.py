"""Pools and addresses, as CNM's IPAM calls ask for them."""

from __future__ import annotations

import threading
from collections.abc import Iterable

import msgspec

from dovetail.engine.core import Core
from dovetail.engine.subnets import DOCKER
from dovetail.errors import AddressInUse, NotFound
from dovetail.model.addresses import IPAddress, IPInterface, interface_in, is_any
from dovetail.model.names import short
from dovetail.model.pool import Address, AddressRequest, Pool, PoolRequest

__all__ = ["Addresses"]

_IPAM = "local"
_NAMES = 1024  # of containers that Docker is about to make endpoints for


class Addresses:
    """Operations on pools and addresses that are not tied to an endpoint of ours (yet)."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._began = core.now()
        self._replay: set[tuple[str, IPAddress]] = set()
        self._replay_pools: set[str] = set()
        self._replayed_pools: set[str] = set()
        self._replay_since = 0.0
        self._replay_lock = threading.Lock()
        self._names: dict[tuple[str, IPAddress], str] = {}
        self._lost: set[tuple[str, IPAddress]] = set()

    def begin_replay(self) -> None:
        """Let a Docker Engine that starts anew ask once more for what it holds.

        dockerd repeats RequestPool and RequestAddress for its networks and endpoints after Plugin.Activate
        (cnm.md §2.3), with nothing that marks the end. Each pool and address that it holds may be claimed once,
        an address only after its pool.
        """
        store = self._core.store
        with store.transaction():
            owners = {DOCKER, *(b.network_id for b in store.bindings() if b.face == "docker")}
            pools = [pool.id for pool in store.pools() if pool.owner in owners]
            rows = store.addresses()
            endpoints = {e.id for e in store.endpoints() if e.owner.face == "docker"}
        with self._replay_lock:
            self._replay_pools = set(pools)
            self._replayed_pools = set()
            self._replay_since = self._core.now()
            self._replay = {
                (row.pool_id, row.address)
                for row in rows
                if row.kind in {"gateway", "aux", "docker"} or row.owner in endpoints
            }

    def request_pool(self, request: PoolRequest) -> Pool:
        """Hold a pool, clear of other pools, and where it is chosen of the host's routes.

        One that is asked for may be the subnet of a wire that the host is on too, for endpoints on that wire:
        whether it clashes with a route is seen when the network is made. A replayed request gets the pool that
        is held. So does one for a pool that Docker has asked a daemon before this one for, or long ago, and has not
        used: it never got the reply (its retry is empty), and so does not know that it holds it.
        """
        core = self._core
        with core.tracer.step("ipam", "request pool", subnet=str(request.subnet or "any")):
            if request.subnet is not None:
                for pool in core.store.pools():
                    asked = (request.space, request.subnet, request.ip_range)
                    same = (pool.space, pool.subnet, pool.ip_range) == asked
                    if same and (self.claim_again(pool.id) or self._unused(pool, request.owner)):
                        return pool
            chosen = is_any(request.subnet)
            routes = [route.destination for route in core.kernel.routes()] if chosen else []
            pool = core.ipam(_IPAM).request_pool(request, routes=routes)
            with self._replay_lock:
                self._replayed_pools.discard(pool.id)
            return pool

    def claim_again(self, pool_id: str) -> bool:
        """Note that Docker, started anew, asks for a pool that it held; False where there is none to ask for."""
        with self._replay_lock:
            if pool_id not in self._replay_pools:
                return False
            self._replay_pools.discard(pool_id)
            self._replayed_pools.add(pool_id)
        return True

    def is_claimed_again(self, pool_id: str) -> bool:
        """Say whether Docker, started anew, has asked for a pool that it held."""
        with self._replay_lock:
            return pool_id in self._replayed_pools

    def pool(self, pool_id: str) -> Pool:
        """Find a pool; raises NotFound."""
        pool = self._core.store.pool(pool_id)
        if pool is None:
            raise NotFound("pool", pool_id)
        return pool

    def pools(self) -> list[Pool]:
        """Give all pools."""
        return self._core.store.pools()

    def used(self, pool_id: str) -> int:
        """Count the addresses of a pool that are held."""
        return self._core.store.count_addresses(pool_id)

    def release_pool(self, pool_id: str, owner: str) -> None:
        """Give a pool back if `owner` holds it; a pool that a network has made its own stays with the network."""
        with (
            self._core.tracer.step("ipam", "release pool", pool=pool_id),
            self._core.store.transaction(durable=True),
        ):
            pool = self._core.store.pool(pool_id)
            if pool is not None and pool.owner == owner:
                self._core.ipam(_IPAM).release_pool(pool_id)

    def request(self, pool_id: str, request: AddressRequest, *, name: str = "") -> IPInterface:
        """Hold an address. name: of the container that it is for, which the endpoint is then called by (`name_of`)."""
        with self._core.tracer.step("ipam", "request address", pool=pool_id) as step:
            if request.address is not None and self._replayed_address(pool_id, request.address):
                return interface_in(request.address, self.pool(pool_id).subnet)
            with self._core.store.transaction():
                self.refuse_taken(pool_id, request)
                interface = self._core.ipam(_IPAM).request_address(pool_id, request)
            self._was_lost(pool_id, interface.ip)
            step.detail = {**step.detail, "address": str(interface)}
            if name:
                self._remember(pool_id, interface.ip, name)
            return interface

    def _remember(self, pool_id: str, address: IPAddress, name: str) -> None:
        with self._replay_lock:
            if len(self._names) >= _NAMES:  # those whose endpoints never came
                self._names.pop(next(iter(self._names)))
            self._names[pool_id, address] = name

    def name_of(self, pool_id: str, address: IPAddress) -> str:
        """Give, once, the name of the container that an address was requested for; empty where it was not said."""
        with self._replay_lock:
            return self._names.pop((pool_id, address), "")

    def refuse_taken(self, pool_id: str, request: AddressRequest) -> None:
        """Raise AddressInUse, with who has it, where another has the address that is asked for.

        Two containers of Docker's are the same owner, so IPAM itself could not tell them apart.
        """
        if request.address is None:
            return
        row = self._core.store.address(pool_id, request.address)
        if row is not None and row.owner == DOCKER == request.owner and self._was_lost(pool_id, row.address):
            return
        if row is None or (row.kind, row.owner) == (request.kind, request.owner) != ("docker", DOCKER):
            return
        raise AddressInUse(
            f"address {request.address} of {self.pool(pool_id).subnet} is in use: {self._holder(row)}",
            hint="choose another address, or let one be chosen",
        )

    def _holder(self, row: Address) -> str:
        """Say who has an address, in words that a person knows."""
        store = self._core.store
        if row.owner == DOCKER:
            return "a Docker container has it, or had it a moment ago"
        if row.kind == "endpoint":
            endpoint = store.endpoint(row.owner)
            name = (endpoint.name or endpoint.owner.container if endpoint is not None else "") or short(
                row.owner
            )
            return f"endpoint {name} has it"
        network = store.network(row.owner)
        name = network.name if network is not None else short(row.owner)
        return (
            f"it is the gateway of network {name}" if row.kind == "gateway" else f"network {name} reserves it"
        )

    def release(self, pool_id: str, address: IPAddress, owner: str) -> None:
        """Give an address back if `owner` holds it; else nothing happens."""
        with self._core.tracer.step("ipam", "release address", pool=pool_id, address=str(address)):
            self._core.ipam(_IPAM).release_address(pool_id, address, owner)
            self._was_lost(pool_id, address)

    def tie(self, pool_id: str, address: IPAddress, endpoint_id: str) -> None:
        """Make an address that Docker asked for the endpoint's. One that was lost meanwhile is taken again.

        Runs inside the caller's transaction. Raises AddressInUse where it belongs to somebody else.
        """
        store = self._core.store
        row = store.address(pool_id, address)
        if row is not None and row.owner == DOCKER:
            store.put_address(msgspec.structs.replace(row, kind="endpoint", owner=endpoint_id))
            return
        request = AddressRequest(kind="endpoint", owner=endpoint_id, address=address)
        self._core.ipam(_IPAM).request_address(pool_id, request)

    def untie(self, pool_id: str, address: IPAddress, endpoint_id: str) -> None:
        """Give an endpoint's address back to Docker, which releases it itself after DeleteEndpoint.

        Until then nobody else gets it: a late ReleaseAddress must not hit its next owner.
        Runs inside the caller's transaction.
        """
        row = self._core.store.address(pool_id, address)
        if row is not None and row.owner == endpoint_id:
            self._core.store.put_address(
                msgspec.structs.replace(row, kind="docker", owner=DOCKER, created=self._core.now())
            )

    def note_lost(self, addresses: Iterable[Address]) -> None:
        """Let Docker ask for these by name before it has released them: no container has them any more.

        It may never release them, where no daemon was there when it wanted to, and start the container anew.
        """
        with self._replay_lock:
            self._lost.update((row.pool_id, row.address) for row in addresses)

    def _was_lost(self, pool_id: str, address: IPAddress) -> bool:
        """Say so once; what it is asked for then is somebody's again."""
        with self._replay_lock:
            lost = (pool_id, address) in self._lost
            self._lost.discard((pool_id, address))
        return lost

    def was_dropped(self, pool_id: str) -> bool:
        """Say whether Docker has started anew, for longer than the grace, and has not asked for this pool again.

        It asks for the pools of all its networks at once when it starts (cnm.md §2.3): one that it did not ask for
        it never got the answer for, or has given back when no daemon was there.
        """
        with self._replay_lock:
            unclaimed = pool_id in self._replay_pools
            return unclaimed and self._core.now() - self._replay_since > self._core.orphan_grace_s

    def _unused(self, pool: Pool, owner: str) -> bool:
        """Say whether Docker cannot know that it holds a pool: two networks that are made at once are not that."""
        long_ago = self._core.now() - self._core.orphan_grace_s
        before = pool.created < max(self._began, self._replay_since, long_ago)
        return before and pool.owner == owner == DOCKER and not self.used(pool.id)

    def _replayed_address(self, pool_id: str, address: IPAddress) -> bool:
        with self._replay_lock:
            if pool_id not in self._replayed_pools or (pool_id, address) not in self._replay:
                return False
            self._replay.discard((pool_id, address))
        return self._core.store.address(pool_id, address) is not None
