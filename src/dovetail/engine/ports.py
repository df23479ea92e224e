"""Ports that are to be published: what they mean on their network, and which ports of the host they take."""

from __future__ import annotations

import msgspec

from dovetail.engine.core import Core
from dovetail.errors import InvalidArgument
from dovetail.model.endpoint import Endpoint
from dovetail.model.firewall import FirewallIntent
from dovetail.model.network import Network
from dovetail.model.port import PortMapping

__all__ = ["bind", "settle_ports"]


def settle_ports(
    core: Core, network: Network, endpoint: Endpoint, ports: tuple[PortMapping, ...]
) -> tuple[PortMapping, ...]:
    """Give `ports` with the host's addresses and ports that they are published on; writes nothing.

    Call it in the transaction that claims them, so that nobody chooses the same meanwhile. A port of a network
    that translates nothing takes none of the host's: it has host port 0. Raises InvalidArgument, PortInUse.
    """
    if not ports:
        return ()
    if network.internal:
        raise InvalidArgument(f"network {network.name!r} is internal: ports cannot be published")
    if network.firewall is None:
        raise InvalidArgument(f"a {network.driver} network cannot publish ports")
    families = {address.version for address in endpoint.addresses}
    bound = [bind(network.firewall, mapping) for mapping in ports]
    for mapping in bound:
        if mapping.host_ip is not None and mapping.host_ip.version not in families:
            raise InvalidArgument(
                f"the endpoint has no IPv{mapping.host_ip.version} address on network {network.name!r},"
                f" so {mapping} leads nowhere",
                hint="publish on an address of the family that the network has",
            )
    published = core.store.published_ports()
    taken = [mapping for holder, mapping in published if holder != endpoint.id]
    mine = [mapping for holder, mapping in published if holder == endpoint.id]
    translated = {version for version in families if network.firewall.family(version).translates}
    kept: list[PortMapping] = []
    wanted: list[PortMapping] = []
    for mapping in bound:
        if not translated & ({mapping.host_ip.version} if mapping.host_ip is not None else families):
            kept.append(msgspec.structs.replace(mapping, host_port=0, host_port_end=msgspec.UNSET))
        elif mapping in mine:
            kept.append(mapping)
        else:
            wanted.append(mapping)
    return (*kept, *core.choose_ports(core.kernel, wanted, taken))


def bind(firewall: FirewallIntent, mapping: PortMapping) -> PortMapping:
    """Give a mapping that names no address of the host the one that its network says, if it says one."""
    if mapping.host_ip is not None or firewall.host_binding is None:
        return mapping
    return msgspec.structs.replace(mapping, host_ip=firewall.host_binding)
