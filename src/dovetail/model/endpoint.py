"""Endpoints: what ties one sandbox to one network."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from dovetail.model.addresses import IPAddress, IPInterface
from dovetail.model.attachment import DNS, Attachment
from dovetail.model.mac import Mac
from dovetail.model.network import Face
from dovetail.model.port import PortMapping

__all__ = ["Endpoint", "EndpointSpec", "EndpointStatus", "Owner"]

EndpointStatus: TypeAlias = Literal["creating", "created", "joining", "joined", "deleting"]


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds an endpoint, in the words of the face it came by.

    network: the name the caller knows the network by (the conflist's name, Docker's network id).
    container: CNI_CONTAINERID, or the sandbox's id; empty for Docker, which never says.
    """

    face: Face
    network: str = ""
    container: str = ""
    ifname: str = ""


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of `Engine.create_endpoint` and `Engine.attach`.

    id: the caller's id (Docker), else derived from `owner`, so that DEL finds it without state.
    addresses: asked-for addresses, at most one a family; what is missing IPAM chooses.
    given: full addresses that the caller's IPAM gave already (Docker); no IPAM is asked then.
    sysctls: of the interface, see `model.sysctls`.
    ports: to publish; with `publish_later` they wait for `Engine.publish` (Docker's
    ProgramExternalConnectivity).
    """

    owner: Owner
    id: str = ""
    name: str = ""
    addresses: tuple[IPAddress, ...] = ()
    given: tuple[IPInterface, ...] = ()
    mac: Mac | None = None
    aliases: tuple[str, ...] = ()
    dns: DNS = DNS()
    ports: tuple[PortMapping, ...] = ()
    options: dict[str, str] = {}
    sysctls: dict[str, str] = {}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint as it is kept.

    ports: as published now, host ports chosen. link: the host's end. host_ns and boot_id: the
    network namespace (inode) and the boot in which its links live; another boot means they are gone.
    """

    id: str
    network_id: str
    owner: Owner
    name: str = ""
    addresses: tuple[IPInterface, ...] = ()
    mac: Mac | None = None
    aliases: tuple[str, ...] = ()
    dns: DNS = DNS()
    ports: tuple[PortMapping, ...] = ()
    options: dict[str, str] = {}
    sysctls: dict[str, str] = {}
    sandbox_id: str = ""
    link: str = ""
    attachment: Attachment | None = None
    host_ns: int = 0
    boot_id: str = ""
    created: float = 0.0
    status: EndpointStatus = "creating"
