"""A port of a bridge that many networks may share, as CNI's type ``bridge`` has it.

::

    host                                      sandbox
    cni0 (gateway addresses) ── veth<attachment> ══ eth0 (addresses, routes)

It differs from the driver ``bridge`` in whose the bridge is: nobody's. The first that needs it makes it, any number of
configurations use it, each says which gateway addresses it is to have, and it stays (`bridge_link`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Literal

import msgspec

from dovetail.drivers import bridge_link, sandbox_end
from dovetail.drivers.forwarding import let_host_forward
from dovetail.drivers.network_options import uplink_mtu
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Kernel, LinkSpec, Netns
from dovetail.model.attachment import HostInterface
from dovetail.model.bridge_port import BridgePort
from dovetail.model.element import Element
from dovetail.model.endpoint import Owner
from dovetail.model.mac import Mac
from dovetail.model.names import derive_id, link_alias

__all__ = ["BridgePorts"]

_V6 = 6
_DEFAULT_MTU = 1500  # ETH_DATA_LEN, include/uapi/linux/if_ether.h: what the kernel gives a veth pair


class BridgePorts:
    """The kind of part ``bridge``."""

    name = "bridge"
    layer: Literal["driver"] = "driver"
    detail = BridgePort

    def prepare(self, kernel: Kernel, detail: BridgePort, *, store_id: str, undo: ExitStack) -> BridgePort:
        """Make the bridge where it is missing, with its addresses. Kernel changes: links, addresses, ``ip_forward``.

        Raises Conflict where the bridge's name is another link's or the bridge has another address, Unsupported for
        VLANs where the kernel cannot tell them apart.
        """
        if detail.follows_uplink:
            ipv6 = any(address.version == _V6 for address in detail.attachment.addresses)
            detail = msgspec.structs.replace(detail, mtu=uplink_mtu(kernel, ipv6=ipv6))
        if detail.forwards:
            let_host_forward(kernel, {address.version for address in detail.attachment.addresses})
        outer = bridge_link.ensure(kernel, detail, store_id, undo)
        attachment = msgspec.structs.replace(detail.attachment, host_interfaces=outer)
        return msgspec.structs.replace(detail, attachment=attachment)

    def make(
        self,
        kernel: Kernel,
        detail: BridgePort,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> BridgePort:
        """Make the pair, the host's end a port of the bridge. Kernel changes: links; in the sandbox addresses and routes.

        Raises AlreadyExists where the sandbox has an interface of that name, NotFound for a namespace that is gone,
        AddressInUse where somebody on the network has the address (`BridgePort.dad`).
        """
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        attachment = msgspec.structs.replace(
            detail.attachment,
            mac=detail.attachment.mac or _mac(detail, owner),
            mtu=detail.mtu or _DEFAULT_MTU,
        )
        alias = link_alias(
            store_id, "attachment", derive_id(owner.face, owner.network, owner.container, owner.ifname)
        )
        end = LinkSpec(
            detail.port,
            mac=_port_mac(owner),
            mtu=detail.mtu,
            master=detail.bridge,
            hairpin=detail.hairpin,
            isolated=detail.isolated,
            alias=alias,
            up=True,
        )
        peer = LinkSpec(attachment.ifname, mac=attachment.mac, mtu=detail.mtu, netns=netns)
        undo.callback(kernel.delete_links, [detail.port])  # the name can only be this attachment's
        try:
            kernel.add_veth(end, peer)
        except NotFound:  # somebody has deleted the bridge a moment ago
            bridge_link.ensure(kernel, detail, store_id, ExitStack())
            kernel.add_veth(end, peer)
        bridge_link.join_vlans(kernel, detail, detail.port)
        if detail.up:
            with kernel.inside(netns) as inner:
                sandbox_end.configure(inner, attachment, loopback=False, dad=detail.dad)
        outer = (
            *attachment.host_interfaces,
            HostInterface(name=detail.port, mac=end.mac, mtu=attachment.mtu),
        )
        return msgspec.structs.replace(
            detail, attachment=msgspec.structs.replace(attachment, host_interfaces=outer)
        )

    def unmake(self, kernel: Kernel, detail: BridgePort, *, owner: Owner, netns: Netns | None) -> None:
        """Delete the pair: by the host's end, or where another program made it by the sandbox's."""
        if detail.port:
            kernel.delete_links([detail.port])
        elif netns is not None:
            with kernel.inside(netns) as inner:
                inner.delete_links([detail.attachment.ifname])

    def release(self, kernel: Kernel, detail: BridgePort) -> None:
        """Delete the bridge, where that was asked for and dovetail made it."""
        if detail.remove_bridge:
            bridge_link.remove_empty(kernel, detail)

    def differences(
        self, kernel: Kernel, detail: BridgePort, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Compare bridge, port and the sandbox's end."""
        found = list(bridge_link.differences(kernel, detail))
        if netns is not None and detail.up:
            with kernel.inside(netns) as inner:
                found += sandbox_end.differences(inner, detail.attachment)
        return found

    def elements(self, detail: BridgePort) -> Sequence[Element]:
        """Give for each address that it is masqueraded, but not to its neighbours, where that was asked for."""
        if not detail.masquerade:
            return ()
        return [
            element
            for address in detail.attachment.addresses
            for element in (
                Element(f"leaving{address.version}", (address.ip,)),
                Element(f"neighbours{address.version}", (ip_network(address.ip), address.network)),
            )
        ]

    def link(self, detail: BridgePort) -> str:
        """Name the bridge."""
        return detail.bridge

    def is_alive(self, kernel: Kernel, detail: BridgePort, links: frozenset[str]) -> bool:
        """Say whether the host's end is there; it goes with the sandbox's."""
        return detail.port in links


def _mac(detail: BridgePort, owner: Owner) -> Mac:
    """Give the MAC that goes with the first address: see `sandbox_end.mac_of`."""
    addresses = sorted(detail.attachment.addresses, key=lambda address: address.version)
    if addresses:
        return Mac.derived(f"address/{detail.bridge}/{addresses[0].ip}")
    return Mac.derived(f"attachment/{owner.network}/{owner.container}/{owner.ifname}")


def _port_mac(owner: Owner) -> Mac:
    """Give the host's end a high MAC: a bridge of somebody else's takes the lowest of its ports' and must keep its own."""
    return Mac.derived(f"port/{owner.network}/{owner.container}/{owner.ifname}", first=0xFE)
