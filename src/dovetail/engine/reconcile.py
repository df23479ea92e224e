"""Store against kernel: what a crash, a reboot or an operator left behind is repaired or released.

Safe beside operations under way: an object whose lock is held is skipped, and the kernel is read
before the store, so nothing that is being made looks like nobody's.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from dovetail.engine.core import Core
from dovetail.engine.endpoints import Endpoints
from dovetail.engine.firewall import Firewall
from dovetail.engine.networks import Networks
from dovetail.engine.report import Report
from dovetail.engine.subnets import DOCKER
from dovetail.errors import DovetailError, InvalidArgument, NotFound, one_sentence
from dovetail.kernel.protocol import Link
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import parse_alias, short
from dovetail.model.network import Network
from dovetail.model.sandbox import Sandbox

__all__ = ["Reconciler"]


class Reconciler:
    """One pass over networks, endpoints, links, addresses, sandboxes and the firewall."""

    def __init__(self, core: Core, networks: Networks, endpoints: Endpoints, firewall: Firewall) -> None:
        self._core = core
        self._networks = networks
        self._endpoints = endpoints
        self._firewall = firewall

    def run(self) -> Report:
        """Repair what differs; goes on past a failure and reports it."""
        report = Report()
        with self._core.tracer.step("engine", "reconcile"):
            links = self._core.kernel.links()
            for network in self._core.store.networks():
                self._try(report, f"network {network.name}", self._network, network, links)
            for endpoint in self._core.store.endpoints():
                self._try(report, f"endpoint {short(endpoint.id)}", self._endpoint, endpoint)
            self._try(report, "links", self._links, links)
            self._try(report, "addresses", self._addresses)
            self._try(report, "sandboxes", self._sandboxes)
            self._try(report, "firewall", self._restore_firewall)
        return report

    def _try(self, report: Report, what: str, step: object, *args: object) -> None:
        try:
            step(report, *args)  # type: ignore[operator]
        except (DovetailError, ExceptionGroup, OSError) as exc:
            report.failed.append(f"{what}: {one_sentence(exc)}")

    def _network(self, report: Report, network: Network, links: list[Link]) -> None:
        core = self._core
        with core.locks.try_hold(network.id) as free:
            current = core.store.network(network.id) if free else None
            if current is None:
                return
            if current.status != "active":
                self._networks.unmake(current)
                report.removed.append(f"network {current.name}, which a crash had left half {current.status}")
                return
            driver = core.driver(current.driver)
            missing = bool(current.link) and current.link not in {link.name for link in links}
            with ExitStack() as undo:
                driver.create_network(core.kernel, current, core.store.id, undo)
                undo.pop_all()
            if missing:
                report.restored.append(f"link {current.link} of network {current.name}")
                self._enslave(current, links)

    def _enslave(self, network: Network, links: list[Link]) -> None:
        present = {link.name for link in links}
        for endpoint in self._core.store.endpoints(network_id=network.id):
            if endpoint.link in present:
                self._core.kernel.set_link(endpoint.link, master=network.link, up=True)

    def _endpoint(self, report: Report, endpoint: Endpoint) -> None:
        core = self._core
        if endpoint.boot_id == core.boot_id and endpoint.host_ns != core.kernel.netns_inode:
            return  # it lives on the host side of another namespace (a rootless runtime), which we cannot see
        with core.locks.try_hold(endpoint.id) as free:
            current = core.store.endpoint(endpoint.id) if free else None
            if current is None:
                return
            if current.status == "joining":
                self._endpoints.reset(current)
                report.removed.append(f"interface of endpoint {short(current.id)}, whose join broke off")
            elif current.status == "created":
                self._waiting(report, current)
            elif current.status != "joined" or not self._alive(current) or self._handed_back(current):
                self._endpoints.remove(current)
                report.released.append(f"endpoint {short(current.id)} ({current.status}) and its addresses")

    def _alive(self, endpoint: Endpoint) -> bool:
        if endpoint.boot_id != self._core.boot_id:
            return False
        network = self._core.store.network(endpoint.network_id)
        if network is None:
            return False
        links = frozenset(link.name for link in self._core.kernel.links())
        return self._endpoints.is_alive(network, endpoint, links)

    def _handed_back(self, endpoint: Endpoint) -> bool:
        """Say whether an interface that was handed over lies in the host's namespace again.

        dockerd moves it back after Leave, and asks no second time where Leave and DeleteEndpoint found no daemon.
        """
        handover = endpoint.attachment.handover if endpoint.attachment else ""
        if not handover or self._core.now() - endpoint.created <= self._core.orphan_grace_s:
            return False
        return self._core.kernel.link(handover) is not None

    def _waiting(self, report: Report, endpoint: Endpoint) -> None:
        stale = endpoint.boot_id != self._core.boot_id
        if stale or self._core.now() - endpoint.created > self._core.orphan_grace_s:
            self._endpoints.remove(endpoint)
            report.released.append(f"endpoint {short(endpoint.id)}, which nobody joined")

    def _links(self, report: Report, links: list[Link]) -> None:
        store = self._core.store
        for link in links:
            owner = parse_alias(link.alias)
            if owner is None or owner[0] != store.id:
                continue
            _, kind, identifier = owner
            find = store.endpoint if kind == "endpoint" else store.network
            if find(identifier) is not None:
                continue
            # the same container may be attached again, under the same id and link
            with self._core.locks.try_hold(identifier) as free:
                if free and find(identifier) is None:
                    self._core.kernel.delete_links([link.name])
                    report.removed.append(f"link {link.name}, which belonged to nobody")

    def _addresses(self, report: Report) -> None:
        store = self._core.store
        now = self._core.now()
        with store.transaction():
            networks = {network.id for network in store.networks()}
            endpoints = {endpoint.id for endpoint in store.endpoints()}
            for pool in store.pools():
                if pool.owner != DOCKER and pool.owner not in networks:
                    store.delete_pool(pool.id)
                    report.released.append(f"pool {pool.subnet}")
                    continue
                for row in store.addresses(pool.id):
                    orphan = {
                        "endpoint": row.owner not in endpoints,
                        "docker": pool.owner in networks and now - row.created > self._core.orphan_grace_s,
                    }.get(row.kind, row.owner != DOCKER and row.owner not in networks)
                    if orphan:
                        store.delete_address(pool.id, row.address)
                        report.released.append(f"address {row.address}")

    def _sandboxes(self, report: Report) -> None:
        core, store = self._core, self._core.store
        mounted = os.listdir(core.netns_dir) if os.path.isdir(core.netns_dir) else []
        known = {sandbox.netns for sandbox in store.sandboxes()}
        for path in {os.path.join(core.netns_dir, name) for name in mounted} - known:
            with store.transaction():  # a sandbox is written down before its namespace is made
                if path not in {sandbox.netns for sandbox in store.sandboxes()}:
                    core.kernel.delete_netns(path)
                    report.removed.append(f"namespace {path}, which belonged to nobody")
        for sandbox in store.sandboxes():
            if sandbox.face != "cli":
                self._forget_empty(report, sandbox)
                continue
            with core.locks.try_hold(sandbox.id) as free:
                current = store.sandbox(sandbox.id) if free else None
                if current is None or store.endpoints(sandbox_id=current.id):
                    continue
                if current.boot_id == core.boot_id and self._is_open(current.netns):
                    continue
                if current.made:
                    core.kernel.delete_netns(current.netns)
                store.delete_sandbox(current.id)
                report.removed.append(f"sandbox {current.name}, whose namespace is gone")

    def _forget_empty(self, report: Report, sandbox: Sandbox) -> None:
        """Forget a sandbox of another face that no endpoint is in; it is written down together with its first."""
        store = self._core.store
        with store.transaction():
            if store.sandbox(sandbox.id) is not None and not store.endpoints(sandbox_id=sandbox.id):
                store.delete_sandbox(sandbox.id)
                report.removed.append(f"sandbox {sandbox.name}, whose namespace is gone")

    def _is_open(self, path: str) -> bool:
        try:
            self._core.kernel.open_netns(path).close()
        except (InvalidArgument, NotFound):
            return False
        return True

    def _restore_firewall(self, report: Report) -> None:
        report.restored += self._firewall.restore()
