"""A pair of interfaces between the host and a sandbox alone, as CNI's type ``ptp`` has it.

::

    host                                              sandbox
    veth<attachment> (gateway's address, /32;  ═════  eth0 (address; route to the gateway, and by way of it to
                      route to the address)                 the rest of the subnet)

It differs from the driver ``ptp`` in that there is no network: whoever is behind another host's end is as far as
anybody else, and the firewall says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_network
from typing import Literal

import msgspec

from dovetail.drivers import attachment_link, forwarding, host_end, sandbox_end
from dovetail.errors import NotFound
from dovetail.kernel.protocol import Kernel, LinkSpec, Netns
from dovetail.model.attachment import Attachment, HostInterface, Route
from dovetail.model.element import Element
from dovetail.model.endpoint import Owner
from dovetail.model.leaving import leaving
from dovetail.model.ptp_pair import PtpPair

__all__ = ["PtpPairs"]

_DEFAULT_MTU = 1500  # ETH_DATA_LEN, include/uapi/linux/if_ether.h: what the kernel gives a veth pair


class PtpPairs:
    """The kind of part ``ptp``."""

    name = "ptp"
    layer: Literal["driver"] = "driver"
    detail = PtpPair

    def make(
        self,
        kernel: Kernel,
        detail: PtpPair,
        *,
        owner: Owner,
        netns: Netns | None,
        store_id: str,
        undo: ExitStack,
    ) -> PtpPair:
        """Make the pair, address and route both ends. Kernel changes: links, addresses, routes, and forwarding.

        Raises AlreadyExists where the sandbox has an interface of that name, or the host one of the port's;
        NotFound for a namespace that is gone.
        """
        if netns is None:
            raise NotFound("namespace", detail.attachment.sandbox)
        attachment = detail.attachment
        forwarding.let_host_forward(kernel, _versions(detail))
        mac = attachment.mac or attachment_link.mac_of(owner.network, attachment.addresses, owner)
        end = LinkSpec(
            detail.port,
            mac=attachment_link.port_mac(owner),
            mtu=detail.mtu,
            alias=attachment_link.alias_of(owner, store_id),
            up=True,
        )
        mtu = detail.mtu or _DEFAULT_MTU
        detail = msgspec.structs.replace(
            detail,
            attachment=msgspec.structs.replace(
                attachment,
                mac=mac,
                mtu=mtu,
                host_interfaces=(HostInterface(name=end.name, mac=end.mac, mtu=mtu),),
            ),
        )
        peer = LinkSpec(attachment.ifname, mac=mac, mtu=detail.mtu, netns=netns)
        attachment_link.add_pair(kernel, end, peer, owner, undo)
        host_end.configure(kernel, end.name, detail.gateways, attachment.addresses)
        with kernel.inside(netns) as inner:
            sandbox_end.configure(inner, _inside(detail), loopback=False)
        return detail

    def unmake(self, kernel: Kernel, detail: PtpPair, *, owner: Owner, netns: Netns | None) -> None:
        """Delete the pair: by the host's end, or where another program made it by the sandbox's."""
        if detail.port:
            attachment_link.delete_port(kernel, detail.port, owner)
        elif netns is not None:
            attachment_link.delete_foreign(kernel, netns, detail.attachment.ifname, ("veth",))

    def differences(self, kernel: Kernel, detail: PtpPair, *, owner: Owner, netns: Netns | None) -> list[str]:
        """Compare both ends, and whether the host forwards."""
        found = [
            *host_end.differences(
                kernel, detail.port, detail.gateways, detail.attachment.addresses, mtu=detail.mtu
            ),
            *forwarding.differences(kernel, _versions(detail)),
        ]
        if netns is not None:
            with kernel.inside(netns) as inner:
                found += sandbox_end.differences(inner, _inside(detail))
        return found

    def elements(self, detail: PtpPair) -> Sequence[Element]:
        """Give for each address that it is masqueraded, where that was asked for."""
        return leaving(detail.attachment.addresses) if detail.masquerade else ()

    def link(self, detail: PtpPair) -> str:
        """Name the host's end."""
        return detail.port

    def is_alive(self, kernel: Kernel, detail: PtpPair, links: frozenset[str]) -> bool:
        """Say whether the host's end is there; it goes with the sandbox's."""
        return detail.port in links


def _versions(detail: PtpPair) -> set[int]:
    return {address.version for address in detail.attachment.addresses}


def _inside(detail: PtpPair) -> Attachment:
    """Give the sandbox's end with all its routes: the host is the only neighbour, so it is every gateway.

    The first of each family is, as of several to one destination the kernel takes one.
    """
    own = {gateway.version: gateway for gateway in reversed(detail.gateways)}
    ways: list[Route] = []
    for address, gateway in zip(detail.attachment.addresses, detail.gateways, strict=True):
        ways.append(Route(destination=ip_network(gateway)))
        if address.network.prefixlen < address.max_prefixlen:
            ways.append(Route(destination=address.network, gateway=gateway))
    for route in detail.attachment.routes:
        by = own.get(route.destination.version) if route.gateway is not None else None
        ways.append(msgspec.structs.replace(route, gateway=by))
    routes = tuple({(route.destination, route.table): route for route in reversed(ways)}.values())[::-1]
    return msgspec.structs.replace(detail.attachment, prefix_on_link=False, routes=routes)
