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
from typing import Literal

import msgspec

from dovetail.drivers import attachment_link, bridge_link, sandbox_end
from dovetail.drivers.forwarding import let_host_forward
from dovetail.drivers.later_addresses import LaterAddresses
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Kernel, LinkSpec, Netns
from dovetail.model.attachment import Attachment, HostInterface
from dovetail.model.bridge_port import BridgePort
from dovetail.model.element import Element
from dovetail.model.endpoint import Owner
from dovetail.model.leaving import leaving
from dovetail.model.mac import Mac

__all__ = ["BridgePorts"]

_V6 = 6
_DEFAULT_MTU = 1500  # ETH_DATA_LEN, include/uapi/linux/if_ether.h: what the kernel gives a veth pair


class BridgePorts(LaterAddresses[BridgePort]):
    """The kind of part ``bridge``."""

    name = "bridge"
    layer: Literal["driver"] = "driver"
    detail = BridgePort

    def prepare(self, kernel: Kernel, detail: BridgePort, *, store_id: str, undo: ExitStack) -> BridgePort:
        """Make the bridge where it is missing, with its addresses. Kernel changes: links, addresses, ``ip_forward``.

        Raises Conflict where the bridge's name is another link's or the bridge has another address, Unsupported for
        VLANs where the kernel cannot tell them apart.
        """
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
            mac=detail.attachment.mac
            or attachment_link.mac_of(detail.bridge, detail.attachment.addresses, owner),
            mtu=detail.mtu or _DEFAULT_MTU,
        )
        end = LinkSpec(
            detail.port,
            mac=attachment_link.port_mac(owner),
            mtu=detail.mtu,
            master=detail.bridge,
            hairpin=detail.hairpin,
            isolated=detail.isolated,
            alias=attachment_link.alias_of(owner, store_id),
            up=True,
        )
        peer = LinkSpec(attachment.ifname, mac=attachment.mac, mtu=detail.mtu, netns=netns)
        try:
            attachment_link.add_pair(kernel, end, peer, owner, undo)
        except NotFound:  # somebody has deleted the bridge a moment ago
            bridge_link.ensure(kernel, detail, store_id, ExitStack())
            attachment_link.add_pair(kernel, end, peer, owner, undo)
        bridge_link.join_vlans(kernel, detail, detail.port)
        if detail.up:
            with kernel.inside(netns) as inner:
                _configure(inner, attachment, dad=detail.dad)
        return _with_port(kernel, detail, attachment, end.mac)

    def complete(
        self, kernel: Kernel, detail: BridgePort, *, owner: Owner, netns: Netns | None, undo: ExitStack
    ) -> BridgePort:
        """Address and route the sandbox's end; the bridge has been prepared. Raises as `make` does."""
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        with kernel.inside(netns) as inner:
            _configure(inner, detail.attachment, dad=detail.dad)
        return _with_port(kernel, detail, detail.attachment, attachment_link.port_mac(owner))

    def unmake(self, kernel: Kernel, detail: BridgePort, *, owner: Owner, netns: Netns | None) -> None:
        """Delete the pair: by the host's end, or where another program made it by the sandbox's."""
        if detail.port:
            attachment_link.delete_port(kernel, detail.port, owner)
        elif netns is not None:
            attachment_link.delete_foreign(kernel, netns, detail.attachment.ifname, ("veth",))

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
        return leaving(detail.attachment.addresses) if detail.masquerade else ()

    def link(self, detail: BridgePort) -> str:
        """Name the bridge."""
        return detail.bridge

    def is_alive(self, kernel: Kernel, detail: BridgePort, links: frozenset[str]) -> bool:
        """Say whether the host's end is there; it goes with the sandbox's."""
        return detail.port in links


def _configure(inner: Kernel, attachment: Attachment, *, dad: bool) -> None:
    asks = dad and any(address.version == _V6 for address in attachment.addresses)
    if (
        asks
    ):  # the namespace may have it turned off; enhanced: what the host's end sends back is none (RFC 7527)
        for key in ("enhanced_dad", "accept_dad"):
            inner.set_sysctl(f"net/ipv6/conf/{attachment.ifname}/{key}", "1")
    sandbox_end.configure(inner, attachment, loopback=False, dad=asks)
    if asks:
        inner.wait_for_dad(attachment.ifname)


def _with_port(kernel: Kernel, detail: BridgePort, attachment: Attachment, mac: Mac | None) -> BridgePort:
    """Add the port to the host's interfaces of a bridge."""
    bridge = bridge_link.with_macs(kernel, attachment.host_interfaces)
    outer = (*bridge, HostInterface(name=detail.port, mac=mac, mtu=attachment.mtu))
    return msgspec.structs.replace(
        detail, attachment=msgspec.structs.replace(attachment, host_interfaces=outer)
    )
