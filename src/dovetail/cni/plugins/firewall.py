"""Type ``firewall``: the host's firewall lets the container's traffic pass."""

from __future__ import annotations

from typing import Annotated, Any

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.admitted import Admitted, IngressPolicy

__all__ = ["FirewallPlugin"]


class FirewallConf(Conf, frozen=True, kw_only=True):
    """The keys of ``firewall``."""

    ingress_policy: Annotated[IngressPolicy, "from where the container is reached"] = "open"


class FirewallPlugin(ChainedPlugin):
    """A thin parser over `features.admitted`."""

    kind = "firewall"
    conf = FirewallConf

    def read(self, call: Call) -> None:
        """Refuse a policy that there is not."""
        read_conf(call.config, FirewallConf)

    def detail(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say by which link of the host; None where the result names none (macvlan, host-device)."""
        conf = read_conf(call.config, FirewallConf)
        return Admitted(link=result.outer, policy=conf.ingress_policy) if result.outer else None
