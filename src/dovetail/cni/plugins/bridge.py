"""Type ``bridge``: a port of a Linux bridge, which is made when it is missing."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.environment import check_args
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import (
    LINK_ARGS,
    check_mtu,
    host_interface,
    masquerade_remains,
    read_mac,
    read_mtu,
)
from dovetail.cni.spec.result import IP, Result
from dovetail.errors import InvalidArgument
from dovetail.kernel.protocol import Netns
from dovetail.model.addresses import EVERYWHERE
from dovetail.model.attachment import Attachment, Route
from dovetail.model.bridge_port import BridgePort
from dovetail.model.mac import Mac
from dovetail.model.names import check_ifname
from dovetail.model.reference_forms import IptablesMasquerade, SpoofCheck

__all__ = ["BridgePlugin"]

_VLAN_MIN, _VLAN_MAX = 1, 4094


class TrunkConf(Conf, frozen=True, kw_only=True):
    """One VLAN, or those from one to another."""

    id: Annotated[int, "one VLAN"] = 0
    min_id: Annotated[int, "the first"] = msgspec.field(default=0, name="minID")
    max_id: Annotated[int, "the last"] = msgspec.field(default=0, name="maxID")


class BridgeConf(Conf, frozen=True, kw_only=True):
    """The keys of ``bridge``."""

    bridge: Annotated[str, "the bridge's name; made where it is missing, and kept"] = "cni0"
    is_gateway: Annotated[bool, "the bridge gets the gateway's address, and the host forwards"] = False
    is_default_gateway: Annotated[bool, "so, and the container's default routes lead there"] = False
    force_address: Annotated[bool, "the gateway's address replaces another one of the bridge"] = False
    ip_masq: Annotated[bool, "what leaves the container's subnet takes the host's address"] = False
    ip_masq_backend: Annotated[
        Literal["", "nftables", "iptables"], "how: elements of our table, or chains as the reference plugin's"
    ] = ""
    macspoofchk: Annotated[bool, "drop what the container sends with another MAC than its own"] = False
    mtu: Annotated[
        int | Literal["auto"],
        "of the pair, and of a bridge that is made; 0 is the kernel's default, auto that of the host's default route",
    ] = 0
    host_interface_name: Annotated[
        str, "of the host's end: literally, or with a `%` for digits of the attachment"
    ] = ""
    hairpin_mode: Annotated[bool, "the container reaches itself by a port of the host"] = False
    promisc_mode: Annotated[bool, "the bridge is promiscuous"] = False
    enabledad: Annotated[bool, "look for duplicates of IPv6 addresses, which takes a second or two"] = False
    disable_container_interface: Annotated[bool, "leave the container's interface down"] = False
    port_isolation: Annotated[bool, "the container does not reach others that have this too"] = False
    vlan: Annotated[int, "what the container sends and gets is of this VLAN, of 1 to 4094; 0 for none"] = 0
    vlan_trunk: Annotated[tuple[TrunkConf, ...], "VLANs that it sends and gets with their tags"] = ()
    preserve_default_vlan: Annotated[bool, "it stays in VLAN 1 beside them"] = False
    remove_bridge: Annotated[bool, "a bridge that was made goes with its last container"] = False


class BridgePlugin(InterfacePlugin):
    """A thin parser over `drivers.bridge_port`."""

    kind = "bridge"
    further_kinds = ("iptables-masquerade", "macspoofchk")
    conf = BridgeConf
    capabilities: ClassVar = {"mac": "the MAC of the container's interface"}

    def read(self, call: Call) -> None:
        """Refuse what cannot be: hairpin on a port of a promiscuous bridge, an address on an interface that stays down."""
        conf = read_conf(call.config, BridgeConf)
        check_args(call.environment.args, LINK_ARGS)
        check_mtu(call)
        host_interface(call)
        check_ifname(conf.bridge, where="$.bridge")
        if conf.hairpin_mode and conf.promisc_mode:
            raise CniError(INVALID_CONFIG, "cannot set hairpin mode and promiscuous mode at the same time")
        if conf.disable_container_interface and call.config.object("ipam").text("type"):
            raise CniError(
                INVALID_CONFIG, "cannot use IPAM when DisableContainerInterface flag is set", "$.ipam"
            )
        _check_vlan(conf.vlan, "$.vlan", zero=True)
        _trunk(conf)

    def detail(self, call: Call, ipam: Result, netns: Netns) -> BridgePort:
        """Put the port together."""
        conf = read_conf(call.config, BridgeConf)
        is_gateway = conf.is_default_gateway or conf.is_gateway
        ips = _ips(call, ipam)
        return BridgePort(
            bridge=conf.bridge,
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
            force_address=conf.force_address,
            forwards=is_gateway,
            mtu=read_mtu(call, self.engine.kernel, ipv6=any(ip.address.version == 6 for ip in ips)),
            hairpin=conf.hairpin_mode,
            isolated=conf.port_isolation,
            promiscuous=conf.promisc_mode,
            up=not conf.disable_container_interface,
            dad=conf.enabledad,
            masquerade=conf.ip_masq and conf.ip_masq_backend != "iptables",
            vlan=conf.vlan,
            trunk=_trunk(conf),
            keep_default_vlan=conf.preserve_default_vlan,
            remove_bridge=conf.remove_bridge,
        )

    def addressed(self, call: Call, made: BridgePort, ipam: Result, netns: Netns) -> BridgePort:
        """Say what the port and the bridge are to have of addresses."""
        detail = self.detail(call, ipam, netns)
        attachment = msgspec.structs.replace(
            made.attachment, addresses=detail.attachment.addresses, routes=detail.attachment.routes
        )
        return msgspec.structs.replace(detail, attachment=attachment)

    def further(self, call: Call, made: BridgePort) -> dict[str, Any]:
        """Say what is made of rules in the reference plugin's form."""
        conf = read_conf(call.config, BridgeConf)
        found: dict[str, Any] = {}
        if conf.ip_masq and conf.ip_masq_backend == "iptables":
            found["iptables-masquerade"] = IptablesMasquerade(addresses=made.attachment.addresses)
        if conf.macspoofchk:
            found["macspoofchk"] = SpoofCheck(port=made.port, mac=made.attachment.mac)
        return found

    def further_remains(self, call: Call, kind: str) -> Any:
        """Say what the reference plugin leaves: rules, by the addresses of its result or for all that the container had."""
        return SpoofCheck() if kind == "macspoofchk" else masquerade_remains(call)

    def result(self, call: Call, ipam: Result, attachment: Attachment) -> Result:
        """Say the gateways that the bridge was given where IPAM named none."""
        return super().result(call, msgspec.structs.replace(ipam, ips=tuple(_ips(call, ipam))), attachment)

    def routes(self, call: Call, ipam: Result) -> tuple[Route, ...]:
        """Add the default routes that were asked for."""
        if not read_conf(call.config, BridgeConf).is_default_gateway:
            return ipam.routes
        return (*ipam.routes, *_defaults(_ips(call, ipam), ipam.routes))

    def expected(self, call: Call, result: Result, netns: Netns) -> BridgePort:
        """Say what the result of another program's bridge plugin names: its bridge, and its port."""
        detail = self.detail(call, result, netns)
        inner = result.inner(call.environment.ifname)
        before = result.interfaces[: result.interfaces.index(inner)] if inner is not None else ()
        outer = [one.name for one in before if not one.sandbox]  # what a plugin after it made comes behind
        attachment = msgspec.structs.replace(
            detail.attachment,
            mac=Mac(inner.mac) if inner is not None and inner.mac else None,
            mtu=detail.mtu,
            routes=by_gateways(result.routes, result.ips),
        )
        return msgspec.structs.replace(detail, port=outer[-1] if outer else "", attachment=attachment)

    def remains(self, call: Call, netns: Netns | None) -> BridgePort:
        """Say what the reference plugin leaves to find: an interface in the sandbox."""
        return BridgePort(bridge="", port="", attachment=Attachment(ifname=call.environment.ifname))


