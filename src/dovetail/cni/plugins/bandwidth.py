"""Type ``bandwidth``: a rate for what the container receives, and one for what it sends."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Interface, Result
from dovetail.kernel.protocol import Netns
from dovetail.model.bandwidth import Bandwidth, parse_bandwidth
from dovetail.model.shaped import Shaped

__all__ = ["BandwidthPlugin"]


_RATES = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")


class BandwidthConf(Conf, frozen=True, kw_only=True):
    """The keys of ``bandwidth``, and of the capability of that name."""

    ingress_rate: Annotated[int, "what the container receives, bits a second; 0 is without a bound"] = 0
    ingress_burst: Annotated[int, "of that, bits at once"] = 0
    egress_rate: Annotated[int, "what the container sends, bits a second; 0 is without a bound"] = 0
    egress_burst: Annotated[int, "of that, bits at once"] = 0


class BandwidthPlugin(ChainedPlugin):
    """A thin parser over `features.bandwidth`."""

    kind = "bandwidth"
    conf = BandwidthConf
    capabilities: ClassVar = {"bandwidth": "the same keys, where the configuration has none of them"}

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
    conf, where = read_conf(call.config, BandwidthConf), "$"
    if not any(key in call.config for key in _RATES):
        conf, where = read_conf(call.runtime.object("bandwidth"), BandwidthConf), "$.runtimeConfig.bandwidth"
    return parse_bandwidth(
        ingress_rate=conf.ingress_rate,
        ingress_burst=conf.ingress_burst,
        egress_rate=conf.egress_rate,
        egress_burst=conf.egress_burst,
        where=where,
    )
