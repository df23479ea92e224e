"""Endpoints: created, joined to a sandbox, left, deleted; and all of it in one step.

The order that makes a crash harmless: the row is written before the kernel is touched and goes
after the kernel is clean, so `reconcile` finds an owner for everything or removes it.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, ExitStack

import msgspec

from dovetail.engine.addresses import Addresses
from dovetail.engine.core import Core
from dovetail.engine.firewall import Firewall
from dovetail.engine.holdings import Holdings
from dovetail.engine.ids import endpoint_id as derive_endpoint_id
from dovetail.engine.ports import settle_ports
from dovetail.errors import AlreadyExists, Conflict, DovetailError, NotFound
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment
from dovetail.model.endpoint import Endpoint, EndpointSpec
from dovetail.model.names import check_ifname, short
from dovetail.model.network import Face, Network
from dovetail.model.port import PortMapping
from dovetail.model.sandbox import Sandbox

__all__ = ["Endpoints"]


class Endpoints:
    """Operations on endpoints."""

    def __init__(self, core: Core, firewall: Firewall, addresses: Addresses) -> None:
        self._core = core
        self._firewall = firewall
        self._holdings = Holdings(core, addresses)
        self._ids: dict[str, str] = {}

    def attach(self, network: str, spec: EndpointSpec, *, netns: Netns, sandbox: Sandbox) -> Attachment:
        """Create an endpoint and join it to `netns` under ``spec.owner.ifname`` (CNI's ADD).

        `sandbox` says whose namespace it is; it is written down if it is not known yet. The endpoint
        id is derived from ``spec.owner``, see `ids.endpoint_id`. What a crashed attachment of the same id
        left is removed first. Raises AlreadyExists where it is attached already.
        """
        remembered = self._ids.get(network)
        if remembered is not None:
            try:
                return self._attach(network, remembered, spec, netns, sandbox)
            except NotFound as exc:
                if exc.kind != "network":
                    raise
                self._ids.pop(network, None)  # it was deleted; perhaps another has the name
        return self._attach(network, self._find(network), spec, netns, sandbox)

    def _attach(
        self, ref: str, network_id: str, spec: EndpointSpec, netns: Netns, sandbox: Sandbox
    ) -> Attachment:
        core = self._core
        ifname = check_ifname(spec.owner.ifname, where="$.ifname")
        identifier = spec.id or derive_endpoint_id(spec.owner)
        with (
            core.tracer.step("engine", "attach", network=ref, ifname=ifname),
            self._locked(network_id, identifier),
        ):
            found = self._active(network_id)
            self._clear_way(found, identifier)
            with ExitStack() as undo:
                endpoint = self._write_down(found, identifier, spec, sandbox, netns, undo)
                self._guard(found, endpoint, undo)
                attachment = self._join(found, endpoint, netns, ifname, undo)
                attachment = msgspec.structs.replace(attachment, dns=spec.dns, sandbox=sandbox.netns)
                endpoint = msgspec.structs.replace(endpoint, status="joined", attachment=attachment)
                self._program(found, endpoint, undo)
                core.store.note_endpoint(endpoint)
                undo.pop_all()
        return attachment

    def _write_down(
        self,
        network: Network,
        identifier: str,
        spec: EndpointSpec,
        sandbox: Sandbox,
        netns: Netns,
        undo: ExitStack,
    ) -> Endpoint:
        core = self._core
        with core.tracer.step("ipam", "addresses") as step, core.store.transaction():
            endpoint = self._holdings.take(network, identifier, spec)
            ports = settle_ports(core, network, endpoint, spec.ports)
            step.detail = {"addresses": " ".join(map(str, endpoint.addresses))}
            core.store.enter_sandbox(
                msgspec.structs.replace(sandbox, inode=netns.inode, boot_id=core.boot_id)
            )
            endpoint = core.driver(network.driver).plan_endpoint(network, endpoint)
            endpoint = msgspec.structs.replace(endpoint, ports=ports, sandbox_id=sandbox.id)
            core.store.put_endpoint(endpoint)
            core.store.claim_ports(identifier, ports)
        undo.callback(self._holdings.give_up, network, endpoint)
        return endpoint

    def _join(
        self, network: Network, endpoint: Endpoint, netns: Netns | None, ifname: str, undo: ExitStack
    ) -> Attachment:
        core = self._core
        with core.tracer.step("driver", f"{network.driver} join", ifname=ifname, link=endpoint.link):
            return core.driver(network.driver).join(
                core.kernel,
                network,
                endpoint,
                sandbox=netns,
                ifname=ifname,
                store_id=core.store.id,
                undo=undo,
            )

    def _guard(self, network: Network, endpoint: Endpoint, undo: ExitStack) -> None:
        """Let the firewall know whose the endpoint's link is before it is there, where it has one to itself."""
        if network.firewall is None or network.firewall.link:
            return
        with self._core.tracer.step("feature", "guard", link=endpoint.link):
            undo.callback(self._firewall.remove_link, network, endpoint)
            self._firewall.add_link(network, endpoint)

    def _program(self, network: Network, endpoint: Endpoint, undo: ExitStack) -> None:
        if not endpoint.ports:
            return
        with self._core.tracer.step("feature", "publish", ports=" ".join(map(str, endpoint.ports))):
            undo.callback(self._firewall.remove_endpoint, network, endpoint)
            self._firewall.add_endpoint(network, endpoint)
            self._forget_flows(endpoint)

    def detach(self, endpoint_id: str) -> Endpoint | None:
        """Leave and delete (CNI's DEL); gives what it was, None for an unknown one, which is no error."""
        core = self._core
        endpoint = core.store.endpoint(endpoint_id)
        if endpoint is None:
            return None
        with (
            core.tracer.step("engine", "detach", endpoint=short(endpoint_id)),
            self._locked(endpoint.network_id, endpoint_id),
        ):
            endpoint = core.store.endpoint(endpoint_id)
            if endpoint is not None:
                self.remove(endpoint)
        return endpoint

    delete = detach

    def create(self, network: str, spec: EndpointSpec) -> Endpoint:
        """Write an endpoint down with its addresses and MAC; nothing happens in the kernel (CNM's CreateEndpoint).

        ``spec.ports`` are not published: `publish` does. The same id again gives the endpoint that is there.
        """
        core = self._core
        found = core.store.network(network) or core.store.find_network(network)
        identifier = spec.id or derive_endpoint_id(spec.owner)
        with (
            core.tracer.step("engine", "create endpoint", network=found.name),
            self._locked(found.id, identifier),
        ):
            found = self._active(found.id)
            there = core.store.endpoint(identifier)
            if there is not None:
                return there
            with core.store.transaction():
                endpoint = self._holdings.take(found, identifier, spec)
                endpoint = core.driver(found.driver).plan_endpoint(found, endpoint)
                endpoint = msgspec.structs.replace(endpoint, status="created")
                core.store.put_endpoint(endpoint)
            return endpoint

    def join(
        self, endpoint_id: str, *, sandbox: Sandbox, netns: Netns | None, network: str = "", ifname: str = ""
    ) -> Attachment:
        """Bring an endpoint into a sandbox; `netns` None hands the interface over (CNM's Join up to Docker 25).

        network: the id of the network that the endpoint is to be on; it is not found on another. ifname: what
        its owner said, where it is left out.
        """
        core = self._core
        endpoint = self.known(endpoint_id)
        if network and network != endpoint.network_id:
            raise NotFound("endpoint", short(endpoint_id))
        with (
            core.tracer.step("engine", "join", endpoint=short(endpoint_id)),
            self._locked(endpoint.network_id, endpoint_id),
        ):
            endpoint = self.known(endpoint_id)
            on = self._active(endpoint.network_id)
            ifname = ifname or endpoint.owner.ifname or on.ifname_prefix
            self._unlink(on, endpoint)  # of an earlier join that was left or broke off
            with ExitStack() as undo:
                created = msgspec.structs.replace(endpoint, status="created", attachment=None, sandbox_id="")
                sandbox = msgspec.structs.replace(
                    sandbox, inode=netns.inode if netns else 0, boot_id=core.boot_id, created=core.now()
                )
                with core.store.transaction():
                    core.store.enter_sandbox(sandbox)
                    before = endpoint.sandbox_id
                    endpoint = msgspec.structs.replace(endpoint, status="joining", sandbox_id=sandbox.id)
                    core.store.put_endpoint(endpoint)
                    self._holdings.prune_sandbox(before)
                undo.callback(self._unjoin, created, sandbox.id)
                self._guard(on, endpoint, undo)
                attachment = self._join(on, endpoint, netns, ifname, undo)
                attachment = msgspec.structs.replace(attachment, dns=endpoint.dns, sandbox=sandbox.netns)
                core.store.note_endpoint(
                    msgspec.structs.replace(endpoint, status="joined", attachment=attachment)
                )
                undo.pop_all()
        return attachment

    def leave(self, endpoint_id: str) -> None:
        """Take an endpoint out of its sandbox; twice, or when the namespace is gone, is no error.

        An interface that was handed over stays until `delete`: after Leave, dockerd moves it back to
        the host's namespace (cnm.md §1.5), and would fail on one that is gone.
        """
        core = self._core
        endpoint = core.store.endpoint(endpoint_id)
        if endpoint is None or endpoint.status == "created":
            return
        with (
            core.tracer.step("engine", "leave", endpoint=short(endpoint_id)),
            self._locked(endpoint.network_id, endpoint_id),
        ):
            endpoint = core.store.endpoint(endpoint_id)
            network = core.store.network(endpoint.network_id) if endpoint else None
            if endpoint is None or network is None:
                return
            handed_over = endpoint.attachment is not None and endpoint.attachment.handover
            self._firewall.remove_endpoint(network, endpoint)
            self._forget_flows(endpoint)  # with live-restore no Revoke comes before
            if not handed_over:
                self._unlink(network, endpoint)
            core.store.release_ports(endpoint_id)
            left = msgspec.structs.replace(
                endpoint, status="created", attachment=None, sandbox_id="", ports=(), created=core.now()
            )  # it waits for its deletion from now on
            self._unjoin(left, endpoint.sandbox_id)

    def publish(self, endpoint_id: str, ports: tuple[PortMapping, ...]) -> tuple[PortMapping, ...]:
        """Publish ports (CNM's ProgramExternalConnectivity); gives them with the host ports chosen.

        Clashes raise PortInUse before anything changes. What was published before is replaced. Raises Conflict
        where the endpoint has not joined a sandbox, as nothing would answer there.
        """
        core = self._core
        endpoint = self.known(endpoint_id)
        with (
            core.tracer.step("engine", "publish", endpoint=short(endpoint_id)),
            self._locked(endpoint.network_id, endpoint_id),
        ):
            endpoint = self.known(endpoint_id)
            network = self._active(endpoint.network_id)
            if ports and endpoint.status != "joined":
                raise Conflict(
                    f"endpoint {short(endpoint_id)} has not joined a sandbox, so it publishes nothing"
                )
            before = endpoint
            with ExitStack() as undo:
                with core.store.transaction():
                    chosen = settle_ports(core, network, endpoint, ports)
                    endpoint = msgspec.structs.replace(endpoint, ports=chosen)
                    self._write_ports(endpoint)
                undo.callback(self._write_ports, before)
                self._firewall.remove_endpoint(network, before)
                undo.callback(self._firewall.add_endpoint, network, before)
                self._program(network, endpoint, undo)
                undo.pop_all()
        return chosen

    def unpublish(self, endpoint_id: str) -> None:
        """Withdraw all published ports; none is no error."""
        endpoint = self._core.store.endpoint(endpoint_id)
        if endpoint is not None and endpoint.ports:
            self.publish(endpoint_id, ())
            self._forget_flows(endpoint)

    def name(self, endpoint_id: str, name: str, *, container: str) -> None:
        """Note what the endpoint's container is called and its id; the sandbox gets both. No error where it is gone.

        A face that is told neither when it creates the endpoint (Docker) learns them later.
        """
        core = self._core
        endpoint = core.store.endpoint(endpoint_id)
        if endpoint is None or self._is_named(endpoint, name, container):
            return
        with self._locked(endpoint.network_id, endpoint_id), core.store.transaction():
            endpoint = core.store.endpoint(endpoint_id)
            if endpoint is None:
                return
            core.store.put_endpoint(msgspec.structs.replace(endpoint, name=name))
            sandbox = core.store.sandbox(endpoint.sandbox_id)
            if sandbox is not None and sandbox.face == endpoint.owner.face:
                core.store.put_sandbox(msgspec.structs.replace(sandbox, name=name, container=container))

    def _is_named(self, endpoint: Endpoint, name: str, container: str) -> bool:
        sandbox = self._core.store.sandbox(endpoint.sandbox_id)
        named = sandbox is None or (sandbox.name, sandbox.container) == (name, container)
        return named and endpoint.name == name

    def check(self, endpoint_id: str, netns: Netns | None) -> list[str]:
        """Say, a sentence each, how the kernel differs from what joining made; changes nothing. Raises NotFound."""
        core = self._core
        endpoint = self.known(endpoint_id)
        network = core.store.network(endpoint.network_id)
        if network is None:
            raise NotFound("network", endpoint.network_id)
        if endpoint.status != "joined":
            return [f"endpoint {short(endpoint_id)} has not joined its sandbox"]
        differences = list(core.driver(network.driver).check(core.kernel, network, endpoint, netns))
        wanted = self._firewall.joined_elements(network, endpoint)
        if wanted:
            missing = core.kernel.nft_missing(wanted)
            differences += [f"nftables has no element {e.text} in {e.set}" for e in sorted(missing, key=str)]
        return differences + self._holdings.check(network, endpoint)

    def is_alive(self, network: Network, endpoint: Endpoint, links: frozenset[str]) -> bool:
        """Say whether an endpoint that has joined still has its interface; `links` are the host's link names."""
        return self._core.driver(network.driver).is_alive(
            self._core.kernel, endpoint, links, sandbox=self._namespace(endpoint)
        )

    def get(self, ref: str) -> Endpoint:
        """Find one by name, id or unique prefix."""
        return self._core.store.find_endpoint(ref)

    def known(self, endpoint_id: str) -> Endpoint:
        """Give the one of that very id; raises NotFound."""
        endpoint = self._core.store.endpoint(endpoint_id)
        if endpoint is None:
            raise NotFound("endpoint", short(endpoint_id))
        return endpoint

    def all(self, *, network: str = "", sandbox: str = "") -> list[Endpoint]:
        """Give all, or those of one network or sandbox (ids)."""
        return self._core.store.endpoints(network_id=network, sandbox_id=sandbox)

    def collect(self, face: Face, network: str, valid: Collection[tuple[str, str]]) -> list[Endpoint]:
        """Detach what is not in `valid` (container, ifname) of what `face` attached under its network name `network`.

        Goes on past a failure and raises all of them together.
        """
        failures: list[Exception] = []
        gone: list[Endpoint] = []
        for endpoint in self._core.store.endpoints():
            owner = endpoint.owner
            if owner.face != face or owner.network != network or (owner.container, owner.ifname) in valid:
                continue
            try:
                self.detach(endpoint.id)
                gone.append(endpoint)
            except DovetailError as exc:
                failures.append(exc)
        if failures:
            raise ExceptionGroup(f"not all stale attachments of {network!r} could be removed", failures)
        return gone

    # -- for reconcile, under the endpoint's lock ---------------------------------------------------

    def remove(self, endpoint: Endpoint) -> None:
        """Take an endpoint out of the kernel and then out of the store; the caller holds its lock."""
        network = self._core.store.network(endpoint.network_id)
        if network is not None:
            self._firewall.remove_endpoint(network, endpoint)
            self._unlink(network, endpoint)
            self._forget_flows(endpoint)
        self._holdings.give_up(network, endpoint)

    def reset(self, endpoint: Endpoint) -> None:
        """Bring an endpoint whose Join broke off back to ``created``; the caller holds its lock."""
        network = self._core.store.network(endpoint.network_id)
        if network is not None:
            self._unlink(network, endpoint)
        created = msgspec.structs.replace(endpoint, status="created", attachment=None, sandbox_id="")
        self._unjoin(created, endpoint.sandbox_id)

    # -- pieces ---------------------------------------------------------------------------------------

    def _clear_way(self, network: Network, identifier: str) -> None:
        there = self._core.store.endpoint(identifier)
        if there is None:
            return
        links = frozenset(link.name for link in self._core.kernel.links())
        alive = self.is_alive(network, there, links)
        if there.status == "joined" and alive and there.boot_id == self._core.boot_id:
            what = f"{there.owner.container or there.name}/{there.owner.ifname}"
            raise AlreadyExists("attachment", what, hint="detach it first")
        self.remove(there)

    def _unlink(self, network: Network, endpoint: Endpoint) -> None:
        with self._core.tracer.step("driver", f"{network.driver} leave", link=endpoint.link):
            where = self._namespace(endpoint)
            self._core.driver(network.driver).leave(self._core.kernel, endpoint, sandbox=where)
            self._firewall.remove_link(network, endpoint)

    def _namespace(self, endpoint: Endpoint) -> str:
        """Give the path of the namespace that `endpoint` joined or was joining."""
        if endpoint.attachment is not None:
            return endpoint.attachment.sandbox
        sandbox = self._core.store.sandbox(endpoint.sandbox_id) if endpoint.sandbox_id else None
        return sandbox.netns if sandbox is not None else ""

    def _unjoin(self, endpoint: Endpoint, sandbox_id: str) -> None:
        with self._core.store.transaction():
            self._core.store.put_endpoint(endpoint)
            self._holdings.prune_sandbox(sandbox_id)

    def _write_ports(self, endpoint: Endpoint) -> None:
        with self._core.store.transaction():
            self._core.store.release_ports(endpoint.id)
            self._core.store.claim_ports(endpoint.id, endpoint.ports)
            self._core.store.put_endpoint(endpoint)

    def _forget_flows(self, endpoint: Endpoint) -> None:
        for mapping in endpoint.ports:
            # a stale UDP flow would go on to the old container for as long as it talks
            if mapping.protocol == "udp" and mapping.host_port:
                self._core.kernel.flush_conntrack("udp", port=mapping.host_port)

    def _find(self, ref: str) -> str:
        """Find a network's id; that of a name is remembered, as a network keeps its name until it is deleted."""
        found = self._core.store.find_network(ref)
        if found.name == ref:
            self._ids[ref] = found.id
        return found.id

    def _active(self, network_id: str) -> Network:
        network = self._core.store.network(network_id)
        if network is None:
            raise NotFound("network", short(network_id))
        if network.status != "active":
            raise Conflict(
                f"network {network.name!r} is being {'made' if network.status == 'creating' else 'deleted'}"
            )
        return network

    def _locked(self, network_id: str, endpoint_id: str) -> AbstractContextManager[None]:
        """Keep the network as it is, and other operations off the endpoint."""
        return self._core.locks.hold(
            endpoint_id, within=network_id, timeout_s=self._core.lock_timeout_s, what="the endpoint"
        )
