"""Type ``dummy``: an interface with addresses and no wire."""

from __future__ import annotations

import msgspec

from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import mac_in
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment
from dovetail.model.lone_link import DummyLink

__all__ = ["DummyPlugin"]


class DummyPlugin(InterfacePlugin):
    """A thin parser over `drivers.lone_link`."""

    kind = "dummy"
    needs_addresses = True

    def read(self, call: Call) -> None:
        """Find nothing to refuse: there are no keys."""

    def detail(self, call: Call, ipam: Result, netns: Netns) -> DummyLink:
        """Put the link together."""
        return DummyLink(
            attachment=Attachment(
                ifname=call.environment.ifname,
                addresses=tuple(ip.address for ip in ipam.ips),
                routes=by_gateways(ipam.routes, ipam.ips),
                sandbox=call.environment.netns,
            )
        )

    def expected(self, call: Call, result: Result, netns: Netns) -> DummyLink:
        """Say what the result of another program's plugin names."""
        detail = self.detail(call, result, netns)
        attachment = msgspec.structs.replace(detail.attachment, mac=mac_in(call, result))
        return msgspec.structs.replace(detail, attachment=attachment)

    def remains(self, call: Call, netns: Netns | None) -> DummyLink:
        """Say what the reference plugin leaves to find: an interface in the sandbox."""
        return DummyLink(attachment=Attachment(ifname=call.environment.ifname), ours=False)
