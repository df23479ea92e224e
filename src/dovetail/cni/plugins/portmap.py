"""Type ``portmap``: ports of the host that lead to the container.

Keys: snat, masqAll. Capabilities: portMappings.
"""

from __future__ import annotations

from typing import Any

from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.port_mappings import read_port_mappings
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.addresses import IPInterface
from dovetail.model.published import PublishedPorts

__all__ = ["PortmapPlugin"]


class PortmapPlugin(ChainedPlugin):
    """A thin parser over `features.published`."""

    kind = "portmap"

    def detail(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say which ports lead to the first address of each family; None where nothing is to be published."""
        ports = read_port_mappings(call.runtime)
        if not ports:
            return None
        snat = call.config.boolean("snat") if "snat" in call.config else True
        return PublishedPorts(
            ports=ports,
            addresses=_first_of_each_family(result.addresses_of(call.environment.ifname)),
            link=result.outer,
            source_nat=snat,
            masquerade_all=call.config.boolean("masqAll"),
        )


def _first_of_each_family(addresses: tuple[IPInterface, ...]) -> tuple[IPInterface, ...]:
    found: dict[int, IPInterface] = {}
    for address in addresses:
        found.setdefault(address.version, address)
    return tuple(found.values())
