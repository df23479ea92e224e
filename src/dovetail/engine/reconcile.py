"""Store against kernel: what a crash, a reboot or an operator left behind is repaired or released.

Safe beside operations under way: an object whose lock is held is skipped, and the kernel is read
before the store, so nothing that is being made looks like nobody's.

A pass decides on each thing (`faults.py`) and deals with it before it goes on to the next; a plan is the same pass
that only says what it would do. What goes together with something else is no finding of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from dovetail.engine.addresses import Addresses
from dovetail.engine.core import Core
from dovetail.engine.endpoints import Endpoints
from dovetail.engine.faults import Faults
from dovetail.engine.firewall import Firewall
from dovetail.engine.networks import Networks
from dovetail.engine.parts import Parts
from dovetail.engine.report import Action, DockerNetworks, Finding, Report
from dovetail.engine.subnets import DOCKER
from dovetail.errors import DovetailError, InvalidArgument, NotFound, one_sentence
from dovetail.kernel.recording import RecordingKernel
from dovetail.model.endpoint import Endpoint
from dovetail.model.names import link_id, parse_alias, short
from dovetail.model.network import Network
from dovetail.model.sandbox import Sandbox
from dovetail.store.protocol import Binding

__all__ = ["Reconciler"]


class Reconciler:
    """Makes passes over endpoints, bindings, networks, links, addresses, sandboxes and the firewall."""

    def __init__(
        self,
        core: Core,
        networks: Networks,
        endpoints: Endpoints,
        parts: Parts,
        addresses: Addresses,
        firewall: Firewall,
    ) -> None:
        self._core = core
        self._networks = networks
        self._endpoints = endpoints
        self._parts = parts
        self._addresses = addresses
        self._firewall = firewall

    def run(self, *, ask_docker: bool, everything: bool) -> Report:
        """Repair what differs; goes on past a failure and reports it."""
        with self._core.tracer.step("engine", "reconcile"):
            return self._pass(acting=True, ask_docker=ask_docker, everything=everything)

    def plan(self, *, ask_docker: bool, everything: bool) -> Report:
        """Say what `run` would do now; changes nothing."""
        with self._core.tracer.step("engine", "plan"):
            return self._pass(acting=False, ask_docker=ask_docker, everything=everything)

    def _pass(self, *, acting: bool, ask_docker: bool, everything: bool) -> Report:
        report = Report()
        docker = self._ask_docker(report) if ask_docker else None
        faults = Faults(self._core, self._endpoints, self._addresses, docker, everything=everything)
        nouns = (self._networks, self._endpoints, self._parts, self._addresses, self._firewall)
        _Pass(self._core, *nouns, faults, report, acting=acting).go()
        return report

    def _ask_docker(self, report: Report) -> DockerNetworks | None:
        """Ask Docker for what it has of what it is to have; None where it does not answer, or was not made known."""
        core = self._core
        bound = [binding.external_id for binding in core.store.bindings() if binding.face == DOCKER]
        if core.docker is None or not (bound or any(pool.owner == DOCKER for pool in core.store.pools())):
            return None
        try:
            return core.docker(bound)
        except (DovetailError, OSError) as exc:
            report.notes.append(f"what Docker has forgotten is not known: {one_sentence(exc)}")
            return None


class _Pass:
    """One pass; `acting` or only telling."""

    def __init__(
        self,
        core: Core,
        networks: Networks,
        endpoints: Endpoints,
        parts: Parts,
        addresses: Addresses,
        firewall: Firewall,
        faults: Faults,
        report: Report,
        *,
        acting: bool,
    ) -> None:
        self._core = core
        self._networks = networks
        self._endpoints = endpoints
        self._parts = parts
        self._addresses = addresses
        self._firewall = firewall
        self._faults = faults
        self._report = report
        self._acting = acting

    def go(self) -> None:
        """Go through everything; a failure is reported and keeps nothing else."""
        store = self._core.store
        for endpoint in store.endpoints():
            self._try(f"endpoint {short(endpoint.id)}", partial(self._endpoint, endpoint))
        for attachment in dict.fromkeys(part.attachment for part in store.parts()):
            self._try(f"attachment {short(attachment)}", partial(self._attachment, attachment))
        for binding in store.bindings():
            self._try(f"Docker's network {short(binding.external_id)}", partial(self._binding, binding))
        for network in store.networks():
            self._try(f"network {network.name}", partial(self._network, network))
        self._try("links", self._links)
        self._try("addresses", self._pools)
        self._try("namespaces", self._namespaces)
        self._try("sandboxes", self._sandboxes)
        self._try("firewall", self._restore_firewall)

    def _try(self, what: str, step: Callable[[], None]) -> None:
        try:
            step()
        except (DovetailError, ExceptionGroup, OSError) as exc:
            self._report.failed.append(f"{what}: {one_sentence(exc)}")

    def _settle(
        self,
        action: Action,
        kind: str,
        what: str,
        why: str,
        do: Callable[[], object],
        *,
        since: float = 0.0,
        gone: str = "",
    ) -> None:
        """Deal with what was found, or only say so; `gone` is the id of what is not there any more then."""
        if self._acting:
            do()
        if gone:
            self._faults.gone.add(gone)
        self._report.findings.append(Finding(action=action, kind=kind, what=what, why=why, since=since))

    def _endpoint(self, endpoint: Endpoint) -> None:
        core = self._core
        if endpoint.boot_id == core.boot_id and endpoint.host_ns != core.kernel.netns_inode:
            return  # it lives on the host side of another namespace (a rootless runtime), which we cannot see
        with core.locks.try_hold(endpoint.id) as free:
            current = core.store.endpoint(endpoint.id) if free else None
            if current is None:
                return
            who, since = self._who(current), current.created
            if current.status == "joining" and current.boot_id == core.boot_id:
                why = "the join of its endpoint broke off, which may join again"
                reset = partial(self._endpoints.reset, current)
                self._settle("remove", "interface", who, why, reset, since=since)
                return
            why = self._faults.of_endpoint(current)
            if why:
                remove = partial(self._remove, current)
                self._settle("release", "endpoint", who, why, remove, since=since, gone=current.id)

    def _attachment(self, attachment: str) -> None:
        """See whether what a chain of plugins attached is there still; its parts go the last first, as DEL has them."""
        core = self._core
        parts = core.store.parts(attachment=attachment)
        if any(p.boot_id == core.boot_id and p.host_ns != core.kernel.netns_inode for p in parts):
            return  # as of an endpoint
        with core.locks.try_hold(attachment) as free:
            parts = core.store.parts(attachment=attachment) if free else []
            found = {part.kind: self._parts.loss(part, self._faults.link_names) for part in parts}
            # what made the interface is the one that the others are there for
            main = next((found[p.kind] for p in parts if core.part_kind(p.kind).layer == "driver"), "")
            for part in reversed(parts):
                why = found[part.kind] or main
                if why:
                    owner = part.owner
                    what = f"{part.kind} of {short(owner.container)}/{owner.ifname} on {owner.network}"
                    do = partial(self._parts.take_back, part)
                    self._settle("release", "part", what, why, do, since=part.created, gone=attachment)

    def _remove(self, endpoint: Endpoint) -> None:
        rows = self._core.store.addresses(owner=endpoint.id)
        self._endpoints.remove(endpoint)
        self._addresses.note_lost(rows)

    def _who(self, endpoint: Endpoint) -> str:
        network = self._core.store.network(endpoint.network_id)
        name = endpoint.name or endpoint.owner.container
        words = [f"{name} ({short(endpoint.id)})" if name else short(endpoint.id)]
        words.append(f"on {network.name if network is not None else short(endpoint.network_id)}")
        return " ".join([*words, *(str(address.ip) for address in endpoint.addresses)])

    def _binding(self, binding: Binding) -> None:
        """See whether Docker still has a network that was made here for it, or that it uses."""
        network = self._core.store.network(binding.network_id)
        why = self._faults.of_binding(binding) if network is not None else ""
        if network is None or not why:
            return
        whose = f"Docker's {binding.name or short(binding.external_id)}"
        do = partial(self._unbind, binding)
        since = binding.created or network.created
        if self._faults.is_last(binding):
            what = f"{network.name}, {whose}"
            self._settle("remove", "network", what, why, do, since=since, gone=network.id)
        else:
            self._settle("release", "binding", f"{whose} on {network.name}", why, do, since=since)

    def _unbind(self, binding: Binding) -> None:
        self._endpoints.collect(binding.face, binding.external_id, ())
        self._networks.unbind(binding.face, binding.external_id)

    def _network(self, network: Network) -> None:
        core = self._core
        with core.locks.try_hold(network.id) as free:
            current = core.store.network(network.id) if free else None
            if current is None or current.id in self._faults.gone:
                return
            why = self._faults.of_network(current)
            if why:
                active = current.status == "active"
                do = (
                    partial(self._networks.remove, current.id)
                    if active
                    else partial(self._networks.unmake, current)
                )
                since = current.created
                self._settle("remove", "network", current.name, why, do, since=since, gone=current.id)
            elif current.link and current.link not in self._faults.link_names:
                what = f"{current.link} of network {current.name}"
                self._settle("restore", "link", what, "it is missing", partial(self._restore_link, current))
            elif self._acting:
                self._make_again(current)

    def _make_again(self, network: Network) -> None:
        core = self._core
        network = self._networks.follow_uplink(network)
        with ExitStack() as undo:
            self._firewall.before_forwarding(network, undo)
            core.driver(network.driver).create_network(core.kernel, network, core.store.id, undo)
            undo.pop_all()

    def _restore_link(self, network: Network) -> None:
        self._make_again(network)
        for endpoint in self._core.store.endpoints(network_id=network.id):
            if endpoint.link in self._faults.link_names:
                self._core.kernel.set_link(endpoint.link, master=network.link, up=True)

    def _links(self) -> None:
        store = self._core.store
        for link in self._faults.links:
            owner = parse_alias(link.alias)
            if owner is None or owner[0] != store.id:
                continue
            _, kind, identifier = owner
            if identifier in self._faults.gone or self._is_owner(kind, identifier):
                continue
            # the same container may be attached again, under the same id and link; and a link that several networks
            # share may have been handed to the next of them
            with self._core.locks.try_hold(identifier) as free:
                owned = not free or self._is_owner(kind, identifier)
                now = None if owned else self._core.kernel.link(link.name)
                if now is not None and now.alias == link.alias:
                    do = partial(self._core.kernel.delete_links, [link.name])
                    why = f"{kind} {short(identifier)}, whose it was, is gone"
                    self._settle("remove", "link", link.name, why, do)

    def _is_owner(self, kind: str, identifier: str) -> bool:
        """Say whether there is a network, an endpoint or an attachment of that id, or attachments on a bridge of that id."""
        store = self._core.store
        if kind == "bridge":  # that attachments share, or somebody else uses
            links = self._core.kernel.links()
            indices = {link.ifindex for link in links if link_id(link.name) == identifier}
            if any(link.master in indices for link in links):
                return True
            return any(link_id(part.link) == identifier for part in store.parts() if part.link)
        if kind == "attachment":
            return bool(store.parts(attachment=identifier))
        find = store.endpoint if kind == "endpoint" else store.network
        return find(identifier) is not None

    def _pools(self) -> None:
        store, faults = self._core.store, self._faults
        with store.transaction():
            networks = {network.id for network in store.networks()}
            endpoints = {endpoint.id for endpoint in store.endpoints()}
            for pool in store.pools():
                why = faults.of_pool(pool, networks)
                if why:
                    do = partial(store.delete_pool, pool.id)
                    self._settle("release", "pool", str(pool.subnet), why, do, since=pool.created)
                    continue
                for row in store.addresses(pool.id):
                    why = faults.of_address(row, pool, networks, endpoints)
                    if why:
                        give = partial(store.delete_address, row.pool_id, row.address)
                        self._settle("release", "address", str(row.address), why, give, since=row.created)

    def _namespaces(self) -> None:
        core, store = self._core, self._core.store
        mounted = os.listdir(core.netns_dir) if os.path.isdir(core.netns_dir) else []
        known = {sandbox.netns for sandbox in store.sandboxes()}
        for path in sorted({os.path.join(core.netns_dir, name) for name in mounted} - known):
            with store.transaction():  # a sandbox is written down before its namespace is made
                if path not in {sandbox.netns for sandbox in store.sandboxes()}:
                    do = partial(core.kernel.delete_netns, path)
                    self._settle("remove", "namespace", path, "no sandbox has it", do)

    def _sandboxes(self) -> None:
        for sandbox in self._core.store.sandboxes():
            if sandbox.face == "cli":
                with self._core.locks.try_hold(sandbox.id) as free:
                    current = self._core.store.sandbox(sandbox.id) if free else None
                    if current is not None and not self._is_open(current):
                        self._forget(current, "its namespace is gone")
            else:  # one of another face is written down together with its first endpoint
                with self._core.store.transaction():
                    if self._core.store.sandbox(sandbox.id) is not None:
                        self._forget(sandbox, "no endpoint is in it")

    def _is_open(self, sandbox: Sandbox) -> bool:
        if sandbox.boot_id != self._core.boot_id:
            return False
        try:
            self._core.kernel.open_netns(sandbox.netns).close()
        except (InvalidArgument, NotFound):
            return False
        return True

    def _forget(self, sandbox: Sandbox, why: str) -> None:
        """Forget a sandbox that no endpoint is in that stays; one of another face goes with its last endpoint."""
        inside = self._core.store.endpoints(sandbox_id=sandbox.id)
        if not self._faults.gone.issuperset(e.id for e in inside) or (inside and sandbox.face != "cli"):
            return
        do = partial(self._delete_sandbox, sandbox)
        self._settle("remove", "sandbox", sandbox.name, why, do, since=sandbox.created)

    def _delete_sandbox(self, sandbox: Sandbox) -> None:
        if sandbox.made:
            self._core.kernel.delete_netns(sandbox.netns)
        self._core.store.delete_sandbox(sandbox.id)

    def _restore_firewall(self) -> None:
        firewall = self._firewall
        if not self._acting:
            firewall = Firewall(replace(self._core, kernel=RecordingKernel(self._core.kernel)))
        self._report.findings += [
            Finding(action="restore", kind="firewall", what="inet dovetail", why=sentence)
            for sentence in firewall.restore()
        ]
