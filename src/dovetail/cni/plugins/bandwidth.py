"""Type ``bandwidth``: a rate for what the container receives, and one for what it sends.

Keys: ingressRate, ingressBurst, egressRate, egressBurst. Capabilities: bandwidth.
"""

from __future__ import annotations

from typing import Any

import msgspec

from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Interface, Result
from dovetail.kernel.protocol import Netns
from dovetail.model.bandwidth import Bandwidth, parse_bandwidth
from dovetail.model.shaped import Shaped

__all__ = ["BandwidthPlugin"]


class BandwidthPlugin(ChainedPlugin):
    """A thin parser over `features.bandwidth`."""

    kind = "bandwidth"

    def read(self, call: Call) -> None:
        """Refuse rates without bursts, and what the kernel cannot count."""
        _bandwidth(call)

    def detail(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say what is held; None where nothing is."""
        bandwidth = _bandwidth(call)
        outer = tuple(one.name for one in result.interfaces if not one.sandbox)
        return Shaped(bandwidth=bandwidth, candidates=outer) if bandwidth else None

    def result(self, call: Call, result: Result, made: Shaped) -> Result:
        """Add the ifb that was made."""
        if not made.ifb:
            return result
        ifb = Interface(name=made.ifb, mac=str(made.mac or ""), mtu=made.mtu)
        return msgspec.structs.replace(result, interfaces=(*result.interfaces, ifb))

    def remains(self, call: Call, result: Result | None, netns: Netns | None) -> Any | None:
        """Say what the reference plugin leaves: an ifb, by its name."""
        return Shaped(bandwidth=Bandwidth())


def _bandwidth(call: Call) -> Bandwidth:
    at_runtime = call.runtime.object("bandwidth")
    asked = any(key in at_runtime for key in ("ingressRate", "ingressBurst", "egressRate", "egressBurst"))
    source = at_runtime if asked else call.config
    return parse_bandwidth(
        ingress_rate=source.integer("ingressRate"),
        ingress_burst=source.integer("ingressBurst"),
        egress_rate=source.integer("egressRate"),
        egress_burst=source.integer("egressBurst"),
        where="$.runtimeConfig.bandwidth" if asked else "$",
    )
