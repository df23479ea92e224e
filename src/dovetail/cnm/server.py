"""Docker's plugin protocol, apart from its transport: a path and a body in, a status and a body out.

The daemon puts an HTTP server in front of it; tests and the demonstration call `handle` as dockerd would.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import msgspec

from dovetail.cnm import summary, wire
from dovetail.cnm.ipam_driver import IpamDriver
from dovetail.cnm.network_driver import NetworkDriver
from dovetail.engine.engine import Engine
from dovetail.engine.trace import Step
from dovetail.errors import Busy, Conflict, InvalidArgument, one_sentence

__all__ = ["CONTENT_TYPE", "PluginServer", "error_body"]

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
_LOG = logging.getLogger("dovetail")

Handler = Callable[[bytes, Step], object]

# dockerd tells 200 from the rest, and 404 on two methods: there it means "not implemented" and is no
# error. So what is not found is a 500, like everything that has no code of its own.
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (wire.Malformed, 400),
    (InvalidArgument, 400),
    (Conflict, 409),
    (Busy, 503),
)


class PluginServer:
    """Every method of NetworkDriver and IpamDriver over one engine; safe under threads."""

    def __init__(
        self, engine: Engine, scope: wire.Scope = "local", technique: str = "", *, by_mac: bool = False
    ) -> None:
        """Serve `engine`. scope: where Docker is to keep networks. by_mac: see `IpamDriver`.

        technique: all networks made here are of that driver, as a plugin of its own (``dovetail-macvlan``). Such a
        one is no IPAM driver: its activation, which comes when the first of its networks is made, would have
        what Docker holds be given once more (`Addresses.begin_replay`).
        """
        self._engine = engine
        network = NetworkDriver(engine, scope, technique)
        self._roles = ["NetworkDriver"] if technique else ["NetworkDriver", "IpamDriver"]
        self._handlers = {"Plugin.Activate": _bare(self._activate), **_network_driver(network)}
        if not technique:
            self._handlers |= _ipam_driver(IpamDriver(engine, by_mac=by_mac))

    def handle(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer one call: `path` is ``/Type.Method``. Never raises; the reply is always a JSON object."""
        method = path.partition("?")[0].strip("/")
        handler = self._handlers.get(method)
        if handler is None:
            return 404, error_body(f"no such method: {method!r}")
        try:
            with self._engine.tracer.step("docker", method) as step:
                reply = handler(body, step)
                if isinstance(reply, msgspec.Struct):
                    self._engine.tracer.describe(step, partial(summary.answered, reply))
            return 200, msgspec.json.encode(reply if reply is not None else {})
        except Exception as exc:
            status = next((code for kind, code in _STATUS if isinstance(exc, kind)), 500)
            if not hasattr(exc, "hint") and not isinstance(exc, ExceptionGroup):
                _LOG.exception("defect", extra={"fields": {"method": method}})
                return 500, error_body(
                    f"internal error in {method}: {type(exc).__name__}: {one_sentence(exc)}"
                )
            return status, error_body(one_sentence(exc))

    def _activate(self) -> dict[str, list[str]]:
        """Begin a session: what Docker holds may be asked for once more (cnm.md §2.3)."""
        if "IpamDriver" in self._roles:
            self._engine.addresses.begin_replay()
        return {"Implements": self._roles}


def _network_driver(network: NetworkDriver) -> dict[str, Handler]:
    return {
        "NetworkDriver.GetCapabilities": _bare(network.get_capabilities),
        "NetworkDriver.GwAllocCheck": _typed(wire.GwAllocCheckRequest, network.gw_alloc_check),
        "NetworkDriver.CreateNetwork": _typed(wire.CreateNetworkRequest, network.create_network),
        "NetworkDriver.DeleteNetwork": _typed(wire.NetworkRequest, network.delete_network),
        "NetworkDriver.AllocateNetwork": _typed(wire.AllocateNetworkRequest, network.allocate_network),
        "NetworkDriver.FreeNetwork": _typed(wire.NetworkRequest, network.free_network),
        "NetworkDriver.CreateEndpoint": _typed(wire.CreateEndpointRequest, network.create_endpoint),
        "NetworkDriver.DeleteEndpoint": _typed(wire.EndpointRequest, network.delete_endpoint),
        "NetworkDriver.EndpointOperInfo": _typed(wire.EndpointRequest, network.endpoint_oper_info),
        "NetworkDriver.Join": _typed(wire.JoinRequest, network.join),
        "NetworkDriver.Leave": _typed(wire.EndpointRequest, network.leave),
        "NetworkDriver.ProgramExternalConnectivity": _typed(
            wire.EndpointRequest, network.program_external_connectivity
        ),
        "NetworkDriver.RevokeExternalConnectivity": _typed(
            wire.EndpointRequest, network.revoke_external_connectivity
        ),
        "NetworkDriver.DiscoverNew": _typed(wire.DiscoveryRequest, _ignore),
        "NetworkDriver.DiscoverDelete": _typed(wire.DiscoveryRequest, _ignore),
    }


def _ipam_driver(ipam: IpamDriver) -> dict[str, Handler]:
    return {
        "IpamDriver.GetCapabilities": _bare(ipam.get_capabilities),
        "IpamDriver.GetDefaultAddressSpaces": _bare(ipam.get_default_address_spaces),
        "IpamDriver.RequestPool": _typed(wire.PoolRequest, ipam.request_pool),
        "IpamDriver.ReleasePool": _typed(wire.ReleasePoolRequest, ipam.release_pool),
        "IpamDriver.RequestAddress": _typed(wire.RequestAddressRequest, ipam.request_address),
        "IpamDriver.ReleaseAddress": _typed(wire.ReleaseAddressRequest, ipam.release_address),
    }


def error_body(message: str) -> bytes:
    """Write an error under both keys: dockerd reads ``Err`` or ``Error`` by the caller (cnm.md §1.3)."""
    return msgspec.json.encode({"Err": message, "Error": message})


def _bare(call: Callable[[], object]) -> Handler:
    """Make a handler of a method without arguments; dockerd sends no body then."""
    return lambda _body, _step: call()


def _typed(kind: type[wire.S], call: Callable[[wire.S], object]) -> Handler:
    def handle(body: bytes, step: Step) -> object:
        request = wire.decode(body, kind)
        step.detail = summary.asked(request)
        return call(request)

    return handle


def _ignore(_news: wire.DiscoveryRequest) -> None:
    """Do nothing about news of a swarm's nodes: networks reach no further than their host."""
