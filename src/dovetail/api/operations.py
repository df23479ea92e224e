"""The operations that change something, each one root step of the trace, as the CLI and the HTTP API ask for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from dovetail.api.requests import ConnectRequest, DisconnectRequest, NetworkRequest, SandboxRequest
from dovetail.api.views import (
    EndpointView,
    NetworkView,
    SandboxView,
    endpoint_view,
    network_view,
    sandbox_view,
)
from dovetail.engine.engine import Engine, endpoint_id
from dovetail.errors import AlreadyExists, Conflict, DovetailError, InvalidArgument, NotFound
from dovetail.kernel.protocol import Netns
from dovetail.model.endpoint import Endpoint, EndpointSpec, Owner
from dovetail.model.names import check_ifname
from dovetail.model.network import Network
from dovetail.model.sandbox import Sandbox

__all__ = ["connect", "create_network", "create_sandbox", "delete_network", "delete_sandbox", "disconnect"]

_FACE: Final = "cli"
_TRIES = 8  # interface names that others may take between our look and our attachment


def create_network(engine: Engine, request: NetworkRequest) -> NetworkView:
    """Make a network."""
    with engine.tracer.step(_FACE, "network create", network=request.name, driver=request.driver):
        return network_view(engine, engine.networks.create(request.spec()))


def delete_network(engine: Engine, ref: str) -> None:
    """Delete a network; raises InUse naming its endpoints."""
    with engine.tracer.step(_FACE, "network rm", network=ref):
        engine.networks.delete(ref)


def create_sandbox(engine: Engine, request: SandboxRequest) -> SandboxView:
    """Make a sandbox, or adopt a namespace as one."""
    with engine.tracer.step(_FACE, "sandbox create", sandbox=request.name) as step:
        sandbox = engine.sandboxes.create(request.name, netns=request.netns)
        step.detail = {"sandbox": sandbox.name, "netns": sandbox.netns}
        return sandbox_view(engine, sandbox)


def delete_sandbox(engine: Engine, ref: str) -> None:
    """Take a sandbox out of its networks and delete it; raises Conflict where another face brought it."""
    with engine.tracer.step(_FACE, "sandbox rm", sandbox=ref):
        engine.sandboxes.delete(ref)


def connect(engine: Engine, ref: str, request: ConnectRequest) -> EndpointView:
    """Attach a sandbox, whoever brought it, to a network.

    Without `ifname` the next free name of the network's prefix is taken (eth0); then a sandbox that is on the
    network already is refused (Conflict), as a second attachment is more likely a mistake than a wish.
    """
    with engine.tracer.step(_FACE, "network connect", network=ref, sandbox=request.sandbox):
        network = engine.networks.get(ref)
        sandbox = engine.sandboxes.get(request.sandbox)
        if request.ifname:
            check_ifname(request.ifname, where="$.ifname")
        else:
            _refuse_second(engine, network, sandbox)
        with engine.sandboxes.open(sandbox.id) as netns:
            _refuse_host(engine, network, sandbox, netns)
            endpoint = _attach(engine, network, sandbox, netns, request)
        return endpoint_view(engine, endpoint)


def _refuse_second(engine: Engine, network: Network, sandbox: Sandbox) -> None:
    for endpoint in engine.endpoints.all(network=network.id, sandbox=sandbox.id):
        if endpoint.status == "joined":
            ifname = endpoint.attachment.ifname if endpoint.attachment else endpoint.owner.ifname
            raise Conflict(
                f"sandbox {sandbox.name!r} is on network {network.name!r} already, as {ifname}",
                hint="give --ifname for a second interface",
            )


def _refuse_host(engine: Engine, network: Network, sandbox: Sandbox, netns: Netns) -> None:
    """Keep the host's own namespace off networks that would give it a second address and a default route."""
    if netns.inode == engine.kernel.netns_inode and engine.core.driver(network.driver).addressed:
        raise InvalidArgument(
            f"sandbox {sandbox.name!r} is the host's own network namespace, which cannot join network {network.name!r}",
            hint="it reaches the network's endpoints already; it may join a network of driver host",
        )


def _attach(
    engine: Engine, network: Network, sandbox: Sandbox, netns: Netns, request: ConnectRequest
) -> Endpoint:
    ports, sysctls = request.ports(), request.settings()
    tried: set[str] = set()
    while True:
        ifname = request.ifname or _next_ifname(engine, netns, network.ifname_prefix, tried)
        spec = EndpointSpec(
            owner=Owner(face=_FACE, network=network.name, container=sandbox.id, ifname=ifname),
            name=sandbox.name,
            addresses=tuple(request.ips),
            mac=request.mac,
            aliases=tuple(request.aliases),
            dns=request.dns,
            ports=ports,
            sysctls=sysctls,
        )
        try:
            engine.endpoints.attach(network.id, spec, netns=netns, sandbox=sandbox)
        except AlreadyExists:
            tried.add(ifname)
            if request.ifname or len(tried) >= _TRIES:
                raise
        else:
            return engine.endpoints.get(endpoint_id(spec.owner))


def _next_ifname(engine: Engine, netns: Netns, prefix: str, tried: Iterable[str]) -> str:
    """Name the lowest number behind `prefix` that the namespace does not have."""
    with engine.kernel.inside(netns) as kernel:
        names = {link.name for link in kernel.links()}
    names.update(tried)
    numbered = re.compile(re.escape(prefix) + r"([0-9]{1,9})")
    taken = {int(match[1]) for name in names if (match := numbered.fullmatch(name))}
    return f"{prefix}{next(number for number in range(len(taken) + 1) if number not in taken)}"


def disconnect(engine: Engine, ref: str, request: DisconnectRequest) -> None:
    """Detach every endpoint that we made of a sandbox on a network.

    Raises NotFound where it has none, Conflict where another face made them. Goes on past a failure
    and raises all of them together.
    """
    with engine.tracer.step(_FACE, "network disconnect", network=ref, sandbox=request.sandbox):
        network = engine.networks.get(ref)
        sandbox = engine.sandboxes.get(request.sandbox)
        endpoints = engine.endpoints.all(network=network.id, sandbox=sandbox.id)
        if not endpoints:
            raise NotFound("endpoint", f"{sandbox.name} on network {network.name}")
        ours = [endpoint for endpoint in endpoints if endpoint.owner.face == _FACE]
        if not ours:
            raise _not_ours(endpoints[0], sandbox, network)
        failures: list[Exception] = []
        for endpoint in ours:
            try:
                engine.endpoints.detach(endpoint.id)
            except DovetailError as exc:
                failures.append(exc)
        if len(failures) == 1:
            raise failures[0]
        if failures:
            raise ExceptionGroup(f"sandbox {sandbox.name!r} has not fully left {network.name!r}", failures)


def _not_ours(endpoint: Endpoint, sandbox: Sandbox, network: Network) -> Conflict:
    how = {
        "docker": f"run: docker network disconnect {network.name} CONTAINER",
        "cni": "remove its container with the CNI runtime that started it",
    }
    face = endpoint.owner.face
    return Conflict(
        f"{face} attached sandbox {sandbox.name!r} to network {network.name!r}", hint=how.get(face, "")
    )
