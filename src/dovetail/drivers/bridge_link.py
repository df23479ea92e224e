"""The bridge that CNI's type ``bridge`` puts ports on: made by the first that needs it, shared, and nobody's.

With a VLAN the gateway addresses are not the bridge's, which is in none, but those of a pair beside it::

    host
    cni0 ── peer ══ cni0.100 (gateway addresses of VLAN 100)
       └── veth<attachment> ══ the sandbox's interface
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import ParamSpec

from dovetail.errors import AlreadyExists, Conflict, NotFound
from dovetail.kernel.protocol import Kernel, Link, LinkSpec, VlanRange
from dovetail.model.addresses import IPInterface
from dovetail.model.attachment import HostInterface
from dovetail.model.bridge_port import BridgePort
from dovetail.model.mac import Mac
from dovetail.model.names import check_ifname, derive_id, link_alias, link_id, parse_alias

__all__ = ["differences", "ensure", "join_vlans", "remove_empty", "with_macs"]

_DEFAULT_VLAN = 1  # BRIDGE_VLAN default_pvid, net/bridge/br_vlan.c
_ALIAS = "bridge"


def ensure(kernel: Kernel, detail: BridgePort, store_id: str, undo: ExitStack) -> tuple[HostInterface, ...]:
    """Make sure of the bridge and its addresses, beside others that do the same; gives it as the host's interfaces.

    Raises Conflict where its name is another link's, or it has another address.
    """
    there = kernel.link(detail.bridge)
    if there is None:
        there = _make(kernel, detail, store_id, undo)
    if there.kind != "bridge":
        raise Conflict(
            f"{detail.bridge!r} is a {there.kind or 'network card'}, not a bridge",
            where="$.bridge",
            hint="name another bridge",
        )
    if not there.up:
        undo.callback(_forgiving, kernel.set_link, detail.bridge, up=False)
        kernel.set_link(detail.bridge, up=True)
    if detail.promiscuous and not there.promisc:
        undo.callback(_forgiving, kernel.set_link, detail.bridge, promisc=False)
        kernel.set_link(detail.bridge, promisc=True)
    if detail.vlan or detail.trunk:
        kernel.set_bridge(detail.bridge, vlan_filtering=True)
    found = [_interface(there)]
    if detail.vlan and detail.gateways:
        found.append(_interface(_ensure_gateway_link(kernel, detail, undo)))
    if detail.gateways and _give_addresses(kernel, detail, undo) and not detail.vlan:
        _keep_mac(kernel, there)
    return tuple(found)


def _make(kernel: Kernel, detail: BridgePort, store_id: str, undo: ExitStack) -> Link:
    name = detail.bridge
    mac = _mac(name)  # one that is set does not change with the ports
    alias = (
        link_alias(store_id, _ALIAS, link_id(name)) if detail.remove_bridge else ""
    )  # else there is no telling whose it is
    try:
        kernel.add_bridge(name, mac=mac, mtu=detail.mtu, alias=alias)
    except AlreadyExists:
        pass  # another attachment was quicker
    else:
        undo.callback(_forgiving, kernel.delete_links, [name])
        # no router may speak from a container
        kernel.set_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
    kernel.set_link(name, up=True)
    there = kernel.link(name)
    if there is None:
        raise NotFound("bridge", name, hint="something deletes it as it is made")
    return there


def _ensure_gateway_link(kernel: Kernel, detail: BridgePort, undo: ExitStack) -> Link:
    """Make sure of the pair that brings the gateway into the VLAN."""
    name = check_ifname(detail.gateway_link, where="$.bridge")
    there = kernel.link(name)
    if there is None:
        port = _gateway_port(detail)
        end = LinkSpec(port, mtu=detail.mtu, master=detail.bridge, up=True)
        try:
            kernel.add_veth(end, LinkSpec(name, mac=_mac(name), mtu=detail.mtu, up=True))
        except AlreadyExists:
            pass
        else:
            undo.callback(_forgiving, kernel.delete_links, [port])
            kernel.set_sysctl(f"net/ipv6/conf/{name}/accept_ra", "0")
            _join(kernel, port, _vlans(detail, trunk=False), keep_default=detail.keep_default_vlan)
        there = kernel.link(name)
    if there is None:
        raise NotFound("interface", name, hint="something deletes it as it is made")
    return there


def _gateway_port(detail: BridgePort) -> str:
    return f"veth{derive_id('gateway', detail.gateway_link)[:11]}"


def join_vlans(kernel: Kernel, detail: BridgePort, port: str) -> None:
    """Put `port` into the VLANs that it is to be in, and out of the one that every port is in."""
    if detail.vlan or detail.trunk:
        _join(kernel, port, _vlans(detail, trunk=True), keep_default=detail.keep_default_vlan)


def _join(kernel: Kernel, port: str, vlans: list[VlanRange], *, keep_default: bool) -> None:
    if not keep_default:
        kernel.delete_port_vlans(port, [VlanRange(_DEFAULT_VLAN)])
    kernel.add_port_vlans(port, vlans)


def _vlans(detail: BridgePort, *, trunk: bool) -> list[VlanRange]:
    """Give the VLANs of a port. A trunk without a VLAN of its own takes what has no tag as VLAN 1, as the reference plugin has it."""
    native = [VlanRange(detail.vlan or _DEFAULT_VLAN, pvid=True, untagged=True)]
    tagged = [VlanRange(first, last if last != first else 0) for first, last in detail.trunk] if trunk else []
    return tagged + native if detail.vlan or trunk else tagged


def _keep_mac(kernel: Kernel, bridge: Link) -> None:
    """Set the MAC address that a bridge of others has: one that is not set is the lowest of the ports', which come and go."""
    mac = _interface(bridge).mac
    if mac is not None and mac != _mac(bridge.name):
        kernel.set_link(bridge.name, mac=mac)


