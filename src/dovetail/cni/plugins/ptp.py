"""Type ``ptp``: a pair of interfaces between the host and the container alone; the host is the gateway.

Keys: ipMasq, ipMasqBackend, mtu (a number, or ``auto``), hostInterfaceName, ipam (needed), dns. Capabilities: mac.
"""

from __future__ import annotations

import msgspec

from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import check_mtu, host_interface, read_mac, read_mtu
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment
from dovetail.model.mac import Mac
from dovetail.model.ptp_pair import PtpPair

__all__ = ["PtpPlugin"]


class PtpPlugin(InterfacePlugin):
    """A thin parser over `drivers.ptp_pair`."""

    kind = "ptp"
    needs_addresses = True

    def read(self, call: Call) -> None:
        """Refuse a name or an MTU that cannot be."""
        check_mtu(call)
        host_interface(call)
        read_mac(call)

    def detail(self, call: Call, ipam: Result, netns: Netns) -> PtpPair:
        """Put the pair together; each address needs a gateway, which the host is."""
        for ip in ipam.ips:
            if ip.gateway is None or ip.gateway.version != ip.address.version:
                kind = call.config.object("ipam").text("type")
                raise CniError(
                    INVALID_CONFIG,
                    f"$.ipam: {kind} gave {ip.address} without a gateway, and ptp needs one",
                    "name it in the IPAM plugin's configuration",
                )
        return PtpPair(
            port=host_interface(call),
            attachment=Attachment(
                ifname=call.environment.ifname,
                mac=read_mac(call),
                addresses=tuple(ip.address for ip in ipam.ips),
                routes=by_gateways(ipam.routes, ipam.ips),
                sandbox=call.environment.netns,
            ),
            gateways=tuple(ip.gateway for ip in ipam.ips if ip.gateway is not None),
            mtu=read_mtu(call, self.engine.kernel, ipv6=any(ip.address.version == 6 for ip in ipam.ips)),
            masquerade=call.config.boolean("ipMasq"),
        )

    def expected(self, call: Call, result: Result, netns: Netns) -> PtpPair:
        """Say what the result of another program's ptp plugin names."""
        detail = self.detail(call, result, netns)
        outer = next((one.name for one in result.interfaces if not one.sandbox), "")
        inner = result.inner(call.environment.ifname)
        mac = Mac(inner.mac) if inner is not None and inner.mac else None
        return msgspec.structs.replace(
            detail, port=outer, attachment=msgspec.structs.replace(detail.attachment, mac=mac)
        )

    def remains(self, call: Call, netns: Netns | None) -> PtpPair:
        """Say what the reference plugin leaves to find: an interface in the sandbox."""
        return PtpPair(port="", attachment=Attachment(ifname=call.environment.ifname))
