"""A CNI result as it is in the newest version, whatever version it travels in, and what it is to an attachment.

A chain of plugins hands one on: each reads it in the version that it names, and prints it in the configuration's.
So it keeps all that a version can say, where an `Attachment`, which both models share, has one interface and one
gateway a family.

Source: CNI SPEC 1.1.0 "Success".
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from dovetail.errors import InvalidArgument
from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import DNS, Attachment, HostInterface, Route
from dovetail.model.mac import Mac

__all__ = ["IP", "Interface", "Result", "from_attachment", "to_attachment"]


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """An interface; `sandbox` is the namespace's path verbatim, empty on the host.

    mac is text, as not every link has an Ethernet address (InfiniBand's have 20 bytes).
    """

    name: str
    mac: str = ""
    mtu: int = 0
    sandbox: str = ""
    socket_path: str = ""
    pci_id: str = ""


class IP(msgspec.Struct, frozen=True, kw_only=True):
    """An address; `interface` counts from 0 in `Result.interfaces`, None where it is on none yet (IPAM's)."""

    address: IPInterface
    gateway: IPAddress | None = None
    interface: int | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a plugin's ADD says."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IP, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()

    @property
    def outer(self) -> str:
        """Name the outermost interface of the host: the bridge, or the host's end of a pair; empty where there is none."""
        return next((one.name for one in self.interfaces if not one.sandbox), "")

    def inner(self, ifname: str) -> Interface | None:
        """Give the sandbox's interface of that name."""
        return next((one for one in self.interfaces if one.sandbox and one.name == ifname), None)

    def addresses_of(self, ifname: str) -> tuple[IPInterface, ...]:
        """Give the addresses of the sandbox's interface of that name, and those that name no interface."""
        mine = {number for number, one in enumerate(self.interfaces) if one.sandbox and one.name == ifname}
        return tuple(ip.address for ip in self.ips if ip.interface is None or ip.interface in mine)


def from_attachment(attachment: Attachment) -> Result:
    """Say an attachment as a result: the host's interfaces from the outside in, then the sandbox's.

    The default routes are the attachment's own: a gateway alone makes none.
    """
    outer = tuple(
        Interface(name=one.name, mac=str(one.mac or ""), mtu=one.mtu) for one in attachment.host_interfaces
    )
    inner = Interface(
        name=attachment.ifname,
        mac=str(attachment.mac or ""),
        mtu=attachment.mtu,
        sandbox=attachment.sandbox,
    )
    ips = tuple(
        IP(
            address=address,
            gateway=next((g for g in attachment.gateways if g.version == address.version), None),
            interface=len(outer) if attachment.ifname else None,
        )
        for address in attachment.addresses
    )
    interfaces = (*outer, inner) if attachment.ifname else outer
    return Result(interfaces=interfaces, ips=ips, routes=attachment.routes, dns=attachment.dns)


def to_attachment(result: Result) -> Attachment:
    """Say a result as an attachment: that of the sandbox's interface that an address is on, or else the last one.

    What an attachment has no room for is left out: other interfaces of the sandbox, further gateways of a family.
    """
    number = _inner(result)
    inner = result.interfaces[number] if number >= 0 else Interface(name="")
    return Attachment(
        ifname=inner.name,
        mac=_mac(inner),
        mtu=inner.mtu,
        sandbox=inner.sandbox,
        addresses=tuple(ip.address for ip in result.ips),
        gateways=_first_gateways(ip.gateway for ip in result.ips),
        routes=result.routes,
        dns=result.dns,
        host_interfaces=tuple(
            HostInterface(name=one.name, mac=_mac(one), mtu=one.mtu)
            for one in result.interfaces
            if not one.sandbox
        ),
    )


def _inner(result: Result) -> int:
    inside = [number for number, one in enumerate(result.interfaces) if one.sandbox]
    return next((ip.interface for ip in result.ips if ip.interface in inside), inside[-1] if inside else -1)


def _first_gateways(gateways: Iterable[IPAddress | None]) -> tuple[IPAddress, ...]:
    found: dict[int, IPAddress] = {}
    for gateway in gateways:
        if gateway is not None:
            found.setdefault(gateway.version, gateway)
    return tuple(found.values())


def _mac(one: Interface) -> Mac | None:
    """Read a MAC; what is no Ethernet address is left out."""
    try:
        return Mac(one.mac) if one.mac else None
    except InvalidArgument:
        return None
