"""Type ``ipvlan``: an interface behind its master's MAC address, told apart by its IP addresses."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Annotated, Literal

from dovetail.cni.conf import read_conf
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.carried_plugin import CarriedConf, CarriedPlugin, OnMaster
from dovetail.cni.spec.result import Result
from dovetail.kernel.protocol import Netns
from dovetail.model.carried_link import IpvlanLink

__all__ = ["IpvlanPlugin"]


class IpvlanConf(CarriedConf, frozen=True, kw_only=True):
    """The keys of ``ipvlan``."""

    master: Annotated[
        str,
        "the link that carries it; where none is named, the only interface of the plugin before, or else that of the"
        " default route",
    ] = ""
    mode: Annotated[
        Literal["", "l2", "l3", "l3s"],
        "`l2`: on the master's wire; `l3`, `l3s`: the host routes, by its firewall or not",
    ] = "l2"


class IpvlanPlugin(CarriedPlugin):
    """A thin parser over `drivers.carried_link`. Without ``ipam`` it takes the addresses of the plugin before."""

    kind = "ipvlan"
    conf = IpvlanConf
    makes = IpvlanLink

    def read(self, call: Call) -> None:
        """Refuse a configuration without addresses."""
        read_conf(call.config, IpvlanConf)
        super().read(call)
        given = call.prev_result.ips if call.prev_result is not None else ()
        if not call.config.object("ipam").text("type") and not given and call.environment.command == "ADD":
            raise CniError(
                INVALID_CONFIG,
                "$.ipam.type: missing",
                "ipvlan needs an IPAM plugin, or addresses of a plugin before it",
            )

    def default_master(self, call: Call, netns: Netns | None) -> str:
        """Name the only interface of the plugin before this one, if there is one."""
        previous = call.prev_result
        if previous is None or call.environment.command != "ADD":
            return super().default_master(call, netns)
        if len(previous.interfaces) != 1 or not previous.interfaces[0].name:
            raise CniError(
                INVALID_CONFIG,
                "chained master failure. PrevResult lacks a single named interface",
                "name the master: $.master",
            )
        return previous.interfaces[0].name

    def _ask(self, call: Call, netns: Netns, undo: ExitStack) -> Result:
        if not call.config.object("ipam").text("type") and call.prev_result is not None:
            return call.prev_result
        return super()._ask(call, netns, undo)

    def put_together(self, call: Call, common: OnMaster) -> IpvlanLink:
        """Add the mode."""
        return IpvlanLink(**common._asdict(), mode=read_conf(call.config, IpvlanConf).mode or "l2")
