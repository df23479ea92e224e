"""Type ``ptp``: a pair of interfaces between the host and the container alone; the host is the gateway."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import check_mtu, host_interface, masquerade_remains, read_mac, read_mtu
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.attachment import Attachment
from dovetail.model.mac import Mac
from dovetail.model.ptp_pair import PtpPair
from dovetail.model.reference_forms import IptablesMasquerade

__all__ = ["PtpPlugin"]


class PtpConf(Conf, frozen=True, kw_only=True):
    """The keys of ``ptp``."""

    ip_masq: Annotated[bool, "what leaves the container's subnet takes the host's address"] = False
    ip_masq_backend: Annotated[
        Literal["", "nftables", "iptables"], "how: elements of our table, or chains as the reference plugin's"
    ] = ""
    mtu: Annotated[
        int | Literal["auto"], "of the pair; 0 is the kernel's default, auto that of the host's default route"
    ] = 0
    host_interface_name: Annotated[
        str, "of the host's end: literally, or with a `%` for digits of the attachment"
    ] = ""


class PtpPlugin(InterfacePlugin):
    """A thin parser over `drivers.ptp_pair`."""

    kind = "ptp"
    needs_addresses = True
    further_kinds = ("iptables-masquerade",)
    conf = PtpConf
    capabilities: ClassVar = {"mac": "the MAC of the container's interface"}
    link_first = False

    def read(self, call: Call) -> None:
        """Refuse a name or an MTU that cannot be."""
        read_conf(call.config, PtpConf)
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
        conf = read_conf(call.config, PtpConf)
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
            masquerade=conf.ip_masq and conf.ip_masq_backend != "iptables",
        )

    def further(self, call: Call, made: PtpPair) -> dict[str, Any]:
        """Say what is made of rules in the reference plugin's form."""
        conf = read_conf(call.config, PtpConf)
        if not conf.ip_masq or conf.ip_masq_backend != "iptables":
            return {}
        return {"iptables-masquerade": IptablesMasquerade(addresses=made.attachment.addresses)}

    def further_remains(self, call: Call, kind: str) -> Any:
        """Say what the reference plugin leaves: rules for the addresses of its result, or for all that there were."""
        return masquerade_remains(call)

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
