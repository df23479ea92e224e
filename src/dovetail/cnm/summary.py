"""What a call of Docker's asks and what it is answered, in a few words: for the trace and the log."""

from __future__ import annotations

from dovetail.cnm import wire
from dovetail.model.names import short

__all__ = ["answered", "asked"]

_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}  # IANA protocol numbers


def asked(request: object) -> dict[str, str]:
    """Give what tells one request from another: the ids cut to what people read, addresses, ports."""
    found: dict[str, str] = {}
    for field, label in (
        ("network_id", "network"),
        ("endpoint_id", "endpoint"),
        ("sandbox_key", "sandbox"),
        ("pool_id", "pool"),
        ("pool", "pool"),
        ("address", "address"),
    ):
        text = getattr(request, field, "")
        if text:
            found[label] = short(text) if label in {"network", "endpoint"} else text
    match request:
        case wire.RequestAddressRequest():
            kind = request.options.get("RequestAddressType", "")
            found |= {"type": kind.rpartition(".")[2]} if kind else {}
        case wire.PoolRequest() if not request.pool:
            found["pool"] = "any IPv6" if request.v6 else "any IPv4"
        case wire.CreateNetworkRequest():
            found["pools"] = " ".join(data.pool for data in (*request.ipv4_data, *request.ipv6_data))
        case wire.CreateEndpointRequest():
            given = (request.interface.address, request.interface.address_ipv6)
            found["address"] = " ".join(text for text in given if text)
        case wire.EndpointRequest() if request.options.portmap:
            found["ports"] = " ".join(map(_port, request.options.portmap))
        case _:
            pass
    return {label: text for label, text in found.items() if text}


def answered(reply: object) -> dict[str, str]:
    """Give what the reply tells dockerd; nothing for one that tells it nothing."""
    match reply:
        case wire.PoolReply():
            words = [reply.pool]
        case wire.RequestAddressReply():
            words = [reply.address]
        case wire.CreateEndpointReply():
            interface = reply.interface
            words = [interface.address, interface.address_ipv6]
            words += [f"mac {interface.mac_address}"] if interface.mac_address else []
        case wire.JoinReply():
            name = reply.interface_name
            words = [f"{name.src_name} becomes {name.dst_prefix}N"] if name is not None else []
            words += [f"via {gateway}" for gateway in (reply.gateway, reply.gateway_ipv6) if gateway]
        case wire.GwAllocCheckReply():
            words = ["no gateway"] if reply.skip_ipv4 or reply.skip_ipv6 else ["a gateway"]
        case _:
            words = []
    text = " ".join(word for word in words if word)
    return {"answer": text} if text else {}


def _port(binding: wire.PortBinding) -> str:
    host = f"{binding.host_ip}:" if binding.host_ip else ""
    return f"{host}{binding.host_port}->{binding.port}/{_PROTOCOLS.get(binding.proto, binding.proto)}"
