"""A port of a bridge that many networks may share, as CNI's type ``bridge`` has it.

::

    host                                      sandbox
    cni0 (gateway addresses) ── veth<attachment> ══ eth0 (addresses, routes)

It differs from the driver ``bridge`` in whose the bridge is: nobody's. The first that needs it makes it, any number of
configurations use it, each says which gateway addresses it is to have, and it stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Literal

import msgspec

from dovetail.drivers import attachment_link, sandbox_end
from dovetail.drivers.forwarding import let_host_forward
from dovetail.errors import AlreadyExists, Conflict, KernelError, NotFound
from dovetail.kernel.protocol import Kernel, Link, LinkSpec, Netns
from dovetail.model.addresses import IPInterface
from dovetail.model.attachment import HostInterface
from dovetail.model.bridge_port import BridgePort
from dovetail.model.element import Element
from dovetail.model.endpoint import Owner
from dovetail.model.leaving import leaving
from dovetail.model.mac import Mac

__all__ = ["BridgePorts"]

_DEFAULT_MTU = 1500  # ETH_DATA_LEN, include/uapi/linux/if_ether.h: what the kernel gives a veth pair


class BridgePorts:
    """The kind of part ``bridge``."""

    name = "bridge"
    layer: Literal["driver"] = "driver"
    detail = BridgePort

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
        """Make the bridge where it is missing, and the pair. Kernel changes: links, addresses, and ``ip_forward``.

        Raises AlreadyExists where the sandbox has an interface of that name, Conflict where the bridge's name is
        another link's or the bridge has another address, NotFound for a namespace that is gone.
        """
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        if detail.forwards:
            let_host_forward(kernel, {address.version for address in detail.attachment.addresses})
        bridge = self._bridge(kernel, detail, undo)
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
        except NotFound:  # the bridge went with its last port a moment ago
            bridge = self._bridge(kernel, detail, undo)
            attachment_link.add_pair(kernel, end, peer, owner, undo)
        if detail.up:
            with kernel.inside(netns) as inner:
                sandbox_end.configure(inner, attachment, loopback=False, dad=detail.dad)
        outer = (
            HostInterface(name=detail.bridge, mac=_read_mac(bridge), mtu=bridge.mtu),
            HostInterface(name=detail.port, mac=end.mac, mtu=attachment.mtu),
        )
        return msgspec.structs.replace(
            detail, attachment=msgspec.structs.replace(attachment, host_interfaces=outer)
        )

    def unmake(self, kernel: Kernel, detail: BridgePort, *, owner: Owner, netns: Netns | None) -> None:
        """Delete the pair: by the host's end, or where another program made it by the sandbox's."""
        if detail.port:
            attachment_link.delete_port(kernel, detail.port, owner)
        elif netns is not None:
            attachment_link.delete_foreign(kernel, netns, detail.attachment.ifname, ("veth",))

    def differences(
        self, kernel: Kernel, detail: BridgePort, *, owner: Owner, netns: Netns | None
    ) -> list[str]:
        """Compare bridge, port and the sandbox's end."""
        found: list[str] = []
        bridge, port = kernel.link(detail.bridge), kernel.link(detail.port)
        if bridge is None or bridge.kind != "bridge":
            found.append(f"bridge {detail.bridge!r} is gone")
        elif port is not None and port.master != bridge.ifindex:
            found.append(f"interface {detail.port!r} is no port of bridge {detail.bridge!r}")
        if port is None:
            found.append(f"interface {detail.port!r} of the host is gone")
        elif not port.up:
            found.append(f"interface {detail.port!r} of the host is down")
        if bridge is not None:
            present = {address for _, address in kernel.addresses(detail.bridge)}
            missing = [address for address in detail.gateways if address not in present]
            found += [f"bridge {detail.bridge!r} has lost address {address}" for address in missing]
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

    # -- the bridge -------------------------------------------------------------------------------------

    def _bridge(self, kernel: Kernel, detail: BridgePort, undo: ExitStack) -> Link:
        """Make sure of the bridge and its addresses; idempotent, and safe beside others that do the same."""
        there = kernel.link(detail.bridge)
        if there is None:
            there = self._make_bridge(kernel, detail, undo)
        if there.kind != "bridge":
            raise Conflict(
                f"{detail.bridge!r} is a {there.kind or 'network card'}, not a bridge",
                where="$.bridge",
                hint="name another bridge",
            )
        if not there.up:
            kernel.set_link(detail.bridge, up=True)
        if detail.gateways:
            self._give_addresses(kernel, detail, undo)
        return there

    def _make_bridge(self, kernel: Kernel, detail: BridgePort, undo: ExitStack) -> Link:
        mac = Mac.derived(f"bridge/{detail.bridge}")  # one that is set does not change with the ports
        try:
            kernel.add_bridge(detail.bridge, mac=mac, mtu=detail.mtu)
        except AlreadyExists:
            pass  # another attachment was quicker
        else:
            undo.callback(_delete_empty, kernel, detail.bridge)
            # no router may speak from a container
            kernel.set_sysctl(f"net/ipv6/conf/{detail.bridge}/accept_ra", "0")
        kernel.set_link(detail.bridge, up=True)
        there = kernel.link(detail.bridge)
        if there is None:
            raise NotFound("bridge", detail.bridge, hint="something deletes it as it is made")
        return there

    def _give_addresses(self, kernel: Kernel, detail: BridgePort, undo: ExitStack) -> None:
        present = [address for _, address in kernel.addresses(detail.bridge)]
        for gateway in detail.gateways:
            if gateway in present:
                continue
            for other in present:
                if not _clash(other, gateway):
                    continue
                if not detail.force_address:
                    raise Conflict(
                        f'failed to set bridge addr: "{detail.bridge}" already has an IP address different from {gateway}',
                        where="$.isGateway",
                        hint=f"it has {other}; let the configuration say forceAddress, or name another bridge",
                    )
                undo.callback(_restore, kernel, detail.bridge, other)
                kernel.delete_address(detail.bridge, other)
            if gateway.version == 6:
                kernel.set_sysctl(f"net/ipv6/conf/{detail.bridge}/disable_ipv6", "0")
            try:
                kernel.add_address(detail.bridge, gateway)
            except AlreadyExists:
                continue
            undo.callback(_take_address, kernel, detail.bridge, gateway)


def _clash(present: IPInterface, wanted: IPInterface) -> bool:
    """Say whether a bridge with `present` cannot have `wanted` too: one IPv4 address, and no overlap in IPv6."""
    if present.version != wanted.version or present.ip.is_link_local:
        return False
    return present.version == 4 or present.network.overlaps(wanted.network)


def _delete_empty(kernel: Kernel, bridge: str) -> None:
    """Delete a bridge that was made for an attachment which failed, unless others have come meanwhile."""
    there = kernel.link(bridge)
    if there is not None and not any(link.master == there.ifindex for link in kernel.links()):
        kernel.delete_links([bridge])


def _take_address(kernel: Kernel, bridge: str, address: IPInterface) -> None:
    there = kernel.link(bridge)
    if there is not None and not any(link.master == there.ifindex for link in kernel.links()):
        kernel.delete_address(bridge, address)


def _restore(kernel: Kernel, bridge: str, address: IPInterface) -> None:
    try:
        kernel.add_address(bridge, address)
    except (AlreadyExists, KernelError, NotFound):
        return


def _read_mac(link: Link) -> Mac | None:
    return Mac(link.mac) if link.mac else None
