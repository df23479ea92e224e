"""Type ``firewall``: the host's firewall lets the container's traffic pass.

Keys: ingressPolicy.
"""

from __future__ import annotations

from typing import Any, get_args

from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.admitted import Admitted, IngressPolicy

__all__ = ["FirewallPlugin"]

_POLICIES: tuple[IngressPolicy, ...] = get_args(IngressPolicy)


class FirewallPlugin(ChainedPlugin):
    """A thin parser over `features.admitted`."""

    kind = "firewall"

    def read(self, call: Call) -> None:
        """Refuse a policy that there is not."""
        _policy(call)

    def detail(self, call: Call, result: Result, netns: Netns) -> Any | None:
        """Say by which link of the host; None where the result names none (macvlan, host-device)."""
        return Admitted(link=result.outer, policy=_policy(call)) if result.outer else None


def _policy(call: Call) -> IngressPolicy:
    text = call.config.text("ingressPolicy") or "open"
    for policy in _POLICIES:
        if text == policy:
            return policy
    raise CniError(
        INVALID_CONFIG, f"$.ingressPolicy: unknown policy {text!r}", f"there are {', '.join(_POLICIES)}"
    )
