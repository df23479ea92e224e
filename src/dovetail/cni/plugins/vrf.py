"""Type ``vrf``: the interface goes into a VRF of the container."""

from __future__ import annotations

from typing import Annotated

from dovetail.cni.conf import Conf, read_conf
from dovetail.cni.errors import INVALID_CONFIG, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.chained_plugin import ChainedPlugin
from dovetail.cni.spec.result import Result
from dovetail.errors import InvalidArgument
from dovetail.kernel.protocol import Netns
from dovetail.model.names import check_ifname
from dovetail.model.vrf_port import VrfPort

__all__ = ["VrfPlugin"]

_TABLE_MAX = 2**32 - 1  # IFLA_VRF_TABLE is a u32, include/uapi/linux/if_link.h


class VrfConf(Conf, frozen=True, kw_only=True):
    """The keys of ``vrf``."""

    vrfname: Annotated[str, "the VRF, which is made when it is missing and goes with its last interface"] = ""
    table: Annotated[int, "its routing table; 0 is the first that is free"] = 0


class VrfPlugin(ChainedPlugin):
    """A thin parser over `features.vrf_port`."""

    kind = "vrf"
    conf = VrfConf

    def read(self, call: Call) -> None:
        """Refuse a name or a table that cannot be."""
        conf = read_conf(call.config, VrfConf)
        if not conf.vrfname:
            raise CniError(
                INVALID_CONFIG,
                "$.vrfname: configuration is expected to have a valid vrf name",
                "name the VRF",
            )
        check_ifname(conf.vrfname, where="$.vrfname")
        if not 0 <= conf.table <= _TABLE_MAX:
            raise CniError(
                INVALID_CONFIG,
                f"$.table: {conf.table} is not the number of a routing table, 1 to {_TABLE_MAX}",
            )

    def detail(self, call: Call, result: Result, netns: Netns) -> VrfPort:
        """Name the VRF and the interface."""
        return _port(call)

    def remains(self, call: Call, result: Result | None, netns: Netns | None) -> VrfPort | None:
        """Name the same: the reference plugin leaves nothing else. A name that cannot be has left nothing."""
        try:
            self.read(call)
        except (CniError, InvalidArgument):
            return None
        return _port(call)


def _port(call: Call) -> VrfPort:
    conf = read_conf(call.config, VrfConf)
    return VrfPort(ifname=call.environment.ifname, vrf=conf.vrfname, table=conf.table)
