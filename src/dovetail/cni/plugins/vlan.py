"""Type ``vlan``: a VLAN of its master's wire, as an interface of the container."""

from __future__ import annotations

from typing import Annotated

from dovetail.cni.conf import read_conf
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.carried_plugin import CarriedConf, CarriedPlugin, OnMaster
from dovetail.model.carried_link import VlanLink

__all__ = ["VlanPlugin"]

_LAST = 4094  # 4095 is reserved (IEEE 802.1Q §9.6)


class VlanConf(CarriedConf, frozen=True, kw_only=True):
    """The keys of ``vlan``."""

    master: Annotated[str, "the link on whose wire the VLAN is; needed"] = ""
    vlan_id: Annotated[
        int, "the VLAN's number, 0 to 4094; the container is the only one of the host in it"
    ] = 0


class VlanPlugin(CarriedPlugin):
    """A thin parser over `drivers.carried_link`."""

    kind = "vlan"
    conf = VlanConf
    makes = VlanLink
    needs_addresses = True

    def read(self, call: Call) -> None:
        """Refuse a number that is no VLAN's; the master must be named."""
        conf = read_conf(call.config, VlanConf)
        super().read(call)
        if not 0 <= conf.vlan_id <= _LAST:
            text = f"invalid VLAN ID {conf.vlan_id} (must be between 0 and {_LAST} inclusive)"
            raise CniError(INVALID_CONFIG, text, "$.vlanId")
        if not conf.master:
            text = '"master" field is required. It specifies the host interface name to create the VLAN for.'
            raise CniError(INVALID_CONFIG, text, "$.master")

    def put_together(self, call: Call, common: OnMaster) -> VlanLink:
        """Add the number."""
        return VlanLink(**common._asdict(), id=read_conf(call.config, VlanConf).vlan_id)
