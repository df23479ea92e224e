"""Networks: made, found, bound to a face's own id, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import msgspec

from dovetail.drivers.network_options import follows_uplink
from dovetail.drivers.protocol import OnParent
from dovetail.engine.core import Core
from dovetail.engine.firewall import Firewall
from dovetail.engine.subnets import Subnets
from dovetail.errors import AlreadyExists, Conflict, DovetailError, InUse, InvalidArgument, NotFound
from dovetail.model.names import check_name, derive_id, new_id, short
from dovetail.model.network import Face, Network, NetworkSpec
from dovetail.store.protocol import Binding

__all__ = ["Networks"]


class Networks:
    """Operations on networks."""

    def __init__(self, core: Core, firewall: Firewall) -> None:
        self._core = core
        self._firewall = firewall
        self._subnets = Subnets(core)

    def create(self, spec: NetworkSpec) -> Network:
        """Make a network: pools and gateways, then the driver's links, then the firewall's elements.

        Everything is undone when a step fails. The same id again gives the network that is there.
        Raises AlreadyExists, InvalidArgument, PoolOverlap, PoolExhausted, Unsupported, KernelError.
        """
        core = self._core
        check_name("network", spec.name, where="$.name")
        driver = core.driver(spec.driver)
        if spec.subnets and not driver.addressed:
            raise InvalidArgument(f"a {driver.name} network has no subnets", where="$.subnets")
        if spec.routes and not driver.addressed:
            raise InvalidArgument(f"a {driver.name} network has no routes", where="$.routes")
        network = Network(
            id=spec.id or new_id(),
            name=spec.name,
            driver=spec.driver,
            ipam=spec.ipam,
            internal=spec.internal,
            routes=spec.routes,
            options=spec.options,
            labels=spec.labels,
            face=spec.face,
            created=core.now(),
        )
        with core.tracer.step("engine", "create network", network=spec.name), self._exclusively(network):
            there = core.store.network(network.id)
            if there is not None and there.status == "active":
                return (
                    self.bind(spec.face, spec.external_id, there.id, made=True) if spec.external_id else there
                )
            self._clear_way(network)
            parent = driver.shared_parent(network) if isinstance(driver, OnParent) else ""
            with self._on_parent(parent), ExitStack() as undo:
                network = self._write_down(network, spec, undo)
                self._make(network, undo)
                network = msgspec.structs.replace(network, status="active")
                with core.store.transaction(durable=True):
                    core.store.put_network(network)
                    if spec.external_id:
                        self.bind(spec.face, spec.external_id, network.id, made=True)
                undo.pop_all()
            return network

    def _clear_way(self, network: Network) -> None:
        """Take away another network of the same name whose making or deletion a crash has cut short."""
        core = self._core
        for other in core.store.networks():
            if other.name != network.name or other.id == network.id or other.status == "active":
                continue
            with core.locks.try_hold(other.id) as free:
                current = core.store.network(other.id) if free else None
                if current is not None and current.status != "active":
                    self.unmake(current)

    def _write_down(self, network: Network, spec: NetworkSpec, undo: ExitStack) -> Network:
        core = self._core
        with core.tracer.step("ipam", "pools and gateways"), core.store.transaction(durable=True):
            core.store.put_network(
                network
            )  # claims the name, so that a second one is refused before anything else
            subnets = self._subnets.hold(network, spec, core.driver(spec.driver))
            network = msgspec.structs.replace(network, subnets=subnets)
            network = core.driver(spec.driver).plan_network(core.kernel, network, core.store.id)
            for other in core.store.networks():
                if network.link and other.id != network.id and other.link == network.link:
                    raise Conflict(
                        f"link {network.link!r} belongs to network {other.name!r}", where="$.options.bridge"
                    )
            driver = core.driver(network.driver)
            if isinstance(driver, OnParent):
                driver.check_beside(core.kernel, network, self._beside(network))
            core.store.put_network(network)
        undo.callback(self._forget, network)
        return network

    def _make(self, network: Network, undo: ExitStack) -> None:
        core = self._core
        with core.tracer.step("driver", f"{network.driver} create network", link=network.link):
            self._firewall.before_forwarding(network, undo)
            core.driver(network.driver).create_network(core.kernel, network, core.store.id, undo)
        with core.tracer.step("feature", "firewall of the network"):
            undo.callback(self._firewall.remove_network, network)
            self._firewall.add_network(network)

    def _forget(self, network: Network) -> None:
        core = self._core
        with core.store.transaction(durable=True):
            self._subnets.give_back(network)
            for binding in core.store.bindings(network_id=network.id):
                core.store.delete_binding(binding.face, binding.external_id)
            core.store.delete_network(network.id)

    def delete(self, ref: str) -> None:
        """Delete a network; raises NotFound, or InUse naming its endpoints."""
        network = self.get(ref)
        with (
            self._core.tracer.step("engine", "delete network", network=network.name),
            self._exclusively(network),
        ):
            users = [
                f"{b.face} network {b.name or short(b.external_id)}"
                for b in self._core.store.bindings(network_id=network.id)
            ]
            if users:
                hint = "remove it there first; dovetail gc where it is not known there any more"
                raise InUse("network", network.name, users, hint=hint)
            self.remove(network.id)

    def remove(self, network_id: str) -> None:
        """Delete a network that nobody is on; the caller holds its lock. Raises InUse."""
        network = self._begin_to_delete(network_id)
        if network is not None:
            self.unmake(network)

    def _begin_to_delete(self, network_id: str) -> Network | None:
        """Write down that a network is being deleted, so that a crash is finished later. Raises InUse."""
        core = self._core
        with core.store.transaction(durable=True):
            network = core.store.network(network_id)
            if network is None:
                return None
            endpoints = core.store.endpoints(network_id=network_id)
            if endpoints:
                holders = [f"endpoint {e.name or e.owner.container or short(e.id)}" for e in endpoints]
                raise InUse("network", network.name, holders, hint="disconnect them first")
            network = msgspec.structs.replace(network, status="deleting")
            core.store.put_network(network)
        return network

    def unmake(self, network: Network) -> None:
        """Take the network out of the kernel, then out of the store; what is gone already is no error.

        Goes on past a failure and raises all of them together; the store keeps the row then, so that
        deleting again finishes the work.
        """
        core = self._core
        failures: list[Exception] = []
        with core.tracer.step("feature", "firewall of the network"):
            try:
                self._firewall.remove_network(network)
            except DovetailError as exc:
                failures.append(exc)
        driver = core.driver(network.driver)
        with self._on_parent(network.parent):
            with core.tracer.step("driver", f"{network.driver} delete network", link=network.link):
                try:
                    driver.delete_network(core.kernel, network)
                    if isinstance(driver, OnParent):
                        driver.release_parent(core.kernel, network, self._beside(network))
                except DovetailError as exc:
                    failures.append(exc)
            if len(failures) == 1:
                raise failures[0]
            if failures:
                raise ExceptionGroup(f"network {network.name!r} is not fully deleted", failures)
            self._forget(network)

    def follow_uplink(self, network: Network) -> Network:
        """Give a network whose MTU is the uplink's the one that the uplink has by now; the caller holds its lock.

        Only while nobody is on it: of two MTUs on one link, what is too long for the lesser is lost without a word.
        """
        core = self._core
        driver = core.driver(network.driver)
        if not follows_uplink(network.options, driver.options()) or core.store.endpoints(
            network_id=network.id
        ):
            return network
        mtu = driver.plan_network(core.kernel, network, core.store.id).mtu
        if mtu in {0, network.mtu}:
            return network
        network = msgspec.structs.replace(network, mtu=mtu)
        with core.store.transaction(durable=True):
            core.store.put_network(network)
        return network

    def get(self, ref: str) -> Network:
        """Find one by name, id or unique prefix of its id."""
        return self._core.store.find_network(ref)

    def all(self) -> list[Network]:
        """Give all, by name."""
        return sorted(self._core.store.networks(), key=lambda network: network.name)

    def bind(self, face: Face, external_id: str, ref: str, *, made: bool = False) -> Network:
        """Let `face` know network `ref` by `external_id` as well; twice the same is no error.

        made: the network exists for this binding and goes with it. Raises AlreadyExists where `external_id` is
        another network's.
        """
        network = self.get(ref)
        with self._core.store.transaction(durable=True):
            there = self._core.store.binding(face, external_id)
            if there is not None and there.network_id != network.id:
                raise AlreadyExists(f"{face} network", short(external_id))
            there = there or Binding(face, external_id, network.id, made, created=self._core.now())
            self._core.store.put_binding(there._replace(made=made or there.made))
        return network

    def name_binding(self, face: Face, external_id: str, name: str, labels: Mapping[str, str]) -> None:
        """Note what `face` calls the network that it knows as `external_id`; one that is gone is no error.

        The network keeps its own name, and is found by this one as well.
        """
        with self._core.store.transaction():
            there = self._core.store.binding(face, external_id)
            pairs = tuple(sorted(labels.items()))
            if there is not None and (there.name, there.labels) != (name, pairs):
                self._core.store.put_binding(there._replace(name=name, labels=pairs))

    def bound(self, face: Face, external_id: str) -> Network:
        """Find the network that `face` knows as `external_id`; raises NotFound."""
        binding = self._core.store.binding(face, external_id)
        network = self._core.store.network(binding.network_id) if binding else None
        if network is None:
            raise NotFound(f"{face} network", short(external_id))
        return network

    def unbind(self, face: Face, external_id: str) -> None:
        """Forget a binding. A network made for it is deleted, unless others still use it. Never raises NotFound."""
        core = self._core
        binding = core.store.binding(face, external_id)
        if binding is None:
            return
        network = core.store.network(binding.network_id) if binding.made else None
        if network is None:
            with core.store.transaction(durable=True):
                core.store.delete_binding(face, external_id)
            return
        with core.tracer.step("engine", "delete network", network=network.name), self._exclusively(network):
            deleting: Network | None = None
            with core.store.transaction(durable=True):
                core.store.delete_binding(face, external_id)
                others = core.store.bindings(network_id=network.id)
                if not others:
                    deleting = self._unless_used(network)
                elif not any(other.made for other in others):
                    core.store.put_binding(others[0]._replace(made=True))  # it goes with the last
            if deleting is not None:
                self.unmake(deleting)

    def disown(self, face: Face, pool_id: str) -> None:
        """Delete the network that was made for `face` on this pool, unless others use it: `face` gives the pool back.

        Docker does before DeleteNetwork; and in place of it, where the reply to CreateNetwork was lost.
        """
        store = self._core.store
        pool = store.pool(pool_id)
        network = store.network(pool.owner) if pool is not None else None
        if network is None or network.face != face:
            return
        if all(binding.made for binding in store.bindings(network_id=network.id)):
            self._delete_unused(network)

    def _delete_unused(self, network: Network) -> None:
        core = self._core
        with core.tracer.step("engine", "delete network", network=network.name), self._exclusively(network):
            deleting = self._unless_used(network)
            if deleting is not None:
                self.unmake(deleting)

    def _unless_used(self, network: Network) -> Network | None:
        """Begin to delete a network, unless pods or sandboxes are on it: then it stays theirs."""
        try:
            return self._begin_to_delete(network.id)
        except InUse as exc:
            self._core.tracer.note("kept", str(exc))
            return None

    def _on_parent(self, parent: str) -> ExitStack:
        """Keep other networks off the host's link `parent`; an empty one is nobody's."""
        stack = ExitStack()
        if parent:
            lock, what = derive_id("parent", parent), f"interface {parent!r}"
            stack.enter_context(self._core.locks.hold(lock, timeout_s=self._core.lock_timeout_s, what=what))
        return stack

    def _beside(self, network: Network) -> list[Network]:
        """Give the other networks on its parent."""
        return [n for n in self._core.store.networks() if n.id != network.id and n.parent == network.parent]

    def _exclusively(self, network: Network) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(
            self._core.locks.hold(
                network.id, timeout_s=self._core.lock_timeout_s, what=f"network {network.name!r}"
            )
        )
        return stack
