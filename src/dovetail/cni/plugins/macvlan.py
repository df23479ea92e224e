"""Type ``macvlan``: an interface with a MAC address of its own on its master's wire."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from dovetail.cni.conf import read_conf
from dovetail.cni.environment import check_args
from dovetail.cni.errors import INVALID_CONFIG, UNSUPPORTED_FIELD, CniError
from dovetail.cni.plugins.call import Call
from dovetail.cni.plugins.carried_plugin import CarriedConf, CarriedPlugin, OnMaster
from dovetail.cni.plugins.link_keys import LINK_ARGS, read_mac
from dovetail.model.carried_link import MacvlanLink

__all__ = ["MacvlanPlugin"]

_U32_MAX = 2**32 - 1
_DEFAULT_QUEUE = 1000  # MACVLAN_DEFAULT_BROADCAST_QUEUE_LEN, include/linux/if_macvlan.h


class MacvlanConf(CarriedConf, frozen=True, kw_only=True):
    """The keys of ``macvlan``."""

    mode: Annotated[
        Literal["", "bridge", "private", "vepa", "passthru"],
        "whether containers on the master reach each other directly, not at all, by a switch that sends frames back, or"
        " one has the master for itself",
    ] = "bridge"
    mac: Annotated[str, "the MAC of the container's interface; a runtime's goes before"] = ""
    bcqueuelen: Annotated[int, "how many broadcasts may wait on the master; 0 is the kernel's 1000"] = 0


class MacvlanPlugin(CarriedPlugin):
    """A thin parser over `drivers.carried_link`."""

    kind = "macvlan"
    conf = MacvlanConf
    capabilities: ClassVar = {"mac": "the MAC of the container's interface"}
    makes = MacvlanLink
    has_mac = True

    def read(self, call: Call) -> None:
        """Refuse a queue that is none, and a MAC where the master's is taken."""
        conf = read_conf(call.config, MacvlanConf)
        check_args(call.environment.args, LINK_ARGS)
        super().read(call)
        mac = read_mac(call, key=True)
        if conf.mode == "passthru" and mac is not None:
            raise CniError(
                UNSUPPORTED_FIELD,
                f"mac {mac}: in mode passthru the interface has the MAC address of its master",
                "leave the MAC address out",
            )
        if not 0 <= conf.bcqueuelen <= _U32_MAX:
            raise CniError(INVALID_CONFIG, f"$.bcqueuelen: {conf.bcqueuelen} is not between 0 and {_U32_MAX}")

    def put_together(self, call: Call, common: OnMaster) -> MacvlanLink:
        """Add mode and queue."""
        conf = read_conf(call.config, MacvlanConf)
        length = 0 if conf.bcqueuelen == _DEFAULT_QUEUE else conf.bcqueuelen
        return MacvlanLink(**common._asdict(), mode=conf.mode or "bridge", bc_queue_len=length)
