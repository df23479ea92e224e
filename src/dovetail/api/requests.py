"""What the API takes: one type a request body. Unknown fields are refused, so a typing error is never ignored."""

from __future__ import annotations

from typing import Literal

import msgspec

from dovetail.model.addresses import IPAddress, IPNetwork
from dovetail.model.attachment import DNS
from dovetail.model.mac import Mac
from dovetail.model.network import NetworkSpec, SubnetSpec
from dovetail.model.port import PortMapping, parse_publish
from dovetail.model.routes import parse_route
from dovetail.model.sysctls import check_sysctls

__all__ = ["ConnectRequest", "DisconnectRequest", "NetworkRequest", "SandboxRequest", "SubnetRequest"]


class SubnetRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One subnet; without `subnet` IPAM chooses one of family `version`."""

    subnet: IPNetwork | None = None
    gateway: IPAddress | None = None
    ip_range: IPNetwork | None = None
    aux: dict[str, IPAddress] = {}
    version: Literal[4, 6] = 4

    def spec(self) -> SubnetSpec:
        """Give the model's value."""
        version: Literal[4, 6] = self.version if self.subnet is None else self.subnet.version
        return SubnetSpec(
            subnet=self.subnet, gateway=self.gateway, ip_range=self.ip_range, aux=self.aux, version=version
        )


class NetworkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/networks``.

    routes: of every endpoint, each as ``ip route`` writes it: ``10.0.0.0/8 via 10.88.0.254``.
    """

    name: str
    driver: str = "bridge"
    subnets: list[SubnetRequest] = []
    internal: bool = False
    routes: list[str] = []
    options: dict[str, str] = {}
    labels: dict[str, str] = {}

    def spec(self) -> NetworkSpec:
        """Give the model's value."""
        return NetworkSpec(
            name=self.name,
            driver=self.driver,
            subnets=tuple(subnet.spec() for subnet in self.subnets),
            internal=self.internal,
            routes=tuple(
                parse_route(text, where=f"$.routes[{index}]") for index, text in enumerate(self.routes)
            ),
            options=self.options,
            labels=self.labels,
        )


class SandboxRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/sandboxes``; `netns` adopts the namespace at that path instead of making one."""

    name: str = ""
    netns: str = ""


class ConnectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/networks/{ref}/connect``.

    sandbox: name, id or unique prefix. ips: at most one a family. ifname empty: the next free one.
    sysctls: of the interface, as ``{"net.ipv4.conf.IFNAME.forwarding": "1"}`` with that word for its name.
    publish: as ``docker run -p`` writes it, ``[HOSTIP:][HOST[-HOST]:]CONT[-CONT][/PROTO]``; of a range for one
    CONT the first free port is taken.
    """

    sandbox: str
    ips: list[IPAddress] = []
    ifname: str = ""
    mac: Mac | None = None
    aliases: list[str] = []
    publish: list[str] = []
    dns: DNS = DNS()
    sysctls: dict[str, str] = {}

    def ports(self) -> tuple[PortMapping, ...]:
        """Read `publish`; raises InvalidArgument with the place."""
        return tuple(
            mapping
            for index, text in enumerate(self.publish)
            for mapping in parse_publish(text, where=f"$.publish[{index}]")
        )

    def settings(self) -> dict[str, str]:
        """Read `sysctls`; raises InvalidArgument with the place."""
        return check_sysctls(self.sysctls, where="$.sysctls")


class DisconnectRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of ``POST /v1/networks/{ref}/disconnect``."""

    sandbox: str
