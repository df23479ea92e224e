"""What the types macvlan, ipvlan and vlan have in common: a master, of the host or of the container."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, NamedTuple

import msgspec

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.errors import INVALID_CONFIG, NOT_AVAILABLE, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.interface_plugin import InterfacePlugin, by_gateways
from dovetail.cni.plugins.link_keys import check_mtu, mac_in, read_mac
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.kernel.uplink import uplink
from dovetail.model.attachment import Attachment
from dovetail.model.carried_link import CarriedLink
from dovetail.model.names import check_ifname

__all__ = ["CarriedConf", "CarriedPlugin", "OnMaster"]


class CarriedConf(Conf, frozen=True, kw_only=True):
    """The keys that the three have."""

    master: Annotated[str, "the link that carries it; where none is named, that of the default route"] = ""
    mtu: Annotated[
        int | Literal["auto"], "at most the master's; 0 and auto are the master's, which it follows then"
    ] = 0
    link_in_container: Annotated[bool, "the master is a link of the container, not of the host"] = False


class OnMaster(NamedTuple):
    """What the details of the three types have in common; see `model.carried_link.CarriedLink`."""

    master: str
    attachment: Attachment
    in_container: bool
    mtu: int


class CarriedPlugin(InterfacePlugin):
    """A thin parser over `drivers.carried_link`.

    makes: what it puts together. has_mac: the link may be given one, by the key ``mac`` too.
    """

    makes: ClassVar[type[CarriedLink]]
    has_mac: ClassVar[bool] = False

    @abstractmethod
    def put_together(self, call: Call, common: OnMaster) -> CarriedLink:
        """Give the detail of the type."""

    def read(self, call: Call) -> None:
        """Refuse names and numbers that cannot be."""
        conf = read_conf(call.config, CarriedConf)
        check_mtu(call)
        if self.has_mac:
            read_mac(call, key=True)
        if conf.master:
            check_ifname(conf.master, where="$.master")

    def default_master(self, call: Call, netns: Netns | None) -> str:
        """Name the master where the configuration does not: the link of the default route."""
        if not read_conf(call.config, CarriedConf).link_in_container:
            return uplink(self.engine.kernel)
        if netns is None:
            return ""
        with self.engine.kernel.inside(netns) as inner:
            return uplink(inner)

    def detail(self, call: Call, ipam: Result, netns: Netns) -> CarriedLink:
        """Put the link together. Raises code 7 where there is no master, and no default route to take one from."""
        conf = read_conf(call.config, CarriedConf)
        master = conf.master or self.default_master(call, netns)
        if not master:
            raise CniError(
                INVALID_CONFIG,
                "$.master: missing, and there is no default route whose interface could be it",
                "name the interface that is to carry the container's",
            )
        mtu = 0 if conf.mtu == "auto" else conf.mtu
        attachment = Attachment(
            ifname=call.environment.ifname,
            mac=read_mac(call, key=True) if self.has_mac else None,
            mtu=mtu,
            addresses=tuple(ip.address for ip in ipam.ips),
            routes=by_gateways(ipam.routes, ipam.ips),
            sandbox=call.environment.netns,
        )
        return self.put_together(call, OnMaster(master, attachment, conf.link_in_container, mtu))

    def expected(self, call: Call, result: Result, netns: Netns) -> CarriedLink:
        """Say what the result of another program's plugin names."""
        detail = self.detail(call, result, netns)
        attachment = msgspec.structs.replace(detail.attachment, mac=mac_in(call, result))
        return msgspec.structs.replace(detail, attachment=attachment)

    def remains(self, call: Call, netns: Netns | None) -> CarriedLink:
        """Say what the reference plugin leaves to find: an interface in the sandbox."""
        return self.makes(master="", attachment=Attachment(ifname=call.environment.ifname))

    def status(self, call: Call) -> None:
        """Raise code 50 where the host has no master; the container's cannot be known."""
        super().status(call)
        conf = read_conf(call.config, CarriedConf)
        if conf.link_in_container:
            return
        master = conf.master or self.default_master(call, None)
        if not master:
            raise CniError(NOT_AVAILABLE, "$.master: missing, and there is no default route")
        if self.engine.kernel.link(master) is None:
            raise CniError(
                NOT_AVAILABLE, f"$.master: no such interface: {master!r}", "it must be on the host"
            )
