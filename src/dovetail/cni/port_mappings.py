"""The capability ``portMappings``: what a runtime sends for ``-p`` and ``hostPort``."""

from __future__ import annotations

from dovetail.cni.folded import Folded
from dovetail.model.addresses import parse_address
from dovetail.model.port import PortMapping, check_port, check_protocol

__all__ = ["read_port_mappings"]

_WHERE = "$.runtimeConfig.portMappings"


def read_port_mappings(runtime: Folded) -> tuple[PortMapping, ...]:
    """Read them; one without a host port publishes nothing (as containerd sends them). Raises InvalidArgument."""
    return tuple(port for one in runtime.objects("portMappings") if (port := _port(one)))


def _port(mapping: Folded) -> PortMapping | None:
    host_port = mapping.integer("hostPort")
    if host_port == 0:
        return None
    host_ip = mapping.text("hostIP")
    return PortMapping(
        container_port=check_port(mapping.integer("containerPort"), where=f"{_WHERE}.containerPort"),
        host_port=check_port(host_port, where=f"{_WHERE}.hostPort"),
        protocol=check_protocol(mapping.text("protocol") or "tcp", where=f"{_WHERE}.protocol"),
        host_ip=parse_address(host_ip, where=f"{_WHERE}.hostIP") if host_ip else None,
    )
