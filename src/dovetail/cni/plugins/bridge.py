"""Type ``bridge``: a port of a Linux bridge, which is made when it is missing.

Keys: bridge, isGateway, isDefaultGateway, forceAddress, ipMasq, mtu (a number, or ``auto``), hairpinMode, promiscMode,
enabledad, disableContainerInterface, portIsolation, hostInterfaceName, ipam, dns. Capabilities: mac.
"""

from __future__ import annotations

from ipaddress import ip_interface

import msgspec

from dovetail.cni.environment import check_args
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import LINK_ARGS, check_mtu, host_interface, read_mac, read_mtu
from dovetail.cni.spec.result import IP, Result
from dovetail.kernel.protocol import Netns
from dovetail.model.addresses import EVERYWHERE
from dovetail.model.attachment import Attachment, Route
from dovetail.model.bridge_port import BridgePort
from dovetail.model.mac import Mac
from dovetail.model.names import check_ifname

__all__ = ["BridgePlugin"]

_BRIDGE = "cni0"


class BridgePlugin(InterfacePlugin):
    """A thin parser over `drivers.bridge_port`."""

    kind = "bridge"

    def read(self, call: Call) -> None:
        """Refuse what cannot be: hairpin on a port of a promiscuous bridge, an address on an interface that stays down."""
        config = call.config
        check_args(call.environment.args, LINK_ARGS)
        check_mtu(call)
        host_interface(call)
        check_ifname(config.text("bridge") or _BRIDGE, where="$.bridge")
        if config.boolean("hairpinMode") and config.boolean("promiscMode"):
            raise CniError(INVALID_CONFIG, "cannot set hairpin mode and promiscuous mode at the same time")
        if config.boolean("disableContainerInterface") and config.object("ipam").text("type"):
            raise CniError(
                INVALID_CONFIG, "cannot use IPAM when DisableContainerInterface flag is set", "$.ipam"
            )

    def detail(self, call: Call, ipam: Result, netns: Netns) -> BridgePort:
        """Put the port together."""
        config = call.config
        is_default = config.boolean("isDefaultGateway")
        is_gateway = is_default or config.boolean("isGateway")
        ips = _ips(call, ipam)
        return BridgePort(
            bridge=config.text("bridge") or _BRIDGE,
            port=host_interface(call),
            attachment=Attachment(
                ifname=call.environment.ifname,
                mac=read_mac(call),
                addresses=tuple(ip.address for ip in ips),
                routes=by_gateways(self.routes(call, ipam), ips),
                sandbox=call.environment.netns,
            ),
            gateways=tuple(
                ip_interface(f"{ip.gateway}/{ip.address.network.prefixlen}") for ip in ips if ip.gateway
            )
            if is_gateway
            else (),
            force_address=config.boolean("forceAddress"),
            forwards=is_gateway,
            mtu=read_mtu(call, self.engine.kernel, ipv6=any(ip.address.version == 6 for ip in ips)),
            hairpin=config.boolean("hairpinMode"),
            isolated=config.boolean("portIsolation"),
            promiscuous=config.boolean("promiscMode"),
            up=not config.boolean("disableContainerInterface"),
            dad=config.boolean("enabledad"),
            masquerade=config.boolean("ipMasq"),
        )

    def result(self, call: Call, ipam: Result, attachment: Attachment) -> Result:
        """Say the gateways that the bridge was given where IPAM named none."""
        return super().result(call, msgspec.structs.replace(ipam, ips=tuple(_ips(call, ipam))), attachment)

    def routes(self, call: Call, ipam: Result) -> tuple[Route, ...]:
        """Add the default routes that were asked for."""
        if not call.config.boolean("isDefaultGateway"):
            return ipam.routes
        return (*ipam.routes, *_defaults(_ips(call, ipam), ipam.routes))

    def expected(self, call: Call, result: Result, netns: Netns) -> BridgePort:
        """Say what the result of another program's bridge plugin names: its bridge, and its port."""
        detail = self.detail(call, result, netns)
        outer = [one.name for one in result.interfaces if not one.sandbox]
        inner = result.inner(call.environment.ifname)
        attachment = msgspec.structs.replace(
            detail.attachment,
            mac=Mac(inner.mac) if inner is not None and inner.mac else None,
            routes=by_gateways(result.routes, result.ips),
        )
        return msgspec.structs.replace(detail, port=outer[-1] if outer else "", attachment=attachment)

    def remains(self, call: Call, netns: Netns | None) -> BridgePort:
        """Say what the reference plugin leaves to find: an interface in the sandbox."""
        return BridgePort(bridge="", port="", attachment=Attachment(ifname=call.environment.ifname))


def _ips(call: Call, ipam: Result) -> list[IP]:
    """Give the addresses, with the bridge's for their gateways where it is one."""
    is_gateway = call.config.boolean("isDefaultGateway") or call.config.boolean("isGateway")
    return [_with_gateway(ip) for ip in ipam.ips] if is_gateway else list(ipam.ips)


def _with_gateway(ip: IP) -> IP:
    """Give an address without a gateway the first one of its subnet, as the reference plugin does."""
    if ip.gateway is not None:
        return ip
    return msgspec.structs.replace(ip, gateway=ip.address.network.network_address + 1)


def _defaults(ips: list[IP], routes: tuple[Route, ...]) -> list[Route]:
    """Give the default routes by the gateways, for each family that has none with a gateway yet."""
    has = {r.destination.version for r in routes if not r.destination.prefixlen and r.gateway is not None}
    found: dict[int, Route] = {}
    for ip in ips:
        version = ip.address.version
        if version not in has and ip.gateway is not None:
            found.setdefault(version, Route(destination=EVERYWHERE[version], gateway=ip.gateway))
    return list(found.values())