def _mac(name: str) -> Mac:
    return Mac.derived(f"bridge/{name}")


def _give_addresses(kernel: Kernel, detail: BridgePort, undo: ExitStack) -> bool:
    """Say whether it gave one that was not there."""
    given = False
    link = detail.gateway_link
    present = [address for _, address in kernel.addresses(link)]
    for gateway in detail.gateways:
        if gateway in present:
            continue
        for other in [address for address in present if _clash(address, gateway)]:
            if not detail.force_address:
                raise Conflict(
                    f'failed to set bridge addr: "{link}" already has an IP address different from {gateway}',
                    where="$.isGateway",
                    hint=f"it has {other}; let the configuration say forceAddress, or name another bridge",
                )
            undo.callback(_forgiving, kernel.add_address, link, other)
            kernel.delete_address(link, other)
            present.remove(other)
        if gateway.version == 6 and kernel.sysctl(f"net/ipv6/conf/{link}/disable_ipv6") == "1":
            kernel.set_sysctl(f"net/ipv6/conf/{link}/disable_ipv6", "0")
        try:
            kernel.add_address(link, gateway)
        except AlreadyExists:
            continue
        undo.callback(_forgiving, kernel.delete_address, link, gateway)
        given = True
    return given


def _clash(present: IPInterface, wanted: IPInterface) -> bool:
    """Say whether a bridge with `present` cannot have `wanted` too: one IPv4 address, and no overlap in IPv6."""
    if present.version != wanted.version or present.ip.is_link_local:
        return False
    return present.version == 4 or present.network.overlaps(wanted.network)


def with_macs(kernel: Kernel, interfaces: tuple[HostInterface, ...]) -> tuple[HostInterface, ...]:
    """Give `interfaces` with the MAC addresses that they have by now: a bridge of others may have a port's."""
    return tuple(
        one if one.mac == _mac(one.name) or (link := kernel.link(one.name)) is None else _interface(link)
        for one in interfaces
    )


def remove_empty(kernel: Kernel, detail: BridgePort) -> None:
    """Delete the bridge that `ensure` made, unless somebody else has a port on it; nobody else comes to it meanwhile."""
    there = kernel.link(detail.bridge)
    owner = parse_alias(there.alias) if there is not None else None
    if there is None or owner is None or owner[1:] != (_ALIAS, link_id(detail.bridge)):
        return
    own = _gateway_port(detail)
    if not any(link.master == there.ifindex and link.name != own for link in kernel.links()):
        kernel.delete_links([own, detail.bridge])


def differences(kernel: Kernel, detail: BridgePort) -> Iterator[str]:
    """Compare the bridge and the port on it."""
    bridge, port = kernel.link(detail.bridge), kernel.link(detail.port)
    if bridge is None or bridge.kind != "bridge":
        yield f"bridge {detail.bridge!r} is gone"
    else:
        yield from _of_bridge(kernel, detail, bridge)
    if port is None:
        yield f"interface {detail.port!r} of the host is gone"
        return
    if bridge is not None and port.master != bridge.ifindex:
        yield f"interface {detail.port!r} is no port of bridge {detail.bridge!r}"
    if not port.up:
        yield f"interface {detail.port!r} of the host is down"
    if detail.mtu and port.mtu != detail.mtu:
        yield f"interface {detail.port!r} of the host has MTU {port.mtu}, not {detail.mtu}"
    yield from _of_port(kernel, detail)


def _of_bridge(kernel: Kernel, detail: BridgePort, bridge: Link) -> Iterator[str]:
    if not bridge.up:
        yield f"bridge {detail.bridge!r} is down"
    if detail.promiscuous and not bridge.promisc:
        yield f"bridge {detail.bridge!r} is not promiscuous"
    present = {address for _, address in kernel.addresses(detail.gateway_link)} if detail.gateways else set()
    for address in detail.gateways:
        if address not in present:
            yield f"bridge {detail.gateway_link!r} has lost address {address}"


def _of_port(kernel: Kernel, detail: BridgePort) -> Iterator[str]:
    if detail.hairpin or detail.isolated:
        flags = kernel.bridge_port(detail.port)
        if detail.hairpin and not (flags is not None and flags.hairpin):
            yield f"port {detail.port!r} has lost its hairpin mode"
        if detail.isolated and not (flags is not None and flags.isolated):
            yield f"port {detail.port!r} is not isolated any more"
    if detail.vlan or detail.trunk:
        there = {
            number: vlan
            for vlan in kernel.port_vlans().get(detail.port, ())
            for number in range(vlan.first, (vlan.last or vlan.first) + 1)
        }
        for wanted in _vlans(detail, trunk=True):
            numbers = range(wanted.first, (wanted.last or wanted.first) + 1)
            if not all(n in there and there[n].pvid == wanted.pvid for n in numbers):
                yield f"port {detail.port!r} is not in VLAN {wanted.first}{f'-{wanted.last}' if wanted.last else ''} as it was"


_P = ParamSpec("_P")


def _forgiving(change: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
    """Undo on an interface that may be gone, or that somebody else has changed back already."""
    with suppress(AlreadyExists, NotFound):
        change(*args, **kwargs)


def _interface(link: Link) -> HostInterface:
    """Show a link. A bridge that somebody else made takes its MAC from its ports, and is all zeros when the last has gone."""
    mac = Mac(link.mac) if link.mac.strip("0:") else None
    return HostInterface(name=link.name, mac=mac, mtu=link.mtu)
