"""Docker's plugin protocol, transport-free: a path and a body in, a status and a body out.

Failures are HTTP 500 (400 for what cannot be read, 404 for an unknown method) with both ``Err`` and
``Error``: NetworkDriver reads the one, IpamDriver the other (cnm.md §1.3).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import msgspec

from dovetail.cnm.ipam_driver import IpamDriver
from dovetail.cnm.network_driver import NetworkDriver
from dovetail.engine.engine import Engine
from dovetail.errors import DovetailError, InvalidArgument, one_sentence

__all__ = ["CONTENT_TYPE", "PluginServer"]

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
_log = logging.getLogger(__name__)


class PluginServer:
    """Answers every NetworkDriver and IpamDriver method; never raises."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        network, ipam = NetworkDriver(engine), IpamDriver(engine)
        self._methods: dict[str, Callable[[bytes], dict[str, Any]]] = {
            "Plugin.Activate": self._activate,
            "NetworkDriver.GetCapabilities": network.get_capabilities,
            "NetworkDriver.GwAllocCheck": network.gw_alloc_check,
            "NetworkDriver.AllocateNetwork": network.allocate_network,
            "NetworkDriver.FreeNetwork": network.free_network,
            "NetworkDriver.CreateNetwork": network.create_network,
            "NetworkDriver.DeleteNetwork": network.delete_network,
            "NetworkDriver.CreateEndpoint": network.create_endpoint,
            "NetworkDriver.DeleteEndpoint": network.delete_endpoint,
            "NetworkDriver.EndpointOperInfo": network.endpoint_oper_info,
            "NetworkDriver.Join": network.join,
            "NetworkDriver.Leave": network.leave,
            "NetworkDriver.ProgramExternalConnectivity": network.program_external_connectivity,
            "NetworkDriver.RevokeExternalConnectivity": network.revoke_external_connectivity,
            "NetworkDriver.DiscoverNew": network.discover,
            "NetworkDriver.DiscoverDelete": network.discover,
            "IpamDriver.GetCapabilities": ipam.get_capabilities,
            "IpamDriver.GetDefaultAddressSpaces": ipam.get_default_address_spaces,
            "IpamDriver.RequestPool": ipam.request_pool,
            "IpamDriver.ReleasePool": ipam.release_pool,
            "IpamDriver.RequestAddress": ipam.request_address,
            "IpamDriver.ReleaseAddress": ipam.release_address,
        }

    def handle(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Answer one request, as (HTTP status, JSON)."""
        name = path.strip("/")
        method = self._methods.get(name)
        if method is None:
            return 404, _problem(f"dovetail has no method {name!r}")
        try:
            with self._engine.tracer.step("docker", name):
                return 200, msgspec.json.encode(method(body))
        except InvalidArgument as exc:
            return 400, _problem(one_sentence(exc))
        except (DovetailError, ExceptionGroup) as exc:
            return 500, _problem(one_sentence(exc))
        except Exception:  # the edge: dockerd must get an answer, the log the traceback
            _log.exception("plugin call failed method=%s", name)
            return 500, _problem(f"{name} failed inside dovetail; its log says why")

    def _activate(self, _: bytes) -> dict[str, Any]:
        self._engine.addresses.begin_replay()
        self._engine.restore_firewall()  # dockerd starts anew, and its FORWARD policy with it
        return {"Implements": ["NetworkDriver", "IpamDriver"]}


def _problem(text: str) -> bytes:
    return msgspec.json.encode({"Err": text, "Error": text})