def _check_vlan(number: int, where: str, *, zero: bool = False) -> int:
    if not (_VLAN_MIN <= number <= _VLAN_MAX or (zero and not number)):
        raise InvalidArgument(
            f"invalid VLAN ID {number} (must be between {_VLAN_MIN} and {_VLAN_MAX})", where=where
        )
    return number


def _trunk(conf: BridgeConf) -> tuple[tuple[int, int], ...]:
    """Give the VLANs of the trunk, each range once and in order."""
    found: set[tuple[int, int]] = set()
    for index, one in enumerate(conf.vlan_trunk):
        where = f"$.vlanTrunk[{index}]"
        if not (one.id or one.min_id or one.max_id):
            raise InvalidArgument("names no VLAN", where=where, hint="give id, or minID and maxID")
        if one.id:
            found.add((_check_vlan(one.id, f"{where}.id"), one.id))
        if one.min_id or one.max_id:
            first, last = _check_vlan(one.min_id, f"{where}.minID"), _check_vlan(one.max_id, f"{where}.maxID")
            if first > last:
                raise InvalidArgument(f"minID {first} is greater than maxID {last}", where=where)
            found.add((first, last))
    return tuple(sorted(found))


def _ips(call: Call, ipam: Result) -> list[IP]:
    """Give the addresses, with the bridge's for their gateways where it is one."""
    conf = read_conf(call.config, BridgeConf)
    is_gateway = conf.is_default_gateway or conf.is_gateway
    return [_with_gateway(ip) for ip in ipam.ips] if is_gateway else list(ipam.ips)


def _with_gateway(ip: IP) -> IP:
    """Give an address without a gateway the first one of its subnet, as the reference plugin does."""
    if ip.gateway is not None:
        return ip
    network = ip.address.network
    if network.prefixlen == network.max_prefixlen:
        raise InvalidArgument(
            f"{ip.address} is a subnet of one address, where no gateway can be",
            where="$.isGateway",
            hint="let the IPAM plugin name the gateway",
        )
    return msgspec.structs.replace(ip, gateway=network.network_address + 1)


def _defaults(ips: list[IP], routes: tuple[Route, ...]) -> list[Route]:
    """Give the default routes by the gateways, for each family that has none with a gateway yet."""
    has = {r.destination.version for r in routes if not r.destination.prefixlen and r.gateway is not None}
    found: dict[int, Route] = {}
    for ip in ips:
        version = ip.address.version
        if version not in has and ip.gateway is not None:
            found.setdefault(version, Route(destination=EVERYWHERE[version], gateway=ip.gateway))
    return list(found.values())
