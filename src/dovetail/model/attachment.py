"""The attachment: the outcome of joining, in neither model's dress.

CNM's Join reply and CNI's result are two renderings of an `Attachment`; what other people's
plugins answer is parsed into one. Conversion between the models is parse, Attachment, render.
"""

from __future__ import annotations

import msgspec

from dovetail.model.addresses import IPAddress, IPInterface, IPNetwork
from dovetail.model.mac import Mac

__all__ = ["DNS", "Attachment", "HostInterface", "Route"]


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A route inside a sandbox; `gateway` None is on-link. Zero or None leaves a field to the kernel.

    Source: CNI SPEC 1.1.0 "Result", rtm_* of include/uapi/linux/rtnetlink.h.
    """

    destination: IPNetwork
    gateway: IPAddress | None = None
    mtu: int = 0
    advmss: int = 0
    priority: int = 0
    table: int = 0
    scope: int | None = None


class DNS(msgspec.Struct, frozen=True, kw_only=True):
    """Resolver settings that travel with an attachment."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class HostInterface(msgspec.Struct, frozen=True, kw_only=True):
    """An interface on the host's side of an attachment: a bridge, the veth peer."""

    name: str
    mac: Mac | None = None
    mtu: int = 0


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """What joining a sandbox to a network gave.

    ifname: the interface's name inside the sandbox. handover: the name under which it waits in the
    host namespace for the caller (dockerd) to move it; empty when it is in the sandbox already.
    host_interfaces: from the outside in: bridge, veth peer. gateways: at most one a family.
    prefix_on_link False: only the addresses themselves are there, their neighbours behind a gateway (ptp).
    sysctls: of the interface, see `model.sysctls`.
    sandbox: the namespace's path as the caller gave it, verbatim.
    """

    ifname: str
    mac: Mac | None = None
    mtu: int = 0
    addresses: tuple[IPInterface, ...] = ()
    prefix_on_link: bool = True
    gateways: tuple[IPAddress, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()
    sysctls: dict[str, str] = {}
    host_interfaces: tuple[HostInterface, ...] = ()
    handover: str = ""
    sandbox: str = ""
